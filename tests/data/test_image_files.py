"""Which files are found, and that what is left out is named with its reason."""

import os
import socket
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.data.image_files import find_all_images, find_images, left_out_lines
from binseg.data.image_formats import format_of
from binseg.data.imageio import read_image
from binseg.errors import BinsegError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def image_bytes(kind: str) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), 90, np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    keys = ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.png", "odd[1].png")
    fill(tmp_path, dict.fromkeys(keys, b"x"))

    def found(*patterns: str) -> list[str]:
        images = find_all_images(patterns).images
        return [str(path.relative_to(tmp_path)) for path in images]

    root = str(tmp_path)
    assert found(root) == ["a.JPG", "b.png", "odd[1].png"]
    assert found(f"{root}/*.png") == ["b.png", "odd[1].png"]
    assert found(f"{root}/**/*.png") == ["b.png", "odd[1].png", "sub/c.png"]
    assert found(f"{root}/**") == ["a.JPG", "b.png", "odd[1].png", "sub/c.png"]
    assert find_images(f"{root}/**").left_out == []
    assert found(f"{root}/odd[1].png") == ["odd[1].png"], "a real name wins over a pattern"
    assert found(f"{root}/b.png", root) == ["b.png", "a.JPG", "odd[1].png"]
    assert found(f"{root}/notes.txt") == ["notes.txt"], "a file by its name is tried"
    for nothing in (f"{root}/none*", f"{root}/none.png", f"{root}/*.txt", f"{root}/{'x' * 300}"):
        with pytest.raises(BinsegError, match=r"no such file|cannot be read"):
            find_images(nothing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BinsegError, match="no images"):
        find_images(tmp_path / "empty")


def test_images_under_odd_endings_are_read(tmp_path: Path) -> None:
    odd = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c": "PNG", "d.image": "WebP", "e.heic": "JPEG"}
    fill(tmp_path, {name: image_bytes(kind) for name, kind in odd.items()})
    found = find_images(tmp_path)
    assert names(found.images) == sorted(odd)
    assert found.left_out == []
    for path in found.images:
        assert read_image(path).shape == (8, 9, 3)


def test_what_is_left_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(
        tmp_path,
        {
            "good.png": image_bytes("PNG"),
            "phone.HEIC": HEIC,
            "new.avif": b"\0\0\0\x20ftypavif\0\0\0\0",
            "moving.gif": b"GIF89a" + bytes(20),
            "clip.mp4": b"\0\0\0\x20ftypisom\0\0\0\0",
            "scan.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
            "camera.dng": image_bytes("TIFF"),
            "blob.xyz": b"hello",
            "void.xyz": b"",
            "sub/deep/inner.jpg": image_bytes("JPEG"),
            "texts/notes.md": b"#",
            "labels.yaml": b"classes: []",
            "Thumbs.db": b"\xd0\xcf",
        },
    )
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "good_link.png").symlink_to("good.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's name must be short
        server.bind("door.jpg")
        found = find_images(tmp_path)
    assert names(found.images) == ["good.png", "good_link.png"]
    assert names(found.others) == ["Thumbs.db", "labels.yaml"]
    reasons = {path.name: reason for path, reason in found.left_out}
    says = {
        "phone.HEIC": "HEIC",
        "new.avif": "AVIF",
        "moving.gif": "GIF",
        "clip.mp4": "video",
        "scan.jp2": "JPEG 2000",
        "camera.dng": "raw",
        "blob.xyz": "not a format",
        "void.xyz": "empty",
        "sub": "a folder with images",
        "gone.png": "a link to nowhere.png, which does not exist",
        "circle.png": "a link",
        "pipe.png": "not a regular file",
        "door.jpg": "not a regular file",
    }
    assert reasons.keys() == says.keys()
    for name, words in says.items():
        assert words in reasons[name], name


def test_a_folder_of_nothing_but_left_out_files_is_no_error(tmp_path: Path) -> None:
    fill(tmp_path, {f"{n}.heic": HEIC for n in range(5)})
    found = find_images(tmp_path)
    assert found.images == []
    (line,) = left_out_lines(found.left_out)
    assert f"{tmp_path / '0.heic'}, " in line
    assert "and 2 more: 5 left out: HEIC" in line
    pattern = find_images(f"{tmp_path}/*.heic")
    assert pattern.left_out == found.left_out


def test_recursive(tmp_path: Path) -> None:
    image = image_bytes("PNG")
    fill(tmp_path, {"b/x.png": image, "a/y.png": image, "a/.git/z.png": image, "top.png": image})
    (tmp_path / "a/again").symlink_to(tmp_path)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "b", target_is_directory=True)
    found = find_images(tmp_path, recursive=True)
    relative = [path.relative_to(tmp_path).as_posix() for path in found.images]
    assert relative == ["a/y.png", "b/x.png", "top.png"]
    assert sorted(names([path for path, _ in found.left_out])) == ["again", "elsewhere"]
    assert all("looked into before" in reason for _, reason in found.left_out)


def test_names_of_any_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/stra\xdfe.png"
    Path(os.fsdecode(raw)).write_bytes(image_bytes("PNG"))
    (tmp_path / unicodedata.normalize("NFD", "größe.png")).write_bytes(image_bytes("PNG"))
    found = find_images(tmp_path).images
    assert len(found) == 2
    assert all(read_image(path).shape == (8, 9, 3) for path in found)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WebP"])
def test_formats_that_are_read(kind: str) -> None:
    assert format_of(image_bytes(kind)) == kind


def test_pieces_of_files_are_no_format() -> None:
    for head in (b"", b"P", b"P5", b"RIFF", b"RIFF\0\0\0\0WAVE", b"\xff\xd8", b"hello world"):
        assert format_of(head) is None
    assert format_of(b"P5\n3 3\n255\n") == "PNM"
    assert format_of(bytes(128) + b"DICM") == "DICOM"
