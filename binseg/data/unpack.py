"""Archives become folders at one stroke: a half-extracted one never looks complete."""

import errno
import shutil
from pathlib import Path

from binseg.data.fetch import Tell, check_space
from binseg.errors import BinsegError


def unpack(archive: Path, inside: str, target: Path, tell: Tell) -> None:
    """Extract an archive and move its folder `inside` to `target`.

    If there is no `target`, it appears by one rename. If there is one, left by an extraction that
    was interrupted, it gets each file that it lacks or has in another size; nothing else in it is
    touched.

    Raises:
        BinsegError: too little space, a folder that cannot be written, or an archive that holds no
            such folder.
    """
    from torchvision.datasets.utils import extract_archive

    target = target.resolve()  # a rename stays on one disk, wherever links lead
    staging = target.parent / f".{target.name}.unpacking"
    tell(f"unpacking {archive.name}", 0, None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)  # of a call that was killed
        check_space(target.parent, unpacked_size(archive), f"unpacking {archive.name}")
        extract_archive(archive, staging)
        if not (staging / inside).is_dir():
            raise BinsegError(f"{archive}: holds no folder {inside}; get the archive again")
        _move(staging / inside, target)
    except OSError as error:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise BinsegError(
            f"{error.filename or target}: {archive.name} cannot be unpacked there ({reason}); mend "
            "that and run this again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
