"""What `binseg predict` writes for an image: its class ids, perhaps an overlay, and their names.

Each output carries a mark of the image that it was made from. So a file says by itself whether it
may be replaced and whether it is one of binseg's, whoever asks, in however many processes and on
however many machines, and nobody keeps a list.
"""

import contextlib
import hashlib
import io
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from binseg.atomic import MARK, TakenError, atomic_path
from binseg.data.imageio import mask_image
from binseg.data.labels import Color
from binseg.errors import BinsegError

MASK, OVERLAY = ".png", "_overlay.jpg"
"""What an image's name gets for the class ids, and for the overlay."""

_KEY = "binseg-source"
_HEAD = 4096  # bytes in which a mark is looked for
_NAME_BYTES = 255  # where the disk does not say
_NUMBERED = 9
_LEFTOVER = re.compile(rf"\..*{MARK}[a-z0-9_]{{8}}\.(png|jpg|webm)")


class Outputs:
    """A folder that outputs are written into.

    Args:
        folder: made if it is missing.

    Raises:
        BinsegError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asked: str | None = None  # whose real path is known
        self._asked_real = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._real = os.path.realpath(folder)
            self._longest = _longest_name(folder) - len(OVERLAY)
        except OSError as error:
            raise BinsegError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another place"
            ) from error

    def has_written(self, path: str) -> bool:
        """Whether a file is one of the outputs in this folder."""
        folder = os.path.dirname(path)  # noqa: PTH120 (a million of them)
        if folder != self._asked:
            self._asked, self._asked_real = folder, os.path.realpath(folder)
        return self._asked_real == self._real and _mark_in(Path(path)) is not None

    def write(
        self,
        image: str,
        class_map: np.ndarray,
        palette: Sequence[Color],
        overlay: np.ndarray | None,
    ) -> list[Path]:
        """Write an image's outputs, all or none.

        They are called as the image is: NAME.png and NAME_overlay.jpg; or NAME_2, NAME_3, … where
        there is such a file that was not made from this image.

        Args:
            image: its path.
            class_map: HW uint8 class ids.
            palette: RGB colour by class id.
            overlay: HWC uint8 RGB, or None.

        Returns:
            The files.

        Raises:
            BinsegError: they cannot be written.
        """
        mark = _mark(image)
        files = [(MASK, _as_png(class_map, palette, mark))]
        if overlay is not None:
            files.append((OVERLAY, _as_jpeg(overlay, mark)))
        for name in self._names(image, mark):
            written: list[Path] = []
            try:
                for ending, content in files:
                    path = self.folder / f"{name}{ending}"
                    with atomic_path(path, lambda old: _mark_in(old) == mark) as temporary:
                        temporary.write_bytes(content)
                    written.append(path)
            except BaseException as error:
                for path in written:
                    path.unlink(missing_ok=True)
                if isinstance(error, TakenError):
                    continue
                raise
            return written
        raise BinsegError(f"{image}: all names for its outputs are taken; choose another --out")

    def path_of(self, source: str, ending: str) -> Path:
        """A name that no file has, for one output that is not an image."""
        stem = _cut(Path(source).stem or "camera", "", self._longest)
        names = (stem, *(f"{stem}_{number}" for number in range(2, 10_000)))
        free = (self.folder / f"{name}{ending}" for name in names)
        return next(path for path in free if not os.path.lexists(path))

    def remove_leftovers(self, seconds: float) -> None:
        """Remove temporary files of killed runs that are older than this."""
        oldest = time.time() - seconds
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not _LEFTOVER.fullmatch(entry.name):
                    continue
                with contextlib.suppress(OSError):  # somebody else was faster
                    if entry.stat().st_mtime <= oldest:
                        os.unlink(entry)  # noqa: PTH108

    def check_writable(self) -> None:
        """Raise BinsegError if nothing can be written here, whatever its name."""
        path = self.folder / ".binseg.probe"
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"x" * 4096)
        path.unlink(missing_ok=True)

    def _names(self, image: str, mark: str) -> Iterator[str]:
        """Names for an image's outputs; a name that is too long for the disk is cut."""
        stem = Path(image).stem
        tails = ["", *(f"_{number}" for number in range(2, _NUMBERED + 1)), f"_{mark[:10]}"]
        for tail in tails:
            yield _cut(stem, tail, self._longest)


def _mark(image: str) -> str:
    path = os.path.abspath(image)  # noqa: PTH100 (links stay: two of them are two images)
    return hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()


def _mark_in(path: Path) -> str | None:
    """The mark that a file carries; None if it has none, or is no file."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    _, found, rest = head.partition(_KEY.encode())
    return rest[1:17].decode("ascii", "replace") if found else None


def _as_png(class_map: np.ndarray, palette: Sequence[Color], mark: str) -> bytes:
    notes = PngInfo()
    notes.add_text(_KEY, mark)
    buffer = io.BytesIO()
    # less than half the time of the usual level; a mask of 1920 × 1080 takes 30 kB and not 20
    mask_image(class_map, palette).save(buffer, "PNG", pnginfo=notes, compress_level=3)
    return buffer.getvalue()


def _as_jpeg(overlay: np.ndarray, mark: str) -> bytes:
    buffer = io.BytesIO()
    comment = f"{_KEY}:{mark}".encode()
    Image.fromarray(overlay).save(buffer, "JPEG", quality=95, subsampling=0, comment=comment)
    return buffer.getvalue()


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _NAME_BYTES


def _cut(stem: str, tail: str, longest: int) -> str:
    """stem + tail in at most `longest` bytes; the stem's end gives way."""
    while len(os.fsencode(stem + tail)) > longest:
        stem = stem[:-1]
    return stem + tail
