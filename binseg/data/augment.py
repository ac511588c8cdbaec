"""Random changes of training pictures, the same in every process.

Hue is changed by albumentations, all else here: albumentations 2.0.8 draws the same in every
loader worker, and its `set_random_seed` gives all steps of a pipeline one seed. Here everything is
drawn from a generator of the sample's own (seed, epoch, index): batches do not depend on the number
of workers, and a resumed run draws what the first one would have drawn.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from binseg.data.degrade import blurred, gamma_corrected, jpeg_compressed, noisy
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
        gamma: gamma correction by a power between 1 / (1 + this) and 1 + this, 0 to 4.
        blur: probability of a Gaussian blur, 0 to 1.
        blur_sigma: its largest deviation, in pixels.
        noise: probability of Gaussian sensor noise, 0 to 1.
        noise_sigma: its largest deviation, in grey levels of 0 to 255.
        jpeg: probability of a JPEG compression, 0 to 1.
        jpeg_quality: its lowest quality, 1 to 90; the highest is 90.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    blur_sigma: float = 1.5
    noise: float = 0.0
    noise_sigma: float = 20.0
    jpeg: float = 0.0
    jpeg_quality: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise BinsegError(
                f"augment: scale_min {self.scale_min} and scale_max {self.scale_max} must be "
                "above 0 and in this order"
            )
        bounds: dict[str, tuple[float, float]] = {
            "hue": (0, 0.5),
            "gamma": (0, 4),
            "blur_sigma": (_LEAST_BLUR, 100),
            "noise_sigma": (0, 255),
            "jpeg_quality": (1, _BEST_JPEG),
        }
        for field in fields(self)[2:]:
            value, (low, high) = getattr(self, field.name), bounds.get(field.name, (0, 1))
            if not low <= value <= high:
                raise BinsegError(f"augment: {field.name} {value} is not in {low} … {high}")


_LEAST_BLUR = 0.3  # pixels; less changes nothing
_BEST_JPEG = 90


class TrainTransform:
    """Random scale, crop, flip and changes of one sample's image; made by `train_transform`.

    The changes come in the order in which light meets them: lens, exposure and colour, sensor,
    file.
    """

    def __init__(self, config: AugmentConfig, crop: tuple[int, int], mean: Sequence[float]) -> None:
        self.config, self.crop = config, (crop[0], crop[1])
        red, green, blue = (round(255 * value) for value in mean)
        self.fill = red, green, blue
        self.strengths = Factors(config.brightness, config.contrast, config.saturation)
        self._hue = _hue(config)

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
        for change in (self._blurred, self._colored, self._degraded):
            image = change(image, generator)
        return image, labels

    def _blurred(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        config = self.config
        if generator.random() < config.blur:
            image = blurred(image, generator.uniform(_LEAST_BLUR, config.blur_sigma))
        return image

    def _colored(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        if any(self.strengths):
            image = jitter(image, random_factors(generator, self.strengths))
        if self.config.gamma:
            # even in its logarithm: as often twice as dark as twice as light
            most = np.log1p(self.config.gamma)
            image = gamma_corrected(image, float(np.exp(generator.uniform(-most, most))))
        if self._hue is not None:
            # two 64-bit words: one for its numpy generator, one for its `random.Random`
            first, second = generator.integers(2**63, size=2).tolist()
            self._hue.random_generator = np.random.Generator(np.random.PCG64(first))
            self._hue.py_random = random.Random(second)
            image = self._hue(image=image)["image"]
        return image

    def _degraded(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        config = self.config
        if generator.random() < config.noise:
            image = noisy(image, generator.uniform(0, config.noise_sigma), generator)
        if generator.random() < config.jpeg:
            quality = int(generator.integers(config.jpeg_quality, _BEST_JPEG, endpoint=True))
            image = jpeg_compressed(image, quality)
        return image

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


def _hue(config: AugmentConfig) -> Any:
    """albumentations' change of hue; None if it is not wanted."""
    if not config.hue:
        return None
    # else importing albumentations asks the network for a newer version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    return A.ColorJitter(brightness=0, contrast=0, saturation=0, hue=config.hue, p=1)


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
