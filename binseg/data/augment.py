"""Random changes of training pictures, the same in every process.

Scale, crop, flip and the commonest changes of colour are made here, the rarer ones by
albumentations. albumentations 2.0.8 draws the same in every loader worker, and its
`set_random_seed` gives all steps of a pipeline one seed. Here everything is drawn from a generator
of the sample's own (seed, epoch, index): batches do not depend on the number of workers, and a
resumed run draws what the first one would have drawn.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from binseg.data.jitter import Factors, jitter, random_factors
from binseg.data.preprocess import IMAGENET_MEAN
from binseg.data.window import Window, cut, random_window
from binseg.errors import BinsegError


@dataclass
class AugmentConfig:
    """How training pictures are varied.

    Args:
        scale_min: smallest random magnification (factor on height and width).
        scale_max: largest random magnification (factor).
        flip: probability of a left-right flip, 0 to 1.
        brightness: colour jitter multiplies brightness by 1 ± this, 0 to 1.
        contrast: colour jitter multiplies contrast by 1 ± this, 0 to 1.
        saturation: colour jitter multiplies saturation by 1 ± this, 0 to 1.
        hue: colour jitter turns the hue by up to ± this share of the circle, 0 to 0.5; about
            doubles the time of a sample.
        blur: probability of a Gaussian blur, 0 to 1.
        noise: probability of Gaussian sensor noise, 0 to 1.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise BinsegError(
                f"augment: scale_min {self.scale_min} and scale_max {self.scale_max} must be "
                "above 0 and in this order"
            )
        bounds = {"hue": 0.5}
        for name in ("flip", "brightness", "contrast", "saturation", "hue", "blur", "noise"):
            if not 0 <= getattr(self, name) <= bounds.get(name, 1):
                raise BinsegError(
                    f"augment: {name} {getattr(self, name)} is not in 0 … {bounds.get(name, 1)}"
                )


class TrainTransform:
    """Random scale, crop, flip, colour jitter, blur and noise of one sample; made by
    `train_transform`."""

    def __init__(self, config: AugmentConfig, crop: tuple[int, int], mean: Sequence[float]) -> None:
        self.config, self.crop = config, (crop[0], crop[1])
        red, green, blue = (round(255 * value) for value in mean)
        self.fill = red, green, blue
        self.strengths = Factors(config.brightness, config.contrast, config.saturation)
        self._rest = _rest(config)

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """One random variant, fixed by `seed`.

        Args:
            image: uint8 (H, W, 3); not changed.
            labels: uint8 (H, W) train ids; not changed.
            seed: whole numbers ≥ 0, such as (seed, epoch, index).

        Returns:
            uint8 (h, w, 3) and uint8 (h, w) at the crop's size; pixels outside the picture have
            the mean colour and label 255.
        """
        generator = np.random.default_rng(seed)
        window, flipped = self._geometry(generator, (image.shape[0], image.shape[1]))
        image, labels = cut(image, labels, window, self.crop, self.fill)
        if flipped:
            image, labels = cv2.flip(image, 1), cv2.flip(labels, 1)
        if any(self.strengths):
            image = jitter(image, random_factors(generator, self.strengths))
        if self._rest is not None:
            # two 64-bit words a step: one for its numpy generator, one for its `random.Random`
            words = generator.integers(2**63, size=(len(self._rest.transforms), 2)).tolist()
            for step, (first, second) in zip(self._rest.transforms, words, strict=True):
                step.random_generator = np.random.Generator(np.random.PCG64(first))
                step.py_random = random.Random(second)
            image = self._rest(image=image)["image"]
        return image, labels

    def geometry(self, size: tuple[int, int], seed: Sequence[int]) -> tuple[Window, bool]:
        """What the variant of `seed` shows of a picture of (height, width) pixels, and whether it
        is then mirrored."""
        return self._geometry(np.random.default_rng(seed), size)

    def _geometry(
        self, generator: np.random.Generator, size: tuple[int, int]
    ) -> tuple[Window, bool]:
        # the first draws of a variant, so that they can be had without the rest
        config = self.config
        window = random_window(generator, size, self.crop, config.scale_min, config.scale_max)
        return window, bool(generator.random() < config.flip)


def _rest(config: AugmentConfig) -> Any:
    """albumentations' pipeline for hue, blur and noise; None if none of them is wanted."""
    if not (config.hue or config.blur or config.noise):
        return None
    # else importing albumentations asks the network for a newer version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    steps: list[Any] = []
    if config.hue:
        steps.append(A.ColorJitter(brightness=0, contrast=0, saturation=0, hue=config.hue, p=1))
    if config.blur:
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=config.blur))
    if config.noise:
        steps.append(A.GaussNoise(std_range=(0.01, 0.06), p=config.noise))
    return A.Compose(steps)


def train_transform(
    config: AugmentConfig, crop: tuple[int, int], mean: Sequence[float] = IMAGENET_MEAN
) -> TrainTransform:
    """The training augmentation.

    Args:
        config: strengths and probabilities.
        crop: (height, width) of the result, in pixels.
        mean: mean colour on a scale from 0 to 1, for the pixels outside the picture.

    Raises:
        BinsegError: a crop below one pixel.
    """
    if min(crop) < 1:
        raise BinsegError(f"augment: crop {crop[0]} × {crop[1]} must be at least 1 × 1")
    return TrainTransform(config, crop, mean)
