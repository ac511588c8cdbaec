"""Brightness, contrast and saturation changed by one matrix."""

from typing import NamedTuple

import cv2
import numpy as np

_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as cv2 and Pillow turn RGB into grey


class Factors(NamedTuple):
    """By what brightness, contrast and saturation are multiplied; 1 changes nothing."""

    brightness: float
    contrast: float
    saturation: float


def random_factors(generator: np.random.Generator, strengths: Factors) -> Factors:
    """Each factor uniform in 1 ± its strength, strengths from 0 to 1."""
    brightness, contrast, saturation = generator.uniform(
        1 - np.asarray(strengths), 1 + np.asarray(strengths)
    ).tolist()
    return Factors(brightness, contrast, saturation)


def jitter(image: np.ndarray, factors: Factors) -> np.ndarray:
    """An image with brightness b, contrast c and saturation s changed.

        b · (c · (s · x + (1 − s) · grey(x)) + (1 − c) · mean of grey)

    This is torchvision's ColorJitter in whatever order of the three: they commute but for the
    clipping, which happens here once, at the end.

    Args:
        image: uint8 (H, W, 3) RGB; not changed.
        factors: ≥ 0.

    Returns:
        uint8 (H, W, 3), rounded and clipped to [0, 255].
    """
    brightness, contrast, saturation = factors
    mean = _GREY @ cv2.mean(image)[:3]
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _GREY)
    matrix[:, 3] = brightness * (1 - contrast) * mean
    return np.asarray(cv2.transform(image, matrix), np.uint8)
