"""The lines of JSON about images that are done, and which images they say are done.

One file a shard, which one process writes: `predictions.jsonl`, or
`predictions-00002-of-00016.jsonl`. To go on, all files in the folder are read, so that the number
of shards may change in between; what stays in memory of a line are 8 bytes.
"""

import array
import bisect
import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from binseg.atomic import atomic_path
from binseg.errors import BinsegError


@dataclass(frozen=True)
class Shard:
    """One of several parts of all images, by their paths: `index` of `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From "i/n", i from 0.

        Raises:
            BinsegError: something else.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not found or not int(found[1]) < int(found[2]):
            raise BinsegError(f"shard {text} must be i/n with i from 0 to n − 1, as in 0/16")
        return cls(int(found[1]), int(found[2]))

    def part(self, index: int, count: int) -> "Shard":
        """One of `count` parts of this one."""
        return Shard(self.index * count + index, self.count * count)

    def has(self, path: str) -> bool:
        """Whether an image belongs to it; what other images there are does not matter."""
        return self.count == 1 or _hashed(os.fsencode(path)) % self.count == self.index

    @property
    def records(self) -> str:
        """Name of its file of records."""
        if self.count == 1:
            return "predictions.jsonl"
        return f"predictions-{self.index:05}-of-{self.count:05}.jsonl"


@dataclass(frozen=True)
class Made:
    """What an image's outputs depend on.

    Attributes:
        made_with: of the model and the protocol.
        alpha: strength of the overlay's colours; None without an overlay.
    """

    made_with: str
    alpha: float | None

    def about(self, image: str) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "path": _absolute(image),
            "made_with": self.made_with,
            "made_from": _stamp(image),
            "alpha": self.alpha,
        }


class DoneImages:
    """The images that the records in a folder say are done.

    Args:
        folder: with files of records; a damaged line says nothing.
        shard: of its images the outputs must be there, too.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        keys = array.array("Q")
        for path in _files(folder):
            for _, record in _lines(path):
                with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
                    # of other shards' images nobody asks but by another spelling of their paths
                    if shard.has(record["file"]) and not all(map(_exists, record["outputs"])):
                        continue
                    keys.append(_key(record))
                    if record["alpha"] is not None:  # it has a mask as well
                        keys.append(_key({**record, "alpha": None}))
        self._keys = array.array("Q", sorted(keys))

    def has(self, image: str, made: Made) -> bool:
        """Whether the image, as it is now, has outputs like these."""
        key = _key(made.about(image))
        place = bisect.bisect_left(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key


class Records:
    """The file of a shard's records.

    Args:
        folder: where it lies.
        shard: whose it is.
        fresh: whether all images will be done anew, and not only those that are not done yet.

    Raises:
        BinsegError: the folder has records of another number of shards, which would stay beside
            the new ones; or they cannot be written.
    """

    def __init__(self, folder: Path, shard: Shard, *, fresh: bool) -> None:
        self.path = folder / shard.records
        others = [path.name for path in _files(folder) if not _same_count(path.name, shard)]
        if fresh and others:
            raise BinsegError(
                f"{folder}: holds {others[0]}, of another number of shards; go on with it by "
                "--continue, or choose another --out"
            )
        try:
            self._had_lines = self.path.exists() and self.path.stat().st_size > 0
            self._file = self.path.open("ab", buffering=0)
            if self._had_lines and not _ends_with_newline(self.path):
                self._file.write(b"\n")  # after a line that was torn when the machine went down
        except OSError as error:
            raise _cannot_be_written(self.path, error) from error

    def add(self, record: Mapping[str, Any]) -> bytes:
        """Add a line in one write, so that a killed run leaves whole ones; returns it.

        Raises:
            BinsegError: it cannot be written.
        """
        line = as_json(record)
        try:
            self._file.write(line)
        except OSError as error:
            raise _cannot_be_written(self.path, error) from error
        return line

    def close(self) -> None:
        """Drop damaged lines, and those about images that a later line describes anew."""
        self._file.close()
        if not self._had_lines:
            if not self.path.stat().st_size:
                self.path.unlink()
            return
        keys = np.fromiter((_path_key(record) for _, record in _lines(self.path)), np.uint64)
        _, backwards = np.unique(keys[::-1], return_index=True)
        kept = np.zeros(len(keys), bool)
        kept[len(keys) - 1 - backwards] = True
        if kept.all() and _count_lines(self.path) == len(keys):
            return
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            file.writelines(itertools.compress((line for line, _ in _lines(self.path)), kept))


def as_json(record: Mapping[str, Any]) -> bytes:
    """A record as one line of JSON."""
    # bytes of a file's name that are no UTF-8 become \udc…, which JSON reads as what they were
    text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")


def _files(folder: Path) -> list[Path]:
    pattern = r"predictions(-\d{5,}-of-\d{5,})?\.jsonl"
    return sorted(path for path in folder.glob("*.jsonl") if re.fullmatch(pattern, path.name))


def _same_count(name: str, shard: Shard) -> bool:
    found = re.search(r"-of-(\d+)", name)
    return (int(found[1]) if found else 1) == shard.count


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a file, and what they say."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            record: Any = None
            with contextlib.suppress(ValueError):
                record = json.loads(line)
            if isinstance(record, dict):
                yield line, record


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (a million of them)


def _key(record: Mapping[str, Any]) -> int:
    parts = [record[key] for key in ("path", "made_with", "made_from", "alpha")]
    return _hashed(json.dumps(parts).encode())


def _path_key(record: Mapping[str, Any]) -> int:
    # of a camera there may be several videos
    return _hashed(json.dumps(record.get("path", record.get("outputs"))).encode())


def _hashed(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def _absolute(path: str) -> str:
    """The path from the root on; links stay, as two of them are two images."""
    return os.path.abspath(path)  # noqa: PTH100


def _stamp(path: str) -> list[int]:
    """What changes when a file does."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _cannot_be_written(path: Path, error: OSError) -> BinsegError:
    return BinsegError(f"{path}: cannot be written ({error.strerror or error})")
