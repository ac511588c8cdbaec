"""The folder of uploads: what may be named in it, how full it gets, how old its files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from binseg.demo import uploads
from binseg.demo.uploads import (
    UploadFolder,
    find_upload,
    remove_abandoned,
    upload_folder,
    work_folder,
)
from binseg.errors import BinsegError


@pytest.fixture
def folder(tmp_path) -> UploadFolder:
    (tmp_path / "uploads").mkdir()
    return UploadFolder(tmp_path / "uploads", most=1000, needed_seconds=300)


def put(folder: UploadFolder, name: str, size: int = 10, age: float = 0) -> Path:
    path = folder.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


@pytest.fixture
def clock(monkeypatch):
    """Ages by the time of the last change alone: nobody can set the other one back."""
    real = Path.lstat

    def lstat(path):
        found = real(path)
        fields = list(found)
        fields[9] = 0
        return os.stat_result(fields, {"st_mtime": found.st_mtime, "st_ctime": 0.0})

    monkeypatch.setattr(Path, "lstat", lstat)


def test_a_file_of_the_folder_is_found_and_counts_as_used(folder):
    path = put(folder, "hash/x.png", age=1000)
    assert folder.find(str(path)) == path
    assert time.time() - path.stat().st_mtime < 500


def test_nothing_else_is_found(folder, tmp_path):
    inside = put(folder, "hash/x.png")
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (folder.path / "hash/link.png").symlink_to(secret)
    (folder.path / "inside.png").symlink_to(inside)
    (tmp_path / "uploads-2").mkdir()
    (tmp_path / "uploads-2/x.png").write_bytes(b"secret")
    top = folder.path
    outside = [str(secret), "/etc/passwd", "/proc/self/environ", "/proc/self/cwd", f"{top}-2/x.png"]
    dots = [
        f"{top}/../secret.png",
        f"{top}/hash/../hash/x.png",
        f"{inside}/.",
        f"{top}/./hash/x.png",
    ]
    slashes = [f"{top}//hash/x.png", f"/{inside}", f"{inside}/"]
    relative = ["hash/x.png", "x.png", "~/x.png", os.path.relpath(inside), ""]
    links = [str(top / "hash/link.png"), str(top / "inside.png")]
    folders = [str(top), f"{top}/", str(top / "hash")]
    missing = [str(top / "hash/y.png"), str(inside / "x.png")]
    urls = [f"file://{inside}", f"file:{inside}", "http://127.0.0.1/x.png"]
    letters = [f"{inside}\0", f"{inside}\n", f"{inside}\udcff", f"{top}/{'a' * 300}"]
    letters.append(f"{top}/{'a/' * 4000}x")
    others = [None, 3, 3.5, True, [str(inside)], {"path": str(inside)}, inside]
    for path in (*outside, *dots, *slashes, *relative, *links, *folders, *missing, *urls):
        assert folder.find(path) is None, path
    for other in (*letters, *others):
        assert folder.find(other) is None, other
    assert folder.find(str(inside)) == inside


def test_no_place_outside_the_folder_is_even_looked_at(folder, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("looked at")

    for name in ("resolve", "stat", "lstat", "is_file", "exists"):
        monkeypatch.setattr(Path, name, never)
    for path in ("/etc/passwd", f"{folder.path}/../secret.png", f"{folder.path}-2/x.png"):
        assert folder.find(path) is None


def test_old_files_are_swept_and_the_examples_stay(folder, clock):
    old, young = put(folder, "a/old.png", age=2000), put(folder, "b/young.png", age=1000)
    broken_off = put(folder, "tmpabc", age=2000)
    coming = put(folder, "tmpdef", age=10)
    example = put(folder, "examples/scene.jpg", age=9000)
    folder.sweep()
    assert not old.parent.exists()
    assert not broken_off.exists()
    assert young.exists()
    assert coming.exists()
    assert example.exists()
    folder.find(str(young))
    folder.sweep(500)
    assert young.exists()


def test_all_uploads_together_are_limited(folder, clock):
    put(folder, "a/x.png", 600)
    assert folder.admit(300)
    assert not folder.admit(101)
    assert folder.admit(100)
    folder.arrived(300)
    put(folder, "b/x.png", 300)
    assert not folder.admit(1)
    folder.arrived(100)
    assert folder.admit(100)


def test_what_is_not_needed_any_more_makes_room_the_oldest_first(folder, clock):
    oldest, older, young = (put(folder, f"{age}/x.png", 300, age=age) for age in (900, 600, 100))
    assert folder.admit(200)
    assert not oldest.exists()
    assert older.exists()
    assert folder.admit(300)
    assert not older.exists()
    assert not folder.admit(300)
    assert young.exists()


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("street.png", "street.png"),
        ("../../etc/street.png", "street.png"),
        ("C:\\photos\\street.png", "street.png"),
        ("straße 東京.jpeg", "straße 東京.jpeg"),
        ("a\0b\nc\x1b[31m.png", "abc[31m.png"),
        ("x" * 5000 + ".png", "x" * 117 + ".png"),
        ("東" * 5000 + ".png", "東" * 39 + ".png"),
        ("..", "x.png"),
        ("", "x.png"),
        ("/", "x.png"),
        ("\udcff", "x.png"),
        (None, "x.png"),
        ({"a": 1}, "x.png"),
        (7, "x.png"),
    ],
)
def test_a_files_own_name_is_one_short_line_without_folders(folder, monkeypatch, called, name):
    monkeypatch.setattr(uploads, "upload_folder", lambda: folder)
    path = put(folder, "hash/x.png")
    assert find_upload({"path": str(path), "orig_name": called}, "an image") == (path, name)


@pytest.mark.parametrize(
    "value", ["street.png", None, 3, [], {}, {"path": None}, {"path": "/etc/passwd"},
              {"url": "http://127.0.0.1/"}, {"path": "/nowhere", "url": "http://127.0.0.1/"}]
)  # fmt: skip
def test_what_is_no_upload_is_told_in_the_same_words(folder, monkeypatch, value):
    monkeypatch.setattr(uploads, "upload_folder", lambda: folder)
    with pytest.raises(BinsegError, match=r"^send an image: upload .*handle_file\(PATH\)\)$"):
        find_upload(value, "an image")


def test_what_is_being_made_cannot_be_named():
    made = work_folder() / "made.png"
    made.write_bytes(b"made")
    assert upload_folder().find(str(made)) is None
    made.unlink()


_HOLDER = """
import sys
from pathlib import Path
from binseg.demo import uploads
handle = uploads._lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_folders_of_killed_demos_are_deleted_and_no_others(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    kept = tmp_path / "kept"
    for name in ("binseg-demo-old", "binseg-demo-new", "binseg-demo-used", "other-old"):
        (temporary / name / "files").mkdir(parents=True)
        (temporary / name / "files/x.png").write_bytes(b"x")
    (temporary / "binseg-demo-file").write_bytes(b"x")
    kept.mkdir()
    (kept / "x.png").write_bytes(b"x")
    (temporary / "binseg-demo-old/files/link").symlink_to(kept)
    (temporary / "binseg-demo-link").symlink_to(kept)
    then = time.time() - 7200
    for path in (*temporary.iterdir(), kept):
        if path.name != "binseg-demo-new":
            os.utime(path, (then, then))
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(temporary / "binseg-demo-used")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"

    def remaining() -> set[str]:
        return {path.name for path in temporary.iterdir()}

    before = remaining()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        remove_abandoned(temporary)
    assert remaining() == before  # another user's
    remove_abandoned(temporary)
    assert remaining() == before - {"binseg-demo-old"}
    holder.kill()
    holder.communicate()
    remove_abandoned(temporary)
    assert remaining() == before - {"binseg-demo-old", "binseg-demo-used"}
    assert (kept / "x.png").is_file()
