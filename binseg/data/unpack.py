"""Archives become folders at one stroke: a half-extracted one never looks complete."""

import errno
import shutil
import tarfile
import zlib
from pathlib import Path

from binseg.data.fetch import OnProgress, check_space
from binseg.errors import BinsegError


def unpack(archive: Path, inside: str, target: Path, on_progress: OnProgress) -> None:
    """Extract a tar archive and move its folder `inside` to `target`.

    If there is no `target`, it appears by one rename. If there is one, left by an extraction that
    was interrupted, it gets each file that it lacks or has in another size; nothing else in it is
    touched.

    Raises:
        BinsegError: too little space, a folder that cannot be written, or an archive that is
            damaged, holds no such folder, or holds anything that would not stay in its folder.
    """
    target = target.resolve()  # a rename stays on one disk, wherever links lead
    staging = target.parent / f".{target.name}.unpacking"
    on_progress(f"unpacking {archive.name}", 0, None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)  # of a call that was killed
        check_space(target.parent, unpacked_size(archive), f"unpacking {archive.name}")
        _extract(archive, staging)
        if not (staging / inside).is_dir() or (staging / inside).is_symlink():
            raise BinsegError(f"{archive}: holds no folder {inside}; get the archive again")
        _move(staging / inside, target)
    except OSError as error:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise BinsegError(
            f"{error.filename or target}: {archive.name} cannot be unpacked there ({reason}); fix "
            "that and run this again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    """All of a tar archive, as long as its files stay in `folder`.

    Raises:
        BinsegError: a path or a link leads out of `folder`, there is a device, or the archive is
            damaged.
    """
    if not hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3
        raise BinsegError(
            f"{archive}: this Python cannot unpack archives safely; use 3.11.4 or newer"
        )
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise BinsegError(
            f"{archive}: {error.tarinfo.name[:200]!r} would not stay in the archive's folder, so "
            "it is not the published archive; delete it and get it again"
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BinsegError(f"{archive}: damaged ({error}); delete it and get it again") from error


def unpacked_size(archive: Path) -> int:
    """Bytes that a .tar or a .tgz unpacks to: its own size, or what gzip notes in its last four."""
    if archive.suffix != ".tgz":
        return archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(), "little")


def _move(source: Path, target: Path) -> None:
    if not target.exists():
        source.rename(target)
        return
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.is_file() or place.stat().st_size != path.stat().st_size:
            path.replace(place)
