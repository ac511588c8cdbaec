"""The cache finds whole libraries only, waits for its lock in time, and does not grow for ever."""

import errno
import fcntl
import os
import tempfile
import time
from pathlib import Path

import pytest

from binseg.kernels import cache
from binseg.kernels.toolchain import TIMEOUT, BuildError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache folder, on a machine without other places."""
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(TIMEOUT, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "cache"


def put(folder: Path, name: str, text: str = "a library") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "made.so"
    made.write_text(text)
    cache.keep(made, folder / name)
    return folder / name


def test_what_is_kept_is_found_by_its_name(folder):
    assert cache.find("cpu-1-*") is None
    library = put(folder, "cpu-1-a.so")
    assert cache.find("cpu-1-a") == cache.find("cpu-1-*") == library
    assert cache.find("cpu-1-b") is None
    assert cache.find("cpu-2-*") is None
    assert {path.name for path in folder.iterdir()} == {"cpu-1-a.so", "cpu-1-a.sha256"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda library: library.write_bytes(library.read_bytes()[:-1]),
        lambda library: library.write_bytes(b""),
        Path.unlink,
        lambda library: library.with_suffix(".sha256").write_bytes(b"\xff"),
        lambda library: library.with_suffix(".sha256").unlink(),
    ],
    ids=["cut", "empty", "missing", "spoilt digest", "missing digest"],
)
def test_a_spoilt_library_is_not_found(folder, spoil):
    spoil(put(folder, "cpu-1-a.so"))
    assert cache.find("cpu-1-*") is None
    other = put(folder, "cpu-1-b.so")
    assert cache.find("cpu-1-*") == other


def age(path: Path, days: float):
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def test_a_new_library_removes_those_of_its_name_that_nobody_used_for_long(folder):
    old, recent, used = (put(folder, f"cpu-{key}-a.so") for key in ("old", "recent", "used"))
    other = put(folder, "cuda-old-a.so")
    age(recent, 29)
    for path in (old, used, other):
        age(path, 31)
    assert cache.find("cpu-used-a") == used
    new = put(folder, "cpu-new-a.so")
    assert set(folder.glob("*.so")) == {recent, used, new, other}
    assert len(list(folder.glob("*.sha256"))) == 4


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(cache.CACHE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder() == tmp_path / "home/.cache/binseg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg/binseg"
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "own"))
    assert cache.cache_folder() == tmp_path / "own"


@pytest.fixture
def fallback(folder, tmp_path, monkeypatch):
    """What serves instead of a cache that cannot be written."""
    # permissions would not stop root
    folder.write_text("")
    monkeypatch.setenv(cache.CACHE, str(folder / "below a file"))
    return tmp_path / f"binseg-{os.getuid()}"


def test_where_the_cache_cannot_be_written_a_temporary_folder_serves(fallback, capfd):
    assert cache.writable_folder("cpu") == fallback
    assert fallback.stat().st_mode & 0o777 == 0o700
    (said,) = capfd.readouterr().err.splitlines()
    assert "cannot be written, the kernels go to" in said
    library = put(fallback, "cpu-1-a.so")
    assert cache.find("cpu-1-a") == library


def test_a_temporary_folder_that_others_can_write_to_is_not_used(fallback):
    cache.writable_folder("cpu")
    put(fallback, "cpu-1-a.so")
    fallback.chmod(0o777)
    assert cache.find("cpu-1-a") is None
    with pytest.raises(NotADirectoryError):
        cache.writable_folder("cpu")


STRANGER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


def give_away(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER)


def share(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def share_with_group(path: Path) -> None:
    os.chown(path, -1, STRANGER)
    path.chmod(path.stat().st_mode | 0o020)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "expose",
    [
        pytest.param(give_away, marks=as_root),
        share,
        pytest.param(share_with_group, marks=as_root),
    ],
)
@pytest.mark.parametrize("what", ["parent", "folder", "library", "digest"])
def test_what_another_user_can_have_put_there_is_not_found(folder, monkeypatch, what, expose):
    monkeypatch.setenv(cache.CACHE, str(folder / "below"))
    library = put(folder / "below", "cpu-1-a.so")
    assert cache.find("cpu-*") == library
    expose(
        {
            "parent": folder,
            "folder": folder / "below",
            "library": library,
            "digest": library.with_suffix(".sha256"),
        }[what]
    )
    assert cache.find("cpu-*") is None


@pytest.mark.parametrize("which", [".so", ".sha256"])
def test_a_link_in_place_of_a_library_is_not_followed(folder, which):
    link(put(folder, "cpu-1-a.so").with_suffix(which))
    assert cache.find("cpu-*") is None


def test_what_is_found_leads_through_no_link(folder, tmp_path, monkeypatch):
    library = put(folder, "cpu-1-a.so")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "link"))
    assert cache.find("cpu-*") == library


def test_a_sticky_folder_of_everybody_serves(folder, monkeypatch):
    library = put(folder / "own", "cpu-1-a.so")
    folder.chmod(0o1777)
    monkeypatch.setenv(cache.CACHE, str(folder / "own"))
    assert cache.find("cpu-*") == library
    folder.chmod(0o777)
    assert cache.find("cpu-*") is None


@pytest.mark.parametrize(
    ("expose", "why"),
    [
        pytest.param(give_away, "belongs to another user", marks=as_root),
        (share, "can be written by other users"),
    ],
)
def test_where_the_cache_is_not_safe_a_temporary_folder_serves(
    folder, tmp_path, capfd, expose, why
):
    put(folder, "cpu-1-a.so")
    expose(folder)
    other = cache.writable_folder("cpu")
    assert other == tmp_path / f"binseg-{os.getuid()}"
    assert capfd.readouterr().err == f"binseg: {folder}: {why}, the kernels go to {other}\n"
    put(other, "cpu-1-a.so", "another library")
    assert cache.find("cpu-*") == other / "cpu-1-a.so"


@pytest.fixture
def noexec(monkeypatch):
    """A set of folders in which programs may not run."""
    folders = set()
    real = os.statvfs

    def statvfs(path):
        found = real(path)
        if Path(path) not in folders:
            return found
        fields = list(found)
        fields[8] |= os.ST_NOEXEC
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    return folders


def test_where_programs_may_not_run_a_temporary_folder_serves(folder, tmp_path, noexec, capfd):
    put(folder, "cpu-1-a.so")
    noexec.add(folder)
    assert cache.find("cpu-*") is None
    other = cache.writable_folder("cpu")
    assert other == tmp_path / f"binseg-{os.getuid()}"
    assert "programs may not run from it, the kernels go to" in capfd.readouterr().err
    noexec.add(other)
    with pytest.raises(BuildError, match=rf"{folder}: programs may not run .*set {cache.CACHE}"):
        cache.writable_folder("cpu")


def test_a_new_cache_is_this_users_alone(folder):
    before = os.umask(0o002)
    try:
        assert cache.writable_folder("cpu") == folder
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_does_not_send_the_kernels_elsewhere(folder, monkeypatch):
    def full(dir):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        cache.writable_folder("cpu")


def test_a_lock_that_stays_held_is_named_in_time(folder, monkeypatch, capfd):
    monkeypatch.setenv(TIMEOUT, "0.3")
    folder.mkdir()
    with (folder / "cpu.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        message = rf"{folder}/cpu\.lock: .* 0\.3 s.*{TIMEOUT}"
        with pytest.raises(BuildError, match=message), cache.locked(folder, "cpu"):
            pass
        with cache.locked(folder, "cuda"):
            pass
    with cache.locked(folder, "cpu"):
        pass
    assert capfd.readouterr().err.count("waiting for another process") == 1
