"""Where compiled libraries are kept, each with a .sha256 beside it that holds its digest.

Only a library whose digest agrees is found: a truncated one would not fail to load but crash the
process. Files are put in place, and removed, by whoever holds the lock of their name.
"""

import errno
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from binseg.kernels.toolchain import TIMEOUT, BuildError, time_limit

CACHE = "BINSEG_CACHE"
_KEPT_SECONDS = 30 * 24 * 3600


def cache_folder() -> Path:
    """$BINSEG_CACHE, or $XDG_CACHE_HOME/binseg, or ~/.cache/binseg.

    Raises:
        BuildError: none of them is set, and the user has no home.
    """
    if named := os.environ.get(CACHE):
        return Path(named).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "binseg"
    except RuntimeError as error:
        raise BuildError(f"this user has no home to keep the kernels in; set {CACHE}") from error


def find(pattern: str) -> Path | None:
    """The first whole library whose file name matches `pattern`; it counts as used now.

    Raises:
        BuildError: there is no place for a cache.
    """
    fallback = _fallback_folder()
    for folder in (cache_folder(), *([fallback] if fallback else [])):
        for library in sorted(folder.glob(f"{pattern}.so")):
            with suppress(OSError, UnicodeError):
                if _digest_file(library).read_text() == _digest(library):
                    _touch(library)
                    return library
    return None


def writable_folder(name: str) -> Path:
    """The cache folder, or one among the temporary files if that cannot be written.

    Raises:
        BuildError: there is no place for a cache.
        OSError: it cannot be written, and no other can.
    """
    folder = cache_folder()
    try:
        _try_to_write(folder, name)
    except OSError as error:
        fallback = _fallback_folder(make=True)
        if fallback is None or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        say(f"{error.filename or folder}: cannot be written, the kernels go to {fallback}")
        folder = fallback
        _try_to_write(folder, name)
    return folder


def _try_to_write(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder), _lock_file(folder, name).open("a"):
        pass


def _fallback_folder(*, make: bool = False) -> Path | None:
    """A folder among the temporary files that is this user's alone, if there is one."""
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"binseg-{os.getuid()}"
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        # anybody could have put a folder or a link, and libraries to load, in this place
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            return None if status.st_mode & 0o022 else folder
    return None


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock that the system takes back when this process ends, however it ends.

    Raises:
        BuildError: another process holds it for longer than `time_limit`.
    """
    import fcntl

    path = _lock_file(folder, name)
    limit = time_limit()
    deadline = time.monotonic() + limit
    with path.open("a") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if time.monotonic() >= deadline:
                raise BuildError(
                    f"{path}: another process has held this lock for {limit:g} s; wait for it or "
                    f"end it, then run again ({TIMEOUT} sets the limit in seconds)"
                )
            if not waiting:
                waiting = True
                say("waiting for another process that compiles the 1-bit kernels …")
            time.sleep(0.1)
        yield


def keep(made: Path, library: Path) -> None:
    """Move a new library into the cache, under the lock, and remove what its name left there.

    Args:
        made: the new file, in the same file system.
        library: its path in the cache, NAME-….so.
    """
    digest = made.with_suffix(".sha256")
    digest.write_text(_digest(made))
    # the digest goes last: whoever reads in between finds that the two do not agree
    made.replace(library)
    digest.replace(_digest_file(library))
    name = library.name.partition("-")[0]
    oldest = time.time() - _KEPT_SECONDS
    for other in library.parent.glob(f"{name}-*.so"):
        # who has opened it keeps it; who is about to finds nothing and compiles
        with suppress(OSError):
            if other != library and other.stat().st_mtime < oldest:
                other.unlink()
                _digest_file(other).unlink()


def say(text: str) -> None:
    """Tell the person at the keyboard what takes time."""
    print(f"binseg: {text}", file=sys.stderr, flush=True)


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _digest_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _touch(library: Path) -> None:
    # the file system need not note when a file is read; a cache that others own is theirs to tidy
    with suppress(OSError):
        os.utime(library)
