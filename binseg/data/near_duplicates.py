"""Images that are nearly the same, found by a perceptual hash.

Frames of one film, scaled or re-encoded copies and mirrored ones are no new evidence: if train has
them, a score on val says little. An image is reduced to 13 × 13 grey values; their differences to
the right and downwards are 288 numbers, whose signs are the hash (dHash, N. Krawetz, "Kind of Like
That", 2013, in both directions). Two images are near-duplicates if at most a quarter of the signs
differ and the differences themselves correlate with at least 0.7: flat images agree in their signs
by chance, but not in both.

These limits were tried on unrelated images: of 125 million pairs of Tiny-ImageNet images 5 pass,
none of 1.5 million of Cityscapes' train and val (other cities), none of 0.4 million of VOC animals.
Of 100 street and animal images all were found again after JPEG at quality 30, half the size, noise
(σ 20), blur (σ 2), another brightness, contrast or gamma, or with 2 % cut off at each side, and 81
with 5 % cut off; so are frames of CamVid's film up to about a fifth of a second apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 13
"""Thumbnails are SIDE × SIDE."""

_NUMBERS = 2 * (SIDE - 1) ** 2

_DIFFERING, _CORRELATION = 0.25, 0.7
_DIFFERING_ALIKE, _CORRELATION_ALIKE = 0.1, 0.95
_TYPICAL = 0.55  # of the median distance
_FEW = 20  # images below which nothing is typical
_SAMPLE = 1000
_CHUNK = 1024


class Limits(NamedTuple):
    """When two images count as nearly the same.

    Attributes:
        differing: largest share of signs that differ.
        correlation: smallest correlation of the differences.
        tightened: whether the images of the set are so much alike (one fixed camera, one organ)
            that the limits were moved.
    """

    differing: float = _DIFFERING
    correlation: float = _CORRELATION
    tightened: bool = False


def thumbnail(image: np.ndarray) -> np.ndarray:
    """What is kept of an image: float32 (13, 13), from uint8 (H, W, 3) RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def limits_of(thumbnails: np.ndarray) -> Limits:
    """The limits for a set of images: tighter where unrelated ones are alike in general.

    Args:
        thumbnails: (N, 13, 13) of all splits.
    """
    count = len(thumbnails)
    if count < _FEW:
        return Limits()
    chosen = _Features(thumbnails[np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)])
    others = ~np.eye(len(chosen.signs), dtype=bool)
    differing = _TYPICAL * np.median(_differing(chosen, chosen)[others])
    decorrelated = _TYPICAL * (1 - np.median(_correlation(chosen, chosen)[others]))
    found = Limits(
        float(np.clip(differing, _DIFFERING_ALIKE, _DIFFERING)),
        float(np.clip(1 - decorrelated, _CORRELATION, _CORRELATION_ALIKE)),
    )
    return found._replace(tightened=found.differing < 0.8 * _DIFFERING)


def nearest_duplicates(
    first: np.ndarray, second: np.ndarray, limits: Limits, *, mirrored: bool = True
) -> np.ndarray:
    """For each image of `second`, the image of `first` that it nearly is.

    Args:
        first: thumbnails (N, 13, 13).
        second: thumbnails (M, 13, 13).
        limits: see `Limits`.
        mirrored: also compare with the mirrored images of `second`.

    Returns:
        int64 (M,): the place in `first` of the most similar near-duplicate, −1 if there is none.
    """
    best = np.full(len(second), -1, np.int64)
    similar = np.full(len(second), -np.inf, np.float32)
    views = [_Features(second)] + [_Features(second[:, :, ::-1])] * mirrored
    features = _Features(first)
    for start in range(0, len(first), _CHUNK):
        some = features.part(start)
        for view in views:
            near = _similarity(some, view, limits)
            places = near.argmax(axis=0)
            values = near[places, np.arange(len(second))]
            better = values > similar
            best[better] = start + places[better]
            similar[better] = values[better]
    return best


def distinct_views(thumbnails: np.ndarray, limits: Limits) -> int:
    """How many groups the images fall into if near-duplicates, and theirs in turn, are one group.

    Args:
        thumbnails: (N, 13, 13); N bits are kept for each.
        limits: see `Limits`.
    """
    features = _Features(thumbnails)
    count = len(thumbnails)
    near = [
        np.packbits(np.isfinite(_similarity(features.part(start), features, limits)), axis=1)
        for start in range(0, count, _CHUNK)
    ]
    waiting = np.ones(count, bool)
    groups = 0
    for first in range(count):
        if not waiting[first]:
            continue
        groups += 1
        waiting[first] = False
        reached = [first]
        while reached:
            one = reached.pop()
            row = np.unpackbits(near[one // _CHUNK][one % _CHUNK], count=count)
            found = np.flatnonzero(row.astype(bool) & waiting)
            waiting[found] = False
            reached.extend(found.tolist())
    return groups


class _Features:
    """Differences of thumbnails: `signs` ±1 and `values` of unit length, float32 (N, 288)."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        right = thumbnails[:, :-1, 1:] - thumbnails[:, :-1, :-1]
        down = thumbnails[:, 1:, :-1] - thumbnails[:, :-1, :-1]
        values = np.stack([right, down], axis=1).reshape(len(thumbnails), _NUMBERS)
        self.signs = np.where(values > 0, np.float32(1), np.float32(-1))
        self.values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3)

    def part(self, start: int) -> "_Features":
        """The `_CHUNK` from `start` on."""
        some = object.__new__(_Features)
        some.signs = self.signs[start : start + _CHUNK]
        some.values = self.values[start : start + _CHUNK]
        return some


def _differing(first: _Features, second: _Features) -> np.ndarray:
    return (1 - first.signs @ second.signs.T / first.signs.shape[1]) / 2


def _correlation(first: _Features, second: _Features) -> np.ndarray:
    return first.values @ second.values.T


def _similarity(first: _Features, second: _Features, limits: Limits) -> np.ndarray:
    """float32 (N, M): the correlation of near-duplicates, −inf for other pairs."""
    correlation = _correlation(first, second)
    near = correlation >= limits.correlation
    if near.any():
        near &= _differing(first, second) <= limits.differing
    return np.where(near, correlation, np.float32(-np.inf))


def stacked(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """float32 (N, 13, 13) of N thumbnails, also of none."""
    return np.stack(thumbnails) if thumbnails else np.zeros((0, SIDE, SIDE), np.float32)
