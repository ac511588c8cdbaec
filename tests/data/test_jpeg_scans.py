"""Scans of a JPEG are counted without decoding, and files with too many are refused before it."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from binseg.data.imageio import image_size, read_image
from binseg.data.jpeg_scans import MAX_SCANS, count_scans
from binseg.errors import BinsegError


def jpeg(size: tuple[int, int] = (61, 45), mode: str = "RGB", **options: object) -> bytes:
    """A JPEG of noise, which fills its scans with all kinds of bytes."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment after SOI, a scan's data with it; walks byte by byte."""
    at = 2
    while True:
        marker = data[at + 1]
        if marker == 0xD9:
            yield marker, data[at:]
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            while not (data[end] == 0xFF and data[end + 1] != 0 and data[end + 1] & 0xF8 != 0xD0):
                end += 1
        yield marker, data[at:end]
        at = end


def with_scans(more: int, data: bytes | None = None) -> bytes:
    """A JPEG whose shortest scan is repeated `more` times."""
    parts = list(segments(data or jpeg(progressive=True, quality=5)))
    scan = min((part for marker, part in parts if marker == 0xDA), key=len)
    at = [part for _, part in parts].index(scan)
    bodies = [part for _, part in parts]
    return b"\xff\xd8" + b"".join([*bodies[: at + 1], *[scan] * more, *bodies[at + 1 :]])


def scans_of_one_component(scans: int) -> bytes:
    """A sequential JPEG of three components whose scans hold one of them each."""
    parts = [part for marker, part in segments(jpeg()) if marker not in (0xDA, 0xD9)]
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + b"\x2a" * 4
    return b"\xff\xd8" + b"".join([*parts, *[scan] * scans, b"\xff\xd9"])


@pytest.mark.parametrize(
    ("data", "scans"),
    [
        (jpeg(), 1),
        (jpeg(mode="L"), 1),
        (jpeg(restart_marker_rows=1), 1),
        (jpeg(exif=b"Exif\0\0" + b"\xff\xda\0\x02" * 200), 1),
        (jpeg(comment=b"\xff\xda\0\x02" * 200), 1),
        # libjpeg's own script: 10 scans for three components, 6 for one
        (jpeg(progressive=True), 10),
        (jpeg(mode="L", progressive=True), 6),
        (jpeg(progressive=True, comment=b"\xff\xda\0\x02" * 200), 10),
        (with_scans(7), 17),
        (with_scans(7, jpeg(progressive=True, restart_marker_rows=1)), 17),
        (with_scans(5000), MAX_SCANS + 1),
        (scans_of_one_component(3), 3),
        (scans_of_one_component(5000), MAX_SCANS + 1),
        (with_scans(7)[:-2], 17),  # no end
        (b"\xff\xd8\xff", 0),
        (b"\xff\xd8\xff\xe0\0\0\xff\xda", 1),
        (b"\xff\xd8" + b"\xff" * 5000, 0),
    ],
)
def test_the_count(data, scans):
    file = io.BytesIO(data)
    file.seek(5)
    assert count_scans(file) == scans
    assert file.tell() == 5


def test_of_an_ordinary_file_only_the_header_is_read():
    file = io.BytesIO(jpeg(size=(400, 300)))
    taken = []
    read = file.read
    file.read = lambda size=-1: taken.append(size) or read(size)
    assert count_scans(file) == 1
    assert min(taken) > 0
    assert sum(taken) < 1500


def test_too_many_scans_are_refused_before_decoding(tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    fair, bomb = tmp_path / "fair.jpg", tmp_path / "bomb.jpg"
    fair.write_bytes(with_scans(MAX_SCANS - 10))
    assert read_image(fair).shape == (45, 61, 3)
    bomb.write_bytes(with_scans(MAX_SCANS - 9))
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", never)
    for read in (read_image, image_size):
        with pytest.raises(BinsegError, match=r"bomb\.jpg: a JPEG of more than 100 scans.*save"):
            read(bomb)


def test_predict_and_data_check_name_such_a_file(tmp_path, capsys):
    from binseg.cli import main

    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (tmp_path / folder / split).mkdir(parents=True)
        for index in range(2):
            (tmp_path / "images" / split / f"{index}.jpg").write_bytes(jpeg())
            Image.fromarray(np.full((45, 61), index, np.uint8)).save(
                tmp_path / "masks" / split / f"{index}.png"
            )
    bomb = tmp_path / "images/train/1.jpg"
    bomb.write_bytes(with_scans(5000))
    (tmp_path / "labels.yaml").write_text("name: two\nclasses: [{name: a}, {name: b}]\n")
    arguments = ["--data.name", "folder", "--data.root", str(tmp_path)]
    assert main(["data", "check", *arguments]) == 1
    assert "1.jpg: a JPEG of more than 100 scans" in capsys.readouterr().out
    assert main(["predict", "camvid-small", str(bomb), "--out", str(tmp_path / "out")]) == 1
    assert "1.jpg: a JPEG of more than 100 scans" in capsys.readouterr().err
