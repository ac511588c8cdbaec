"""From an image and a network to a class map: the one way, for scoring and for predicting.

- **whole**: the image in one go; logits upsampled bilinearly to the wanted size, then argmax.
- **sliding**: overlapping windows; the logits are averaged where windows overlap. The network
  sees one window at a time, so memory does not grow with the image's height.
- **multi_scale**: several scales, each also mirrored; the mean of the softmax. The best scores
  and by far the slowest; say so when you compare.

The scores of a network with a method `scores` stay on its own coarse grid. On a GPU a kernel
upsamples them and takes the largest in one; else, and where logits of more than `LARGEST_LOGITS`
would come first, it happens in strips of rows: larger ones never exist.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.data.labels import IGNORE
from binseg.data.preprocess import Preprocessing, resize_image
from binseg.errors import BinsegError
from binseg.evaluation.upsample import ArgmaxRows, refuse_nan, strips, upsampled_argmax
from binseg.evaluation.views import ProbabilitySum, View
from binseg.inference.protocol import WHOLE, Protocol, check_image, input_size

Network = Callable[[Tensor], Tensor]
"""Normalised float NCHW images → float NCHW logits, at the input's size or a coarser one."""

LARGEST_LOGITS = 1 << 27
"""Bytes that an image's logits may take at the network's input size (11 classes of three
megapixels); above, they are made in strips, which is slower."""


@torch.inference_mode()
def segment(
    network: Network,
    image: np.ndarray,
    preprocessing: Preprocessing,
    protocol: Protocol = WHOLE,
    size: tuple[int, int] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """The class map of an image.

    Args:
        network: any callable from normalised float32 N3HW to logits NCHW, N = 1, on `device`; its
            method `scores`, if any, gives them on a coarser grid (see `PackedSegmenter`).
        image: HWC uint8 RGB in [0, 255], of any size.
        preprocessing: how the network wants images resized and normalised.
        protocol: whole, sliding or multi-scale, and the precision.
        size: (height, width) of the class map, for example the label's; the image's if None.
        device: where the network runs.

    Returns:
        HW uint8 train ids, of `size`.

    Raises:
        BinsegError: the network gives nan, more than 255 classes or no NCHW logits, or the
            image's sides are too unequal to be enlarged.
        ValueError: `image` is not HWC uint8 with three channels.
    """
    check_image(image)
    height, width = image.shape[:2]
    base = input_size(preprocessing, height, width)
    device = torch.device(device)

    size = size or (height, width)
    scores_of: Network = getattr(network, "scores", network)
    coarse = scores_of is not network

    def forward(pixels: Tensor) -> _Seen:
        """uint8 HWC → float32 (C, h, w) logits, and the (height, width) they stand for."""
        batch = preprocessing.normalize(pixels.to(device).permute(2, 0, 1)[None].contiguous())
        with torch.autocast(device.type, torch.bfloat16, enabled=protocol.precision == "bf16"):
            logits = scores_of(batch)
        if logits.ndim != 4 or logits.shape[0] != 1 or not 1 <= logits.shape[1] <= IGNORE:
            raise BinsegError(
                f"the network gives {tuple(logits.shape)} for one image; it must give NCHW "
                f"logits of at most {IGNORE} classes"
            )
        grid = pixels if coarse else logits[0, 0]
        return _Seen(logits[0].float(), (grid.shape[0], grid.shape[1]))

    try:
        return _PROTOCOLS[protocol.name](forward, image, base, protocol, size)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise BinsegError(
            f"not enough memory for an image of {width} x {height} pixels with protocol "
            f"{protocol}; use sliding windows, bf16 or a smaller image"
        ) from error


class _Seen(NamedTuple):
    logits: Tensor
    size: tuple[int, int]


_Forward = Callable[[Tensor], _Seen]


def _whole(
    forward: _Forward,
    image: np.ndarray,
    base: tuple[int, int],
    protocol: Protocol,
    size: tuple[int, int],
) -> np.ndarray:
    logits, grid = forward(_pixels(resize_image(image, base)))
    if tuple(logits.shape[1:]) == grid:
        return upsampled_argmax(logits, size)
    if base == size:
        return _largest(logits, size)
    if 4 * len(logits) * base[0] * base[1] <= LARGEST_LOGITS:
        return _largest(_fitted(logits, base), size)
    view, result = View(logits, grid, base), ArgmaxRows(base, size)
    for rows in strips(slice(0, base[0]), len(logits), base[1]):
        result.push(view.logits(rows))
    return result.class_map


def _sliding(
    forward: _Forward,
    image: np.ndarray,
    base: tuple[int, int],
    protocol: Protocol,
    size: tuple[int, int],
) -> np.ndarray:
    pixels = _pixels(resize_image(image, base))
    height, width = (min(protocol.window, side) for side in base)
    tops = _starts(base[0], height, protocol.stride)
    result = ArgmaxRows(base, size)
    band: Tensor | None = None  # (C + 1, height, width of the image); the last plane counts
    for top, following in zip(tops, [*tops[1:], base[0]], strict=True):
        for left in _starts(base[1], width, protocol.stride):
            logits, _ = forward(pixels[top : top + height, left : left + width])
            if band is None:
                band = logits.new_zeros(logits.shape[0] + 1, height, base[1])
            band[:-1, :, left : left + width] += _fitted(logits, (height, width))
            band[-1, :, left : left + width] += 1
        assert band is not None
        # no later window reaches the rows above `following`: they are final
        final = following - top
        result.push(band[:-1, :final] / band[-1, :final])
        band = torch.cat([band[:, final:], band.new_zeros(len(band), final, base[1])], dim=1)
    return result.class_map


def _multi_scale(
    forward: _Forward,
    image: np.ndarray,
    base: tuple[int, int],
    protocol: Protocol,
    size: tuple[int, int],
) -> np.ndarray:
    total = ProbabilitySum(base)
    for scale in protocol.scales:
        scaled = (max(1, round(base[0] * scale)), max(1, round(base[1] * scale)))
        pixels = _pixels(resize_image(image, scaled))
        total.add(View(*forward(pixels), base))
        if protocol.flip:
            total.add(View(*forward(pixels.flip(1)), base, mirrored=True))
    return total.argmax(size)  # of the sum: its largest class is the mean's


_PROTOCOLS: dict[
    str,
    Callable[[_Forward, np.ndarray, tuple[int, int], Protocol, tuple[int, int]], np.ndarray],
] = {"whole": _whole, "sliding": _sliding, "multi_scale": _multi_scale}


def _is_out_of_memory(error: Exception) -> bool:
    # torch has a class of its own for GPUs only; its CPU allocator raises a plain RuntimeError
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or "allocate memory" in str(error)


def _pixels(image: np.ndarray) -> Tensor:
    # copies only what torch would warn of: other strides, or memory that may not be written to
    return torch.from_numpy(np.require(image, requirements=["C", "W"]))


def _starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover `length`; the last one ends with the image."""
    return [*range(0, length - window, stride), length - window]


def _largest(scores: Tensor, size: tuple[int, int]) -> np.ndarray:
    """`upsampled_argmax` of (C, h, w), on a GPU by the packed networks' kernel."""
    if not scores.is_cuda or not hasattr(torch.ops.binseg, "upsample_argmax"):
        return upsampled_argmax(scores, size)
    refuse_nan(scores)
    found = torch.ops.binseg.upsample_argmax(scores.permute(1, 2, 0)[None], *size)
    return found[0].cpu().numpy()


def _fitted(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (C, h, w) at `size`, for networks whose output is coarser than their input."""
    if logits.shape[1:] == size:
        return logits
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
