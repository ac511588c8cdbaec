"""One program at a time in a folder: a second process, a killed one, folders made for it."""

import subprocess
import sys

import pytest

from binseg.errors import BinsegError
from binseg.lock import LOCK, locked

HOLD = """
import sys, time
from binseg.lock import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path, holder):
    message = rf"run: process {holder.pid} on .* works there"
    with pytest.raises(BinsegError, match=message), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / LOCK).exists()
    holder.communicate("")
    with locked(tmp_path / "run"):
        pass


def test_a_killed_process_locks_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with locked(tmp_path / "run"):
        pass


def test_the_same_process_is_refused_too_and_keeps_its_lock(tmp_path):
    with locked(tmp_path):
        again = tmp_path / "sub" / ".."
        with pytest.raises(BinsegError, match="works there already"), locked(again):
            pass
        done = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, input=""
        )
        assert "works there; wait" in done.stderr


def test_nothing_is_left_behind(tmp_path):
    with locked(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "x").write_text("x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_a_file_and_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "x").write_text("x")
    for folder in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(BinsegError, match="choose another"), locked(folder):
            pass
