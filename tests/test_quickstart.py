"""The quickstart's course on a task of seconds; its real size is for `make quickstart`."""

import json
import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from binseg import quickstart
from binseg.cli import main
from binseg.compiler.pack import pack
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import LoadedModel, read_header
from binseg.nn.segmenter import Segmenter, create_model
from binseg.summarize import measure_size


@pytest.fixture
def small(monkeypatch):
    """The quickstart's own experiment, cut to a few steps."""
    own = quickstart.quickstart_experiment()
    cut = replace(
        own,
        data=replace(own.data, scenes_train=16, scenes_val=4, calibration_images=8),
        model=replace(own.model, width=8),
        trainer=replace(own.trainer, epochs=1),
    )
    monkeypatch.setattr(quickstart, "quickstart_experiment", lambda: cut)


@pytest.mark.usefixtures("small")
def test_it_trains_both_networks_predicts_and_says_so(tmp_path, capsys):
    out = tmp_path / "quickstart"
    assert main(["quickstart", "--out", str(out)]) == 0
    rows = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in rows] == ["1-bit", "1-bit, packed", "full-precision"]
    trained, packed, twin = rows
    assert trained["size"]["binary"] > 0
    assert twin["size"]["binary"] == 0
    assert packed["agreement"] >= quickstart.MIN_AGREEMENT
    assert packed["mean_iou"] == pytest.approx(trained["mean_iou"], abs=1e-3)
    assert packed["file_bytes"] == (out / "binary" / quickstart.PACKED).stat().st_size
    assert packed["file_bytes"] < trained["file_bytes"] / 8
    assert read_header(out / "binary" / quickstart.PACKED)["kind"] == "packed"
    assert all(row["milliseconds"] > 0 for row in rows)
    for row, folder in zip((trained, twin), ("binary", "twin"), strict=True):
        assert row["file_bytes"] == (out / folder / "best.safetensors").stat().st_size
        header = json.loads((out / folder / "history.json").read_text())
        assert row["mean_iou"] == pytest.approx(header[-1]["val_miou"], abs=1e-6)
    printed = capsys.readouterr().out
    assert f"{trained['mean_iou']:.3f}" in printed
    assert f"{packed['file_bytes'] / 1e6:.2f} MB" in printed
    mask = np.array(Image.open(out / "predictions" / "scene_0.png"))
    assert mask.shape == tuple(quickstart.quickstart_experiment().data.scenes_size)
    assert len(list((out / "predictions").iterdir())) == 3 * quickstart.IMAGES
    # once more over its own folder
    assert main(["quickstart", "--out", str(out)]) == 0


def test_a_packed_network_that_says_something_else_is_a_fault(tmp_path, monkeypatch):
    """The proof can fail: the packed network's head is damaged."""
    torch.manual_seed(0)
    model = create_model("groupnet18", num_classes=8, bases=1, width=8).eval()
    trained = LoadedModel(model, get_label_table("scenes"), Preprocessing(), {"training": {}})
    data = replace(quickstart.quickstart_experiment().data, scenes_val=2)
    scored, expected = quickstart._score(trained, data)
    packed = quickstart._score(quickstart._pack(trained, tmp_path / "a.safetensors"), data)
    assert packed[0] == scored
    assert quickstart._same(expected, packed[1]) == 1

    def damaged(model, **options):
        worse = deepcopy(model)
        with torch.no_grad():
            for parameter in worse.head.score[-1].parameters():
                parameter.neg_()
        return pack(worse, **options)

    monkeypatch.setattr(quickstart, "pack", damaged)
    other = quickstart._score(quickstart._pack(trained, tmp_path / "b.safetensors"), data)
    with pytest.raises(BinsegError, match="agrees with the trained one on only"):
        quickstart._same(expected, other[1])


def test_milliseconds_of_each_network_and_the_threads_as_they_were():
    class Slow(Segmenter):
        def __init__(self, seconds):
            super().__init__({"num_classes": 2})
            self.seconds = seconds

        def forward(self, x):
            assert torch.get_num_threads() == 1
            time.sleep(self.seconds)
            return torch.zeros(1, 2, *x.shape[2:])

    threads = torch.get_num_threads()
    models = {"a": Slow(0.001), "b": Slow(0.003)}
    found = quickstart.measure_milliseconds(models, torch.zeros(1, 3, 8, 8), rounds=2, calls=2)
    assert found["a"] >= 1
    assert found["b"] >= 3
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("small")
def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BinsegError, match=r"thesis\.tex"):
        quickstart.run_quickstart(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_sizes_by_hand():
    from torch import nn

    from binseg.nn.layers import BinaryConv2d

    network = nn.Sequential(BinaryConv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1))
    size = measure_size(network)
    assert (size.binary, size.real) == (135, 10 + 12)
    assert size.float_bytes == 4 * (135 + 22 + 10)
    assert size.packed_bytes == 17 + 4 * (22 + 10)
