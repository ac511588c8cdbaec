"""The configurations for PASCAL VOC, VOC animals and Cityscapes train on trees of their layouts."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from dataset_trees import write_cityscapes, write_voc
from parsed_configs import parsed

from binseg.cli import main
from binseg.loaded import load

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
FILES = sorted(
    path for name in ("voc", "voc_animals", "cityscapes") for path in (CONFIGS / name).iterdir()
)

# What the paper's files differ in, beside groupnet18_bpac.yaml.
PAPERS = {
    "groupnet18_bpac": {},
    "groupnet18_bpac_fcn16s": {"head": "fcn16s"},
    "groupnet18_star_bpac": {"name": "groupnet18_star", "nonlinearity": "tanh"},
    "groupnet18_star_bpac_fcn16s": {
        "name": "groupnet18_star",
        "nonlinearity": "tanh",
        "head": "fcn16s",
    },
    "groupnet18": {"atrous": "off"},
    "groupnet18_full": {"atrous": "off", "precision": "full"},
    "groupnet34_bpac": {"name": "groupnet34"},
}

every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data set → a folder with four training images and one for scoring."""
    folder = tmp_path_factory.mktemp("trees")
    return {
        "voc": write_voc(folder / "voc", train=4, val=1, sbd=2),
        "cityscapes": write_cityscapes(folder / "city", train=4, val=1, train_extra=4),
    }


@every_file
def test_two_steps_and_a_validation(path, trees, tmp_path, capsys):
    """Everything is as the file says but for sizes: narrow, small crops, one epoch."""
    told = parsed(path)
    tree = trees[told["data"]["name"]]
    small = {
        "data.root": tree,
        "data.crop": "[40,56]",
        "data.batch_size": 3 if told["data"]["train_split"] == "trainaug" else 2,
        "data.workers": 0,
        "data.calibration_images": 2,
        "data.allow_missing_classes": "true",
        "model.width": 8,
        "trainer.epochs": 1,
        "trainer.validate_every": 1,
        "trainer.overlays": 0,
        "trainer.threads": 1,
    }
    options = [part for key, value in small.items() for part in (f"--{key}", str(value))]
    out = tmp_path / "run"
    status = main(["train", "--config", str(path), *options, "--out", str(out)])
    assert status == 0, capsys.readouterr().err
    (entry,) = json.loads((out / "history.json").read_text())
    assert 0 <= entry["val_miou"] <= 1
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == 2
    loaded = load(out / "best.safetensors")
    classes = {"voc": 21, "voc_animals": 7, "cityscapes": 19}[path.parent.name]
    assert loaded.model.num_classes == len(loaded.labels.names) == classes
    assert loaded.labels.name == path.parent.name


def test_the_papers_files_differ_in_what_their_names_say():
    assert {path.stem for path in (CONFIGS / "voc").iterdir()} == PAPERS.keys()
    base = parsed(CONFIGS / "voc" / "groupnet18_bpac.yaml")
    for name, differs in PAPERS.items():
        expected = {**base, "model": {**base["model"], **differs}}
        assert parsed(CONFIGS / "voc" / f"{name}.yaml") == expected


def test_the_papers_recipe():
    """Crop, schedule and augmentation of the released code; train without VOC's val."""
    told = parsed(CONFIGS / "voc" / "groupnet18_bpac.yaml")
    data, model, optimizer = told["data"], told["model"], told["optimizer"]
    assert (data["train_split"], data["crop"], data["batch_size"]) == ("trainaug", [480, 480], 16)
    used = {"scale_min": 0.5, "scale_max": 2.0, "flip": 0.5}
    strengths = ("noise_sigma", "blur_sigma", "jpeg_quality", "cutout_size")  # of what is off
    off = {
        key: value
        for key, value in data["augment"].items()
        if key not in used and key not in strengths
    }
    assert not any(off.values()), off
    assert used.items() <= data["augment"].items()
    assert len(off) == 14, sorted(off)  # a new augmentation is looked at here
    assert (model["bases"], model["width"], model["output_stride"]) == (5, 64, 8)
    rates = {"name": "adam", "lr": 1e-4, "head_lr_scale": 10, "weight_decay": 1e-4}
    schedule = {"schedule": "poly", "power": 0.9, "warmup": 0}
    assert optimizer | rates | schedule == optimizer
    assert told["trainer"]["epochs"] == 50


def test_the_coarse_start_fits_the_fine_training():
    coarse = parsed(CONFIGS / "cityscapes" / "coarse_pretraining.yaml")
    fine = parsed(CONFIGS / "cityscapes" / "groupnet18_bpac.yaml")
    assert coarse["model"] == fine["model"]
    assert coarse["data"]["train_split"] == "train_extra"


@every_file
def test_every_key_is_explained(path):
    """A comment behind each value, in one column, and the command at the head."""
    text = path.read_text()
    assert f"--config {path.relative_to(ROOT)} --out " in text
    for line in text.splitlines():
        assert len(line) <= 100
        if not line.startswith("#") and not line.endswith(":"):
            assert line[30:32] == "# " or "  # " in line[30:], line


def commands() -> list[str]:
    """Every `binseg …` of the files' comments, once."""
    text = "\n".join(path.read_text() for path in FILES).replace("\\\n#", "")
    return sorted(set(re.findall(r"^# +binseg (.*)$", text, re.MULTILINE)))


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_comments_are_understood(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main([*shlex.split(command), "--print_config"]) == 0, capsys.readouterr().err
