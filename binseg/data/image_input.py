"""Images in any form that a person may give, as one array."""

import os
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from binseg.data.imageio import over_white, read_image
from binseg.errors import BinsegError

ImageLike = (
    np.ndarray | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image
)
"""HWC uint8 RGB; a file's path; a file's content, as bytes or as an open binary file; or PIL's."""


def as_rgb(image: ImageLike) -> np.ndarray:
    """An image as a person sees it in a viewer.

    Args:
        image: an array is given back as it is; all else is decoded, turned as its EXIF data say,
            and laid over white where it is transparent.

    Returns:
        HWC uint8 RGB.

    Raises:
        BinsegError: a file is missing, unreadable, damaged or too large, or a PIL image has values
            that are no 8 bits.
        TypeError: something else; the message says what is taken.
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise BinsegError(f"a PIL image of mode {image.mode}; give its file instead")
        return over_white(ImageOps.exif_transpose(image))
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image("the bytes given", content=bytes(image))
    read = getattr(image, "read", None)
    content = read() if callable(read) else None
    if isinstance(content, str):
        raise TypeError("an image's file must be opened in binary mode, as in open(path, 'rb')")
    if not isinstance(content, bytes):
        raise TypeError(
            "an image is a file's path, its content (bytes or an open binary file), an array (HWC "
            f"uint8 RGB) or a PIL image, not {type(image).__name__}"
        )
    name = getattr(image, "name", None)
    return read_image(name if isinstance(name, str) else "the file given", content=content)
