"""Pixel values as a file stores them, where Pillow gives them as a viewer shows them.

A mask's values are class ids: a grey image of 2 or 4 bits must not be stretched to 0 … 255, nor one
whose zero means white be inverted.
"""

import struct

import numpy as np
from PIL import BmpImagePlugin, ImageFile, ImagePalette

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
_STRETCH = {2: 85, 4: 17}
"""By what values of so many bits are multiplied to reach 255."""


class BmpFile(BmpImagePlugin.BmpImageFile):
    """Pillow's reader of BMP, corrected: a palette of greys makes it read indices of one or four
    bits as bytes, and bytes as single bits if there are two colours. Such images stay indices here.
    """

    def _bitmap(self, header: int = 0, offset: int = 0) -> None:
        super()._bitmap(header, offset)
        if self.mode not in ("1", "L"):
            return
        depth = self._depth()
        if depth == {"1": 1, "L": 8}[self.mode]:
            return
        greys = (0, 255) if self.mode == "1" else range(256)
        self.palette = ImagePalette.raw("RGB", bytes(grey for grey in greys for _ in range(3)))
        self._mode = "P"
        tile = self.tile[0]
        raw_mode = {1: "P;1", 4: "P;4", 8: "P"}[depth]
        assert isinstance(tile.args, tuple)
        self.tile = [tile._replace(args=(raw_mode, *tile.args[1:]))]

    def _depth(self) -> int:
        """Bits a pixel, from the header."""
        assert self.fp is not None
        position = self.fp.tell()
        self.fp.seek(14)
        header = self.fp.read(16)
        self.fp.seek(position)
        # the oldest header has 12 bytes, with sides of 16 bits
        at = 10 if struct.unpack_from("<I", header)[0] == 12 else 14
        return int(struct.unpack_from("<H", header, at)[0])


def bits_of(image: ImageFile.ImageFile, kind: str) -> int:
    """Bits of a sample in a PNG or TIFF whose header was read; 8 for other formats, whose modes
    say enough."""
    if kind == "TIFF":
        return int(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0])  # type: ignore[attr-defined]
    if kind == "PNG":
        assert image.fp is not None
        position = image.fp.tell()
        image.fp.seek(24)  # IHDR: bit depth
        depth = image.fp.read(1)[0]
        image.fp.seek(position)
        return depth
    return 8


def stored_grey(image: ImageFile.ImageFile, kind: str, depth: int) -> np.ndarray:
    """The values of an 8-bit grey image as they are in the file.

    Args:
        image: of mode L, loaded.
        kind: its format.
        depth: what `bits_of` said before it was loaded.

    Returns:
        uint8 (H, W). TIFFs whose zero is white (PhotometricInterpretation 0) give what is stored,
        as tifffile and GDAL do.
    """
    values = np.array(image)
    if kind == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # type: ignore[attr-defined]
        values = 255 - values
    return values // np.uint8(_STRETCH.get(depth, 1))
