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
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from binseg.data.degrade import blurred, gamma_corrected, jpeg_compressed, noisy
from binseg.data.jitter import Factors, jitter, random_factors
from binseg.data.labels import IGNORE
from binseg.data.pipeline import Pipeline
from binseg.data.preprocess import IMAGENET_MEAN
from binseg.data.turns import quarter_turned, rotated, with_hole
from binseg.data.window import Window, cut, moved_to, random_window
from binseg.errors import BinsegError


@dataclass
class AugmentConfig:
    """How training pictures are varied.

    Args:
        scale_min: smallest random magnification (factor on height and width).
        scale_max: largest random magnification (factor).
        flip: probability of a left-right flip, 0 to 1.
        flip_vertical: probability of an upside-down flip, 0 to 1.
        rotate90: probability of a turn by 90, 180 or 270 degrees, 0 to 1.
        rotate: largest turn of a crop about its centre to either side, in degrees, 0 to 45; the
            corners that it leaves empty are ignored.
        rare_every: in every n-th crop some pixel of a class that is rare in the training split,
            of those that the image has; 0: never.
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
        cutout: probability of a rectangle without image and label, 0 to 1.
        cutout_size: its largest height and width, as shares of the crop's.
        extra: file of a pipeline in albumentations' own serialization (`albumentations.save`),
            which changes the crops after all that is above.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    flip: float = 0.5
    flip_vertical: float = 0.0
    rotate90: float = 0.0
    rotate: float = 0.0
    rare_every: int = 0
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
    cutout: float = 0.0
    cutout_size: float = 0.5
    extra: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise BinsegError(
                f"augment: scale_min {self.scale_min} and scale_max {self.scale_max} must be "
                "above 0 and in this order"
            )
        bounds: dict[str, tuple[float, float]] = {
            "rotate": (0, 45),
            "rare_every": (0, 1000),
            "hue": (0, 0.5),
            "gamma": (0, 4),
            "blur_sigma": (_LEAST_BLUR, 100),
            "noise_sigma": (0, 255),
            "jpeg_quality": (1, _BEST_JPEG),
        }
        for field in fields(self)[2:-1]:
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

    def __init__(
        self,
        config: AugmentConfig,
        crop: tuple[int, int],
        mean: Sequence[float],
        pixels: np.ndarray | None = None,
    ) -> None:
        self.config, self.crop, self.pixels = config, (crop[0], crop[1]), pixels
        red, green, blue = (round(255 * value) for value in mean)
        self.fill = red, green, blue
        self.strengths = Factors(config.brightness, config.contrast, config.saturation)
        self._hue = _hue(config)
        self._extra = Pipeline(config.extra, self.crop) if config.extra else None

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """One random variant, fixed by `seed`.

        Args:
            image: uint8 (H, W, 3); not changed.
            labels: uint8 (H, W) train ids; not changed.
            seed: integers ≥ 0 such as (seed, epoch, index); the last two choose the crops with
                rare classes.

        Returns:
            uint8 (h, w, 3) and uint8 (h, w) at the crop's size; pixels outside the picture have
            the mean colour and label 255.
        """
        generator = np.random.default_rng(seed)
        window, flipped, turns = self._geometry(generator, (image.shape[0], image.shape[1]))
        every = self.config.rare_every
        if every and sum(seed[-2:]) % every == 0:
            window = self._with_rare_class(generator, window, labels)
        crop = self.crop if turns % 2 == 0 else self.crop[::-1]
        image, labels = cut(image, labels, window, crop, self.fill)
        if flipped:
            image, labels = cv2.flip(image, 1), cv2.flip(labels, 1)
        image, labels = self._turned(image, labels, turns, generator)
        for change in (self._blurred, self._colored, self._degraded):
            image = change(image, generator)
        if generator.random() < self.config.cutout:
            size = self.config.cutout_size
            image, labels = with_hole(image, labels, generator, size, self.fill)
        if self._extra is not None:
            image, labels = self._extra(image, labels, generator)
        return image, labels

    def _turned(
        self, image: np.ndarray, labels: np.ndarray, turns: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        image, labels = quarter_turned(image, labels, turns)
        # drawn only where asked for: what older configurations draw stays what it was
        if config.flip_vertical and generator.random() < config.flip_vertical:
            image, labels = cv2.flip(image, 0), cv2.flip(labels, 0)
        if config.rotate:
            angle = generator.uniform(-config.rotate, config.rotate)
            image, labels = rotated(image, labels, angle, self.fill)
        return image, labels

    def _with_rare_class(
        self, generator: np.random.Generator, window: Window, labels: np.ndarray
    ) -> Window:
        """The window at another place, where it shows a pixel of a class that is rare: of those in
        the image, each is drawn with a chance that is inverse to its pixels in the split."""
        assert self.pixels is not None
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE])
        if not len(present):
            return window
        chances = 1 / np.maximum(self.pixels[present], 1)
        wanted = generator.choice(present, p=chances / chances.sum())
        rows, columns = np.nonzero(labels == wanted)
        one = generator.integers(len(rows))
        return moved_to(generator, window, labels.shape, (int(rows[one]), int(columns[one])))

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
        return self._geometry(np.random.default_rng(seed), size)[:2]

    @property
    def beyond_geometry(self) -> list[str]:
        """What is set that `geometry` does not say."""
        names = ("flip_vertical", "rotate90", "rotate", "rare_every", "extra")
        return [name for name in names if getattr(self.config, name)]

    def _geometry(
        self, generator: np.random.Generator, size: tuple[int, int]
    ) -> tuple[Window, bool, int]:
        # the first draws of a variant, so that they can be had without the rest
        config, turns = self.config, 0
        if config.rotate90 and generator.random() < config.rotate90:
            turns = int(generator.integers(1, 4))
        crop = self.crop if turns % 2 == 0 else self.crop[::-1]
        window = random_window(generator, size, crop, config.scale_min, config.scale_max)
        return window, bool(generator.random() < config.flip), turns


def _hue(config: AugmentConfig) -> Any:
    """albumentations' change of hue; None if it is not wanted."""
    if not config.hue:
        return None
    # else importing albumentations asks the network for a newer version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    return A.ColorJitter(brightness=0, contrast=0, saturation=0, hue=config.hue, p=1)


def train_transform(
    config: AugmentConfig,
    crop: tuple[int, int],
    mean: Sequence[float] = IMAGENET_MEAN,
    pixels: np.ndarray | None = None,
) -> TrainTransform:
    """The training augmentation.

    Args:
        config: strengths and probabilities.
        crop: (height, width) of the result, in pixels.
        mean: mean colour on a scale from 0 to 1, for the pixels outside the picture.
        pixels: int64 (C,), of each class in the split; needed for `rare_every`.

    Raises:
        BinsegError: a crop below one pixel, or a faulty pipeline in `extra`.
    """
    if min(crop) < 1:
        raise BinsegError(f"augment: crop {crop[0]} × {crop[1]} must be at least 1 × 1")
    return TrainTransform(config, crop, mean, pixels)
