"""Says what a sound file is that cannot be read as an image of 8 or 16 bits, and what to do."""

import struct
from typing import BinaryIO

from PIL import TiffImagePlugin

_WIDTH, _BITS, _COMPRESSION, _SAMPLES, _FORMAT = 256, 258, 259, 277, 339

_COMPRESSIONS = {
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
_SAMPLE_FORMATS = {
    1: "unsigned integers",
    2: "signed integers",
    3: "floating-point values",
    5: "complex integers",
    6: "complex values",
}

_REMEDY = (
    "save it as 8-bit RGB (gdal_translate -ot Byte -scale -b 1 -b 2 -b 3 does that), a mask as "
    "8-bit grey whose values are the ids"
)


def unsupported_kind(file: BinaryIO, kind: str) -> str | None:
    """What a file of format `kind` is that its decoder refused, and the remedy, in one line; None
    if the file seems to be of a kind that is read, so it is damaged.

    Args:
        file: at its beginning.
        kind: TIFF or JPEG; others give None.
    """
    try:
        if kind == "TIFF":
            return _tiff(file)
        return _jpeg(file) if kind == "JPEG" else None
    except Exception:  # readers of headers raise nearly anything on damaged files
        return None


def unsupported_values(image: object, kind: str) -> str | None:
    """What a TIFF that Pillow opened holds if its values have no brightness that is known
    (floating-point, signed, 32 bits), and the remedy; None for others."""
    tags = getattr(image, "tag_v2", None)
    return None if kind != "TIFF" or tags is None else _tiff_samples(tags, any_bands=True)


def _tiff(file: BinaryIO) -> str | None:
    head = file.read(8)
    if 43 in head[2:4]:  # BigTIFF
        head += file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    if not isinstance(tags.get(_WIDTH), int):
        return None
    compression = tags.get(_COMPRESSION, 1)
    if compression in _COMPRESSIONS:
        return (
            f"TIFF compressed by {_COMPRESSIONS[compression]}, which is not supported; save it "
            "uncompressed, or with LZW or Deflate"
        )
    return _tiff_samples(tags, any_bands=False)


def _tiff_samples(tags: TiffImagePlugin.ImageFileDirectory_v2, *, any_bands: bool) -> str | None:
    bands = tags.get(_SAMPLES, 1)
    bits = tags.get(_BITS, (1,))
    formats = tags.get(_FORMAT, (1,))
    depth, values = bits[0], _SAMPLE_FORMATS.get(formats[0], "values of unknown type")
    depths = (1, 2, 4, 8, 12, 16) if bands == 1 else (8, 16)
    ordinary = depth in depths and formats[0] in (1, 4) and len(set(bits)) == 1
    if ordinary and (any_bands or bands in (1, 3, 4)):
        return None
    noun = f"{bands} band{'s' if bands > 1 else ''} of {depth}-bit {values}"
    return f"TIFF with {noun}, which is not supported; {_REMEDY}"


def _jpeg(file: BinaryIO) -> str | None:
    """By the start of frame, the first segment with a size."""
    file.seek(2)
    while True:
        marker, code, length = struct.unpack(">BBH", file.read(4))
        if marker != 0xFF:
            return None
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            depth, _, _, components = struct.unpack(">BHHB", file.read(6))
            if depth != 8:
                return f"JPEG of {depth} bits, which is not supported; save it as 8-bit JPEG or PNG"
            if code in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
                return "lossless or hierarchical JPEG, which is not supported; save it as PNG"
            if components not in (1, 3, 4):
                return f"JPEG of {components} components, which is not supported; save it as RGB"
            return None
        file.seek(length - 2, 1)
