"""Where the images of annotations are."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from binseg.data.image_files import LeftOut, images_in
from binseg.data.importing.source import Notes

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


class ImageIndex:
    """Finds images by the names that annotations give them.

    Args:
        folders: looked through with all their subfolders, see `image_files.find_images`.

    Attributes:
        paths: of all images, sorted.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        paths: set[Path] = set()
        left_out: dict[Path, str] = {}
        for folder in folders:
            found = images_in(folder, recursive=True)
            paths.update(found.images)
            left_out.update(found.left_out)
        self._left_out: list[LeftOut] = list(left_out.items())
        self._used: set[Path] = set()
        self._index(paths)

    def _index(self, paths: Iterable[Path]) -> None:
        self.paths = sorted(paths)
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name.casefold(), []).append(path)
            self._by_stem.setdefault(path.stem.casefold(), []).append(path)

    def remove(self, paths: Iterable[Path]) -> None:
        """Leave some files out, masks for example."""
        gone = set(paths)
        self._index(path for path in self.paths if path not in gone)

    def note_left_out(self, notes: Notes) -> None:
        """Say which files are no images that binseg reads."""
        for path, reason in self._left_out:
            notes.add(f"files left out: {reason}", path.name)

    def note_unused(self, notes: Notes) -> None:
        """Say which images beside the annotations nothing has asked for."""
        for path in self.paths:
            if path not in self._used:
                notes.add("images without annotations: left out", path.name)

    def find(self, name: str, *, near: Path | None = None) -> Path | None:
        """The image that `name` (a path of any system, a URL, a bare name) means.

        The one whose last folders are those of `name` is preferred, then one in `near` or in a
        folder beside it; None where none fits or several do equally well.
        """
        parts = _parts(name)
        if not parts:
            return None
        last = parts[-1].casefold()
        found = self._by_name.get(last) or self._by_stem.get(last) or []
        if not found and _UPLOAD_PREFIX.match(last):
            found = self._by_name.get(_UPLOAD_PREFIX.sub("", last)) or []
        if not found:
            found = self._by_stem.get(PurePosixPath(last).stem, [])
        if len(found) > 1:
            scores = [(_common_end(path.parts[:-1], parts[:-1]), path) for path in found]
            most = max(score for score, _ in scores)
            found = [path for score, path in scores if score == most]
        if len(found) > 1 and near is not None:
            found = [path for path in found if path.parent == near] or found
        if len(found) != 1:
            return None
        self._used.add(found[0])
        return found[0]


def _parts(name: str) -> tuple[str, ...]:
    path = PureWindowsPath(name.split("?", 1)[0])  # knows both kinds of slashes
    return tuple(part for part in path.parts if part not in ("..", ".", path.anchor))


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count
