"""Where compiled libraries are kept, each with a .sha256 beside it that holds its digest.

Only a library whose digest agrees is found: a truncated one would not fail to load but crash the
process. A library is code, so only those are found that nobody but this user and root can have put
there. Files are put in place, and removed, by whoever holds the lock of their name.
"""

import errno
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from binseg.kernels.ownership import why_untrusted
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

    Libraries that another user can have put there, and those in folders that programs may not run
    from, are not found.

    Raises:
        BuildError: there is no place for a cache.
    """
    for folder in (cache_folder(), _fallback_folder()):
        # what is loaded must not lead through a link that somebody turns round after the look
        place = folder.resolve()
        if _why_unfit(place):
            continue
        for library in sorted(place.glob(f"{pattern}.so")):
            with suppress(OSError, UnicodeError):
                digest = _digest_file(library)
                if why_untrusted(library) or why_untrusted(digest):
                    continue
                if digest.read_text() == _digest(library):
                    _touch(library)
                    return library
    return None


def writable_folder(name: str) -> Path:
    """The cache folder, or one among the temporary files if that does not serve.

    It can be written by this user, by nobody else but root, and programs may run from it.

    Raises:
        BuildError: there is no place for a cache.
        OSError: it cannot be written, and no other serves.
    """
    folder = cache_folder()
    try:
        _try_to_write(folder, name)
        where, why = folder, _why_unfit(folder.resolve())
        fault: Exception = BuildError(
            f"{folder}: {why}; set {CACHE} to a folder of your own that programs may run from"
        )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        where, why, fault = Path(error.filename or folder), "cannot be written", error
    if why is None:
        return folder
    fallback = _fallback_folder()
    try:
        _try_to_write(fallback, name)
    except OSError:
        raise fault from None
    if _why_unfit(fallback.resolve()):
        raise fault
    say(f"{where}: {why}, the kernels go to {fallback}")
    return fallback


def _try_to_write(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder), _lock_file(folder, name).open("a"):
        pass


def _fallback_folder() -> Path:
    """A folder of this user's among the temporary files."""
    return Path(tempfile.gettempdir()) / f"binseg-{os.getuid()}"


def _why_unfit(folder: Path) -> str | None:
    """Why no library is kept in or loaded from a folder; None if it serves, or is not there."""
    try:
        if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
            return "programs may not run from it"
        return why_untrusted(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)


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
                _failure_file(other).unlink()


def note_failure(library: Path) -> None:
    """Remember that a library could not be loaded although it was new."""
    with suppress(OSError):
        _failure_file(library).write_text(_digest(library))


def failed_when_new(library: Path) -> bool:
    """Whether to compile it again would give the same library, which cannot be loaded."""
    with suppress(OSError, UnicodeError):
        return _failure_file(library).read_text() == _digest(library)
    return False


def say(text: str) -> None:
    """Tell the person at the keyboard what takes time."""
    print(f"binseg: {text}", file=sys.stderr, flush=True)


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _digest_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _failure_file(library: Path) -> Path:
    return library.with_suffix(".failed")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _touch(library: Path) -> None:
    # the file system need not note when a file is read; a cache that others own is theirs to tidy
    with suppress(OSError):
        os.utime(library)
