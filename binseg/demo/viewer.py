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
from binseg.demo.drawing import result_json
from binseg.demo.inference import DemoResult

ASSETS = Path(__file__).parent / "assets"

EMPTY = "Your image will appear here under the colours of its classes.\nUpload one, or choose \
an example."


def viewer() -> gr.HTML:
    """The component; takes what `message` and `result` give."""
    html, css, js = ((ASSETS / f"viewer.{suffix}").read_text() for suffix in ("html", "css", "js"))
    return gr.HTML(
        value=message(EMPTY),
        html_template=html,
        css_template=css,
        js_on_load=js,
        apply_default_css=False,
        elem_id="viewer",
    )


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
        "image": _data_url(found.image, "JPEG", quality=90),
        # grey, so that the browser reads ids; the mask to take home has a palette
        "ids": _data_url(found.class_map, "PNG", compress_level=3),
        "mask": _as_url(mask_image(found.class_map, found.labels.palette), "PNG"),
        "result": result_json(found),
    }


def _data_url(pixels: np.ndarray, kind: str, **options: int) -> str:
    return _as_url(Image.fromarray(pixels), kind, **options)


def _as_url(image: Image.Image, kind: str, **options: int) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
