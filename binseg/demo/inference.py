"""From an opened image to everything that the page and the API say of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from binseg.data.label_table import Color, LabelTable
from binseg.demo.models import ModelList
from binseg.demo.twins import fp32_bytes, times_faster


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
        milliseconds: of "pre-processing", "network" and "upsampling", see
            `BackendPredictor.timed`; who draws adds "drawing".
        model_bytes: of the model's file.
        fp32_bytes: of the same network in full precision, with 32 bits for every number.
        times_faster: than the same network in full precision, measured on this backend's device
            at this image's size; None if it could not be measured.
        faster_note: what was measured, or why it could not be.
    """

    key: str
    backend: str
    image: np.ndarray
    class_map: np.ndarray
    labels: LabelTable
    milliseconds: dict[str, float]
    model_bytes: int
    fp32_bytes: int
    times_faster: float | None
    faster_note: str

    @property
    def times_smaller(self) -> float:
        """Than the same network in full precision."""
        return self.fp32_bytes / self.model_bytes

    @cached_property
    def shares(self) -> list[ClassShare]:
        """All classes, the one with the largest area first; those of equal area by id."""
        return class_shares(self.class_map, self.labels)


def segment_image(models: ModelList, key: str, backend: str, image: np.ndarray) -> DemoResult:
    """Segment an image, one at a time on each device; others wait.

    Args:
        models: the demo's list.
        key: of the model.
        backend: one of `binseg.demo.models.backends()`.
        image: HWC uint8 RGB.

    Raises:
        BinsegError: there is no such model or backend, or the image does not go through.
    """
    predictor = models.predictor(key, backend)
    found, milliseconds = predictor.timed(image)
    seconds = (milliseconds["network"] + milliseconds["upsampling"]) / 1e3
    faster, note = times_faster(models, key, backend, (image.shape[0], image.shape[1]), seconds)
    return DemoResult(
        key=key,
        backend=backend,
        image=found.image,
        class_map=found.class_map,
        labels=found.labels,
        milliseconds=milliseconds,
        model_bytes=models.get(key).bytes,
        fp32_bytes=fp32_bytes(models, key),
        times_faster=faster,
        faster_note=note,
    )
