"""Histograms of 8-bit ids: what every score begins with, at the speed of reading the pixels."""

from collections.abc import Iterator, Sequence

import numpy as np

_STRIP = 1 << 24
"""Pixels counted at once: OpenCV gives its counts as float32, exact up to here."""


def count_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often each pair of ids stands at one place.

    Args:
        first: uint8, of any shape.
        second: uint8, of the same shape.

    Returns:
        int64 (256, 256); rows are the ids of `first`, columns those of `second`.
    """
    total = np.zeros((256, 256), np.int64)
    for strip in _strips(first.size):
        parts = [ids.reshape(1, -1)[:, strip] for ids in (first, second)]
        total += _histogram(parts, None).astype(np.int64)
    return total


def count_ids(ids: np.ndarray, where: np.ndarray) -> np.ndarray:
    """How often each id stands where `where` holds.

    Args:
        ids: uint8, of any shape.
        where: bool, of the same shape.

    Returns:
        int64 (256,).
    """
    total = np.zeros(256, np.int64)
    for strip in _strips(ids.size):
        mask = where.reshape(1, -1)[:, strip].view(np.uint8)
        found = _histogram([ids.reshape(1, -1)[:, strip]], mask)
        total += found.reshape(-1).astype(np.int64)  # OpenCV 4 has a second axis
    return total


def _histogram(parts: Sequence[np.ndarray], mask: np.ndarray | None) -> np.ndarray:
    import cv2

    count = len(parts)
    return cv2.calcHist(parts, list(range(count)), mask, [256] * count, [0, 256] * count)


def _strips(size: int) -> Iterator[slice]:
    return (slice(start, start + _STRIP) for start in range(0, size, _STRIP))
