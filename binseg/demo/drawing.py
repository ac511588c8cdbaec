"""What a person sees and takes home of a result; all of it from the stored class map."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from binseg.data.imageio import write_image, write_mask
from binseg.demo.inference import DemoResult
from binseg.demo.twins import Comparison
from binseg.visualize import overlay


def result_json(result: DemoResult) -> dict[str, Any]:
    """JSON values: classes with their shares, milliseconds, model, bytes, backend, versions."""
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
        "threads": result.threads,
        "model_bytes": result.model_bytes,
        "versions": {
            name: importlib.metadata.version(name) for name in ("binseg", "torch", "gradio")
        }
        | {"python": platform.python_version()},
    }


def comparison_json(result: DemoResult, comparison: Comparison) -> dict[str, Any]:
    """JSON values of the same network in full precision: bytes, and how they compare."""
    found: dict[str, Any] = {
        "fp32_bytes": comparison.fp32_bytes,
        "times_smaller": comparison.fp32_bytes / result.model_bytes,
        "times_faster": comparison.times_faster,
        "times_faster_note": comparison.note,
        "best_milliseconds": comparison.milliseconds,
    }
    if comparison.class_map is not None:
        found["agreement"] = float((comparison.class_map == result.class_map).mean())
    return found


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
