"""Uploads: bounded, turned, shrunk with a note, and refused without a word about folders."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.data.preprocess import resize_image
from binseg.demo.images import open_upload
from binseg.errors import BinsegError


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    down, right = np.mgrid[0:height, 0:width]
    return np.stack([255 * down / height, 255 * right / width, 0 * down], -1).astype(np.uint8)


def png_bomb(path: Path, side: int) -> None:
    """A valid PNG of side × side grey pixels, of few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compressobj(9)
    data = b"".join(pixels.compress(bytes(side + 1)) for _ in range(side)) + pixels.flush()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_an_image_of_fitting_size_stays_as_it_is(tmp_path):
    Image.fromarray(noise(37, 53)).save(tmp_path / "x.png")
    opened = open_upload(tmp_path / "x.png")
    assert np.array_equal(opened.image, noise(37, 53))
    assert opened.notes == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_the_long_side_is_capped_with_a_note(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(smooth(600, 900)).save(path)
    opened = open_upload(path, longest=90)
    assert opened.image.shape == (60, 90, 3)
    assert opened.image.dtype == np.uint8
    assert opened.notes == ["shown at 90 x 60; the upload has 900 x 600 pixels"]
    expected = smooth(600, 900).reshape(60, 10, 90, 10, 3).mean(axis=(1, 3))
    assert np.abs(opened.image - expected).max() < 6


def test_turned_transparent_and_sixteen_bit(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth(300, 500)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    opened = open_upload(tmp_path / "turned.jpg", longest=100)
    assert opened.image.shape == (100, 60, 3)
    assert opened.notes == ["shown at 60 x 100; the upload has 300 x 500 pixels"]
    # turned to the right: what grew downwards grows to the left
    assert opened.image[50, 0, 0] > 240 > 15 > opened.image[50, -1, 0]

    clear = np.zeros((20, 20, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (open_upload(tmp_path / "clear.png").image == 255).all()

    Image.fromarray(np.full((20, 20), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert (open_upload(tmp_path / "deep.png").image == 128).all()


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    for name in ("x.webp", "x.png", "x.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        red, _, blue = open_upload(tmp_path / name).image[15, 20]
        assert red > 240 > 15 > blue


def broken(folder: Path, kind: str) -> Path:
    """A file that nobody can segment."""
    path = folder / {"text": "notes.png", "svg": "drawing.svg"}.get(kind, "x.png")
    if kind == "bomb":
        png_bomb(path, 8000)
        assert path.stat().st_size < 100_000
    elif kind == "truncated":
        path = folder / "x.jpg"
        Image.fromarray(noise(400, 400)).save(path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "svg":
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    elif kind == "text":
        path.write_text("not a picture\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "gif":
        Image.new("P", (40, 40)).save(path, format="GIF")
    elif kind == "missing":
        path = folder / "gone.png"
    elif kind == "folder":
        path.mkdir()
    else:
        width, height = map(int, kind.split("x"))
        Image.new("RGB", (width, height)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bomb", "8000 × 8000 pixels are more than the limit of 50,000,000"),
        ("truncated", "damaged or truncated"),
        ("svg", "not an image that binseg reads (SVG); use JPEG, PNG"),
        ("text", "not an image that binseg reads; use JPEG, PNG"),
        ("gif", "not an image that binseg reads (GIF); use JPEG, PNG"),
        ("empty", "empty file"),
        ("missing", "no such file"),
        ("folder", "not a file"),
        ("1x1", "too small to segment; an image needs at least 8 a side"),
        ("7x60", "too small"),
        ("1x20000", "1 x 20000 pixels are a strip too thin"),
        ("20000x1", "20000 x 1 pixels are a strip too thin"),
    ],
)
def test_what_cannot_be_segmented(tmp_path, kind, message):
    path = broken(tmp_path, kind)
    tracemalloc.start()
    with pytest.raises(BinsegError) as caught:
        open_upload(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = str(caught.value)
    assert text.startswith(f"{path.name}: ")
    assert message in text
    assert "/" not in text
    assert "\n" not in text
    assert peak < 2**20


def test_a_folders_name_inside_a_decoders_words_is_left_out(tmp_path, monkeypatch):
    def fail(path, *arguments, **options):
        raise BinsegError(f"{path}: damaged (cannot open '{path}' in {path.parent}/more)")

    monkeypatch.setattr("binseg.demo.images.image_size", fail)
    with pytest.raises(BinsegError) as caught:
        open_upload(tmp_path / "x.png")
    assert str(caught.value) == "x.png: damaged (cannot open 'x.png' in more)"


def test_a_huge_jpeg_is_decoded_small(tmp_path, monkeypatch):
    Image.new("RGB", (6000, 4000), "green").save(tmp_path / "x.jpg")
    decoded = []

    def watched(image, size):
        decoded.append(image.shape)
        return resize_image(image, size)

    monkeypatch.setattr("binseg.demo.images.resize_image", watched)
    assert open_upload(tmp_path / "x.jpg").image.shape == (853, 1280, 3)
    assert decoded == [(1000, 1500, 3)]
