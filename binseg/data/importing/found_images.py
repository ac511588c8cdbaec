"""Where the images of annotations are."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from binseg.data.image_files import IMAGE_SUFFIXES

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


class ImageIndex:
    """Finds images by the names that annotations give them.

    Args:
        folders: looked through with all their subfolders; links are not followed.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted({path for folder in folders for path in folder.rglob("*")}):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                self._by_name.setdefault(path.name.casefold(), []).append(path)
                self._by_stem.setdefault(path.stem.casefold(), []).append(path)

    def without(self, paths: Iterable[Path]) -> "ImageIndex":
        """The same without some files, masks for example."""
        gone = set(paths)
        smaller = ImageIndex([])
        for own, new in (
            (self._by_name, smaller._by_name),
            (self._by_stem, smaller._by_stem),
        ):
            for key, files in own.items():
                if kept := [path for path in files if path not in gone]:
                    new[key] = kept
        return smaller

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
        return found[0] if len(found) == 1 else None


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
