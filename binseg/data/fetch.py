"""Large archives from the network: whole, or continued later, and checked before they are used."""

import errno
import http
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from binseg.errors import BinsegError

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is being done, the bytes done, and the bytes in all; None where nobody knows."""

_CHUNK = 1 << 20
_SILENCE = 60  # seconds without a byte after which a connection counts as cut


class Archive(NamedTuple):
    """A published file: its name, where it is, and its MD5 in hexadecimal."""

    name: str
    url: str
    md5: str


def find_archive(archive: Archive, folders: Sequence[Path], on_progress: OnProgress) -> Path | None:
    """The archive where somebody has put it already; None if it is in none of the folders.

    Raises:
        BinsegError: a file of that name is not the published one, or only a part of it.
    """
    for path in (folder / archive.name for folder in folders):
        if not path.is_file():
            continue
        if not _intact(path, archive, on_progress):
            raise BinsegError(
                f"{path}: damaged or incomplete, its MD5 is not {archive.md5}; delete it, or "
                f"rename it to {archive.name}.part to go on from it, and run this again"
            )
        return path
    return None


def fetch(archive: Archive, folder: Path, on_progress: OnProgress) -> Path:
    """Download an archive into `folder`, going on where an earlier call was interrupted.

    The bytes gather in NAME.part; only what has the right MD5 gets the archive's name. A connection
    that is cut is opened again for as long as each one brings something.

    Raises:
        BinsegError: no network, no space, or the server gives another file.
    """
    part = folder / f"{archive.name}.part"
    try:
        _transfer(archive, part, on_progress)
    except (OSError, http.client.HTTPException) as error:
        raise by_hand(archive, folder, _reason(error)) from error
    if not _intact(part, archive, on_progress):
        part.unlink()
        raise BinsegError(
            f"{archive.url}: gave another file than the published one, its MD5 is not "
            f"{archive.md5}; it is deleted, run this again or get it elsewhere into {folder}"
        )
    return part.rename(folder / archive.name)


def by_hand(archive: Archive, folder: Path, reason: str) -> BinsegError:
    """Says which file is missing and how a person gets it into `folder`."""
    kept = _size(folder / f"{archive.name}.part")
    here = f"{kept / 1e6:,.0f} MB of it are here and kept" if kept else "missing"
    return BinsegError(
        f"{folder / archive.name}: {here}, and {archive.url} was not fetched ({reason}); run this "
        f"again with a network, or get the file elsewhere and put it into {folder}"
    )


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse what the disk cannot hold.

    Raises:
        BinsegError: fewer than `needed` bytes are free where `folder` is.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BinsegError(
            f"{folder}: {purpose} takes {needed / 1e9:.2f} GB more and {free / 1e9:.2f} GB are "
            "free; free some or choose another --root"
        )


@contextmanager
def alone(home: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep a second call out of `home`; the system lets go of the lock however this one ends.

    Args:
        home: folder that is filled; made if missing.
        wait: until the other call has ended; else refuse.

    Raises:
        BinsegError: there is another call, or `home` cannot be written.
    """
    import fcntl

    lock = home / ".preparing"
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise BinsegError(
            f"{lock}: cannot be written ({error.strerror}); choose another --root"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise BinsegError(
                f"{home}: another `binseg data prepare` is at work there; wait for it or end it"
            ) from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _intact(path: Path, archive: Archive, on_progress: OnProgress) -> bool:
    from torchvision.datasets.utils import check_integrity

    on_progress(f"checking {archive.name}", 0, None)
    return check_integrity(path, archive.md5)


def _transfer(archive: Archive, part: Path, on_progress: OnProgress) -> None:
    """Append to `part` what it lacks, over as many connections as it takes."""
    whole = False
    while not whole:
        before = _size(part)
        try:
            whole = _receive(archive, part, on_progress)
        except (OSError, http.client.HTTPException):
            if _size(part) <= before:
                raise
        if not whole and _size(part) <= before:
            raise ConnectionError("the connection breaks at the same place each time")


def _receive(archive: Archive, part: Path, on_progress: OnProgress) -> bool:
    """One connection; True if the file has the length that the server announced."""
    offset = _size(part)
    headers = {"User-Agent": "binseg"}  # some servers turn urllib's own away
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(archive.url, headers=headers), timeout=_SILENCE
        )
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # there is nothing after what we have; the MD5 says whether it is right
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0  # this server cannot continue, it sends everything
        total = None if response.length is None else offset + response.length
        if total is not None:
            # what it unpacks to is about as large: images hardly compress
            check_space(part.parent, 2 * total - offset, f"{archive.name}, packed and unpacked,")
        done = _write(response, part, offset, lambda done: on_progress(archive.name, done, total))
    return total is None or done >= total


def _write(
    response: http.client.HTTPResponse, part: Path, done: int, on_progress: Callable[[int], None]
) -> int:
    """Bytes in `part` after what the connection brings."""
    try:
        with part.open("ab" if done else "wb") as file:
            on_progress(done)
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                on_progress(done)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise BinsegError(
            f"{part}: no space left on the disk; free some and run this again, it goes on there"
        ) from error
    return done


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
