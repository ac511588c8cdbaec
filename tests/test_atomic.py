"""Files are whole or not there."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from binseg.atomic import atomic_path
from binseg.errors import BinsegError


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "a" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("one")
    with suppress(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of tw")
        assert target.read_text() == "one"
        raise RuntimeError
    assert target.read_text() == "one"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("one")
    with pytest.raises(BinsegError, match=r"file\.txt: no space left"), atomic_path(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BinsegError, match="cannot be written"),
        atomic_path(tmp_path / "file" / "x"),
    ):
        pass


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_devices_and_folders_are_left_alone(tmp_path):
    for target in (Path(os.devnull), tmp_path):
        with pytest.raises(BinsegError, match="is no file"), atomic_path(target) as temporary:
            temporary.write_text("x")
    assert not Path(os.devnull).is_file()
