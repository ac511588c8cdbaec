"""The folder that `binseg predict` writes into: names for outputs, and records of what is done.

Several runs may write into one folder, one after the other, and each may be killed. So the folder
remembers which image each output was made from: `predictions.jsonl` has a line for each image that
is done; while a run goes on, and after one that was killed, a hidden file has a line for each that
was made.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binseg.atomic import atomic_path
from binseg.errors import BinsegError

RECORDS = "predictions.jsonl"
BEGUN = ".binseg.begun"

ENDINGS = (".png", "_overlay.jpg")
"""What an image's name gets for the class ids, and for the overlay."""

_NAME_BYTES = 255  # where the disk does not say


@dataclass
class _Made:
    """What an image's outputs are called, and what they were made with and from."""

    name: str
    made_with: str
    made_from: list[int]


class PredictionFolder:
    """A folder of predictions, with all that earlier runs have left in it.

    Args:
        folder: made if it is missing.
        settings: what decides what the outputs look like; with others an image is not done.

    Raises:
        BinsegError: the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._made: dict[str, _Made] = {}  # by the image's absolute path
        self._done: set[str] = set()  # names
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._read()
        except OSError as error:
            raise _cannot_be_written(folder, error) from error

    # --- what there is ------------------------------------------------------------------------

    def _read(self) -> None:
        for _, record in _lines(self.folder / RECORDS):
            name, path = _name_in(record), record.get("path", record.get("file"))
            if name is not None and isinstance(path, str):
                made = _Made(name, record.get("made_with", ""), record.get("made_from", []))
                self._made[_absolute(path)] = made
                self._done.add(name)
        for _, record in _lines(self.folder / BEGUN):
            with contextlib.suppress(KeyError, TypeError):
                made = _Made(record["name"], record["made_with"], record["made_from"])
                if Path(made.name).name != made.name:
                    continue  # not from here
                if self._made.get(record["path"]) != made:
                    self._made[record["path"]] = made
                    self._done.discard(made.name)  # begun anew

    def without_outputs(self, images: Iterable[Path]) -> tuple[list[Path], list[Path]]:
        """Images, and those among them that earlier runs have written here."""
        outputs = self._outputs() - {None}
        images = list(images)
        own = [path for path in images if _identity(path) in outputs] if outputs else []
        left = set(own)
        return [path for path in images if path not in left], own

    def _outputs(self) -> set[tuple[int, int] | None]:
        return {_identity(path) for made in self._made.values() for path in self.paths(made.name)}

    def is_done(self, image: Path, *, overlay: bool) -> bool:
        """Whether an earlier run has finished this image, as it is now, with these settings."""
        made = self._made.get(_absolute(image))
        return (
            made is not None
            and made.made_with == self._settings
            and made.made_from == _stamp(image)
            and made.name in self._done
            and all(path.is_file() for path in self.paths(made.name)[: 2 if overlay else 1])
        )

    def names(self, images: Sequence[Path]) -> dict[Path, str]:
        """A name for each image's outputs: its stem, or stem_2, stem_3, … where that is taken.

        An image keeps the name that it had in an earlier run. A name is taken by another image of
        this or an earlier run (letter case ignored: some disks do), or if there is a file of that
        name which no run has written here, one of the images, for example, or somebody's own
        masks. A name that is too long for the disk is cut.
        """
        identities = {_identity(path) for path in images} - {None}
        longest = _longest_name(self.folder) - max(map(len, ENDINGS))
        names: dict[Path, str] = {}
        taken = {made.name.lower() for made in self._made.values()}
        for path in images:
            made = self._made.get(_absolute(path))
            if made is not None and identities.isdisjoint(map(_identity, self.paths(made.name))):
                names[path] = made.name
                continue
            name, number = _cut(path.stem, "", longest), 1
            while name.lower() in taken or any(map(os.path.lexists, self.paths(name))):
                number += 1
                name = _cut(path.stem, f"_{number}", longest)
            taken.add(name.lower())
            names[path] = name
        return names

    def paths(self, name: str) -> list[Path]:
        """Where an image's class ids and its overlay go."""
        return [self.folder / f"{name}{ending}" for ending in ENDINGS]

    # --- what is added ------------------------------------------------------------------------

    def begin(self, image: Path, name: str) -> None:
        """Remember whose the outputs are, before they are written."""
        path, made = _absolute(image), _Made(name, self._settings, _stamp(image))
        if self._made.get(path) != made:
            self._made[path] = made
            self._append(BEGUN, {"path": path, **vars(made)})

    def finish(self, image: Path, record: Mapping[str, Any]) -> bytes:
        """Add a line to `predictions.jsonl`; returns it.

        Args:
            image: that was begun.
            record: what there is to say of it; where it lies, and what its outputs were made with
                and from, is added.
        """
        path = _absolute(image)
        made = self._made[path]
        self._done.add(made.name)
        return self._append(
            RECORDS,
            {**record, "path": path, "made_with": made.made_with, "made_from": made.made_from},
        )

    def _append(self, name: str, record: Mapping[str, Any]) -> bytes:
        """One write for a line, so that a killed run leaves whole lines and several processes do
        not mix theirs."""
        line = as_json(record)
        path = self.folder / name
        try:
            with path.open("ab", buffering=0) as file:
                # after a line that was torn when the machine went down
                torn = file.tell() and not _ends_with_newline(path)
                file.write(b"\n" + line if torn else line)
        except OSError as error:
            raise _cannot_be_written(path, error) from error
        return line

    def tidy(self) -> None:
        """Drop lines about outputs that a later line describes anew, or that there are none of."""
        path = self.folder / RECORDS
        lines = [(line, _name_in(record)) for line, record in _lines(path, damaged=True)]
        last = {name: place for place, (_, name) in enumerate(lines) if name is not None}
        kept = [
            line for place, (line, name) in enumerate(lines) if name is None or last[name] == place
        ]
        if len(kept) < len(lines):
            with atomic_path(path) as temporary:
                temporary.write_bytes(b"".join(kept))
        names = {record.get("name") for _, record in _lines(self.folder / BEGUN)}
        unfinished = [name for name in names if isinstance(name, str) and name not in last]
        if not any(path.exists() for name in unfinished for path in self.paths(name)):
            (self.folder / BEGUN).unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Raise BinsegError if nothing can be written here, whatever its name."""
        path = self.folder / ".binseg.probe"
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"x" * 4096)
        path.unlink(missing_ok=True)


def as_json(record: Mapping[str, Any]) -> bytes:
    """A record as one line of JSON."""
    # bytes of a file's name that are no UTF-8 become \udc…, which JSON reads as what they were
    text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")


def _lines(path: Path, *, damaged: bool = False) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of a file and what they say; none if there is no file.

    Args:
        damaged: keep lines that say nothing, as {}.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for line in content.splitlines(keepends=True):
        record: Any = None
        with contextlib.suppress(ValueError):
            record = json.loads(line)
        if isinstance(record, dict) or damaged:
            found.append((line, record if isinstance(record, dict) else {}))
    return found


def _name_in(record: Mapping[str, Any]) -> str | None:
    """The name of the outputs that a record lists."""
    with contextlib.suppress(KeyError, IndexError, TypeError):
        return Path(record["outputs"][0]).stem
    return None


def _absolute(path: str | Path) -> str:
    """The path from the root on; links stay, as two of them are two images."""
    return os.path.abspath(path)  # noqa: PTH100


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file from another, whatever path leads to it; None for a missing file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp(path: Path) -> list[int]:
    """What changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


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


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _cannot_be_written(path: Path, error: OSError) -> BinsegError:
    return BinsegError(f"{path}: cannot be written ({error.strerror or error})")
