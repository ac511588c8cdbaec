"""Images that are the same, or nearly, in one split or in several."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from binseg.data.check_report import DatasetReport, Finding
from binseg.data.near_duplicates import (
    Limits,
    distinct_views,
    limits_of,
    nearest_duplicates,
    stacked,
)

SCORED = ("val", "test")
"""Splits that are scored; all others are trained on."""

_SHOWN_COPIES = 3
_SHOWN_PAIRS = 3
_FEW_VIEWS = 3  # images to one view from which on a split is called narrow
_ENOUGH = 8  # images below which that says nothing
_MOST = 20_000  # images of one split that are compared with one another


@dataclass
class SeenImages:
    """The images of one split that could be read.

    Attributes:
        paths: of the files.
        digests: of the pixels.
        thumbnails: float32 (13, 13) each.
    """

    paths: list[Path] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)

    def add(self, path: Path, digest: bytes, thumbnail: np.ndarray) -> None:
        self.paths.append(path)
        self.digests.append(digest)
        self.thumbnails.append(thumbnail)


def compare_images(report: DatasetReport, seen: Mapping[str, SeenImages], remedy: str) -> None:
    """Add to a report what is the same, or nearly the same.

    Args:
        report: gets faults, warnings and pairs of near-duplicates.
        seen: the images by split.
        remedy: what to do about near-duplicates of train in val.
    """
    report.faults += _repeated(seen)
    thumbnails = {split: stacked(images.thumbnails) for split, images in seen.items()}
    if not thumbnails:
        return
    limits = limits_of(np.concatenate(list(thumbnails.values())))
    # trained on first; what is merged is trained on, too
    order = sorted(seen, key=lambda split: split in SCORED)
    for first, second in combinations(order, 2):
        if second not in SCORED:
            continue
        pairs = _near(seen[first], seen[second], thumbnails[first], thumbnails[second], limits)
        if pairs:
            report.near_duplicates[first, second] = pairs
            text = _near_text(first, second, pairs, len(seen[second].paths), limits, remedy)
            report.warnings.append(Finding("near", text))
    for split in order:
        count = len(thumbnails[split])
        if split not in SCORED or not _ENOUGH <= count <= _MOST:
            continue
        views = distinct_views(thumbnails[split], limits)
        if count >= _FEW_VIEWS * views:
            text = (
                f"{split}: its {count:,} images show only {views:,} view{'s' * (views > 1)}, all "
                "others are nearly the same as one before (frames of a film?); a score on them "
                f"says little about other scenes: {remedy}"
            )
            report.warnings.append(Finding("views", text))


def _near(
    first: SeenImages,
    second: SeenImages,
    first_thumbnails: np.ndarray,
    second_thumbnails: np.ndarray,
    limits: Limits,
) -> list[tuple[Path, Path]]:
    """(image of `first`, image of `second`) that are nearly, but not quite, the same."""
    if not len(first_thumbnails) or not len(second_thumbnails):
        return []
    best = nearest_duplicates(first_thumbnails, second_thumbnails, limits)
    same = set(first.digests)
    return [
        (first.paths[place], second.paths[index])
        for index, place in enumerate(best.tolist())
        if place >= 0 and second.digests[index] not in same
    ]


def _near_text(
    first: str,
    second: str,
    pairs: Sequence[tuple[Path, Path]],
    count: int,
    limits: Limits,
    remedy: str,
) -> str:
    shown = "; ".join(f"{other} and {one}" for one, other in pairs[:_SHOWN_PAIRS])
    more = f"; and {len(pairs) - _SHOWN_PAIRS:,} more" if len(pairs) > _SHOWN_PAIRS else ""
    alike = " (the images of this set are much alike, some may be so by chance)"
    return (
        f"{second}: {len(pairs):,} of {count:,} images {'are' if len(pairs) > 1 else 'is'} nearly "
        f"the same as images of {first}{alike if limits.tightened else ''}, such as {shown}{more}; "
        f"{remedy}"
    )


class _Place(NamedTuple):
    split: str
    path: Path


def _repeated(seen: Mapping[str, SeenImages]) -> Iterator[Finding]:
    """Faults of images with equal pixels: one file in several lists, or several files."""
    places: dict[bytes, list[_Place]] = defaultdict(list)
    for split, images in seen.items():
        for path, digest in zip(images.paths, images.digests, strict=True):
            places[digest].append(_Place(split, path))
    shared: dict[tuple[str, str], list[Path]] = defaultdict(list)
    copies = []
    for group in places.values():
        listed = Counter(group)
        for place, times in listed.items():
            if times > 1:
                shared[place.split, place.split].append(place.path)
        for first, second in combinations(listed, 2):
            if first.path == second.path:
                shared[first.split, second.split].append(first.path)
        paths = list(dict.fromkeys(place.path for place in group))
        if len(paths) > 1:
            copies.append(_copy(paths))
    for (one, other), paths in shared.items():
        count = f"{len(paths):,} image{'s' if len(paths) > 1 else ''}"
        if one == other:
            yield Finding("shared", f"{one}: lists {count} twice, such as {paths[0]}; delete one")
        else:
            yield Finding(
                "shared",
                f"{one} and {other}: both list {count}, such as {paths[0]}; keep each in one, "
                "or the score is of images that were trained on",
            )
    yield from copies


def _copy(paths: Sequence[Path]) -> Finding:
    """The fault of different files that hold one image."""
    exact = len({_digest(path) for path in paths}) == 1
    others = ", ".join(str(path) for path in paths[1 : 1 + _SHOWN_COPIES])
    more = f" and {len(paths) - 1 - _SHOWN_COPIES} more" if len(paths) > 1 + _SHOWN_COPIES else ""
    how = "" if exact else " in another encoding"
    return Finding(
        "copy",
        f"{paths[0]}: the same image as {others}{more}{how}; keep one, or the score may be of "
        "images that were trained on",
    )


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
