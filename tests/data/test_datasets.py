"""Folder layouts, splits, and what is said when files are missing or do not fit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.data.camvid import CamVidDataset
from binseg.data.datasets import DATASETS, DatasetOptions, create_dataset, dataset_labels
from binseg.data.folder import FolderDataset
from binseg.errors import BinsegError


def message(call: Callable[[], object]) -> str:
    with pytest.raises(BinsegError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, write_pair: Callable[..., None]) -> Path:
    """People's own data without a split: 40 images."""
    root = tmp_path / "own"
    for n in range(40):
        write_pair(root / "images" / f"p{n:02d}.png", root / "masks" / f"p{n:02d}.png", n, (8, 8))
    (root / "labels.yaml").write_text("classes: [a, b, c, d]\n")
    return root


def names(dataset: FolderDataset) -> list[str]:
    return [dataset.sample_name(index) for index in range(len(dataset))]


def test_camvid_layout(camvid: Path) -> None:
    dataset = CamVidDataset(camvid, "train")
    assert len(dataset) == 6
    image, labels, name = dataset[2]
    assert (image.shape, image.dtype) == ((24, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((24, 32), np.uint8)
    assert name == dataset.sample_name(2) == "train2"
    assert dataset.sample_size(2) == (24, 32)
    assert dataset.sample_paths(2) == (
        camvid / "train/train2.png",
        camvid / "trainannot/train2.png",
    )
    np.testing.assert_array_equal(dataset.read_labels(2), labels)


def test_camvid_missing_parts(camvid: Path) -> None:
    assert "--data.root" in message(lambda: CamVidDataset(camvid / "none", "train"))
    assert str(camvid / "test") in message(lambda: CamVidDataset(camvid, "test"))
    (camvid / "trainannot/train3.png").unlink()
    said = message(lambda: CamVidDataset(camvid, "train"))
    assert str(camvid / "train/train3.png") in said
    assert "missing" in said


def test_camvid_images_folder_as_root(camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (camvid / "train").rename(camvid / "kept")
    (camvid / "trainannot").rename(camvid / "keptannot")
    monkeypatch.chdir(camvid / "kept")
    for root in (camvid / "kept", Path()):
        dataset = CamVidDataset(root, "val")
        image, mask = dataset.sample_paths(2)
        assert (image.name, mask.resolve()) == ("train2.png", camvid / "keptannot/train2.png")
    for split in ("train", "test"):
        said = message(lambda split=split: CamVidDataset(camvid / "kept", split))
        assert f"kept/{split}: missing" in said
    (camvid / "keptannot").rename(camvid / "elsewhere")
    assert "kept/val: missing" in message(lambda: CamVidDataset(camvid / "kept", "val"))


def test_several_faults_are_counted(camvid: Path) -> None:
    for n in (1, 3, 4):
        (camvid / f"trainannot/train{n}.png").unlink()
    assert "and 2 more" in message(lambda: CamVidDataset(camvid, "train"))
    assert len(CamVidDataset(camvid, "train", strict=False).faults) == 3


def test_wrong_ids_size_and_duplicates(camvid: Path) -> None:
    mask = camvid / "trainannot/train1.png"
    Image.fromarray(np.full((24, 32), 99, np.uint8)).save(mask)
    said = message(lambda: CamVidDataset(camvid, "train")[1])
    assert str(mask) in said
    assert "99" in said
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(mask)
    said = message(lambda: CamVidDataset(camvid, "train")[1])
    assert "30 × 24" in said
    assert "32 × 24" in said
    shutil.copy(camvid / "train/train1.png", camvid / "train/train1.jpg")
    said = message(lambda: CamVidDataset(camvid, "train"))
    assert "train1.jpg and train1.png" in said


def test_folder_split_by_hash_is_stable(folder: Path, write_pair: Callable[..., None]) -> None:
    train, val = names(FolderDataset(folder, "train")), names(FolderDataset(folder, "val"))
    assert sorted(train + val) == [f"p{n:02d}" for n in range(40)]
    assert 2 <= len(val) <= 14, "about one in five"
    write_pair(folder / "images/zzz.png", folder / "masks/zzz.png", 9, (8, 8))
    after = names(FolderDataset(folder, "val"))
    assert [name for name in after if name != "zzz"] == val, "a new image moved others"
    assert "test.txt" in message(lambda: FolderDataset(folder, "test"))


def test_folder_split_by_lists(folder: Path) -> None:
    (folder / "train.txt").write_text("p03\n\n# a remark\np01.png\n")
    (folder / "val.txt").write_text("p07  # good one\n")
    assert names(FolderDataset(folder, "train")) == ["p03", "p01"]
    assert names(FolderDataset(folder, "val")) == ["p07"]
    (folder / "val.txt").write_text("p07\nnone\np07\n")
    faults = FolderDataset(folder, "val", strict=False).faults
    assert len(faults) == 2
    assert "line 2" in faults[0]
    assert "listed twice" in faults[1]
    (folder / "val.txt").unlink()
    assert str(folder / "val.txt") in message(lambda: FolderDataset(folder, "val"))
    (folder / "val.txt").write_text("\n")
    assert "no images" in message(lambda: FolderDataset(folder, "val"))


def test_folder_split_by_subfolders(tmp_path: Path, write_pair: Callable[..., None]) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for n in range(count):
            write_pair(tmp_path / f"images/{split}/{n}.jpg", tmp_path / f"masks/{split}/{n}.png", n)
    (tmp_path / "labels.yaml").write_text("classes: [a, b, c, d]\n")
    assert len(FolderDataset(tmp_path, "train")) == 3
    assert len(FolderDataset(tmp_path, "val")) == 2
    assert str(tmp_path / "images/test") in message(lambda: FolderDataset(tmp_path, "test"))


def test_folder_missing_parts(tmp_path: Path, folder: Path) -> None:
    (folder / "labels.yaml").unlink()
    assert "labels.yaml" in message(lambda: FolderDataset(folder, "train"))
    (tmp_path / "bare").mkdir()
    assert "images" in message(lambda: FolderDataset(tmp_path / "bare", "train"))


def test_registry() -> None:
    assert set(DATASETS) == {"camvid", "cityscapes", "folder", "scenes", "voc"}
    said = message(lambda: create_dataset("camvit", "train", DatasetOptions()))
    assert "did you mean 'camvid'" in said
    said = message(lambda: create_dataset("camvid", "valid", DatasetOptions("x")))
    assert "did you mean 'val'" in said
    assert "--data.root" in message(lambda: create_dataset("camvid", "train", DatasetOptions()))
    assert "--data.root" in message(lambda: dataset_labels("folder"))


def test_labels_without_looking_at_images(folder: Path) -> None:
    assert dataset_labels("camvid").num_classes == 11
    assert dataset_labels("folder", str(folder)).names == ("a", "b", "c", "d")
