"""File formats told by their first bytes: those that binseg reads, and names for others."""

import os
from pathlib import Path

READ_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WebP")
"""What `read_image` reads."""

HEAD_BYTES = 132
"""First bytes of a file that `format_of` looks at; DICOM's mark ends the latest."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"\0\0\1\0", "ICO"),
    (b"SIMPLE  =", "FITS"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF", "HDF5"),
    (b"%PDF", "PDF"),
    (b"PK\3\4", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
)
_RIFF = {b"WEBP": "WebP", b"AVI ": "AVI video"}
# ISO base media: the brand follows the box's size and "ftyp"
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "Canon raw", b"qt  ": "QuickTime video"}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def format_of(head: bytes) -> str | None:
    """The format of a file that begins with `head` (`HEAD_BYTES` of it, or the whole file).

    Returns:
        One of `READ_FORMATS`, the name of a format that binseg does not read, or None.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "HEIC" if brand in _HEIC_BRANDS else _BRANDS.get(brand, "MP4 video")
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace():
        return "PNM"
    if head[128:132] == b"DICM":
        return "DICOM"
    if b"<svg" in head:
        return "SVG"
    return None


def read_head(path: str | Path) -> bytes:
    """The first `HEAD_BYTES` of a regular file.

    Raises:
        OSError: it cannot be read.
    """
    # without O_NONBLOCK a pipe that took the file's name in between would wait for a writer
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(handle, HEAD_BYTES)
    finally:
        os.close(handle)
