"""Models inside the package: found, named, described, and small."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from trained_networks import trained

import binseg
from binseg import shipped
from binseg.cli import main
from binseg.compiler.pack import pack
from binseg.data.datasets import ScenesDataset
from binseg.data.imageio import write_image
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import load, read_header, save

full = partial(trained, precision="full")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A package folder with the model "tiny" and its twin."""
    folder = tmp_path / "package"
    monkeypatch.setattr(shipped, "FOLDER", folder)
    networks = {"tiny": pack(trained(num_classes=8)), "tiny.twin": full(num_classes=8)}
    for name, network in networks.items():
        save(folder / f"{name}.safetensors", network, get_label_table("scenes"), Preprocessing())
    (folder / "tiny.md").write_text("# tiny\n")
    return folder


def test_what_ships_is_packed_small_and_has_a_card():
    models = binseg.shipped_models()
    assert models
    assert list(models) == sorted(models)
    for name, model in models.items():
        assert read_header(model.path)["kind"] == "packed"
        assert model.path.stat().st_size < 4e6
        card = model.card.read_text()
        assert card.startswith(f"# {name}\n")
        terms = "MIT" if name == "scenes" else "academic research"
        for word in (terms, "Not for", "mIoU", "binseg pack"):
            assert word in card


def test_what_ships_has_a_full_precision_twin():
    """In the package where it is small, else in weights/ of the checkout."""
    for name, model in binseg.shipped_models().items():
        if model.twin is None:
            assert "| its full-precision twin | not trained yet |" in model.card.read_text(), name
            continue
        twin, own = read_header(model.twin), read_header(model.path)
        assert twin["architecture"]["precision"] == "full"
        assert twin["labels"] == own["labels"]
        assert twin["preprocessing"] == own["preprocessing"]


@pytest.mark.parametrize("name", sorted(binseg.shipped_models()))
def test_what_ships_segments(name):
    scene = ScenesDataset("val", 1, (90, 120))[0].image
    found = binseg.Predictor(name, device="cpu")(scene)
    assert found.class_map.shape == (90, 120)
    assert len(found.shares()) == found.labels.num_classes


def test_a_name_a_file_and_neither(folder, tmp_path, monkeypatch):
    models = shipped.shipped_models()
    assert list(models) == ["tiny"]
    assert models["tiny"].twin == folder / "tiny.twin.safetensors"
    assert models["tiny"].card.read_text() == "# tiny\n"
    assert shipped.resolve("tiny") == folder / "tiny.safetensors"
    assert shipped.resolve("some/tiny") == Path("some/tiny")
    assert shipped.resolve("tiny.safetensors") == Path("tiny.safetensors")
    with pytest.raises(BinsegError, match=r"'tinny'; did you mean 'tiny'\? \(known: tiny\)"):
        load("tinny")
    with pytest.raises(BinsegError, match=r"no/where: there is no such model file"):
        load("no/where")
    # what lies in the working folder under the same name wins
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"mine")
    with pytest.raises(BinsegError, match="tiny: not a readable safetensors file"):
        load("tiny")


def test_a_name_is_the_file(folder):
    by_name, by_path = load("tiny"), load(folder / "tiny.safetensors")
    scene = ScenesDataset("val", 1, (45, 61))[0].image
    maps = [binseg.Predictor(each, device="cpu")(scene).class_map for each in (by_name, by_path)]
    assert np.array_equal(*maps)


def test_commands_take_a_name(folder, tmp_path, capsys):
    image, out = tmp_path / "x.png", str(tmp_path / "out")
    write_image(image, ScenesDataset("val", 1, (45, 61))[0].image)
    data = ["--data.name", "scenes", "--data.scenes_val", "2", "--data.scenes_size", "[45,61]"]
    assert main(["predict", "tiny", str(image), "--out", out]) == 0
    assert main(["summary", "tiny", "--size", "[45,61]"]) == 0
    assert main(["evaluate", "tiny", *data, "--out", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    for command in (["predict", "tinny", str(image), "--out", out], ["summary", "tinny"]):
        assert main(command) == 1
        assert "did you mean 'tiny'" in capsys.readouterr().err


def test_a_run_folder_is_its_best_network(folder, tmp_path, capsys):
    run, out = tmp_path / "run", str(tmp_path / "out")
    run.mkdir()
    image = tmp_path / "x.png"
    write_image(image, ScenesDataset("val", 1, (45, 61))[0].image)
    commands = (
        ["predict", str(run), str(image), "--out", out],
        ["summary", str(run), "--size", "[45,61]"],
        ["evaluate", str(run), "--data.name", "scenes", "--data.scenes_val", "1",
         "--data.scenes_size", "[45,61]"],
        ["export", str(run), "--format", "page", "--out", str(tmp_path / "page.html")],
    )  # fmt: skip
    for command in commands:
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{run}: a folder without best.safetensors" in line
    (run / "best.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())
    assert shipped.resolve(run) == run / "best.safetensors"
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err


def test_what_needs_float_weights_takes_the_name_of_a_network_whose_float_weights_are_here(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    commands = (
        ["pack", "tiny", "--out", str(tmp_path / "packed.safetensors")],
        ["export", "tiny", "--out", str(tmp_path / "tiny.onnx")],
    )
    for command in commands:
        assert main(command) == 1
        assert "tiny: comes packed, as bits; get its float weights" in capsys.readouterr().err
    network = trained(num_classes=8)
    save(tmp_path / "tiny.safetensors", network, get_label_table("scenes"), Preprocessing())
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err


def test_listing_them_loads_no_torch():
    script = "import sys, binseg; binseg.shipped_models(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
