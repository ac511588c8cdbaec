"""The part of the page that shows a result. The browser draws it, from what it is sent once."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from binseg.data.imageio import mask_image
from binseg.demo.drawing import comparison_json, result_json
from binseg.demo.inference import DemoResult
from binseg.demo.models import ModelList
from binseg.demo.twins import Comparison
from binseg.export.page import WEB

ASSETS = Path(__file__).parent / "assets"


def viewer() -> gr.HTML:
    """The component; takes what the functions below give. It shares its view of a result with the
    page that needs no server."""
    css = "\n".join(path.read_text() for path in (WEB / "view.css", ASSETS / "viewer.css"))
    js = "\n".join(path.read_text() for path in (WEB / "view.js", ASSETS / "viewer.js"))
    return gr.HTML(
        value={},
        html_template=(ASSETS / "viewer.html").read_text(),
        css_template=css,
        js_on_load=js,
        apply_default_css=False,
        elem_id="viewer",
    )


def chosen(models: ModelList, key: str, backend: str) -> dict[str, Any]:
    """What the browser must know of the model and the backend to ask for frames of its own."""
    other = models.for_photographs(key)
    return {
        "model": key,
        "backend": backend,
        "twin": models.get(key).twin is not None,
        "photographs": None if other == key else other,
    }


def message(text: str, *, alarming: bool = False) -> dict[str, Any]:
    """A text in place of a result, for example of what is wrong with an image."""
    return {"message": text, "alarming": alarming}


def result(found: DemoResult, name: str, notes: Sequence[str]) -> dict[str, Any]:
    """All that the browser needs to draw a result, to name its classes and to offer its files.

    Args:
        found: what was segmented.
        name: of the image, for a person and for the names of downloads.
        notes: about the image.
    """
    return {
        "name": name,
        "notes": list(notes),
        "names": list(found.labels.names),
        "image": _data_url(found.image, "JPEG", quality=90),
        # grey, so that the browser reads ids; the mask to take home has a palette
        "ids": _data_url(found.class_map, "PNG", compress_level=3),
        "mask": _as_url(mask_image(found.class_map, found.labels.palette), "PNG"),
        "result": result_json(found),
    }


def comparison(found: DemoResult, compared: Comparison) -> dict[str, Any]:
    """What is known of a result later: how the full-precision twin compares."""
    twin = compared.class_map
    return {
        "ids": None if twin is None else _data_url(twin, "PNG", compress_level=3),
        "figures": comparison_json(found, compared),
    }


def _data_url(pixels: np.ndarray, kind: str, **options: int) -> str:
    return _as_url(Image.fromarray(pixels), kind, **options)


def _as_url(image: Image.Image, kind: str, **options: int) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
