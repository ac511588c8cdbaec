"""The one reader and writer of images and masks.

Files come from anywhere, so the reader is bounded: an allow-list of formats found by their first
bytes, and the size looked at in the header before anything is decoded. Every fault is a
`BinsegError` of one line that names the file and the remedy.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from binseg.atomic import atomic_path
from binseg.data.image_files import IMAGE_SUFFIXES
from binseg.data.image_formats import HEAD_BYTES, READ_FORMATS, format_of
from binseg.data.image_notes import Note, left_out_frames, unused_bits, warn_once
from binseg.data.jpeg_scans import MAX_SCANS, count_scans
from binseg.data.labels import IGNORE, IGNORE_COLOR, Color
from binseg.data.stored_values import BmpFile, bits_of, stored_grey
from binseg.data.unsupported import unsupported_kind, unsupported_values
from binseg.errors import BinsegError, BinsegWarning

MAX_PIXELS = 100_000_000
"""The largest image read, in pixels (width × height): 300 MB as RGB."""


class ColorMaskError(BinsegError):
    """A mask is an image in colours and not a map of class ids."""


_Opener = Callable[..., ImageFile.ImageFile]

# Plugins are called by themselves, not through Image.open: it warns of, or refuses, large images
# by a limit that is global to the process, and the warnings filter is not safe among threads.
_OPENERS: dict[str, _Opener] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def _opened(
    path: Path, max_pixels: int, content: bytes | None
) -> Iterator[tuple[str, ImageFile.ImageFile]]:
    """The format's name and the image with its header read; faults inside become BinsegErrors."""
    name = None
    try:
        if content is None and not path.exists():
            raise BinsegError(f"{path}: no such file; check the path")
        if content is None and not path.is_file():
            raise BinsegError(f"{path}: not a file; give an image")
        with _file(path, content) as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            name = format_of(head)
            if name not in _OPENERS:
                kind = f" ({name})" if name else ""
                what = f"not an image that binseg reads{kind}" if head else "empty file"
                raise BinsegError(f"{path}: {what}; use {', '.join(READ_FORMATS[:-1])} or WebP")
            if name == "JPEG" and count_scans(file) > MAX_SCANS:
                raise BinsegError(
                    f"{path}: a JPEG of more than {MAX_SCANS} scans, which takes too long to "
                    "decode; save it again"
                )
            with _OPENERS[name](file, str(path)) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise BinsegError(
                        f"{path}: {width} × {height} pixels are more than the limit of "
                        f"{max_pixels:,}; make the image smaller or cut it into tiles"
                    )
                if width < 1 or height < 1:
                    raise BinsegError(f"{path}: an image without pixels; replace the file")
                yield name, image
    except (BinsegError, BinsegWarning):  # the latter where warnings are made errors
        raise
    except PermissionError as error:
        raise BinsegError(f"{path}: no permission to read; change the file's mode") from error
    except Image.DecompressionBombError as error:  # WebP's plugin looks by itself
        raise BinsegError(f"{path}: too many pixels ({_brief(error)}); make it smaller") from error
    except MemoryError as error:
        raise BinsegError(f"{path}: not enough memory to decode; make it smaller") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:  # decoders' own have no number
            raise BinsegError(f"{path}: cannot be read ({error.strerror}); check it") from error
        if name is not None:
            with _file(path, content) as file:
                sound = unsupported_kind(file, name)
            if sound is not None:
                raise BinsegError(f"{path}: {sound}") from error
        raise BinsegError(
            f"{path}: damaged or truncated image ({_brief(error)}); replace the file"
        ) from error


def _file(path: Path, content: bytes | None) -> BinaryIO:
    return path.open("rb") if content is None else io.BytesIO(content)


def _brief(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 … 8; a damaged EXIF block counts as none."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in _TURNS else 1


def read_image(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    *,
    longest_side: int | None = None,
    note: Note | None = None,
    content: bytes | None = None,
) -> np.ndarray:
    """Read an image as a person sees it in a viewer.

    The EXIF orientation is applied; 16-bit is scaled to 8-bit (v · 255 / 65535), 12-bit likewise;
    grey, palette, YCbCr and CMYK become RGB; transparent parts are composited over white. Of
    several pages or frames the first is read.

    Args:
        path: JPEG, PNG, BMP, TIFF or WebP, told by its content, not by its suffix.
        max_pixels: largest width × height; looked at before decoding.
        longest_side: pixels that are enough on the long side. A larger JPEG is then decoded at a
            half, a quarter or an eighth of its size, but no smaller than this, in little memory.
        note: is told of pages that are not read and of values that come out dark; None: a
            `BinsegWarning` says so, once for a folder.
        content: of the file, if there is none at `path`, which then only names it in messages.

    Returns:
        uint8 (H, W, 3), RGB in [0, 255], contiguous and writable.

    Raises:
        BinsegError: missing, unreadable, damaged, too large, or of another format.
    """
    path = Path(path)
    with _opened(path, max_pixels, content) as (kind, image):
        if (values := unsupported_values(image, kind)) is not None:
            raise BinsegError(f"{path}: {values}")
        note = note or warn_once(path)
        frames = left_out_frames(image, kind)
        largest = 4095 if bits_of(image, kind) == 12 else 65535
        if longest_side is not None and longest_side < max(image.size):
            # other formats ignore it
            width, height = (-(-side * longest_side // max(image.size)) for side in image.size)
            image.draft(None, (width, height))
        image.load()
        if frames is not None:
            note(frames)
        turn = _orientation(image)
        upright: Image.Image = image.transpose(_TURNS[turn]) if turn in _TURNS else image
        return _as_rgb(upright, path, largest, note)


def _as_rgb(image: Image.Image, path: Path, largest: int, note: Note) -> np.ndarray:
    """Args: largest: value that is white, of integers of more than 8 bits."""
    if image.mode.startswith("I"):
        # also mode "I": Pillow gives 16-bit values in it for some files
        wide = np.asarray(image).astype(np.int64).clip(0, largest)
        if largest == 65535 and (dark := unused_bits(wide)) is not None:
            note(dark)
        grey = ((wide * 255 + largest // 2) // largest).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "LAB":
        raise BinsegError(f"{path}: LAB pixels are not supported; save as 8-bit RGB")
    return over_white(image)


def over_white(image: Image.Image) -> np.ndarray:
    """An 8-bit image of any mode as uint8 (H, W, 3) RGB; transparent parts show white paper."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    # convert() copies an image that is RGB already
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(
    path: str | Path, max_pixels: int = MAX_PIXELS, *, content: bytes | None = None
) -> np.ndarray:
    """Read a mask of class ids; palette indices are kept as they are, never turned into colours.

    Args:
        path: PNG, TIFF or BMP with palette, grey (1, 2, 4, 8 or 16 bit) or 1-bit pixels. Ids are
            the values that the file stores; of 1-bit TIFFs black is 0, whichever way they are
            stored.
        max_pixels: largest width × height; looked at before decoding.
        content: see `read_image`.

    Returns:
        uint8, uint16 or int32 (H, W): raw ids. EXIF orientation is not applied.

    Raises:
        BinsegError: as `read_image`, and for masks with colours or in a lossy format.
    """
    path = Path(path)
    with _opened(path, max_pixels, content) as (kind, image):
        if kind in ("JPEG", "WebP"):
            raise BinsegError(f"{path}: masks need exact class ids; save as PNG, not as {kind}")
        if image.mode == "F":
            raise BinsegError(f"{path}: {unsupported_values(image, kind)}")
        if image.mode not in ("P", "L", "1", "I") and not image.mode.startswith("I;16"):
            raise ColorMaskError(
                f"{path}: the mask holds colours ({image.mode}), not class ids; "
                "save it as a grey or palette PNG whose pixel values are the ids"
            )
        frames = left_out_frames(image, kind)
        depth = bits_of(image, kind)
        image.load()
        if frames is not None:
            warn_once(path)(frames)
        mask = stored_grey(image, kind, depth) if image.mode == "L" else np.array(image)
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8)
    if mask.dtype.itemsize == 2:
        return mask.astype(np.uint16)  # also out of big-endian order
    return mask


def read_color_mask(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask that holds colours.

    Args:
        path: PNG, TIFF or BMP of 8-bit RGB or RGBA; how opaque a pixel is does not matter.
        max_pixels: largest width × height; looked at before decoding.

    Returns:
        uint8 (H, W, 3), RGB. EXIF orientation is not applied.

    Raises:
        BinsegError: as `read_mask`; pixels of another kind.
    """
    path = Path(path)
    with _opened(path, max_pixels, None) as (kind, image):
        if kind in ("JPEG", "WebP"):
            raise BinsegError(f"{path}: masks need exact colours; save as PNG, not as {kind}")
        if image.mode not in ("RGB", "RGBA"):
            raise BinsegError(f"{path}: the mask's pixels are {image.mode}; save it as 8-bit RGB")
        image.load()
        return np.ascontiguousarray(np.asarray(image)[..., :3])


def image_size(
    path: str | Path, max_pixels: int = MAX_PIXELS, *, content: bytes | None = None
) -> tuple[int, int]:
    """(height, width) in pixels as displayed, after EXIF turning; reads only the header.

    Args: as those of `read_image`.

    Raises:
        BinsegError: as `read_image`, as far as the header shows it.
    """
    with _opened(Path(path), max_pixels, content) as (kind, image):
        width, height = image.size
        # Pillow's `size` of a TIFF is already the turned one
        if kind != "TIFF" and _orientation(image) >= 5:
            width, height = height, width
        return height, width


def mask_image(class_map: np.ndarray, palette: Sequence[Color] | None = None) -> Image.Image:
    """Class ids as a palette image: viewers show colours, `read_mask` gives the ids back.

    Args:
        class_map: uint8 (H, W); 255 means ignored.
        palette: RGB colour by class id; None: grey values.
    """
    if class_map.dtype != np.uint8 or class_map.ndim != 2:
        raise ValueError(f"expected uint8 HW, not {class_map.dtype} {class_map.shape}")
    image = Image.fromarray(class_map)
    if palette is not None:
        colors = np.zeros((256, 3), np.uint8)
        colors[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
        if len(palette) <= IGNORE:
            colors[IGNORE] = IGNORE_COLOR
        image.putpalette(colors.tobytes())
    return image


def write_mask(
    path: str | Path, class_map: np.ndarray, palette: Sequence[Color] | None = None
) -> None:
    """Write `mask_image` of class ids as a PNG.

    Args:
        path: ends in .png; written whole or not at all.
        class_map, palette: see `mask_image`.

    Raises:
        BinsegError: another suffix, or the file cannot be written.
    """
    image = mask_image(class_map, palette)
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise BinsegError(f"{path}: masks are written as PNG; let the name end in .png")
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image; the suffix chooses the format (JPEG at quality 95).

    Args:
        path: ends in one of `IMAGE_SUFFIXES`; written whole or not at all.
        image: uint8 (H, W, 3), RGB.

    Raises:
        BinsegError: an unknown suffix, or the file cannot be written.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 HW3, not {image.dtype} {image.shape}")
    path = Path(path)
    kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(path.suffix.lower(), path.suffix[1:].upper())
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise BinsegError(
            f"{path}: '{path.suffix}' is no image format; use one of {', '.join(IMAGE_SUFFIXES)}"
        )
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format=kind, **options)
