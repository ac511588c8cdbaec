"""One program at a time in a folder."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binseg.errors import BinsegError, BinsegWarning

LOCK = ".binseg.lock"
"""Name of the file in a locked folder; it says who works there."""

_held: set[str] = set()  # a process can lock its own file twice


@contextmanager
def locked(folder: str | os.PathLike[str], name: str = LOCK) -> Iterator[None]:
    """Keep other programs of binseg out of a folder while the block runs.

    The folder is made if it is missing, and removed again if it is empty at the end. The lock
    belongs to the process: it ends with it, however that ends, and a lock file that a killed one
    leaves behind locks nothing. Where a disk knows no locks, a `BinsegWarning` says so.

    Args:
        folder: to write into.
        name: of the file; programs that may work there side by side have different ones.

    Raises:
        BinsegError: another program works there, the same one does already, or the folder cannot
            be written.
    """
    folder = Path(folder)
    real = os.path.realpath(folder / name)
    if real in _held:
        raise BinsegError(f"{folder}: this program works there already; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise BinsegError(f"{folder}: cannot be written, it is a file; choose another place")
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _locked_file(path)
    except OSError as error:
        raise BinsegError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    _held.add(real)
    try:
        yield
    finally:
        _held.discard(real)
        path.unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # holds something by now
            for each in new:
                each.rmdir()


def _locked_file(path: Path) -> int:
    """A handle of the file, which this process alone has locked.

    Raises:
        BinsegError: another process has.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # locks of processes, not of handles: forked loader workers do not inherit them
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                holder = _holder(handle)
                os.close(handle)
                raise BinsegError(
                    f"{path.parent}: {holder} works there; wait for its end, or choose another "
                    "folder"
                ) from error
            warnings.warn(
                BinsegWarning(
                    f"{path.parent}: this disk knows no locks ({error.strerror}); see to it "
                    "yourself that no other program writes there"
                ),
                stacklevel=4,
            )
        if _is(path, handle):
            break
        os.close(handle)  # the holder before removed the file after it was opened here
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%F %T")}
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(about).encode())
    return handle


def _is(path: Path, handle: int) -> bool:
    """Whether the open file is the one that has the name."""
    try:
        there, here = path.stat(), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _holder(handle: int) -> str:
    """Who wrote the file, in words."""
    try:
        about = json.loads(os.read(handle, 1000))
        return f"process {about['process']} on {about['host']} (since {about['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another program"
