"""People's own data as they have it: other folders and names, nested, listed in many ways."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.cli.data_check import data_check
from binseg.data.config import DataConfig
from binseg.data.files import hashed_val
from binseg.data.folder import FolderDataset
from binseg.errors import BinsegError

Write = Callable[[str, str, int], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(image, mask, number): an image all `number`, a mask of 0 and 1 that tells it, too."""
    (tmp_path / "labels.yaml").write_text("classes: [a, b]\n")

    def write(image: str, mask: str, number: int) -> None:
        for name, pixels in (
            (image, np.full((6, 8, 3), number, np.uint8)),
            (mask, np.eye(6, 8, number % 6, dtype=np.uint8)),
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # by content, whatever the ending
            Image.fromarray(pixels).save(path, format="PNG")

    return write


def opened(root: Path, split: str = "train") -> dict[str, int]:
    """Number of each image by its name, after a look that its mask is its own."""
    dataset = FolderDataset(root, split)
    found = {}
    for index in range(len(dataset)):
        image, labels, name = dataset[index]
        number = int(image[0, 0, 0])
        assert name == dataset.sample_name(index)
        np.testing.assert_array_equal(labels, np.eye(6, 8, number % 6, dtype=np.uint8))
        found[name] = number
    return found


def faults(root: Path, split: str = "train") -> list[str]:
    found = list(FolderDataset(root, split, strict=False).faults)
    assert all("\n" not in fault for fault in found)
    return found


def refused(root: Path, split: str = "train") -> str:
    with pytest.raises(BinsegError) as caught:
        FolderDataset(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listed(root: Path, text: str | bytes, split: str = "train") -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    (root / f"{split}.txt").write_bytes(data)


# --- folders --------------------------------------------------------------------------------------

LAYOUTS = {
    "split folders": ("images/{split}/{name}.jpg", "masks/{split}/{name}.png"),
    "valid": ("images/{valid}/{name}.jpg", "masks/{valid}/{name}.png"),
    "valid beside val": ("images/{valid}/{name}.jpg", "masks/{split}/{name}.png"),
    "letter case": ("Images/{Split}/{name}.JPG", "Masks/{split}/{name}.PNG"),
    "other words": ("img_dir/{split}/{name}.jpg", "ann_dir/{split}/{name}.png"),
    "splits outside": ("{split}/images/{name}.jpg", "{split}/masks/{name}.png"),
    "splits outside, valid": ("{valid}/images/{name}.jpg", "{valid}/labels/{name}.png"),
    "side by side": ("{valid}/{name}.jpg", "{valid}/{name}_mask.png"),
    "one folder of masks": ("images/{split}/{name}{split}.jpg", "masks/{name}{split}.png"),
    "nested": ("images/{split}/city/{name}.jpg", "masks/{split}/city/{name}.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, write: Write, layout: str) -> None:
    for start, split, valid in ((10, "train", "train"), (20, "val", "valid")):
        for number in range(start, start + 3):
            image, mask = (
                text.format(split=split, valid=valid, Split=split.capitalize(), name=f"p{number}")
                for text in LAYOUTS[layout]
            )
            write(image, mask, number)
    assert sorted(opened(tmp_path).values()) == [10, 11, 12]
    assert sorted(opened(tmp_path, "val").values()) == [20, 21, 22]
    assert FolderDataset(tmp_path, "train").left_out == ()
    with pytest.raises(BinsegError, match=r"test: missing or empty"):
        FolderDataset(tmp_path, "test")


def test_two_readings_are_refused(tmp_path: Path, write: Write) -> None:
    write("images/a.png", "labels/a.png", 1)
    write("images/b.png", "annotations/b.png", 2)
    assert "annotations/, labels/ could all be masks/" in refused(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "masks")
    listed(tmp_path, "a")
    assert opened(tmp_path) == {"a": 1}, "the right name wins"
    write("images/val/c.png", "masks/val/c.png", 3)
    write("images/valid/d.png", "masks/valid/d.png", 4)
    assert "valid could be the split 'val', too" in refused(tmp_path)


def test_missing_folders_say_what_is_there(tmp_path: Path, write: Write) -> None:
    write("raw/a.png", "out/a.png", 1)
    assert "there are out/, raw/" in refused(tmp_path)
    (tmp_path / "raw").rename(tmp_path / "images")
    assert f"{tmp_path / 'masks'}: missing" in refused(tmp_path)


def test_nested_folders(tmp_path: Path, write: Write) -> None:
    for city in (1, 2, 3):
        for number in range(4):
            name = f"city{city}/p{number}"
            write(f"images/{name}.png", f"masks/{name}.png", 10 * city + number)
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert len(train) + len(val) == 12
    assert {**train, **val}["city2_p3"] == 23
    chosen = hashed_val(f"city{c}/p{n}" for c in (1, 2, 3) for n in range(4))
    assert set(val) == {name.replace("/", "_") for name in chosen}
    listed(tmp_path, "city1/p0\nimages/city2/p1.png\ncity3\\p2.png\n/else/images/city3/p3.png")
    assert list(opened(tmp_path).values()) == [10, 21, 32, 33]
    listed(tmp_path, "p0")
    (fault,) = faults(tmp_path)
    assert "'p0' could be any of" in fault
    assert "write the folder, too" in fault
    config = DataConfig("folder", str(tmp_path), group_by="folder", val_groups="city2")
    (tmp_path / "train.txt").unlink()
    assert {config.open("val").sample_key(n) for n in range(4)} == {f"city2/p{n}" for n in range(4)}


def test_names_that_would_collide_stay_apart(tmp_path: Path, write: Write) -> None:
    write("images/a/b_c.png", "masks/a/b_c.png", 1)
    write("images/a_b/c.png", "masks/a_b/c.png", 2)
    listed(tmp_path, "a/b_c\na_b/c")
    assert opened(tmp_path) == {"a_b_c": 1, "a_b_c_2": 2}


def test_images_outside_of_the_splits_are_left_out(tmp_path: Path, write: Write) -> None:
    write("images/train/a.png", "masks/train/a.png", 1)
    write("images/b.png", "masks/b.png", 2)
    write("images/more/c.png", "masks/more/c.png", 3)
    dataset = FolderDataset(tmp_path, "train")
    assert len(dataset) == 1
    assert {path.name for path, _ in dataset.left_out} == {"b.png", "c.png"}
    assert all("none of the splits' folders" in reason for _, reason in dataset.left_out)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}.png", "{}_mask.png"),
        ("{}.jpg", "{}_L.png"),
        ("{}.jpg", "{}.jpg.png"),
        ("{}.jpg", "mask_{}.png"),
        ("image_{}.jpg", "mask_{}.png"),
        ("{}_leftImg8bit.png", "{}_gtFine_labelIds.png"),
        ("{}.png", "{}-Segmentation.png"),
        ("P{}.png", "p{}.PNG"),
        ("{}.png", "{}.jpg"),  # a PNG by its content
    ],
)
def test_masks_of_other_names(tmp_path: Path, write: Write, image: str, mask: str) -> None:
    for number in range(1, 4):
        write(f"images/{image.format(number)}", f"masks/{mask.format(number)}", number)
    listed(tmp_path, "".join(f"{image.format(n)}\n" for n in range(1, 4)))
    assert list(opened(tmp_path).values()) == [1, 2, 3]
    dataset = FolderDataset(tmp_path, "train")
    if Path(mask).stem.format(1) != Path(image).stem.format(1):
        assert f"masks named as {mask.format(1)} for {image.format(1)}" in dataset.arrangement
    assert dataset.left_out == ()


def test_equal_names_win(tmp_path: Path, write: Write) -> None:
    write("images/a.png", "masks/a.png", 1)
    write("images/a_mask.png", "masks/a_mask.png", 2)
    listed(tmp_path, "a\na_mask")
    assert opened(tmp_path) == {"a": 1, "a_mask": 2}


def test_near_names_are_told(tmp_path: Path, write: Write) -> None:
    for number in range(3):
        write(f"images/frame{number}.png", f"masks/frame{number}_done.png", number)
    listed(tmp_path, "frame1")
    (fault,) = faults(tmp_path)
    assert (
        f"its mask {tmp_path / 'masks/frame1.png'} is missing (frame1_done.png is there)" in fault
    )


def test_several_masks_of_one_image(tmp_path: Path, write: Write) -> None:
    write("images/a.png", "masks/a_mask.png", 1)
    write("images/a.png", "masks/a_seg.png", 1)
    listed(tmp_path, "a")
    (fault,) = faults(tmp_path)
    assert "a_mask.png and a_seg.png are masks of one image" in fault


def test_one_mask_for_several_images(tmp_path: Path, write: Write) -> None:
    write("images/x/a.png", "masks/a.png", 1)
    write("images/y/a.png", "masks/a.png", 2)
    listed(tmp_path, "x/a")
    (fault,) = faults(tmp_path)
    assert "could be the mask of" in fault


def test_an_overlay_beside_the_mask_is_told(tmp_path: Path, write: Write) -> None:
    write("images/a.png", "masks/a.png", 1)
    write("images/a.png", "masks/a.jpg", 1)
    listed(tmp_path, "a")
    assert opened(tmp_path) == {"a": 1}
    ((path, reason),) = FolderDataset(tmp_path, "train").left_out
    assert path.name == "a.jpg"
    assert "beside a.png" in reason


def test_a_lossy_mask_is_named(tmp_path: Path, write: Write) -> None:
    write("images/a.png", "masks/b.png", 1)
    (tmp_path / "masks/b.png").unlink()
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "masks/a.jpg")
    listed(tmp_path, "a")
    with pytest.raises(BinsegError, match=r"a\.jpg: masks need exact class ids; save as PNG"):
        FolderDataset(tmp_path, "train")[0]


# --- lists ----------------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path: Path, write: Write) -> Path:
    for number in range(4):
        write(f"images/p{number}.png", f"masks/p{number}.png", number)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "p1\np3\n",
        "p1.png\r\np3.png\r\n",
        "\ufeffp1\np3",
        "p1.jpg\np3.jpg",
        "./images/p1.png\nimages/p3",
        "images\\p1.png\n  images\\p3.png  ",
        "/home/me/data/images/p1.png\n../images/p3.png",
        "# two of them\np1 # the first\n\np3#last",
        "\"p1\"\n'p3.png'",
        "P1.PNG\np3",
        "p1.png p1.png\np3 p3",
        "images/p1.png masks/p1.png\nimages/p3.png\tmasks/p3.png",
        "p1,p1\np3, masks/p3.png",
        "p1\np3".encode("utf-16"),
        b"\xfe\xff" + "p1\np3".encode("utf-16-be"),
    ],
)
def test_lists(four: Path, text: str | bytes) -> None:
    listed(four, text)
    assert faults(four) == []
    assert list(opened(four)) == ["p1", "p3"]
    assert (
        "2 of 4 images not in train.txt (p0.png, p2.png)"
        in FolderDataset(four, "train").arrangement
    )


def test_pairs_of_different_names(four: Path) -> None:
    for number in range(4):
        (four / f"masks/p{number}.png").rename(four / f"masks/seg{number + 5}.png")
    listed(four, "images/p0.png masks/seg5.png\nimages/p2.png masks/seg7.png")
    listed(four, "images/p3.png masks/seg8.png", "val")
    assert list(opened(four)) == ["p0", "p2"]
    assert list(opened(four, "val")) == ["p3"]
    assert [path.name for path, _ in FolderDataset(four, "train").left_out] == ["seg6.png"]


def test_the_written_pair_counts(four: Path) -> None:
    """The image's own mask is there, too, and another one is named: the list is right."""
    listed(four, "images/p0.png masks/p1.png")
    dataset = FolderDataset(four, "train")
    assert dataset.sample_paths(0) == (four / "images/p0.png", four / "masks/p1.png")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p1 -1", "line 1: no mask '-1' for p1.png"),
        ("images/p1.png masks/none.png", "line 1: no mask 'masks/none.png' for p1.png"),
        ("images/p0.png images/none.png", "no mask 'images/none.png' for p0.png"),
        ("\u200bp1", r"line 1: no image '\u200bp1'"),
        ("p12", "(there is 'p"),
        ("p1\np2\np1.png", "line 3: 'p1' is listed twice"),
        ("# nothing", "names no images"),
        (b"p1\0p2", "is no text"),
    ],
)
def test_faulty_lists(four: Path, text: str | bytes, says: str) -> None:
    listed(four, text)
    assert says in refused(four)


def test_names_with_spaces_and_number_signs(tmp_path: Path, write: Write) -> None:
    names = ["my photo", "img#1", "# 2", "a, b", "two  spaces", "x #y"]
    for number, name in enumerate(names):
        write(f"images/{name}.png", f"masks/{name}.png", number)
    listed(tmp_path, "".join(f"{name}\n" for name in names))
    assert list(opened(tmp_path)) == names
    listed(tmp_path, "my photo.png masks/a, b.png\nx #y # a remark")
    dataset = FolderDataset(tmp_path, "train")
    assert dataset.sample_paths(0)[1].name == "a, b.png"  # type: ignore[index,union-attr]
    assert dataset.sample_name(1) == "x #y"


@pytest.mark.parametrize("list_form", ["NFC", "NFD"])
@pytest.mark.parametrize("mask_form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters(
    tmp_path: Path, write: Write, mask_form: str, list_form: str
) -> None:
    image, mask = (unicodedata.normalize(form, "größe") for form in ("NFD", mask_form))
    write(f"images/{image}.png", f"masks/{mask}.png", 5)
    listed(tmp_path, unicodedata.normalize(list_form, "größe.png"))
    assert list(opened(tmp_path).values()) == [5]


@pytest.mark.parametrize("list_coding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("name_coding", ["latin-1", "utf-8"])
def test_names_that_are_no_utf8(
    tmp_path: Path, write: Write, name_coding: str, list_coding: str
) -> None:
    name = os.fsdecode("straße".encode(name_coding))
    write(f"images/{name}.png", f"masks/{name}.png", 5)
    listed(tmp_path, "straße.png".encode(list_coding))
    assert list(opened(tmp_path).values()) == [5]


def test_a_name_that_is_no_utf8_is_split_and_checked(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode("straße".encode("latin-1"))
    for number in range(12):
        write(f"images/p{number}.png", f"masks/p{number}.png", 20 * number)
    write(f"images/{name}.png", f"masks/{name}.png", 5)
    assert len(opened(tmp_path)) + len(opened(tmp_path, "val")) == 13
    (tmp_path / f"masks/{name}.png").write_bytes(b"")
    assert data_check(DataConfig("folder", str(tmp_path)), out=tmp_path / "report.json") == 1
    assert r"stra\udcdfe.png: empty file" in capsys.readouterr().out
    assert r"stra\udcdfe.png: empty file" in (tmp_path / "report.json").read_text()


@pytest.mark.parametrize("name", ["Train.txt", "training.txt", "TRAIN.TXT"])
def test_names_of_lists(four: Path, name: str) -> None:
    (four / name).write_text("p1\n")
    assert list(opened(four)) == ["p1"]
    assert "train.txt" not in (said := refused(four, "val"))
    assert f"{four / 'val.txt'}: missing, though there is {name}" in said


def test_lists_beside_split_folders_are_told(tmp_path: Path, write: Write) -> None:
    write("images/train/a.png", "masks/train/a.png", 1)
    listed(tmp_path, "b")
    assert "train.txt is not used" in FolderDataset(tmp_path, "train").arrangement


def test_spelling_of_labels_yaml(four: Path) -> None:
    (four / "labels.yaml").rename(four / "Labels.yml")
    listed(four, "p0")
    assert opened(four) == {"p0": 0}
    assert DataConfig("folder", str(four)).label_table().names == ("a", "b")


# --- masks in colours -----------------------------------------------------------------------------

COLORED = """
classes:
  - {name: road, color: [128, 64, 128]}
  - {name: car, color: '#00008e'}
ignore: ['#000000']
"""


def colored_set(root: Path, labels: str, **save: object) -> np.ndarray:
    """One image and a mask in colours; the train ids that it means."""
    (root / "labels.yaml").write_text(labels)
    ids = np.array([[0, 1, 255], [1, 1, 0]], np.uint8).repeat(4, 0).repeat(4, 1)
    colors = np.zeros((256, 3), np.uint8)
    colors[0], colors[1] = (128, 64, 128), (0, 0, 142)
    for split in ("train", "val"):
        image = np.random.default_rng(len(split)).integers(0, 255, (*ids.shape, 3), np.uint8)
        for folder, pixels in (("images", image), ("masks", colors[ids])):
            path = root / folder / split / f"{split}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, **save)
    return ids


def test_masks_in_the_colours_of_labels_yaml_are_read(tmp_path, capsys):
    ids = colored_set(tmp_path, COLORED)
    dataset = FolderDataset(tmp_path, "train")
    np.testing.assert_array_equal(dataset[0].labels, ids)
    mask = dataset.pairs[0].mask
    Image.open(mask).convert("RGBA").save(mask)
    np.testing.assert_array_equal(dataset.read_labels(0), ids)
    assert data_check(DataConfig(name="folder", root=str(tmp_path))) == 0, capsys.readouterr()
    only = DataConfig(name="folder", root=str(tmp_path), classes=["car"]).open("train")
    np.testing.assert_array_equal(only.read_labels(0), np.where(ids == 1, 0, 255))


def test_colours_of_no_class_are_counted_and_named(tmp_path, capsys):
    colored_set(tmp_path, COLORED)
    mask = tmp_path / "masks" / "train" / "train.png"
    pixels = np.array(Image.open(mask))
    pixels[0, :3], pixels[1, 0] = (1, 2, 3), (255, 0, 255)
    Image.fromarray(pixels).save(mask)
    with pytest.raises(BinsegError, match=r"2 colours of no class, #010203 \(3 pixels\), #ff00ff"):
        FolderDataset(tmp_path, "train").read_labels(0)
    assert data_check(DataConfig(name="folder", root=str(tmp_path))) == 1
    said = capsys.readouterr().out
    assert f"{mask}: 2 colours of no class" in said
    assert "labels.yaml" in said


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("classes: [road, {name: car, color: '#00008e'}]", "give each class its `color:`.*import"),
        (
            "classes: [{name: a, color: '#00008e'}, {name: b, color: '#00008e'}]",
            "give each class its `color:`",
        ),
        (
            COLORED.replace("'#000000'", "'#00008e'"),
            r"colour \(0, 0, 142\) is both ignored and class 'car'",
        ),
    ],
)
def test_colours_that_say_no_class_are_refused(tmp_path, labels, message):
    colored_set(tmp_path, labels)
    with pytest.raises(BinsegError, match=message):
        FolderDataset(tmp_path, "train").read_labels(0)
