"""From an opened image to what the page and the API say of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from binseg.data.label_table import Color, LabelTable
from binseg.demo.backends import timed_again
from binseg.demo.models import ModelList


@dataclass(frozen=True)
class ClassShare:
    """A class's share of an image's pixels, in [0, 1]; `color` is "#rrggbb"."""

    id: int
    name: str
    color: str
    share: float


def class_shares(class_map: np.ndarray, labels: LabelTable) -> list[ClassShare]:
    """All classes, the one with the largest area first; those of equal area by id.

    Args:
        class_map: HW uint8 class ids.
        labels: of the ids.
    """
    counts = np.bincount(class_map.ravel(), minlength=labels.num_classes)
    classes = zip(labels.names, labels.palette, counts, strict=True)
    found = [
        ClassShare(index, name, _hex(color), float(count / class_map.size))
        for index, (name, color, count) in enumerate(classes)
    ]
    return sorted(found, key=lambda each: (-each.share, each.id))


def _hex(color: Color) -> str:
    red, green, blue = color
    return f"#{red:02x}{green:02x}{blue:02x}"


@dataclass(frozen=True)
class DemoResult:
    """What a model says of an image, and what it cost.

    Attributes:
        key: of the model in the `ModelList`.
        backend: that it ran on.
        image: HWC uint8 RGB.
        class_map: HW uint8 class ids, of the image's size.
        labels: names and colours of the ids.
        milliseconds: of `binseg.demo.backends.STEPS`.
        threads: that worked on it.
        model_bytes: of the model's file.
    """

    key: str
    backend: str
    image: np.ndarray
    class_map: np.ndarray
    labels: LabelTable
    milliseconds: dict[str, float]
    threads: int
    model_bytes: int

    @cached_property
    def shares(self) -> list[ClassShare]:
        """All classes, the one with the largest area first; those of equal area by id."""
        return class_shares(self.class_map, self.labels)


def segment_image(models: ModelList, key: str, backend: str, image: np.ndarray) -> DemoResult:
    """Segment an image, one at a time; others wait.

    Args:
        models: the demo's list.
        key: of the model.
        backend: one of `binseg.demo.backends.backends()`.
        image: HWC uint8 RGB.

    Raises:
        BinsegError: there is no such model or backend, or the image does not go through.
    """
    runner = models.runner(key, backend)
    class_map, milliseconds = timed_again(runner, image)
    return DemoResult(
        key=key,
        backend=backend,
        image=image,
        class_map=class_map,
        labels=runner.labels,
        milliseconds=milliseconds,
        threads=runner.threads,
        model_bytes=models.bytes(key),
    )
