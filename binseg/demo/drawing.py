"""What a person sees and takes home of a result; all of it from the stored class map."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import torch

from binseg.data.imageio import write_image, write_mask
from binseg.demo.inference import DemoResult
from binseg.visualize import overlay


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
    folder: Path, result: DemoResult, *, opacity: float, stem: str
) -> tuple[Path, Path]:
    """Write what can be taken home.

    Args:
        folder: to write into.
        result: of `segment_image`.
        opacity: of the overlay's colours, 0 to 1.
        stem: that the files' names begin with.

    Returns:
        The class ids as a palette PNG, and the overlay as a JPEG.

    Raises:
        BinsegError: the folder cannot be written.
    """
    ids, drawing = folder / f"{stem}_ids.png", folder / f"{stem}_overlay.jpg"
    write_mask(ids, result.class_map, result.labels.palette)
    write_image(drawing, overlay(result.image, result.class_map, result.labels, opacity))
    return ids, drawing
