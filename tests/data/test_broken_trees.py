"""Trees of VOC, SBD and Cityscapes with something wrong: one line each, with the remedy."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_cityscapes, write_voc
from PIL import Image
from scipy.io import savemat

from binseg.cli import main
from binseg.data.cityscapes import CityscapesDataset
from binseg.data.datasets import DatasetOptions, create_dataset
from binseg.data.voc import VOCDataset
from binseg.errors import BinsegError

LISTS = "ImageSets/Segmentation"


def read_all(name: str, root: Path, split: str, **options) -> None:
    dataset = create_dataset(name, split, DatasetOptions(root=str(root), **options))
    for index in range(len(dataset)):
        dataset[index]


def fault(name: str, root: Path, split: str = "train", **options) -> str:
    """What opening and reading a split complains about, in one line."""
    with pytest.raises(BinsegError) as caught:
        read_all(name, root, split, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """The folder VOC2012."""
    return write_voc(tmp_path, sbd=2) / "VOCdevkit/VOC2012"


@pytest.fixture
def city(tmp_path: Path) -> Path:
    return write_cityscapes(tmp_path / "city", train=4, val=2, train_extra=1)


# --- PASCAL VOC -------------------------------------------------------------------------------


def test_a_wrong_root(voc, tmp_path):
    assert "no such folder" in fault("voc", tmp_path / "none")
    assert "no VOCdevkit/VOC2012 in it" in fault("voc", voc / "JPEGImages")
    assert "no VOCdevkit/VOC2012 in it" in fault("voc", tmp_path / "sbd")
    voc.rename(tmp_path / "VOC2012")
    assert "must lie in folders VOCdevkit/VOC2012" in fault("voc", tmp_path)


def test_extraction_stopped_before_the_lists(voc, tmp_path):
    shutil.rmtree(voc / "ImageSets")
    for root in (tmp_path, voc.parent):
        told = fault("voc", root)
        assert "half extracted" in told
        assert "binseg data prepare voc" in told


def test_extraction_stopped_between_the_lists(voc, tmp_path):
    (voc / LISTS / "val.txt").unlink()
    assert len(VOCDataset(tmp_path, "train")) == 4
    told = fault("voc", tmp_path, "val")
    assert str(voc / LISTS / "val.txt") in told
    assert "half extracted" in told
    (voc / LISTS / "val.txt").write_text("\n")
    assert "names no images" in fault("voc", tmp_path, "val")
    (voc / LISTS / "val.txt").write_bytes(b"\xff\xfe\x00")
    assert str(voc / LISTS / "val.txt") in fault("voc", tmp_path, "val")


@pytest.mark.parametrize(
    ("folder", "suffix", "kind"),
    [("JPEGImages", "jpg", "images"), ("SegmentationClass", "png", "masks")],
)
def test_extraction_stopped_among_the_images(voc, tmp_path, folder, suffix, kind):
    (voc / folder / f"2008_000003.{suffix}").unlink()
    told = fault("voc", tmp_path)
    assert str(voc / folder / f"2008_000003.{suffix}") in told
    assert "missing, though it is listed" in told
    (voc / folder / f"2008_000001.{suffix}").unlink()
    told = fault("voc", tmp_path)
    assert told.startswith(str(voc / folder / f"2008_000001.{suffix}"))
    assert f"like 1 more of 4 listed {kind}" in told
    shutil.rmtree(voc / folder)
    assert f"like 3 more of 4 listed {kind}" in fault("voc", tmp_path)


def test_extraction_stopped_inside_a_image(voc, tmp_path):
    image = voc / "JPEGImages/2008_000002.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    told = fault("voc", tmp_path)
    assert told.startswith(str(image))
    image.write_bytes(b"")
    assert fault("voc", tmp_path).startswith(str(image))


def test_another_year(voc, tmp_path):
    voc.rename(voc.with_name("VOC2007"))
    for root in (tmp_path, voc.parent):
        told = fault("voc", root)
        assert "holds VOC2007 and not VOC2012" in told
        assert "binseg data prepare voc" in told


def test_another_year_beside_it_does_no_harm(voc, tmp_path):
    shutil.copytree(voc, voc.with_name("VOC2007"))
    assert VOCDataset(tmp_path, "train").pairs[0].image.is_relative_to(voc)


def test_lists_of_another_year(voc, tmp_path):
    (voc / LISTS / "train.txt").write_text("000032\n000039\n")
    told = fault("voc", tmp_path)
    assert "VOC 2007" in told
    assert "000032" in told
    (voc / LISTS / "train.txt").write_text("2011_000003\n2011_000006\n2008_000001\n")
    told = fault("voc", tmp_path)
    assert "like 1 more of 3 listed images" in told
    assert "of another year" in told


def test_masks_in_colours(voc, tmp_path):
    mask = voc / "SegmentationClass/2008_000001.png"
    with Image.open(mask) as opened:
        opened.convert("RGB").save(mask)
    told = fault("voc", tmp_path)
    assert told.startswith(str(mask))
    assert "colours" in told


def test_objects_in_the_place_of_classes(voc, tmp_path):
    mask = voc / "SegmentationClass/2008_000001.png"
    Image.fromarray(np.full((40, 60), 21, np.uint8)).save(mask)
    assert f"{mask}: " in fault("voc", tmp_path)
    assert "21" in fault("voc", tmp_path)


def test_broken_sbd(voc, tmp_path):
    read = {"train_split": "trainaug"}
    mask = tmp_path / "sbd/cls/2009_000001.mat"
    savemat(mask, {"other": np.zeros(3)})
    assert f"{mask}: not a mask of SBD" in fault("voc", tmp_path, **read)
    mask.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    assert f"{mask}: " in fault("voc", tmp_path, **read)
    mask.unlink()
    assert f"{mask}: missing" in fault("voc", tmp_path, **read)
    (tmp_path / "sbd/val.txt").unlink()
    assert f"{tmp_path / 'sbd/val.txt'}: missing" in fault("voc", tmp_path, **read)
    shutil.rmtree(tmp_path / "sbd/img")
    assert "binseg data prepare voc" in fault("voc", tmp_path, **read)
    shutil.rmtree(tmp_path / "sbd")
    assert "--data.sbd_root" in fault("voc", tmp_path, **read)
    assert len(VOCDataset(tmp_path, "train")) == 4, "train needs no SBD"


# --- Cityscapes -------------------------------------------------------------------------------


def test_only_images(city):
    shutil.rmtree(city / "gtFine")
    for split in ("train", "val"):
        told = fault("cityscapes", city, split)
        assert "only images" in told
        assert "unpack gtFine_trainvaltest.zip" in told
    shutil.rmtree(city / "gtCoarse")
    told = fault("cityscapes", city, train_split="train_extra", annotations="coarse")
    assert "unpack gtCoarse.zip" in told


def test_only_masks(city):
    shutil.rmtree(city / "leftImg8bit")
    told = fault("cityscapes", city)
    assert "leftImg8bit_trainvaltest.zip" in told
    told = fault("cityscapes", city, train_split="train_extra", annotations="coarse")
    assert "leftImg8bit_trainextra.zip" in told


def test_images_without_masks(city):
    mask = "gtFine/train/{0}/{0}_{1:06d}_000019_gtFine_labelIds.png"
    first, second = (city / mask.format(*where) for where in (("aachen", 3), ("ulm", 2)))
    second.unlink()
    first.unlink()
    told = fault("cityscapes", city)
    assert told.startswith(f"{first}: missing; 2 of 4 images have no mask")
    shutil.rmtree(city / "gtFine/train/bochum")
    assert "3 of 4 images" in fault("cityscapes", city)


def test_wrong_roots_of_cityscapes(city, tmp_path):
    assert "no such folder" in fault("cityscapes", tmp_path / "none")
    told = fault("cityscapes", tmp_path)
    assert "one folder deeper, in city/" in told
    told = fault("cityscapes", city / "leftImg8bit")
    assert "--data.root to the folder with leftImg8bit/" in told


def test_an_archive_unpacked_too_deep(city):
    (city / "gtFine_trainvaltest").mkdir()
    (city / "gtFine").rename(city / "gtFine_trainvaltest/gtFine")
    assert f"{city}/gtFine/train: missing" in fault("cityscapes", city)
    (city / "leftImg8bit").rename(city / "inner")
    (city / "leftImg8bit").mkdir()
    (city / "inner").rename(city / "leftImg8bit/leftImg8bit")
    assert "one folder deeper" in fault("cityscapes", city)


def test_files_beside_the_set_are_left_out(city):
    folder = city / "leftImg8bit/train/aachen"
    shutil.copy(next(folder.iterdir()), folder / "extra.png")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "notes.txt").write_text("x")
    image = next((city / "leftImg8bit/train/bochum").iterdir())
    image.unlink()
    left_out = CityscapesDataset(city, "train").left_out
    reasons = {path.name: reason for path, reason in left_out}
    mask = image.name.replace("_leftImg8bit", "_gtFine_labelIds")
    assert reasons.keys() == {"extra.png", "phone.heic", mask}
    assert "not named as Cityscapes names images" in reasons["extra.png"]
    assert "HEIC" in reasons["phone.heic"]
    assert reasons[mask] == "a mask without an image"
    assert CityscapesDataset(city, "val").left_out == ()


def test_stray_and_empty_folders(city):
    (city / "leftImg8bit/train/notes.txt").write_text("x")
    told = fault("cityscapes", city)
    assert f"{city}/leftImg8bit/train/notes.txt: not a city's folder" in told
    shutil.rmtree(city / "leftImg8bit/train")
    (city / "leftImg8bit/train").mkdir()
    assert f"{city}/leftImg8bit/train: no CITY/*_leftImg8bit.png" in fault("cityscapes", city)


def test_colours_in_the_place_of_ids(city):
    mask = city / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    with Image.open(mask) as opened:
        opened.convert("RGBA").save(mask)
    told = fault("cityscapes", city)
    assert told.startswith(str(mask))
    assert "colours" in told


def test_a_image_cut_off(city):
    image = city / "leftImg8bit/val/bochum/bochum_000001_000019_leftImg8bit.png"
    image.write_bytes(image.read_bytes()[:500])
    assert fault("cityscapes", city, "val").startswith(str(image))
    assert len(CityscapesDataset(city, "train")) == 4


# --- the command line -------------------------------------------------------------------------


def test_a_broken_tree_is_one_line_and_no_run(city, tmp_path, capsys):
    shutil.rmtree(city / "gtFine")
    out = tmp_path / "run"
    arguments = ["train", "--data.name", "cityscapes", "--data.root", str(city), "--out", str(out)]
    assert main(arguments) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"binseg: error: {city}/gtFine/train: missing")
    assert not (out / "last.ckpt").exists()
