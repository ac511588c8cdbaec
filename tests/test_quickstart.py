"""The quickstart's course on a task of seconds; its real size is for `make quickstart`."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from binseg import quickstart
from binseg.cli import main
from binseg.errors import BinsegError
from binseg.summary import measure_size


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
    assert [row["name"] for row in rows] == ["1-bit", "full-precision"]
    assert rows[0]["size"]["binary"] > 0
    assert rows[1]["size"]["binary"] == 0
    for row, folder in zip(rows, ("binary", "twin"), strict=True):
        assert row["file_bytes"] == (out / folder / "best.safetensors").stat().st_size
        header = json.loads((out / folder / "history.json").read_text())
        assert row["mean_iou"] == pytest.approx(header[-1]["val_miou"], abs=1e-6)
    printed = capsys.readouterr().out
    assert f"{rows[0]['mean_iou']:.3f}" in printed
    mask = np.array(Image.open(out / "predictions" / "scene_0.png"))
    assert mask.shape == tuple(quickstart.quickstart_experiment().data.scenes_size)
    assert len(list((out / "predictions").iterdir())) == 3 * quickstart.PICTURES
    # once more over its own folder
    assert main(["quickstart", "--out", str(out)]) == 0


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
