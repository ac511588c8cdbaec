"""What is read otherwise than it was made is said: dark values, pages and frames left out."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_stored_values import packed_rows, write_tiff

from binseg.cli import main
from binseg.data import image_notes
from binseg.data.check import check_dataset
from binseg.data.config import DataConfig
from binseg.data.imageio import read_image, read_mask
from binseg.errors import BinsegWarning


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_notes, "_noted", set())


def notes_of(path: Path) -> list[str]:
    notes: list[str] = []
    read_image(path, note=notes.append)
    return notes


def sixteen_bit(path: Path, largest: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, largest, 32 * 48).reshape(32, 48).astype(np.uint16)
    Image.fromarray(values).save(path)
    return path


def greys(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(count)
    return [Image.fromarray(rng.integers(0, 256, (32, 48), np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    ("largest", "says"),
    [(255, "8 bits"), (1000, "10 bits"), (4095, "12 bits"), (4096, "14 bits"), (16384, None)],
)
def test_values_that_do_not_use_their_16_bits(
    tmp_path: Path, suffix: str, largest: int, says: str | None
) -> None:
    notes = notes_of(sixteen_bit(tmp_path / f"a{suffix}", largest))
    if says is None:
        assert notes == []
        return
    (note,) = notes
    assert f"16-bit values of {says}: the largest is {largest:,} of 65,535" in note
    times = 1 << (16 - int(says.split()[0]))
    assert f"by {times} " in note
    # the remedy is one
    assert notes_of(sixteen_bit(tmp_path / f"b{suffix}", largest * times)) == []


def test_a_black_image_is_just_black(tmp_path: Path) -> None:
    assert notes_of(sixteen_bit(tmp_path / "a.png", 0)) == []


def test_twelve_bits_that_are_stored_in_twelve_are_bright(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = np.array([[0, 1, 2048, 4095], [4094, 100, 3000, 7]])
    write_tiff(path, b"".join(packed_rows(values, 12)), 4, 2, t258=("H", 12))
    expected = np.floor(values * 255 / 4095 + 0.5).astype(np.uint8)
    notes: list[str] = []
    np.testing.assert_array_equal(read_image(path, note=notes.append)[:, :, 0], expected)
    assert notes == []


def test_pages_and_frames_that_are_left_out(tmp_path: Path) -> None:
    first, *others = greys(3)
    for name, kind, says in (
        ("a.tif", "TIFF", "several pages: only the first"),
        ("a.png", "PNG", "an animation: only its first frame"),
        ("a.webp", "WEBP", "an animation: only its first frame"),
    ):
        first.save(tmp_path / name, kind, save_all=True, append_images=others)
        (note,) = notes_of(tmp_path / name)
        assert note.startswith(says)
        first.save(tmp_path / name, kind)
        assert notes_of(tmp_path / name) == []


@pytest.mark.parametrize(("kinds", "said"), [([1, 1], 0), ([1, 4], 0), ([1, 2], 1), ([1, 0], 1)])
def test_a_tiffs_smaller_copies_and_masks_are_no_pages(
    tmp_path: Path, kinds: list[int], said: int
) -> None:
    first, *others = greys(3)
    for image, kind in zip(others, kinds, strict=True):
        image.encoderinfo = {"tiffinfo": {254: kind}}  # type: ignore[attr-defined]
    path = tmp_path / "a.tif"
    first.save(path, save_all=True, append_images=others)
    assert len(notes_of(path)) == said


def test_pages_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    first, second, _ = greys(3)
    path = tmp_path / "a.tif"
    second.encoderinfo = {"tiffinfo": {254: 1}}  # type: ignore[attr-defined]
    first.save(path, save_all=True, append_images=[second])
    with Image.open(path) as image:
        image.seek(1)
        start = image.tag_v2.offset  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    entries = int.from_bytes(content[start : start + 2], "little")
    place = start + 2 + 12 * entries
    content[place : place + 4] = start.to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path)[:, :, 0], np.asarray(first))


def test_a_folder_is_warned_of_once(tmp_path: Path) -> None:
    paths = [
        sixteen_bit(tmp_path / folder / name, 900) for folder in "ab" for name in ("1.png", "2.png")
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in paths:
            read_image(path)
            read_image(path)
    said = [str(each.message) for each in caught if each.category is BinsegWarning]
    assert len(said) == 2
    assert said[0].startswith(f"{paths[0]}: 16-bit values of 10 bits")
    assert said[1].startswith(f"{paths[2]}: ")
    assert not any("\n" in each for each in said)


def test_a_warning_that_is_made_an_error_is_no_damage(tmp_path: Path) -> None:
    path = sixteen_bit(tmp_path / "a.png", 900)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BinsegWarning, match="16-bit values of 10 bits"):
            read_image(path)


def test_pages_of_a_mask(tmp_path: Path) -> None:
    first, *others = greys(2)
    first.save(tmp_path / "m.tif", save_all=True, append_images=others)
    with pytest.warns(BinsegWarning, match=r"m\.tif: several pages: only the first"):
        np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), np.asarray(first))


def test_the_check_names_each_and_predict_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for number in range(3):
            image = tmp_path / "data/images" / split / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 4096, (32, 48), np.uint16)).save(image)
            mask = tmp_path / "data/masks" / split / f"{number}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 2, (32, 48), np.uint8)).save(mask)
    (tmp_path / "data/labels.yaml").write_text("classes: [a, b]\n")
    report = check_dataset(DataConfig("folder", str(tmp_path / "data")), workers=2)
    assert report.faults == []
    named = [each.text for each in report.warnings if each.kind == "partly"]
    assert len(named) == 6
    assert all("16-bit values of 12 bits" in each for each in named)
    capsys.readouterr()
    images, out = tmp_path / "data/images/val", tmp_path / "out"
    assert main(["predict", "camvid-small", str(images), "--out", str(out)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "bits" in line]
    assert len(said) == 1
    assert said[0].startswith(f"binseg: note: {images / '0.png'}: 16-bit values of 12 bits")
