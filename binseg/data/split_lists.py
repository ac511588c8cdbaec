"""Lists of a split's images, as many tools and people write them.

A line names an image, with or without folders and ending, or an image and its mask. `#` begins a
remark, unless it is part of a name. Lists are UTF-8 or UTF-16, with or without a byte order mark;
names in another coding are found by their bytes.
"""

import codecs
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from binseg.data.image_files import is_image_name
from binseg.data.pairing import KeyedFile, composed, without_ending
from binseg.errors import BinsegError

_HINTS = 10  # lines that are told the nearest name


@dataclass
class ListedImages:
    """What a list names.

    Attributes:
        images: in the list's order.
        masks: image → the mask that the line names with it.
        faults: lines that name nothing, or something twice.
    """

    images: list[Path] = field(default_factory=list)
    masks: dict[Path, Path] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class NameIndex:
    """Finds files by what people write for them.

    Args:
        files: to be found, by keys below their own folder.
        root: names may also begin at this folder.
    """

    def __init__(self, files: Sequence[KeyedFile], root: Path) -> None:
        self._exact: dict[str, list[Path]] = {}
        self._keys: dict[str, list[Path]] = {}
        self._folded: dict[str, list[Path]] = {}
        self._stems: dict[str, list[Path]] = {}
        for file in files:
            below_root = composed(file.path.relative_to(root).as_posix())
            names = {below_root, f"{file.key}{composed(file.path.suffix)}"}
            keys = {without_ending(below_root), file.key}
            for table, entries in (
                (self._exact, names),
                (self._keys, keys),
                (self._folded, {name.casefold() for name in names | keys}),
                (self._stems, {PurePosixPath(file.key).name}),
            ):
                for entry in entries:
                    table.setdefault(entry, []).append(file.path)

    def find(self, text: str, *, elsewhere: bool = False) -> list[Path]:
        """The files that `text` names: one; several if the name fits all of them; or none.

        Args:
            text: a name, perhaps with folders and ending.
            elsewhere: it may begin with folders that are not here: of a list made elsewhere.
        """
        for name in _spellings(text):
            parts = [part for part in PurePosixPath(_slashes(name)).parts if part not in ("/", ".")]
            for start in range(len(parts) if elsewhere else min(1, len(parts))):
                if found := self._find("/".join(parts[start:])):
                    return found
            if len(parts) == 1 and (found := self._in_any_folder(parts[0])):
                return found
        return []

    def near(self, text: str) -> str | None:
        """The name that is most like `text`."""
        stem = PurePosixPath(without_ending(_slashes(text))).name
        return next(iter(difflib.get_close_matches(stem, self._stems, n=1, cutoff=0.7)), None)

    def _find(self, name: str) -> list[Path]:
        plain = _plain(name)
        for table, key in ((self._exact, name), (self._keys, name), (self._keys, plain)):
            if key in table:
                return table[key]
        for key in (name.casefold(), plain.casefold()):
            if len(found := self._folded.get(key, [])) == 1:
                return found
        return []

    def _in_any_folder(self, name: str) -> list[Path]:
        return self._stems.get(name) or self._stems.get(_plain(name)) or []


def _plain(name: str) -> str:
    return without_ending(name) if is_image_name(name) else name


def read_list(path: Path, images: NameIndex, masks: NameIndex, images_at: Path) -> ListedImages:
    """The images that a list names.

    Args:
        path: the list.
        images: to be named.
        masks: to be named beside an image.
        images_at: folder of the images, for messages.

    Raises:
        BinsegError: the list cannot be read, or is no text.
    """
    found = ListedImages()
    seen: set[Path] = set()
    for number, line in _lines(path):
        entry = _entry(line, images, masks)
        if entry is None:
            name = _without_remark(line)
            if not name:
                continue
            # a look for the nearest of thousands of names takes its time
            near = images.near(name) if len(found.faults) < _HINTS else None
            hint = f" (there is '{near}')" if near else ""
            found.faults.append(
                f"{path}: line {number}: no image '{_visible(name)}' in {images_at}{hint}; write "
                "one name a line, or an image and its mask"
            )
            continue
        files, mask = entry
        if len({without_ending(str(file)) for file in files}) > 1:
            listed = ", ".join(str(file) for file in files[:3])
            found.faults.append(
                f"{path}: line {number}: '{_visible(_without_remark(line))}' could be any of "
                f"{listed}; write the folder, too"
            )
            continue
        if isinstance(mask, str):
            found.faults.append(
                f"{path}: line {number}: no mask '{_visible(mask)}' for {files[0].name}; correct it"
            )
        elif seen.intersection(files):
            found.faults.append(
                f"{path}: line {number}: '{files[0].stem}' is listed twice; delete one"
            )
        else:
            found.images += files
            if mask is not None:
                found.masks[files[0]] = mask
        seen.update(files)
    return found


def _entry(
    line: str, images: NameIndex, masks: NameIndex
) -> tuple[list[Path], Path | str | None] | None:
    """The image of a line, and its mask if the line names one: a path, or a text that names none.
    None if no image is named."""
    texts = _texts(line)
    for text in texts:
        if files := images.find(text):
            return files, None
    unmasked = []
    for text in texts:
        for one, other in _halves(text):
            if len(files := images.find(one, elsewhere=True)) == 1:
                if len(found := masks.find(other, elsewhere=True)) == 1:
                    return files, found[0]
                unmasked.append((files, other))
    if unmasked:  # before "images/a.png images/b.png" is taken for b.png in a folder from elsewhere
        return unmasked[-1]
    for text in texts:
        if files := images.find(text, elsewhere=True):
            return files, None
    return None


def _texts(line: str) -> list[str]:
    """The line, and what is left of it if a remark begins at its last `#`, the one before, …"""
    remarks = [found.start() for found in re.finditer(r"(?:^|(?<=\s))#", line)]
    ends = [len(line), *reversed(remarks), line.find("#") if "#" in line else 0]
    return list(dict.fromkeys(text for end in ends if (text := line[:end].strip())))


def _halves(text: str) -> Iterator[tuple[str, str]]:
    """The two names of a line; names may have spaces in them."""
    for found in re.finditer(r"\s*[,;\t]\s*|\s+", text):
        one, other = text[: found.start()], text[found.end() :]
        if one and other:
            yield one, other


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty.

    Raises:
        BinsegError: it cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BinsegError(
            f"{path}: cannot be read ({error.strerror or error}); write one image's name a line"
        ) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")
    if "\0" in text:
        raise BinsegError(f"{path}: is no text; write one image's name a line")
    # not splitlines(): a name may hold the rarer separators
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if line.strip():
            yield number, line.strip()


def _without_remark(line: str) -> str:
    """The line up to a `#` at its beginning or after a space."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def _spellings(text: str) -> Iterable[str]:
    """A name as it may be written in the file system: unquoted, composed, in other codings."""
    yield composed(text)
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        yield composed(text[1:-1])
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        # the list is in Windows' coding, the file's name in UTF-8
        raw = text.encode("utf-8", errors="surrogateescape")
        yield composed(raw.decode("cp1252", errors="replace"))
    elif not text.isascii():
        # the other way round
        yield text.encode("cp1252", errors="replace").decode("utf-8", errors="surrogateescape")


def _slashes(text: str) -> str:
    return text.replace("\\", "/")


def _visible(text: str) -> str:
    """A name with its invisible letters written out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
