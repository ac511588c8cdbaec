"""Files that are either whole or not there."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from binseg.errors import BinsegError

MARK = "-binseg-"
"""In the name of a temporary file, which a killed process leaves behind."""

_PREFIX, _SUFFIX = 30, 12  # letters of a temporary file's name, of at most 4 bytes each


class NoSpaceError(BinsegError):
    """The disk is full."""


class TakenError(BinsegError):
    """There is a file of this name that may not be replaced."""


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], may_replace: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes `path`'s place only if the block succeeds.

    The temporary file lies in the same folder, so the final `os.replace` is atomic: a reader, or
    a process killed at any moment, sees the old file or the new one, never a part of it.

    Args:
        path: the file to write.
        may_replace: whether the file that has the name already may go; None: any may. Of several
            processes that want one name at the same moment, one gets it (where the disk knows hard
            links).

    Raises:
        TakenError: it may not.
        NoSpaceError: the disk is full; an older `path` is intact.
        BinsegError: the folder cannot be written, or no file can have this name; an older `path`
            is intact. Or `path` is a folder or a device, which a file must not replace.
    """
    target = Path(path)
    try:
        if may_replace is None and target.exists() and not target.is_file():
            raise BinsegError(f"{target}: is no file; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            # a name of its own may be as long as the disk allows
            prefix=f".{target.stem[:_PREFIX]}{MARK}",
            suffix=target.suffix[:_SUFFIX],
            dir=target.parent,
        )
        os.close(handle)
    except OSError as error:
        raise _explained(error, target) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        if may_replace is None:
            temporary.replace(target)
        else:
            _claim(temporary, target, may_replace)
    except OSError as error:
        raise _explained(error, target) from error
    finally:
        temporary.unlink(missing_ok=True)


def _claim(temporary: Path, target: Path, may_replace: Callable[[Path], bool]) -> None:
    """Give the file its name, unless another has it."""
    try:
        os.link(temporary, target)
        return
    except FileExistsError:
        pass
    except OSError:  # a disk without hard links
        if not os.path.lexists(target):
            temporary.replace(target)
            return
    if not may_replace(target):
        raise TakenError(f"{target}: is there already; choose another place")
    temporary.replace(target)


def _umask() -> int:
    """The process's file mode mask (reading it means setting it; mkstemp ignores it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _explained(error: OSError, target: Path) -> BinsegError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(
            f"{target}: no space left on the disk; free some and run again (nothing was lost)"
        )
    return BinsegError(
        f"{target}: cannot be written ({error.strerror or error}); choose another place"
    )
