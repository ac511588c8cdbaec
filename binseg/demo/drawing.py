"""What a person sees and takes home of a result; all of it from the stored class map."""

import importlib.metadata
import json
import platform
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from binseg.atomic import atomic_path
from binseg.data.imageio import write_image, write_mask
from binseg.data.label_table import LabelTable
from binseg.demo.inference import DemoResult
from binseg.visualize import overlay


def draw(
    image: np.ndarray,
    class_map: np.ndarray,
    labels: LabelTable,
    *,
    opacity: float,
    shown: Collection[int],
) -> np.ndarray:
    """The image under the colours of some classes; where another class is, the plain image.

    Args:
        image: HWC uint8 RGB.
        class_map: HW uint8 class ids, of the image's size.
        labels: colours of the ids.
        opacity: of the colours, 0 to 1.
        shown: ids of the classes that are coloured.

    Returns:
        HWC uint8 RGB, of the image's size.

    Raises:
        ValueError: the two sizes differ, or `opacity` is outside [0, 1].
    """
    drawn = overlay(image, class_map, labels, opacity)
    hidden = np.full(256, 255, np.uint8)
    hidden[list(shown)] = 0
    return cv2.copyTo(image, cv2.LUT(class_map, hidden), drawn)


def result_json(result: DemoResult) -> dict[str, Any]:
    """JSON values: classes with their shares, milliseconds, model, sizes, backend, versions."""
    height, width = result.class_map.shape
    size = {"width": width, "height": height}
    return {
        "model": result.key,
        "backend": result.backend,
        "image": size,
        "picture": size,  # its name in earlier versions
        "classes": [
            {"id": each.id, "name": each.name, "color": each.color, "share": each.share}
            for each in result.shares
        ],
        "milliseconds": result.milliseconds,
        "model_bytes": result.model_bytes,
        "fp32_bytes": result.fp32_bytes,
        "times_smaller": result.times_smaller,
        "times_faster": result.times_faster,
        "times_faster_note": result.faster_note,
        "versions": {
            "binseg": importlib.metadata.version("binseg"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def write_downloads(
    folder: Path, result: DemoResult, drawn: np.ndarray, *, stem: str = "binseg"
) -> tuple[Path, Path, Path]:
    """Write what can be taken home.

    Args:
        folder: to write into; made if it is not there.
        result: of `segment_image`.
        drawn: the overlay as it is shown, HWC uint8 RGB.
        stem: that the files' names begin with.

    Returns:
        The class ids as a palette PNG, the overlay as a JPEG, and `result_json`.

    Raises:
        BinsegError: the folder cannot be written.
    """
    ids, drawing, figures = (
        folder / f"{stem}_{name}" for name in ("ids.png", "overlay.jpg", "result.json")
    )
    write_mask(ids, result.class_map, result.labels.palette)
    write_image(drawing, drawn)
    with atomic_path(figures) as temporary:
        temporary.write_text(json.dumps(result_json(result), indent=1) + "\n", encoding="utf-8")
    return ids, drawing, figures
