"""Finding image files: which are there, and which files are left out and why.

Everything that takes "a folder of images" looks here: `predict`, `pack`, data sets. A file is told
by its ending, and where that is unknown by its first bytes. What is left out is returned with the
reason, for the caller to report; only hidden files, and files that plainly are no images (texts,
tables, annotations, by their endings), are passed over.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from binseg.data.image_formats import READ_FORMATS, format_of, read_head
from binseg.errors import BinsegError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Endings of files that are taken for images without a look into them."""

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
"""Endings of formats that keep class ids exactly."""

_RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
)
"""Raw files of cameras; most begin as TIFF does and would show their small preview."""

_OTHER_SUFFIXES = (
    *(".txt", ".md", ".rst", ".log", ".html", ".htm", ".doc", ".docx", ".odt", ".rtf"),
    *(".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".names", ".lst"),
    *(".csv", ".tsv", ".xls", ".xlsx", ".parquet", ".db", ".sqlite"),
    *(".py", ".ipynb", ".sh", ".m", ".mat", ".pkl", ".pth", ".pt", ".safetensors"),
    # beside georeferenced images
    *(".jgw", ".pgw", ".tfw", ".bpw", ".wld", ".prj", ".ovr", ".xmp"),
)
_OTHER_NAMES = ("thumbs.db", "desktop.ini", "readme", "license", "makefile", "checksums")

LeftOut = tuple[Path, str]
"""A file or folder that is not read, and why, in words that follow "left out:"."""


@dataclass(frozen=True)
class FoundImages:
    """What `find_images` found.

    Attributes:
        images: files to read, sorted by name.
        left_out: files, links and folders that may hold images and are not read, with the reason;
            report them (`left_out_lines`).
        others: files that plainly are no images: texts, tables, annotations.
    """

    images: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def find_images(path: str | Path, *, recursive: bool = False) -> FoundImages:
    """The images that a file, a folder or a pattern names.

    A file stays as it is, whatever its ending. A folder gives the images directly in it; a folder
    in it that holds images is left out, unless `recursive`. A pattern (`*`, `?`, `[…]`, `**`)
    gives the images that it matches.

    Args:
        path: file, folder or pattern; a name that exists is no pattern.
        recursive: look into folders of folders, through links too.

    Raises:
        BinsegError: there is no such file or folder, it cannot be listed, or there is nothing in
            it or matched by it, not even something to leave out.
    """
    path = Path(path).expanduser()
    found = FoundImages()
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise BinsegError(f"{path}: cannot be read ({error.strerror or error})") from error
    if is_folder:
        found = images_in(path, recursive=recursive)
        if not found.images and not found.left_out:
            raise BinsegError(
                f"{path}: no images in this folder; it needs files ending in "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )
    elif exists:
        found.images.append(path)
    else:
        for name in sorted(glob.glob(os.fspath(path), recursive=True)):  # noqa: PTH207 (absolute)
            if not ("**" in path.parts and Path(name).is_dir()):  # ** matches folders by the way
                _sort_in(Path(name), found, None)
        if not found.images and not found.left_out:
            raise BinsegError(f"{path}: no such file or folder, and no image matches it")
    return found


def images_in(folder: Path, *, recursive: bool = False) -> FoundImages:
    """`find_images` of a folder, which may have none.

    Raises:
        BinsegError: it cannot be listed.
    """
    found = FoundImages()
    entered = {os.path.realpath(folder)} if recursive else None
    for entry in _entries(folder):
        _sort_in(entry, found, entered)
    return found


def find_all_images(paths: Iterable[str | Path]) -> FoundImages:
    """`find_images` of several files, folders and patterns; what is named twice comes once.

    Raises:
        BinsegError: as `find_images`, for the first that gives nothing.
    """
    images: dict[Path, None] = {}
    left_out: dict[Path, str] = {}
    others: dict[Path, None] = {}
    for path in paths:
        found = find_images(path)
        images.update(dict.fromkeys(found.images))
        left_out.update(found.left_out)
        others.update(dict.fromkeys(found.others))
    return FoundImages(list(images), list(left_out.items()), list(others))


def left_out_lines(left_out: Sequence[LeftOut], shown: int = 3) -> list[str]:
    """One line for each reason: how many files, the first of them by name, and the reason."""
    by_reason: dict[str, list[Path]] = {}
    for path, reason in left_out:
        by_reason.setdefault(reason, []).append(path)
    lines = []
    for reason, paths in by_reason.items():
        names = ", ".join(str(path) for path in paths[:shown])
        more = f" and {len(paths) - shown:,} more" if len(paths) > shown else ""
        count = f"{len(paths):,} left out" if len(paths) > 1 else "left out"
        lines.append(f"{names}{more}: {count}: {reason}")
    return lines


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image without a look into it."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (".png" has none)


def take_image(path: str, found: FoundImages) -> bool:
    """Whether a file is an image to read; puts others where they belong in `found`.

    For listings by others, of a million files: those told by their names cost one look.
    """
    name = os.path.basename(path)  # noqa: PTH119
    if name.startswith("."):
        return False
    if is_image_name(name) and os.path.isfile(path):  # noqa: PTH113
        return True
    before = len(found.images)
    _sort_in(Path(path), found, None)
    return len(found.images) > before


def _entries(folder: Path) -> list[Path]:
    """What is directly in a folder, sorted, without hidden files.

    Raises:
        BinsegError: it cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise BinsegError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def _sort_in(path: Path, found: FoundImages, entered: set[str] | None) -> None:
    """Put `path` where it belongs.

    Args:
        path: a file or folder.
        found: where to.
        entered: folders looked into so far, by their real paths (links may go in circles); None:
            folders are left out.
    """
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        found.left_out.append((path, f"cannot be read ({error.strerror or error})"))
        return
    if is_folder:
        _sort_in_folder(path, found, entered)
        return
    if not is_file:
        found.left_out.append((path, _what_is_no_file(path)))
        return
    suffix = path.suffix.lower()
    if suffix in _RAW_SUFFIXES:
        found.left_out.append((path, "a camera's raw file; save it as JPEG, PNG or TIFF"))
    elif is_image_name(path.name):
        found.images.append(path)
    elif suffix in _OTHER_SUFFIXES or path.name.lower() in _OTHER_NAMES:
        found.others.append(path)
    elif (reason := why_not_read(path)) is None:
        found.images.append(path)
    else:
        found.left_out.append((path, reason))


def _sort_in_folder(path: Path, found: FoundImages, entered: set[str] | None) -> None:
    if entered is None:
        if _holds_images(path):
            found.left_out.append((path, "a folder with images in it; name it as well"))
        return
    real = os.path.realpath(path)
    if real in entered:
        found.left_out.append((path, "a link to a folder that was looked into before"))
        return
    entered.add(real)
    try:
        entries = _entries(path)
    except BinsegError as error:
        found.left_out.append((path, str(error).removeprefix(f"{path}: ")))
        return
    for entry in entries:
        _sort_in(entry, found, entered)


def _what_is_no_file(path: Path) -> str:
    if path.is_symlink():
        try:
            return f"a link to {path.readlink()}, which does not exist"
        except OSError:
            return "a link that cannot be followed"
    return "not a regular file"


def why_not_read(path: Path) -> str | None:
    """Why the content of a file is no image that binseg reads; None if it begins as one."""
    try:
        head = read_head(path)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    name = format_of(head)
    if name in READ_FORMATS:
        return None
    if name is not None:
        kind = name.rsplit(" ", 1)[-1]
        remedy = {"archive": "unpack it", "video": "take images out of it"}
        return (
            f"{name}, which binseg does not read; {remedy.get(kind, 'convert it to JPEG or PNG')}"
        )
    if not head:
        return "an empty file"
    return f"not a format that binseg reads ({', '.join(READ_FORMATS)})"


def _holds_images(folder: Path) -> bool:
    return any(is_image_name(name) for name in _names_below(folder))


def _names_below(folder: Path) -> Iterator[str]:
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (name for name in files if not name.startswith("."))
