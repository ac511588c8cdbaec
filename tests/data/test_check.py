"""`binseg data check` finds every fault of a set that is broken in all ways."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_cityscapes, write_voc
from PIL import Image

from binseg.cli.data_check import data_check
from binseg.data.check import DatasetCheck, check_dataset
from binseg.data.check_report import FAULTS
from binseg.data.config import DataConfig
from binseg.data.imageio import read_image
from binseg.data.processes import in_processes
from binseg.errors import BinsegError


def texts(report: object) -> list[str]:
    return [fault.text for fault in report.faults]  # type: ignore[attr-defined]


CLASSES = ["sky", "building", "pole", "road"]  # those that the small set has


def test_clean_set(camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DataConfig("camvid", str(camvid), classes=CLASSES)
    report = check_dataset(config)
    assert report.faults == []
    assert set(report.splits) == {"train", "val"}
    train = report.splits["train"]
    assert train.samples == 6
    assert train.pixels.tolist() == [6 * 24 * 8] * 4 + [0]
    assert train.present.tolist() == [6] * 4
    assert data_check(config) == 0
    out = capsys.readouterr().out
    assert "no faults" in out
    assert "25.00%" in out


def break_it(camvid: Path) -> list[tuple[str, str, str]]:
    """One fault of every kind that a single file can have: (kind, file, words of the fault)."""
    train, masks = camvid / "train", camvid / "trainannot"
    Image.fromarray(np.full((24, 32), 50, np.uint8)).save(masks / "train0.png")
    Image.fromarray(np.zeros((24, 31), np.uint8)).save(masks / "train1.png")
    (masks / "train2.png").unlink()
    (train / "train3.png").write_bytes((train / "train3.png").read_bytes()[:300])
    Image.fromarray(np.full((24, 32), 90, np.uint8)).save(masks / "train3.png")
    Image.fromarray(np.full((24, 32), 11, np.uint8)).save(masks / "train4.png")
    shutil.copy(train / "train5.png", camvid / "val/val0.png")
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(camvid / "valannot/val1.png")
    (camvid / "valannot/val2.png").write_bytes(b"")
    (train / "notes.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    shutil.copy(masks / "train5.png", camvid / "valannot/val9.png")
    return [
        ("ids", "trainannot/train0.png", "50"),
        ("size", "trainannot/train1.png", "31 × 24"),
        ("arrangement", "trainannot/train2.png", "missing"),
        ("left_out", "train/notes.heic", "left out: HEIC"),
        ("left_out", "valannot/val9.png", "left out: a mask without an image"),
        ("image", "train/train3.png", "damaged"),
        ("ids", "trainannot/train3.png", "90"),
        ("empty", "trainannot/train4.png", "every pixel is ignored"),
        ("copy", "train/train5.png", str(camvid / "val/val0.png")),
        ("colors", "valannot/val1.png", "colours"),
        ("mask", "valannot/val2.png", "empty file"),
    ]


def test_every_fault_is_listed(camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = break_it(camvid)
    config = DataConfig("camvid", str(camvid), allow_missing_classes=True)
    faults = check_dataset(config).faults
    assert len(faults) == len(expected), faults
    for kind, file, says in expected:
        matching = [f for f in faults if str(camvid / file) in f.text and says in f.text]
        assert kind in [fault.kind for fault in matching], file
    assert all("\n" not in fault.text for fault in faults)
    assert data_check(config, workers=1) == 1
    out = capsys.readouterr().out
    assert "11 faults" in out
    for fault in faults:
        assert fault.text in out, "a fault must not be broken over lines"


def test_processes_find_what_one_finds(camvid: Path, tmp_path: Path) -> None:
    break_it(camvid)
    config = DataConfig("camvid", str(camvid), allow_missing_classes=True)
    one, several = (check_dataset(config, workers).to_dict() for workers in (1, 3))
    assert one.pop("seconds") > 0
    assert several.pop("seconds") > 0
    assert one == several
    assert list(one["faults"]) == [kind for kind in FAULTS if kind in one["faults"]]
    assert data_check(config, workers=2, out=tmp_path / "report.json") == 1
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["faults"] == one["faults"]
    train = written["splits"]["train"]
    # train1, train3 are not counted, train2 is no pair at all, train0's ids are unknown
    assert (train["images"], train["read"], train["expected"]) == (5, 2, None)
    assert train["sizes"] == {"32x24": 2}
    assert train["classes"]["sky"] == {"pixels": 192, "share": 0.125, "images": 1}
    assert train["ignored"] == {"pixels": 768, "share": 0.5}


def test_many_faults_make_a_short_report(
    camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], write_pair: object
) -> None:
    for n in range(30):
        write_pair(  # type: ignore[operator]
            camvid / f"train/more{n}.png", camvid / f"trainannot/more{n}.png", seed=500 + n
        )
        Image.fromarray(np.full((24, 32), 77, np.uint8)).save(camvid / f"trainannot/more{n}.png")
    (camvid / "valannot/val1.png").write_bytes(b"")
    config = DataConfig("camvid", str(camvid), allow_missing_classes=True)
    assert data_check(config, workers=1, out=tmp_path / "all.json") == 1
    out = capsys.readouterr().out
    assert "masks hold ids that are not in the label table: 30" in out
    assert sum("class id 77" in line for line in out.splitlines()) == 10
    assert f"and 20 more; all are in {tmp_path / 'all.json'}" in out
    assert "valannot/val1.png" in out, "many faults of one kind must not hide another kind"
    assert len(json.loads((tmp_path / "all.json").read_text())["faults"]["ids"]) == 30


def test_the_same_image_in_another_encoding(camvid: Path) -> None:
    Image.fromarray(read_image(camvid / "train/train1.png")).save(camvid / "val/val0.bmp")
    (camvid / "val/val0.png").unlink()
    (fault,) = check_dataset(DataConfig("camvid", str(camvid), classes=CLASSES)).faults
    assert fault.kind == "copy"
    assert "val0.bmp in another encoding" in fault.text
    assert "train1.png" in fault.text


def test_a_file_in_two_lists_and_twice_in_one(tmp_path: Path) -> None:
    lists = write_voc(tmp_path) / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    train, val = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val"))
    (lists / "train.txt").write_text("\n".join([*train, *val[:2], train[0]]))
    report = check_dataset(DataConfig("voc", str(tmp_path), allow_missing_classes=True))
    assert [fault.kind for fault in report.faults] == ["shared", "shared"]
    both, twice = sorted(texts(report), key=len, reverse=True)
    assert "train and val: both list 2 images" in both
    assert f"{val[0]}.jpg" in both
    assert "train: lists 1 image twice" in twice
    assert f"{train[0]}.jpg" in twice


def test_sizes_of_full_sets_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path, test=2)
    config = DataConfig("voc", str(tmp_path), allow_missing_classes=True)
    assert data_check(config, workers=1) == 0, "fewer images, or labels not public: no fault"
    out = capsys.readouterr().out
    assert "train: 4 images (the full set has 1,464)" in out
    assert "test: 2 images (the full set has 1,456)" in out
    assert check_dataset(config).to_dict()["splits"]["val"]["expected"] == 1449


def test_cityscapes_and_a_subset_of_classes(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, test=1)
    config = DataConfig("cityscapes", str(tmp_path), allow_missing_classes=True)
    assert check_dataset(config).faults == []
    # masks of which every pixel is ignored are no fault here, a class that none has is
    few = check_dataset(DataConfig("cityscapes", str(tmp_path), classes=["car", "bus"]))
    assert [fault.kind for fault in few.faults] == ["classes"]
    assert "class 'bus' without a pixel" in few.faults[0].text
    assert few.splits["train"].present.shape == (2,)


def test_listed_files_that_are_gone(tmp_path: Path) -> None:
    voc = write_voc(tmp_path, train=5) / "VOCdevkit/VOC2012"
    for index in (1, 3):
        (voc / f"JPEGImages/2008_{index:06d}.jpg").unlink()
    found = check_dataset(DataConfig("voc", str(tmp_path))).to_dict()["faults"]
    assert len(found["missing"]) == 2
    assert len(found["arrangement"]) == 1
    assert "1 more of 5 listed images" in found["arrangement"][0]


def test_a_killed_process_is_one_clear_line() -> None:
    def die(index: int) -> int:
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    with pytest.raises(BinsegError, match="killed, most likely for want of memory") as caught:
        list(in_processes(die, 20, 2))
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_results_are_in_order_and_errors_come_through() -> None:
    def slow_at_first(index: int) -> int:
        time.sleep(0.05 * (index == 0))
        if index == 30:
            raise BinsegError("thirty")
        return index

    found: list[int] = []
    with pytest.raises(BinsegError, match="thirty"):
        found.extend(in_processes(slow_at_first, 40, 2))
    assert found == list(range(24)), "30 is the seventh of its chunk of eight"


def test_who_stops_listening_ends_the_processes(camvid: Path) -> None:
    check = iter(DatasetCheck(DataConfig("camvid", str(camvid)), workers=2))
    next(check)
    assert len(multiprocessing.active_children()) == 2
    check.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_ctrl_c_ends_with_one_line(tmp_path: Path) -> None:
    config = "name: scenes\nscenes_train: 1000000\nscenes_size: [480, 640]\n"
    (tmp_path / "data.yaml").write_text(config)
    command = ["data", "check", "--workers", "2", "--data"]
    process = subprocess.Popen(
        [sys.executable, "-m", "binseg", *command, str(tmp_path / "data.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C goes to all processes of a group
    )
    try:
        for _ in range(600):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            if len(children.read_text().split()) == 2:
                break
            time.sleep(0.1)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert err == "binseg: error: interrupted\n"
    assert "Traceback" not in out


@pytest.mark.parametrize("workers", [0, -2])
def test_impossible_workers(camvid: Path, workers: int) -> None:
    with pytest.raises(BinsegError, match="workers must be at least 1"):
        data_check(DataConfig("camvid", str(camvid)), workers=workers)


def test_missing_and_empty_splits(camvid: Path) -> None:
    shutil.rmtree(camvid / "val")
    for path in [*(camvid / "train").iterdir(), *(camvid / "trainannot").iterdir()]:
        path.unlink()
    (camvid / "test").mkdir()
    faults = texts(check_dataset(DataConfig("camvid", str(camvid))))
    assert any(str(camvid / "val") in fault and "missing" in fault for fault in faults)
    assert any("no images" in fault for fault in faults)
    assert any(str(camvid / "testannot") in fault for fault in faults), "half a test split"
    assert len(faults) == 3


def test_missing_root_is_said_once(tmp_path: Path) -> None:
    assert len(check_dataset(DataConfig("camvid", str(tmp_path / "none"))).faults) == 1


def test_scenes_are_clean() -> None:
    config = DataConfig("scenes", scenes_train=3, scenes_val=2, scenes_size=(32, 48))
    report = check_dataset(config)
    assert report.faults == []
    assert [result.samples for result in report.splits.values()] == [3, 2, 2]
