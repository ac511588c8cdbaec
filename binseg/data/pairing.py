"""Which mask belongs to which image, by their names.

Names are compared as composed Unicode (NFC), so that lists and archives made on a Mac fit. Equal
names win; other spellings that tools and people use are read where only one reading is possible.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from binseg.data.image_files import MASK_SUFFIXES, LeftOut

_MASK_WORDS = (
    *("mask", "masks", "label", "labels", "labelids", "labeltrainids", "gt", "gtfine", "gtcoarse"),
    *("groundtruth", "seg", "segm", "segmentation", "annotation", "annot", "ann", "lab", "target"),
)
_IMAGE_WORDS = ("image", "img", "rgb", "photo", "input", "leftimg8bit")
_SEPARATORS = r"[_\-. ]+"
_HINTS = 10  # images without a mask that are told the nearest name


class KeyedFile:
    """A file with the name that it is found by.

    Attributes:
        path: of the file.
        key: its path below the folder that it is looked for in, without ending, like `city/p00`;
            composed Unicode.
    """

    __slots__ = ("key", "path")

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key


def key_below(path: Path, folder: Path) -> str:
    """`KeyedFile.key` of a file below `folder`."""
    return composed(without_ending(path.relative_to(folder).as_posix()))


def without_ending(name: str) -> str:
    """A file's name without its ending; `scan.0001` has none."""
    return _ENDING.sub("", name)


_ENDING = re.compile(r"(?<=[^/])\.[A-Za-z][A-Za-z0-9]{0,4}$")


def composed(name: str) -> str:
    """A name in the form that names are compared in."""
    return unicodedata.normalize("NFC", name)


@dataclass
class Pairing:
    """Images and their masks.

    Attributes:
        masks: image → its mask.
        problems: image → why it has none, one line.
        left_out: masks without an image, and such beside a better one.
        example: an image and a mask whose names differ, if any do.
    """

    masks: dict[Path, Path] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    example: tuple[Path, Path] | None = None


def pair_up(
    images: Sequence[KeyedFile],
    masks: Sequence[KeyedFile],
    images_at: Path,
    masks_at: Path,
    given: Mapping[Path, Path] | None = None,
) -> Pairing:
    """Find the mask of each image.

    In this order, each for all images before the next: equal names; the image's whole file name
    (`a.jpg.png`); equal but for letter case; words for what the file is left away (`a_mask`,
    `mask-a` to `a` or `a_image`); the same name in another folder.

    Args:
        images: to find masks for.
        masks: to choose from.
        images_at: folder of the images, for messages.
        masks_at: folder of the masks, for messages.
        given: pairs that somebody wrote down; they go first.
    """
    found = Pairing(dict(given or {}))
    taken = set(found.masks.values())
    free = [mask for mask in masks if mask.path not in taken]
    waiting = [image for image in _distinct_images(images, found) if image.path not in found.masks]
    for image_key, mask_key in _ROUNDS:
        if not waiting:
            break
        waiting, free = _round(found, waiting, free, image_key, mask_key)
    for place, image in enumerate(waiting):
        # a look for the nearest of thousands of names takes its time
        near = free if place < _HINTS else ()
        found.problems[image.path] = _missing(image, near, images_at, masks_at)
    own = {image.key for image in images}  # theirs may be free because another was written down
    found.left_out += [
        (mask.path, "a mask without an image") for mask in free if mask.key not in own
    ]
    return found


def _distinct_images(images: Sequence[KeyedFile], found: Pairing) -> list[KeyedFile]:
    """The images but for those that share a name, which become problems."""
    single = []
    for same in _by(images, lambda image: image.key).values():
        if len(same) == 1:
            single.append(same[0])
            continue
        names = " and ".join(image.path.name for image in same)
        for image in same:
            found.problems[image.path] = (
                f"{same[0].path.parent}: {names} share one name; rename one"
            )
    return single


def _round(
    found: Pairing,
    images: list[KeyedFile],
    masks: list[KeyedFile],
    image_key: "_Key",
    mask_key: "_Key",
) -> tuple[list[KeyedFile], list[KeyedFile]]:
    """Pair what one rule pairs; returns the images and masks that are left."""
    by_mask = _by(masks, mask_key)
    by_image = _by(images, image_key)
    waiting = []
    used: set[Path] = set()
    for key, wanting in by_image.items():
        candidates = by_mask.get(key, [])
        if not candidates:
            waiting += wanting
            continue
        used.update(mask.path for mask in candidates)
        best = _exact_formats(candidates)
        if len(wanting) > 1:
            text = f"{best[0].path}: could be the mask of {_names(wanting)}; name it like its image"
        elif len(best) > 1:
            text = f"{best[0].path.parent}: {_names(best)} are masks of one image; delete one"
        else:
            _join(found, wanting[0], best[0])
            found.left_out += [
                (
                    mask.path,
                    f"another mask of the same image, in a format that alters class ids, "
                    f"beside {best[0].path.name}",
                )
                for mask in candidates
                if mask is not best[0]
            ]
            continue
        found.problems.update((image.path, text) for image in wanting)
    return waiting, [mask for mask in masks if mask.path not in used]


def _join(found: Pairing, image: KeyedFile, mask: KeyedFile) -> None:
    found.masks[image.path] = mask.path
    if found.example is None and image.key != mask.key:
        found.example = image.path, mask.path


def _exact_formats(masks: list[KeyedFile]) -> list[KeyedFile]:
    """Those that keep class ids; all, if none does."""
    return [mask for mask in masks if mask.path.suffix.lower() in MASK_SUFFIXES] or masks


def _missing(image: KeyedFile, masks: Sequence[KeyedFile], images_at: Path, masks_at: Path) -> str:
    near = difflib.get_close_matches(image.key, [mask.key for mask in masks], n=1, cutoff=0.6)
    hints = [f" ({mask.path.name} is there)" for mask in masks if mask.key in near]
    place = image.path.relative_to(images_at) if images_at in image.path.parents else image.path
    return (
        f"{image.path}: its mask {masks_at / place.with_suffix('.png')} is missing"
        f"{hints[0] if hints else ''}; add it or remove the image"
    )


_Key = Callable[[KeyedFile], str]


def _by(files: Iterable[KeyedFile], key: _Key) -> dict[str, list[KeyedFile]]:
    found: dict[str, list[KeyedFile]] = {}
    for file in files:
        found.setdefault(key(file), []).append(file)
    return found


def _names(files: Sequence[KeyedFile]) -> str:
    return " and ".join(file.path.name for file in files)


def _key(file: KeyedFile) -> str:
    return file.key


def _whole_name(file: KeyedFile) -> str:
    return f"{file.key}{composed(file.path.suffix)}"


def _folded(file: KeyedFile) -> str:
    return file.key.casefold()


def _stripper(words: Iterable[str]) -> _Key:
    """A key without words that say what kind of file it is, at either end of the name."""
    word = "|".join(sorted(words, key=len, reverse=True))
    begin = re.compile(rf"^(?:{word}){_SEPARATORS}(?=.)")
    end = re.compile(rf"(?<=.){_SEPARATORS}(?:{word})$")

    def key(file: KeyedFile) -> str:
        path = PurePosixPath(file.key.casefold())
        name, before = path.name, ""
        while name != before:
            name, before = end.sub("", begin.sub("", name)), name
        return str(path.with_name(name))

    return key


image_core = _stripper(_IMAGE_WORDS)
"""An image's key without the words `image`, `img`, …"""

mask_core = _stripper((*_MASK_WORDS, "l"))
"""A mask's key without the words `mask`, `label`, …, and CamVid's `L`."""


def _in_any_folder(key: _Key) -> _Key:
    return lambda file: PurePosixPath(key(file)).name


_ROUNDS: tuple[tuple[_Key, _Key], ...] = (
    (_key, _key),
    (_whole_name, _key),
    (_folded, _folded),
    (image_core, mask_core),
    (_in_any_folder(_folded), _in_any_folder(_folded)),
    (_in_any_folder(image_core), _in_any_folder(mask_core)),
)
