"""The folder of uploads and answers: what of it may be named, how full it gets, how old its files.

Gradio keeps both in one folder, each file in a subfolder that is called after its content.
"""

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from binseg.errors import BinsegError

LARGEST_FILE = 40 * 2**20
"""Bytes of an upload."""

MOST_TOGETHER = 2**29
"""Bytes of all uploads and answers together."""

KEPT_SECONDS = 1800
"""Since a file was last used."""

NEEDED_SECONDS = 120
"""Since a file was last used; where room is needed, older ones go."""

EXAMPLES = "examples"
"""A subfolder whose files stay."""

_PREFIX = "binseg-demo-"
_SWEEP_EVERY = 120.0
_NAME_BYTES = 120


@cache
def upload_folder() -> "UploadFolder":
    """The process's own, which is deleted when it ends. One for all pages of a process, because
    gradio looks at its environment variable at each upload."""
    path = _own_folder() / "files"
    path.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(path)
    # temporary files may lie in memory
    folder = UploadFolder(path, most=min(MOST_TOGETHER, shutil.disk_usage(path).free // 2))
    threading.Thread(target=_sweep_for_ever, args=[folder], name="demo-sweep", daemon=True).start()
    return folder


def work_folder() -> Path:
    """For files that are being made; no client can name them."""
    path = _own_folder() / "work"
    path.mkdir(exist_ok=True)
    return path


def packed_folder() -> Path:
    """For float models that the demo packed."""
    path = _own_folder() / "packed"
    path.mkdir(exist_ok=True)
    return path


@cache
def _own_folder() -> Path:
    """The process's folder, locked as long as the process lives; others' old ones are deleted."""
    remove_abandoned(Path(tempfile.gettempdir()))
    path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    _lock(path)
    return path


def remove_abandoned(parent: Path, seconds: float = KEPT_SECONDS) -> None:
    """Delete the folders that demos left which were killed: this user's, with nobody's lock on
    them, and so old that no demo can just be about to lock one."""
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            about = path.lstat()
            is_own = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
            if not is_own or time.time() - about.st_mtime < seconds:
                continue
            handle = _lock(path)
        except OSError:  # gone meanwhile, or a disk without locks
            continue
        if handle is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """A handle that keeps the lock of a folder until it is closed; None if another process has it.

    Raises:
        OSError: it cannot be opened, or the disk knows no locks.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle


class UploadFolder:
    """Files that clients may name, because they were uploaded or made for them.

    Args:
        path: the folder.
        most: bytes that its files may have together.
        needed_seconds: age from which a file may go where room is needed.

    Attributes:
        path: the folder, with all links resolved.
    """

    def __init__(
        self, path: Path, *, most: int = MOST_TOGETHER, needed_seconds: float = NEEDED_SECONDS
    ) -> None:
        self.path = path.resolve()
        self._most = most
        self._needed_seconds = needed_seconds
        self._counting = threading.Lock()
        self._coming = 0

    def find(self, path: object) -> Path | None:
        """The file that a client names, which counts as used now; None if it may not name it.

        Whether there is a file at a place outside the folder shows neither in the answer nor in
        the time that it takes, for no such place is looked at.

        Args:
            path: what came in place of a path; of any type.
        """
        if not isinstance(path, str) or len(path) > 4096 or not path.isprintable():
            return None
        if not path.startswith(f"{self.path}{os.sep}") or os.path.normpath(path) != path:
            return None
        found = Path(path)
        try:
            if found.resolve(strict=True) != found or not found.is_file():
                return None
            os.utime(found)
        except OSError:
            return None
        return found

    def admit(self, size: int) -> bool:
        """Whether so many bytes more have room, if need be in place of files no longer needed.

        They count as coming until `arrived` is called with them.
        """
        with self._counting:
            if self._stored() + self._coming + size > self._most:
                self._sweep(self._needed_seconds, self._most - self._coming - size)
                if self._stored() + self._coming + size > self._most:
                    return False
            self._coming += size
            return True

    def arrived(self, size: int) -> None:
        """So many admitted bytes are stored, or have been given up."""
        with self._counting:
            self._coming -= size

    def sweep(self, seconds: float = KEPT_SECONDS) -> None:
        """Delete what was not used for so long, and folders that are empty since.

        Parts of uploads that were broken off are among it.
        """
        with self._counting:
            self._sweep(seconds, 0)

    def _sweep(self, seconds: float, enough: int) -> None:
        """Delete files of such an age, the oldest first, until at most `enough` bytes stay."""
        before = time.time() - seconds
        files = sorted(self._files(), key=lambda each: each[1])
        stored = sum(size for _, _, size in files)
        for path, used, size in files:
            if used > before or stored <= enough:
                break
            try:
                path.unlink()
                stored -= size
                if path.parent != self.path:
                    path.parent.rmdir()
            except OSError:
                pass  # gone already, or the folder holds more

    def _stored(self) -> int:
        """Bytes of the files in subfolders; what lies in the folder itself is still coming."""
        return sum(size for path, _, size in self._files() if path.parent != self.path)

    def _files(self) -> list[tuple[Path, float, int]]:
        """Path, time of the last use and bytes of each file but the examples."""
        found = []
        for top, folders, names in os.walk(self.path):
            if Path(top) == self.path and EXAMPLES in folders:
                folders.remove(EXAMPLES)
            for name in names:
                path = Path(top) / name
                try:
                    status = path.lstat()
                except OSError:
                    continue
                found.append((path, max(status.st_mtime, status.st_ctime), status.st_size))
        return found


def find_upload(value: object, what: str) -> tuple[Path, str]:
    """The uploaded file that a client means, and what it calls it.

    Args:
        value: what came: gradio's description of a file, of which "path" and "orig_name" count.
        what: "an image" or "a video", for the message.

    Returns:
        The path, which lies in the upload folder, and a name without folders, fit for a message
        and as the beginning of a file's name.

    Raises:
        BinsegError: it is none, or no file that was uploaded; the same words in each case.
    """
    named = value if isinstance(value, dict) else {}
    path = upload_folder().find(named.get("path"))
    if path is None:
        raise BinsegError(
            f"send {what}: upload the file and name what the upload answers "
            "(in Python: handle_file(PATH))"
        )
    called = named.get("orig_name")
    return path, _clean(called if isinstance(called, str) else "") or path.name


def _clean(name: str) -> str:
    """The last part of a name, in one short line."""
    last = name[-4 * _NAME_BYTES :].replace("\\", "/").rpartition("/")[2]
    shown = "".join(character for character in last if character.isprintable())
    stem, dot, ending = shown.strip(". ").rpartition(".")
    if not dot or len(ending) > 8:
        stem, dot, ending = shown.strip(". "), "", ""
    # letters of other scripts take several bytes, and surrogates cannot be written at all
    cut = stem.encode(errors="ignore")[: _NAME_BYTES - len(ending)].decode(errors="ignore")
    return f"{cut}{dot}{ending.encode(errors='ignore').decode()}"


def _sweep_for_ever(folder: UploadFolder) -> None:
    while True:
        time.sleep(_SWEEP_EVERY)
        folder.sweep()
