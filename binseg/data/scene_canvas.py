"""The camera, the canvas and the colours of the built-in street scenes.

Every part paints one shape twice with the same integer corners: its colour into the image, its
class into the label map. So labels are exact to the pixel. World axes: x to the right and z ahead
in metres on the ground, y up; a camera at x = z = 0 looks along z.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from binseg.data.labels import get_label_table

SKY, ROAD, PAVEMENT, BUILDING, TREE, CAR, PERSON, POLE = range(8)
assert get_label_table("scenes").names[POLE] == "pole"

Rgb = tuple[int, int, int]
World = tuple[float, float, float]

_LIMIT = 4000.0  # pixels; cv2 overflows on corners close before the camera


@dataclass(frozen=True)
class Camera:
    """Maps metres to pixels.

    Args:
        focal: pixels a metre has at one metre's distance.
        height: metres above the ground.
        center: pixel (x, y) straight ahead; y is the horizon.
        bend: curvature of the street in 1/m: a point at depth z moves sideways by bend · z².
        roll: tilt of the camera, as a slope.
    """

    focal: float
    height: float
    center: tuple[float, float]
    bend: float
    roll: float

    def __call__(self, x: float, y: float, z: float) -> tuple[int, int]:
        """Pixel of a world point; z > 0."""
        right = self.focal * (x / z + self.bend * z)
        px = self.center[0] + right
        py = self.center[1] + self.focal * (self.height - y) / z + self.roll * right
        if not (-_LIMIT < px < _LIMIT and -_LIMIT < py < _LIMIT):
            px, py = max(-_LIMIT, min(_LIMIT, px)), max(-_LIMIT, min(_LIMIT, py))
        return round(px), round(py)

    def many(self, points: np.ndarray) -> np.ndarray:
        """int32 (…, 2) pixels of float (…, 3) world points."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        right = self.focal * (x / z + self.bend * z)
        down = self.focal * (self.height - y) / z + self.roll * right
        pixels = np.stack([self.center[0] + right, self.center[1] + down], axis=-1)
        return np.rint(pixels.clip(-_LIMIT, _LIMIT)).astype(np.int32)


class Canvas:
    """An image and its label map, painted together.

    `image` is uint8 (H, W, 3) RGB, `labels` uint8 (H, W). A part painted with class None changes
    only the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.image = np.zeros((*size, 3), np.uint8)
        self.labels = np.zeros(size, np.uint8)

    def polygon(self, corners: Sequence[tuple[int, int]], color: Rgb, kind: int | None) -> None:
        points = [np.array(corners, np.int32)]
        cv2.fillPoly(self.image, points, color)
        if kind is not None:
            cv2.fillPoly(self.labels, points, kind)

    def hull(self, corners: Sequence[tuple[int, int]], color: Rgb, kind: int | None) -> None:
        points = cv2.convexHull(np.array(corners, np.int32))
        cv2.fillConvexPoly(self.image, points, color)
        if kind is not None:
            cv2.fillConvexPoly(self.labels, points, kind)

    def quads(self, corners: np.ndarray, color: Rgb) -> None:
        """Many polygons of one colour on what is there: int32 (n, corners, 2)."""
        cv2.fillPoly(self.image, list(corners), color)

    def line(
        self, start: tuple[int, int], end: tuple[int, int], color: Rgb, width: float, kind: int
    ) -> None:
        thickness = max(1, round(width))
        cv2.line(self.image, start, end, color, thickness)
        cv2.line(self.labels, start, end, kind, thickness)

    def ellipse(
        self, center: tuple[int, int], radii: tuple[float, float], color: Rgb, kind: int | None
    ) -> None:
        axes = max(1, round(radii[0])), max(1, round(radii[1]))
        cv2.ellipse(self.image, center, axes, 0, 0, 360, color, -1)
        if kind is not None:
            cv2.ellipse(self.labels, center, axes, 0, 0, 360, kind, -1)


def depths(near: float, far: float, count: int) -> list[float]:
    """`count` depths from near to far, each a fixed factor behind the last, so evenly apart as
    seen; corners between them follow the bend of the street."""
    factor = (far / near) ** (1 / (count - 1))
    return [near * factor**step for step in range(count)]


def shade(color: Sequence[float], factor: float) -> Rgb:
    """A colour made lighter or darker."""
    red, green, blue = color
    return (
        min(255, int(red * factor)),
        min(255, int(green * factor)),
        min(255, int(blue * factor)),
    )


def pick(rng: np.random.Generator, colors: Sequence[Rgb], spread: float = 0.25) -> Rgb:
    """One of `colors`, a little off in brightness and hue."""
    # one call for all numbers: these are small, and calls are what costs
    which, bright, warm, tint = rng.random(4).tolist()
    red, green, blue = colors[int(which * len(colors))]
    warm, tint = 0.07 * (2 * warm - 1), 0.05 * (2 * tint - 1)
    mixed = red * (1 + warm), green * (1 + tint), blue * (1 - warm)
    return shade(mixed, 1 + spread * (2 * bright - 1))


FACADES: tuple[Rgb, ...] = (
    *((150, 78, 62), (196, 170, 132), (196, 188, 176), (128, 126, 124), (168, 104, 84)),
    *((212, 196, 152), (168, 118, 92), (104, 96, 92), (166, 160, 156), (156, 150, 132)),
)
PAINTS: tuple[Rgb, ...] = (
    *((28, 28, 32), (70, 72, 78), (170, 172, 176), (226, 226, 228), (150, 24, 28)),
    *((28, 52, 110), (60, 90, 70), (206, 170, 60), (110, 80, 60)),
)
CLOTHES: tuple[Rgb, ...] = (
    *((32, 34, 42), (60, 66, 90), (170, 40, 44), (210, 206, 198), (60, 110, 70)),
    *((212, 168, 50), (120, 120, 124), (130, 80, 130), (84, 62, 48)),
)
SKINS: tuple[Rgb, ...] = ((232, 190, 160), (196, 146, 110), (140, 96, 70), (92, 62, 46))
LEAVES: tuple[Rgb, ...] = (
    *((58, 92, 40), (86, 112, 48), (44, 70, 42), (116, 128, 58), (72, 104, 60), (150, 120, 44)),
)
BARK: tuple[Rgb, ...] = ((78, 62, 48), (96, 86, 76), (54, 46, 40))
METAL: tuple[Rgb, ...] = (
    (70, 74, 76),
    (130, 134, 136),
    (40, 46, 44),
    (176, 178, 178),
    (90, 70, 54),
)
