"""The images that files, folders and patterns name, found anew at each pass.

A pass holds the names of one folder at a time, so that there may be millions.
"""

import fnmatch
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from binseg.data.image_files import IMAGE_SUFFIXES, FoundImages, take_image
from binseg.errors import BinsegError
from binseg.prediction.records import Shard

_SHOWN = 3  # files that are named for each reason


@dataclass
class Found:
    """What a first pass found.

    Attributes:
        count: images, of all shards.
        mine: images of this shard.
        outputs: files that earlier runs have written, which are no images here.
        digest: the same for the same images in the same order.
        lines: what is left out and why, for people.
        left_out: how many files are, and inputs that give nothing.
    """

    count: int = 0
    mine: int = 0
    outputs: int = 0
    digest: str = ""
    lines: list[str] = field(default_factory=list)
    left_out: int = 0


class Inputs:
    """What a person wants to have segmented.

    Args:
        patterns: files, folders and patterns (`*`, `?`, `[…]`, `**`).
        is_output: whether a file was written by binseg; asked of what is found in folders and by
            patterns.
    """

    def __init__(self, patterns: Sequence[str], is_output: Callable[[str], bool]) -> None:
        self._patterns = [str(Path(each).expanduser()) for each in patterns]
        self._is_output = is_output

    def look(self, shard: Shard) -> Found:
        """Pass over all of them."""
        found, digest = Found(), hashlib.sha256()
        reasons: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        for path, reason in self._pass():
            if reason is None:
                found.count += 1
                found.mine += shard.has(path)
                digest.update(os.fsencode(path) + b"\0")
            elif reason == _OUTPUT:
                found.outputs += 1
            elif reason == _FAULT:
                found.left_out += 1
                found.lines.append(f"skipped {path}")
            else:
                found.left_out += 1
                counts[reason] = counts.get(reason, 0) + 1
                named = reasons.setdefault(reason, [])
                if len(named) < _SHOWN:
                    named.append(path)
        for reason, named in reasons.items():
            more = counts[reason] - len(named)
            names = f"{', '.join(named)}{f' and {more:,} more' if more else ''}"
            count = f"{counts[reason]:,} left out" if counts[reason] > 1 else "left out"
            found.lines.append(f"{names}: {count}: {reason}")
        found.digest = digest.hexdigest()[:32]
        return found

    def images(self, shard: Shard) -> Iterator[str]:
        """The images of a shard; each pass in the same order, and each image once."""
        return (path for path, reason in self._pass() if reason is None and shard.has(path))

    def _pass(self) -> Iterator[tuple[str, str | None]]:
        """Paths; with a reason if they are left out."""
        seen: set[bytes] | None = set() if len(self._patterns) > 1 else None
        for pattern in self._patterns:
            any_found = False
            for path, reason in _expanded(pattern):
                any_found = True
                if seen is not None:
                    key = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
                    if key in seen:
                        continue
                    seen.add(key)
                if reason is None and path != pattern and self._is_output(path):
                    reason = _OUTPUT
                yield path, reason
            if not any_found:
                what = "no such file or folder, and no image matches it"
                if os.path.isdir(pattern):  # noqa: PTH112
                    endings = ", ".join(IMAGE_SUFFIXES)
                    what = f"no images in this folder; it needs files ending in {endings}"
                yield f"{pattern}: {what}", _FAULT


_OUTPUT, _FAULT = "an output", "a fault"


def _expanded(pattern: str) -> Iterator[tuple[str, str | None]]:
    if os.path.isdir(pattern):  # noqa: PTH112
        yield from _images_among(sorted(_names(pattern)), pattern)
    elif os.path.lexists(pattern):
        yield pattern, None
    elif glob.has_magic(pattern):
        first, *parts = Path(pattern).parts
        if Path(first).is_absolute():
            yield from _matching(first, parts, ())
        else:
            yield from _matching("", [first, *parts], ())


def _matching(
    folder: str, parts: Sequence[str], above: tuple[str, ...]
) -> Iterator[tuple[str, str | None]]:
    """Images below a folder whose paths match the parts of a pattern, folder by folder."""
    part, *rest = parts
    if not glob.has_magic(part) and rest:
        yield from _matching(os.path.join(folder, part), rest, above)  # noqa: PTH118
        return
    recursive = part == "**"
    if recursive and rest:
        yield from _matching(folder, rest, above)
    names = sorted(_names(folder or "."))
    if not recursive and not part.startswith("."):
        names = [name for name in names if not name.startswith(".")]
    chosen = names if recursive else fnmatch.filter(names, part)
    if not rest:
        yield from _images_among(chosen, folder, folders=not recursive)
    if not rest and not recursive:
        return
    above = (*above, os.path.realpath(folder or "."))
    for name in chosen:
        path = os.path.join(folder, name)  # noqa: PTH118
        if not os.path.isdir(path) or (recursive and name.startswith(".")):  # noqa: PTH112
            continue
        if os.path.realpath(path) in above:
            yield path, "a link to a folder that it lies in"
            continue
        yield from _matching(path, parts if recursive else rest, above)


def _images_among(
    names: Sequence[str], folder: str, *, folders: bool = True
) -> Iterator[tuple[str, str | None]]:
    """Args: folders: name folders that hold images, too, as left out."""
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118
        if not folders and os.path.isdir(path):  # noqa: PTH112
            continue
        found = FoundImages()
        if take_image(path, found):
            yield path, None
        yield from ((str(left), reason) for left, reason in found.left_out)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BinsegError(f"{folder}: cannot be listed ({error.strerror or error})") from error
