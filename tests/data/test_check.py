"""`binseg data check` finds every fault of a set that is broken in all ways."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.cli.data_check import data_check
from binseg.data.check import check_dataset
from binseg.data.config import DataConfig


def test_clean_set(camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DataConfig("camvid", str(camvid))
    report = check_dataset(config)
    assert report.faults == []
    assert set(report.splits) == {"train", "val"}
    train = report.splits["train"]
    assert train.samples == 6
    assert train.pixels.tolist() == [6 * 24 * 8] * 4 + [0] * 8
    assert train.present.tolist() == [6] * 4 + [0] * 7
    assert data_check(config) == 0
    out = capsys.readouterr().out
    assert "no faults" in out
    assert "25.00%" in out


def test_every_fault_is_listed(camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, masks = camvid / "train", camvid / "trainannot"
    Image.fromarray(np.full((24, 32), 50, np.uint8)).save(masks / "train0.png")
    Image.fromarray(np.zeros((24, 31), np.uint8)).save(masks / "train1.png")
    (masks / "train2.png").unlink()
    (train / "train3.png").write_bytes((train / "train3.png").read_bytes()[:300])
    Image.fromarray(np.full((24, 32), 90, np.uint8)).save(masks / "train3.png")
    Image.fromarray(np.full((24, 32), 11, np.uint8)).save(masks / "train4.png")
    shutil.copy(train / "train5.png", camvid / "val/val0.png")
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(camvid / "valannot/val1.png")
    config = DataConfig("camvid", str(camvid))
    faults = check_dataset(config).faults
    expected = [
        ("trainannot/train0.png", "50"),
        ("trainannot/train1.png", "31 × 24"),
        ("trainannot/train2.png", "missing"),
        ("train/train3.png", "damaged"),
        ("trainannot/train3.png", "90"),
        ("trainannot/train4.png", "every pixel is ignored"),
        ("train/train5.png", str(camvid / "val/val0.png")),
        ("valannot/val1.png", "colours"),
    ]
    assert len(faults) == len(expected), faults
    for file, says in expected:
        assert any(str(camvid / file) in fault and says in fault for fault in faults), file
    assert all("\n" not in fault for fault in faults)
    assert data_check(config) == 1
    out = capsys.readouterr().out
    assert "8 faults" in out
    for fault in faults:
        assert fault in out, "a fault must not be broken over lines"


def test_missing_and_empty_splits(camvid: Path) -> None:
    shutil.rmtree(camvid / "val")
    for path in (camvid / "train").iterdir():
        path.unlink()
    (camvid / "test").mkdir()
    faults = check_dataset(DataConfig("camvid", str(camvid))).faults
    assert any(str(camvid / "val") in fault and "missing" in fault for fault in faults)
    assert any("no pictures" in fault for fault in faults)
    assert any(str(camvid / "testannot") in fault for fault in faults), "half a test split"
    assert len(faults) == 3


def test_missing_root_is_said_once(tmp_path: Path) -> None:
    assert len(check_dataset(DataConfig("camvid", str(tmp_path / "none"))).faults) == 1


def test_scenes_are_clean() -> None:
    config = DataConfig("scenes", scenes_train=3, scenes_val=2, scenes_size=(32, 48))
    report = check_dataset(config)
    assert report.faults == []
    assert [result.samples for result in report.splits.values()] == [3, 2, 2]
