"""How many scans a JPEG has, counted without decoding it.

Each scan of a progressive JPEG costs a pass over all coefficients and may be a few bytes long:
300 kB hold thousands. Cameras write one, encoders for the web about ten.
"""

import re
from typing import BinaryIO

MAX_SCANS = 100
"""The limit of libtiff and GDAL, too (`LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER`)."""

# markers, see ITU-T T.81, table B.1
_SOS = 0xDA
_EOI = 0xD9
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # TEM, RSTm and SOI: no length follows them
_SEQUENTIAL = frozenset((0xC0, 0xC1, 0xC9))
# in the data of a scan FF is followed by 00 or by a restart marker's D0 to D7
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)


def count_scans(file: BinaryIO, *, most: int = MAX_SCANS) -> int:
    """The number of scans in a JPEG, at most `most` + 1, for larger numbers are of no interest.

    Of a sequential image whose first scan holds all components only the header is read: it has no
    other scan.

    Args:
        file: seekable; it is left where it was.
        most: where counting may stop.
    """
    began = file.tell()
    try:
        if _has_one_scan(file):
            return 1
        file.seek(0)
        data = file.read()
    finally:
        file.seek(began)
    scans, at = 0, 2
    while scans <= most and (found := _MARKER.search(data, at)):
        at = found.end()
        marker = data[at - 1]
        if marker == _EOI:
            break
        scans += marker == _SOS
        if marker not in _ALONE:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    return scans


def _has_one_scan(file: BinaryIO) -> bool:
    """False where the header does not say so at once."""
    components = 0  # of a sequential frame
    file.seek(2)
    while True:
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return False
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == _SOS:
            return file.read(1) == bytes((components,)) != b"\0"
        if marker in _ALONE or marker in (0xFF, _EOI) or length < 2:
            return False
        body = file.read(length - 2)
        if marker in _SEQUENTIAL and len(body) > 5:
            components = body[5]
