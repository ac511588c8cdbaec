"""Random changes of training images, the same in every process.

Hue is changed by albumentations, all else here: albumentations 2.0.8 draws the same in every
loader worker, and its `set_random_seed` gives all steps of a pipeline one seed. Here everything is
drawn from a generator of the sample's own (seed, epoch, index): batches do not depend on the number
of workers, and a resumed run draws what the first one would have drawn.
"""

import os
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from binseg.data.augment_config import MAX_JPEG, MIN_BLUR, AugmentConfig
from binseg.data.degrade import blurred, gamma_corrected, jpeg_compressed, noisy
from binseg.data.jitter import Factors, jitter, random_factors
from binseg.data.labels import IGNORE
from binseg.data.pipeline import Pipeline
from binseg.data.preprocess import IMAGENET_MEAN
from binseg.data.turns import quarter_turned, rotated, with_hole
from binseg.data.window import Window, cut, moved_to, random_window
from binseg.errors import BinsegError


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
            uint8 (h, w, 3) and uint8 (h, w) at the crop's size; pixels outside the image have
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
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE])
        if not len(present):
            return window
        pixels = np.ones(IGNORE) if self.pixels is None else self.pixels
        probabilities = 1 / np.maximum(pixels[present], 1)
        wanted = generator.choice(present, p=probabilities / probabilities.sum())
        rows, columns = np.nonzero(labels == wanted)
        one = generator.integers(len(rows))
        return moved_to(generator, window, labels.shape, (int(rows[one]), int(columns[one])))

    def _blurred(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        config = self.config
        if generator.random() < config.blur:
            image = blurred(image, generator.uniform(MIN_BLUR, config.blur_sigma))
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
            quality = int(generator.integers(config.jpeg_quality, MAX_JPEG, endpoint=True))
            image = jpeg_compressed(image, quality)
        return image

    def geometry(self, size: tuple[int, int], seed: Sequence[int]) -> tuple[Window, bool]:
        """What the variant of `seed` shows of an image of (height, width) pixels, and whether it
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
        mean: mean colour on a scale from 0 to 1, for the pixels outside the image.
        pixels: int64 (C,), of each class in the split, for `rare_every`; None: all alike.

    Raises:
        BinsegError: a crop below one pixel, or a faulty pipeline in `extra`.
    """
    if min(crop) < 1:
        raise BinsegError(f"augment: crop {crop[0]} × {crop[1]} must be at least 1 × 1")
    return TrainTransform(config, crop, mean, pixels)
