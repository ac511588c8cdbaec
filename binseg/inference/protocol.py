"""How images are shown to a network; for one in torch `binseg.evaluation.protocols` does it."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError, unknown_name

LARGEST_ENLARGED = 1 << 26
"""Pixels that enlarging an image to the network's short side may give; a 1 x 5000 strip for a
network with a short side of 360 would become 648 megapixels."""

ProtocolName = Literal["whole", "sliding", "multi_scale"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Protocol:
    """How an image is shown to the network.

    Args:
        name: whole, sliding or multi_scale.
        window: sliding: side of the square window in pixels of the resized image.
        stride: sliding: step between windows in the same pixels, at most `window`.
        scales: multi_scale: factors on the network's input size.
        flip: multi_scale: also the mirrored image at each scale.
        precision: fp32, or bf16 for autocast (half the memory; a class map may differ in a few
            pixels).

    Raises:
        BinsegError: a value makes no sense.
    """

    name: ProtocolName = "whole"
    window: int = 512
    stride: int = 341
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip: bool = True
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for kind, value, options in (
            ("protocol", self.name, get_args(ProtocolName)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in options:
                raise unknown_name(kind, value, options)
        if not 1 <= self.stride <= self.window:
            raise BinsegError(
                f"protocol: stride {self.stride} must be 1 to {self.window} (the window)"
            )
        if not self.scales or not all(0 < scale <= 8 for scale in self.scales):
            raise BinsegError(f"protocol: scales {self.scales} must be numbers above 0, at most 8")

    def __str__(self) -> str:
        """The protocol in a few words, with the settings that matter to it."""
        words = self.name.replace("_", "-")
        if self.name == "sliding":
            words += f" {self.window}/{self.stride}"
        elif self.name == "multi_scale":
            words += f" {', '.join(f'{scale:g}' for scale in self.scales)}"
            words += " with flip" if self.flip else ""
        return f"{words}, {self.precision}"


WHOLE = Protocol()
"""The image in one go, in fp32: what scores are meant by when nothing else is said."""


def input_size(preprocessing: Preprocessing, height: int, width: int) -> tuple[int, int]:
    """(height, width) in pixels at which a network sees an image of `height` × `width`.

    Raises:
        BinsegError: the image's sides are too unequal to be enlarged.
    """
    size = preprocessing.target_size(height, width)
    if size[0] * size[1] > max(height * width, LARGEST_ENLARGED):
        raise BinsegError(
            f"an image of {width} x {height} pixels would be enlarged to {size[1]} x {size[0]} "
            "for the network's short side; its sides are too unequal, cut it into pieces"
        )
    return size


def check_image(image: np.ndarray) -> None:
    """Raise ValueError if this is no uint8 (H, W, 3) with pixels in it."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image is HWC uint8 RGB, not {image.dtype} {image.shape}")
