"""Regions to a mask of class ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from binseg.data.importing.source import Overlap, Region
from binseg.data.labels import IGNORE

_FINE = 5
"""Rows and columns of the grid that polygons are filled on, for each of the mask's."""
_SHIFT = 4
"""Bits after the point of the coordinates that OpenCV fills with."""
_FARTHEST = float(1 << 26)


@dataclass(frozen=True)
class Painted:
    """A mask, and what became of its pixels.

    Attributes:
        mask: uint8 (H, W) class ids, 255 ignored.
        uncovered: pixels that no region holds.
        overlapping: pixels that regions of different classes hold.
    """

    mask: np.ndarray
    uncovered: int
    overlapping: int


def paint(
    regions: Sequence[Region],
    ids: Mapping[str, int],
    size: tuple[int, int],
    *,
    fill: int,
    overlap: Overlap,
) -> Painted:
    """Paint regions one over the other.

    Args:
        regions: in the order of the file.
        ids: class id by label; regions of other labels are left out.
        size: (height, width) of the mask.
        fill: id of the pixels that no region holds.
        overlap: "later": in the order given; "smaller": the largest first. Regions that are
            ignored lie below all others.
    """
    covers = [
        (ids[region.label], region.ignored, inside(region, size))
        for region in regions
        if region.label in ids
    ]
    if overlap == "smaller":
        covers.sort(key=lambda cover: -int(cover[2].sum()))
    covers.sort(key=lambda cover: not cover[1])
    mask = np.full(size, fill, np.uint8)
    covered = np.zeros(size, np.bool_)
    overlapping = np.zeros(size, np.bool_)
    for id_, ignored, cover in covers:
        value = IGNORE if ignored else id_
        overlapping |= covered & cover & (mask != value)
        mask[cover] = value
        covered |= cover
    return Painted(mask, int((~covered).sum()), int(overlapping.sum()))


def inside(region: Region, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W): the pixels of a region; with several rings the even-odd rule, so that a ring
    inside another is a hole."""
    if region.bitmap is not None:
        return region.bitmap
    cover = np.zeros(size, np.bool_)
    rings = [ring for ring in region.rings if len(ring) >= 3]
    if not rings:
        return cover
    points = np.concatenate(rings)
    if not np.isfinite(points).all():
        raise ValueError("a polygon with a corner at infinity")
    height, width = size
    left, top = np.floor(points.min(axis=0)).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).clip(0, (width, height)).astype(int)
    if left >= right or top >= bottom:
        return cover
    # OpenCV fills the pixels that an outline touches, too: on a grid so much finer that hardly
    # shows, and of each pixel only the centre counts
    fine = np.zeros(((bottom - top) * _FINE, (right - left) * _FINE), np.uint8)
    corners = [
        np.rint(
            (((ring - (left, top)) * _FINE).clip(-_FARTHEST, _FARTHEST) - 0.5) * (1 << _SHIFT)
        ).astype(np.int32)
        for ring in rings
    ]
    cv2.fillPoly(fine, corners, (1,), shift=_SHIFT)
    middle = _FINE // 2
    cover[top:bottom, left:right] = fine[middle::_FINE, middle::_FINE].astype(np.bool_)
    return cover
