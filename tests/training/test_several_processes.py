"""Trainings of several processes: disks of their own, what they must agree on, one that is killed.

Two processes on this machine stand for two machines; run folders of their own for their disks.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from two_processes import processes

from binseg.data.imageio import write_image, write_mask
from binseg.training.checkpoints import LAST

SETTINGS = [
    "--data.crop", "[32,32]", "--data.batch_size", "2", "--data.calibration_images", "4",
    "--model.name", "resnete18", "--model.width", "8", "--model.head", "fcn8s",
    "--trainer.overlays", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("several") / "data"
    rng = np.random.default_rng(0)
    for number in range(10):
        name = f"{'val' if number < 2 else 'train'}/{number}.png"
        write_image(root / "images" / name, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        write_mask(root / "masks" / name, rng.integers(0, 2, (32, 32), dtype=np.uint8))
    (root / "labels.yaml").write_text("classes: [one, two]\n")
    return root


def train(root: Path, out: Path, *more: str) -> list[str]:
    folder = ["--data.name", "folder", "--data.root", str(root)]
    return ["train", "--out", str(out), *folder, *SETTINGS, *more]


def said(tmp_path: Path) -> list[str]:
    """What each process wrote to stderr."""
    return [(tmp_path / f"{rank}.err").read_text() for rank in (0, 1)]


def test_machines_without_a_shared_disk_resume_from_process_0s_checkpoint(data, tmp_path):
    folders = tmp_path / "a", tmp_path / "b"
    first = [train(data, folder, "--trainer.epochs", "1") for folder in folders]
    assert processes(tmp_path, first) == [0, 0], said(tmp_path)
    assert not folders[1].exists()
    again = [
        ["train", f"--out={folder}", "--resume", "--trainer.epochs", "2"] for folder in folders
    ]
    assert processes(tmp_path, again) == [0, 0], said(tmp_path)
    assert not folders[1].exists()
    history = json.loads((folders[0] / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert torch.load(folders[0] / LAST, weights_only=True)["global_step"] == 4
    assert "mIoU" in (tmp_path / "0.out").read_text()
    assert (tmp_path / "1.out").read_text() == ""


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("begun")
    assert processes(folder, [train(data, folder / "a", "--trainer.epochs", "1")] * 2) == [0, 0]
    return folder / "a"


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda run: (run / "config.yaml").unlink(), "there is no run to resume"),
        (lambda run: (run / LAST).write_bytes(b"torn"), "not a readable checkpoint"),
        (lambda run: (run / "classes.json").write_text('{"names": ["two", "one"]}'), "class 0 was"),
    ],
)
def test_if_process_0_cannot_go_on_both_end_with_the_same_line(begun, tmp_path, damage, line):
    run = tmp_path / "a"
    shutil.copytree(begun, run)
    damage(run)
    again = [["train", "--out", str(tmp_path / name), "--resume"] for name in "ab"]
    assert processes(tmp_path, again) == [1, 1]
    errors = said(tmp_path)
    assert line in errors[0]
    assert errors[0].count("\n") == 1
    assert errors[1] == errors[0]


def test_other_settings_are_refused(data, tmp_path):
    own = [train(data, tmp_path / "run", "--optimizer.lr", lr) for lr in ("1e-3", "1e-4")]
    assert processes(tmp_path, own) == [1, 1]
    errors = said(tmp_path)
    assert "has other settings than process 0: optimizer.lr; all" in errors[0]
    assert errors[1] == errors[0]


def test_other_images_are_refused(data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for folder in ("images", "masks"):
        (other / folder / "train/9.png").unlink()
    own = [train(root, tmp_path / root.name / "run") for root in (data, other)]
    assert processes(tmp_path, own) == [1, 1]
    errors = said(tmp_path)
    assert "has other data than process 0: training images; all" in errors[0]
    assert errors[1] == errors[0]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_with_one_line(data, tmp_path, victim):
    settings = ["--trainer.epochs", "3", "--data.workers", "1"]
    codes = processes(tmp_path, [train(data, tmp_path / "run", *settings)] * 2, killed=(victim, 3))
    assert codes[victim] == -9
    assert codes[1 - victim] == 1
    (line,) = said(tmp_path)[1 - victim].splitlines()
    assert line.startswith(f"binseg: error: process {victim} of 2 was lost")
    assert line.endswith(f"go on with `binseg train --resume --out {tmp_path / 'run'}`")
