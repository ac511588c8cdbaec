"""Masks of few bits give the ids that were stored; sound files of other kinds are named.

The files are written here byte by byte, so that no library's idea of a format is tested against
itself.
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from binseg.data.imageio import image_size, read_image, read_mask
from binseg.errors import BinsegError

IDS = np.arange(15, dtype=np.uint8).reshape(3, 5)

Palette = list[tuple[int, int, int]]


def packed_rows(ids: np.ndarray, depth: int, multiple: int = 1) -> list[bytes]:
    """Each row's values in `depth` bits, padded to a multiple of bytes."""
    rows = []
    for row in ids.tolist():
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % (8 * multiple))
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return rows


def write_bmp(
    path: Path, ids: np.ndarray, depth: int, palette: Palette, *, rle: bool = False
) -> None:
    height, width = ids.shape
    if rle:  # each pixel a run of one
        rows = [
            b"".join(bytes([1, value << 4 if depth == 4 else value]) for value in row) + b"\0\0"
            for row in ids[::-1].tolist()
        ]
        data = b"".join(rows) + b"\0\1"
    else:
        data = b"".join(packed_rows(ids[::-1], depth, 4))
    colors = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    start = 14 + 40 + len(colors)
    compression = {4: 2, 8: 1}[depth] if rle else 0
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(data), 0, 0, len(palette), 0
    )
    path.write_bytes(
        b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + colors + data
    )


def write_tiff(path: Path, data: bytes, width: int, height: int, **changes: tuple) -> None:
    """One strip; `changes` are tags, like t258=("H", 8)."""
    tags: dict[int, tuple] = {
        256: ("I", width), 257: ("I", height), 258: ("H", 8), 259: ("H", 1), 262: ("H", 1),
        273: ("I", 0), 277: ("H", 1), 278: ("I", height), 279: ("I", len(data)),
    }  # fmt: skip
    tags |= {int(name[1:]): value for name, value in changes.items()}
    position = 8 + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, (code, *values) in sorted(tags.items()):
        body = struct.pack(f"<{len(values)}{code}", *values)
        if tag == 273:
            where = len(entries)
        if len(body) > 4:
            pointer = struct.pack("<I", position + len(extra))
            extra += body
            body = pointer
        kind = {"H": 3, "I": 4}[code]
        entries += struct.pack("<HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    strip = struct.pack("<I", position + len(extra))
    entries = entries[: where + 8] + strip + entries[where + 12 :]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + extra + data)


GREYS = [(n, n, n) for n in range(256)]
BLACK_AND_WHITE = [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize(
    ("depth", "palette"),
    [
        (1, BLACK_AND_WHITE),
        (1, BLACK_AND_WHITE[::-1]),
        (1, GREYS[:2]),
        (4, GREYS[:16]),
        (4, GREYS[:3]),
        (4, BLACK_AND_WHITE),
        (4, [(17 * n, 0, 255 - n) for n in range(16)]),
        (8, GREYS),
        (8, GREYS[::-1]),
        (8, GREYS[:3]),
        (8, BLACK_AND_WHITE),
    ],
)
def test_bmp(tmp_path: Path, depth: int, palette: Palette, rle: bool) -> None:
    if depth == 1 and rle:
        return
    path = tmp_path / "m.bmp"
    ids = (IDS % min(len(palette), 15)).astype(np.uint8)
    write_bmp(path, ids, depth, palette, rle=rle)
    np.testing.assert_array_equal(read_mask(path), ids)
    colors = np.array(palette, np.uint8)[ids]
    np.testing.assert_array_equal(read_image(path), colors)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), colors)
    assert image_size(path) == (3, 5)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_grey_tiff(tmp_path: Path, depth: int, white_is_zero: bool, deflate: bool) -> None:
    path = tmp_path / "m.tif"
    ids = (IDS % 2 ** min(depth, 4)).astype(np.uint8)
    data = b"".join(packed_rows(ids, depth))
    changes = {"t258": ("H", depth), "t262": ("H", 0 if white_is_zero else 1)}
    if deflate:
        data = zlib.compress(data)
        changes["t259"] = ("H", 8)
    write_tiff(path, data, 5, 3, **changes)
    np.testing.assert_array_equal(read_mask(path), ids)
    shown = (ids.astype(int) * 255) // (2**depth - 1)
    expected = 255 - shown if white_is_zero else shown
    np.testing.assert_array_equal(read_image(path)[:, :, 0], expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_tiff(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "m.tif"
    ids = (IDS % 2 ** min(depth, 4)).astype(np.uint8)
    colors = ("H", *[7] * (3 * 2**depth))  # all alike: only the indices tell
    data = b"".join(packed_rows(ids, depth))
    write_tiff(path, data, 5, 3, t258=("H", depth), t262=("H", 3), t320=colors)
    np.testing.assert_array_equal(read_mask(path), ids)


def test_one_bit_tiff_is_black_and_white_either_way(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    ids = IDS % 2
    for photometric, stored in ((1, ids), (0, 1 - ids)):
        data = b"".join(packed_rows(stored, 1))
        write_tiff(path, data, 5, 3, t258=("H", 1), t262=("H", photometric))
        np.testing.assert_array_equal(read_mask(path), ids)
        np.testing.assert_array_equal(read_image(path)[:, :, 0], 255 * ids)


@pytest.mark.parametrize(
    ("bands", "depth", "sample_format", "says"),
    [
        (5, 8, 1, "5 bands of 8-bit unsigned integers"),
        (2, 8, 1, "2 bands of 8-bit"),
        (12, 16, 1, "12 bands of 16-bit"),
        (1, 32, 3, "1 band of 32-bit floating-point values"),
        (1, 64, 3, "1 band of 64-bit floating-point values"),
        (3, 32, 3, "3 bands of 32-bit floating-point values"),
        (1, 16, 2, "1 band of 16-bit signed integers"),
        (1, 32, 1, "1 band of 32-bit unsigned integers"),
        (1, 64, 6, "64-bit complex values"),
    ],
)
def test_sound_tiffs_of_other_kinds_are_named(
    tmp_path: Path, bands: int, depth: int, sample_format: int, says: str
) -> None:
    path = tmp_path / "sentinel.tif"
    data = bytes(15 * bands * depth // 8)
    write_tiff(
        path, data, 5, 3, t258=("H", *[depth] * bands), t277=("H", bands),
        t339=("H", *[sample_format] * bands), t262=("H", 2 if bands == 3 else 1),
    )  # fmt: skip
    with pytest.raises(BinsegError) as caught:
        read_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: TIFF with")
    assert says in text
    assert "save it as 8-bit RGB" in text
    assert "damaged" not in text
    assert "\n" not in text


@pytest.mark.parametrize(("code", "name"), [(34712, "JPEG 2000"), (34887, "LERC")])
def test_compressions_that_are_not_read_are_named(tmp_path: Path, code: int, name: str) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, bytes(15), 5, 3, t259=("H", code))
    with pytest.raises(BinsegError, match=f"compressed by {name}.*save it uncompressed"):
        read_image(path)


def test_masks_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    write_tiff(path, np.zeros(15, np.float32).tobytes(), 5, 3, t258=("H", 32), t339=("H", 3))
    with pytest.raises(BinsegError, match=r"floating-point values.*a mask as 8-bit grey"):
        read_mask(path)
    ids = np.full(15, 40_000, np.uint32)
    write_tiff(path, ids.tobytes(), 5, 3, t258=("H", 32), t339=("H", 1))
    assert (read_mask(path) == 40_000).all()


def test_twelve_bit_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    frame = struct.pack(">BHHB", 12, 3, 5, 1) + b"\1\x11\0"
    path.write_bytes(b"\xff\xd8\xff\xc1" + struct.pack(">H", 2 + len(frame)) + frame + b"\xff\xd9")
    with pytest.raises(BinsegError, match="JPEG of 12 bits, which is not supported"):
        read_image(path)
    path.write_bytes(b"\xff\xd8\xff\xe0\0\4ab\xff\xd9")
    with pytest.raises(BinsegError, match=r"damaged or truncated.*replace the file"):
        read_image(path)


def test_a_damaged_tiff_stays_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, bytes(15), 5, 3)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BinsegError, match="damaged or truncated"):
        read_image(path)
