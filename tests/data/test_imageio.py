"""The reader against odd, damaged and hostile files that the tests write themselves."""

import contextlib
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.data.imageio import (
    image_size,
    read_image,
    read_mask,
    write_image,
    write_mask,
)
from binseg.errors import BinsegError


def gradient(height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth RGB image without symmetry."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, (x + 2 * y) * 255 // (width + 2 * height)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def fails(path: Path, says: str, reader: object = read_image) -> None:
    with pytest.raises(BinsegError) as caught:
        reader(path)  # type: ignore[operator]
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff"])
def test_lossless_formats_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, gradient())
    image = read_image(path)
    assert (image.dtype, image.shape) == (np.uint8, (24, 32, 3))
    assert image.flags.writeable
    np.testing.assert_array_equal(image, gradient())
    assert image_size(path) == (24, 32)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, gradient())
    assert np.abs(read_image(path).astype(int) - gradient()).mean() < 6
    assert image_size(path) == (24, 32)


def test_format_is_told_by_content_not_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(gradient()).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path), gradient())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_jpeg_has_the_right_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    flat = np.empty((16, 16, 3), np.uint8)
    flat[:] = (200, 60, 30)
    Image.fromarray(flat).convert("CMYK").save(path, quality=98)
    assert np.abs(read_image(path).astype(int) - flat).max() < 8, "inverted or channels mixed up"


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    flat = np.full((8, 8, 3), 255, np.uint8)
    Image.fromarray(flat).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path), flat)


def test_transparent_parts_lie_over_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(pixels, "RGBA").save(path)
    assert read_image(path)[0].tolist() == [[255, 255, 255], [10, 20, 30], [127, 127, 127]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[:10, :10] = 255  # white in the upper left corner
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud}
    turns |= {
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),  # stored turned left, shown turned right
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    options = {"lossless": True} if suffix == "webp" else {}
    options |= {"quality": 95} if suffix == "jpg" else {}
    stored.save(path, exif=exif, **options)
    assert np.abs(read_image(path).astype(int) - upright).mean() < 4
    assert image_size(path) == (20, 40)


def test_damaged_exif_is_no_reason_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert read_image(path).shape == (24, 32, 3)
    assert image_size(path) == (24, 32)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    write_image(path, noise)
    whole = path.read_bytes()
    for keep in (0.6, 0.02):
        path.write_bytes(whole[: int(len(whole) * keep)])
        fails(path, "replace the file")


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a" + bytes(50), b"%PDF-1.4"])
def test_not_a_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    fails(path, "use JPEG, PNG, BMP, TIFF or WebP")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_garbage_after_a_right_beginning(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, gradient())
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for _ in range(30):
        broken = whole.copy()
        for at in rng.integers(12, len(whole), 20):
            broken[at] = rng.integers(256)
        path.write_bytes(bytes(broken))
        with contextlib.suppress(BinsegError):  # any other error fails the test
            assert read_image(path).shape[2] == 3


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def huge_png(path: Path, side: int) -> None:
    """A PNG of a few bytes whose header promises side² pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [13_000, 60_000])
@pytest.mark.parametrize("reader", [read_image, read_mask, image_size])
def test_huge_image_is_refused_by_its_header(tmp_path: Path, side: int, reader: object) -> None:
    path = tmp_path / "huge.png"
    huge_png(path, side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own warning must not leak either
        fails(path, f"{side} × {side} pixels", reader)


def test_own_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, gradient())
    with pytest.raises(BinsegError, match="limit of 700"):
        read_image(path, max_pixels=700)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    fails(tmp_path / "none.png", "no such file")
    fails(tmp_path, "not a file")


# --- masks ---------------------------------------------------------------------------------------

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_mask_round_trip_through_a_palette(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ids = IDS.copy()
    ids[0, 0] = 255
    write_mask(path, ids, [(n * 20, 0, 255 - n) for n in range(12)])
    np.testing.assert_array_equal(read_mask(path), ids)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((1, 0)) == (20, 0, 254)


@pytest.mark.parametrize(("mode", "bits"), [("L", 8), ("P", 8), ("P", 4)])
def test_masks_keep_ids(tmp_path: Path, mode: str, bits: int) -> None:
    path = tmp_path / "m.png"
    image = Image.fromarray(IDS)
    if mode == "P":
        image.putpalette([7] * 768)  # all colours alike: only the indices tell
    image.save(path, bits=bits)
    np.testing.assert_array_equal(read_mask(path), IDS)


def grey_png(path: Path, ids: np.ndarray, depth: int) -> None:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""
    per_byte = 8 // depth
    rows = b""
    for row in ids:
        padded = [*row.tolist(), *[0] * (-len(row) % per_byte)]
        rows += b"\0"
        for start in range(0, len(padded), per_byte):
            value = 0
            for item in padded[start : start + per_byte]:
                value = value << depth | item
            rows += bytes([value])

    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], depth, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_masks_of_few_bits_keep_ids(tmp_path: Path, depth: int) -> None:
    """Pillow stretches such values to 0 … 255; ids must come back as they were written."""
    path = tmp_path / "m.png"
    ids = (IDS % 2**depth).astype(np.uint8)
    grey_png(path, ids, depth)
    np.testing.assert_array_equal(read_mask(path), ids)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_mask(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    ids = np.array([[0, 300, 65535]], np.uint16)
    Image.fromarray(ids).save(path)
    mask = read_mask(path)
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, ids)


def test_rgb_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(gradient()).save(path)
    fails(path, "not class ids", read_mask)


def test_jpeg_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jpg"
    Image.fromarray(IDS).save(path)
    fails(path, "save as PNG", read_mask)


# --- writing and finding -------------------------------------------------------------------------


def test_unknown_suffix_when_writing(tmp_path: Path) -> None:
    with pytest.raises(BinsegError, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", gradient())
    with pytest.raises(BinsegError, match=r"\.png"):
        write_mask(tmp_path / "a.jpg", IDS)
    assert list(tmp_path.iterdir()) == []
