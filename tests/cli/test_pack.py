"""`binseg pack` on files and run folders, good and bad."""

import dataclasses

import numpy as np
import pytest
import torch
import yaml

from binseg.cli import main
from binseg.compiler import verification
from binseg.data.config import DataConfig
from binseg.data.imageio import read_mask, write_image
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.loaded import load, read_header, save
from binseg.nn.segmenter import create_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder as `binseg train` leaves it, as far as packing looks at it."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = create_model("groupnet18", num_classes=8, bases=2, width=8, downsample="real")
    labels = get_label_table("scenes")
    training = {"val_miou": 0.25}
    save(folder / "best.safetensors", model, labels, Preprocessing(), training=training)
    data = DataConfig(name="scenes", scenes_train=6, scenes_val=3, scenes_size=(40, 56))
    plain = yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(data))))
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": plain, "model": {"name": "x"}}))
    return folder


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / "pictures" / name, rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    return tmp_path / "pictures"


LENIENT = ["--min_agreement", "0"]
"""For networks of noise, whose signs turn in low precision."""


def pack(*arguments) -> int:
    return main(["pack", *map(str, arguments)])


def test_a_run_folder(run, tmp_path, capsys):
    out = tmp_path / "packed.safetensors"
    assert pack(run, "--out", out) == 0
    header = read_header(out)
    assert (header["kind"], header["other_layers"]) == ("packed", "fp32")
    assert header["training"]["val_miou"] == 0.25
    assert header["training"]["architecture"]["name"] == "groupnet18"
    printed = capsys.readouterr().out
    before, after = (path.stat().st_size for path in (run / "best.safetensors", out))
    assert f"{after / 1e6:.2f} MB, {before / after:.0f}× smaller than the float file" in printed
    assert "100.000 % of the pixels of 3 images (scenes val; at least 99.9 %" in printed
    assert "calibrating" not in printed


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_cheaper_arithmetic_from_the_runs_own_data(run, tmp_path, capsys, kind):
    out = tmp_path / "packed.safetensors"
    assert pack(run, "--out", out, "--other-layers", kind, "--limit", 4, *LENIENT) == 0
    assert load(out).model.other_layers == kind
    printed = capsys.readouterr().out
    assert ("calibrating on scenes train" in printed) == (kind == "int8")


def test_the_old_name_of_an_option_works_with_a_note(run, tmp_path, capsys):
    out = tmp_path / "packed.safetensors"
    (tmp_path / "old.yaml").write_text("rest: bf16\n")
    for old in (["--rest", "bf16"], ["--rest=bf16"], ["--config", tmp_path / "old.yaml"]):
        assert pack(run, "--out", out, *old, *LENIENT) == 0
        assert load(out).model.other_layers == "bf16"
        assert "rest is now called other_layers" in capsys.readouterr().err
    assert pack(run, "--out", out, "--least-agreement", "0") == 0
    assert "least_agreement is now called min_agreement" in capsys.readouterr().err


def test_a_file_and_ones_own_images(run, images, tmp_path, capsys):
    source, out = run / "best.safetensors", tmp_path / "packed.safetensors"
    options = ["--other_layers", "int8", "--calibration", images / "a.png", images / "b.jpg"]
    options += LENIENT
    assert pack(source, "--out", out, *options) == 0
    assert f"of the pixels of 2 images ({images / 'a.png'} …" in capsys.readouterr().out
    assert pack(source, "--out", out, "--verify", images) == 0
    assert f"100.000 % of the pixels of 2 images ({images};" in capsys.readouterr().out
    assert pack(source, "--out", out) == 0
    assert "of 16 images (drawn street scenes;" in capsys.readouterr().out


def test_predict_and_evaluate_take_the_file(run, images, tmp_path, capsys):
    out = tmp_path / "packed.safetensors"
    assert pack(run, "--out", out) == 0
    for model, folder in ((run / "best.safetensors", "float"), (out, "packed")):
        arguments = [str(model), str(images), "--out", str(tmp_path / folder)]
        assert main(["predict", *arguments, "--no_overlay"]) == 0
    for name in ("a.png", "b.png"):
        one, other = (read_mask(tmp_path / folder / name) for folder in ("float", "packed"))
        assert (one == other).mean() > 0.999
    scenes = ["--data.name", "scenes", "--data.scenes_val", "2", "--data.scenes_size", "[40,56]"]
    assert main(["evaluate", str(out), *scenes, "--no_boundary"]) == 0


def test_its_own_input_is_not_overwritten(run, tmp_path, capsys):
    source = run / "best.safetensors"
    before = source.read_bytes()
    link = tmp_path / "link.safetensors"
    link.hardlink_to(source)
    for out in (source, link, run / ".." / run.name / "best.safetensors"):
        for model in (run, source):
            assert pack(model, "--out", out) == 1
            assert "is the trained network itself" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_faults_in_one_line(run, images, tmp_path, capsys):
    source, out = run / "best.safetensors", tmp_path / "packed.safetensors"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "best.safetensors").write_bytes(source.read_bytes())
    twin = tmp_path / "twin.safetensors"
    real = create_model("groupnet18", num_classes=8, width=8, precision="full")
    save(twin, real, get_label_table("scenes"), Preprocessing())

    def fault(*arguments) -> str:
        assert pack(*arguments, "--out", out) in (1, 2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not out.exists()
        return error

    assert "give --calibration" in fault(source, "--other_layers", "int8")
    assert "nothing in this network is 1 bit" in fault(twin)
    assert str(twin) in fault(twin)
    assert "no such model file" in fault(tmp_path / "nothing.safetensors")
    assert "a folder without best.safetensors" in fault(images)
    assert "cannot be read" in fault(broken)
    (broken / "config.yaml").write_text("data: {name: [")
    assert "not the configuration of a run" in fault(broken)
    (broken / "config.yaml").write_text("data: {name: scenes, surprise: 1}")
    assert "not the configuration of a run" in fault(broken)
    (broken / "config.yaml").write_text("[1, 2]")
    assert "not the configuration of a run" in fault(broken)
    (broken / "config.yaml").write_text("data: {name: camvid, root: nowhere}")
    assert "nowhere" in fault(broken, "--other_layers", "int8")
    assert "no image matches" in fault(source, "--verify", tmp_path / "*.jpg")
    cut = (images / "b.jpg").read_bytes()[:500]
    (images / "b.jpg").write_bytes(cut)
    damaged = f"binseg: error: {images / 'b.jpg'}: damaged"
    assert fault(source, "--other_layers", "int8", "--calibration", images).startswith(damaged)
    assert fault(source, "--verify", images).startswith(damaged)
    assert "limit must be at least 1" in fault(source, "--limit", 0)
    assert "int8" in fault(source, "--other_layers", "int4")
    assert pack(run, "--out", out) == 0
    packed = tmp_path / "packed2.safetensors"
    out.rename(packed)
    capsys.readouterr()
    assert "packed already" in fault(packed)


@pytest.mark.parametrize("name", ["packed.pt", "packed", "folder.safetensors"])
def test_a_name_that_no_model_file_has(run, tmp_path, capsys, name):
    (tmp_path / "folder.safetensors").mkdir()
    assert pack(run, "--out", tmp_path / name) == 1
    assert "choose " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


def test_data_that_is_gone_does_not_keep_fp32_from_being_packed(run, tmp_path, capsys):
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    (moved / "config.yaml").write_text("data: {name: camvid, root: nowhere}")
    assert pack(moved, "--out", tmp_path / "packed.safetensors") == 0
    assert "(drawn street scenes;" in capsys.readouterr().out


def test_a_network_that_says_something_else_is_a_fault(run, tmp_path, capsys, monkeypatch):
    found = verification.Agreement(3, 0.9, 1.0)
    monkeypatch.setattr(verification, "verify", lambda *_, **__: found)
    out = tmp_path / "packed.safetensors"
    out.write_text("of yesterday")
    for kind in ("fp32", "bf16", "int8"):
        assert pack(run, "--out", out, "--other_layers", kind) == 1
        error = capsys.readouterr().err
        assert "another class on 10.000 % of the pixels of 3 images (scenes val)" in error
        assert ("fault of binseg" in error) == (kind == "fp32")
        assert ("--min-agreement 0.9" in error) == (kind != "fp32")
        assert out.read_text() == "of yesterday"
    assert pack(run, "--out", out, "--other_layers", "int8", "--min_agreement", "0.9") == 0
    assert "at least 90 % are required" in capsys.readouterr().out


def test_a_sensitive_network_is_packed_with_a_note(run, tmp_path, capsys, monkeypatch):
    found = verification.Agreement(3, 0.9, 0.93)
    monkeypatch.setattr(verification, "verify", lambda *_, **__: found)
    out = tmp_path / "packed.safetensors"
    assert pack(run, "--out", out) == 0
    assert "changes 7.000 % of its own class map" in capsys.readouterr().out
    assert load(out).model.other_layers == "fp32"


def test_more_than_16_images_are_compared_where_there_are_more(run, tmp_path, capsys):
    folder = tmp_path / "many"
    rng = np.random.default_rng(0)
    for index in range(70):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(folder / f"{index}.png", image)
    for limit, count in ((None, 64), (5, 5)):
        options = [] if limit is None else ["--limit", limit]
        assert pack(run, "--out", tmp_path / "p.safetensors", "--verify", folder, *options) == 0
        assert f"of the pixels of {count} images" in capsys.readouterr().out
