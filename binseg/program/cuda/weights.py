"""How bits and weights lie in memory where the operators of `operators` read them.

Bits of a map are int32 (N, H, W, bases, ⌈C / 32⌉): bit c mod 32 of word ⌊c / 32⌋ is 1 for +1;
unused bits are 0. Weights are filled up to blocks of 64 output channels.
"""

from typing import Literal

import numpy as np

WORD = 32
BLOCK = 64
_STEP = 8  # words that one matrix instruction takes

Engine = Literal["cores", "tensor", "wgmma"]
"""What multiplies bits: CUDA cores; tensor cores, a warp at a time; those of sm_90a, four warps."""

ENGINES: tuple[Engine, ...] = ("cores", "tensor", "wgmma")

# Weights of a step are (t, word of the pair, group, half of g, pair of tiles, tile of the pair,
# parity of g); column g of tile j, of the four 8-column tiles in a group of 32 channels, is channel
# 8·⌊g / 2⌋ + 2·j + g mod 2, so that a thread's sums belong to 8 channels side by side.
_STEP_SHAPE = (4, 2, 2, 4, 2, 2, 2)
_WARP_ORDER = (2, 4, 3, 6, 0, 5, 1)
_WGMMA_ORDER = (2, 4, 5, 1, 3, 6, 0)


def words(channels: int) -> int:
    """Words that hold `channels` bits."""
    return -(-channels // WORD)


def blocks(channels: int) -> int:
    """Blocks that hold `channels` output channels."""
    return -(-channels // BLOCK)


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """bool (…, C) → int32 (…, ⌈C / 32⌉)."""
    padded = np.zeros((*bits.shape[:-1], words(bits.shape[-1]) * WORD), np.bool_)
    padded[..., : bits.shape[-1]] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<i4")


def unpack_bits(packed: np.ndarray, channels: int) -> np.ndarray:
    """int32 (…, ⌈C / 32⌉) → bool (…, C)."""
    octets = np.ascontiguousarray(packed).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=channels, bitorder="little").astype(np.bool_)


def arrange_bits(weight: np.ndarray, engine: Engine = "tensor") -> np.ndarray:
    """Weights of 1 bit in the order in which matrix instructions read them.

    A step is 8 words of the (tap, word) pairs in order, filled up with zeros. For warps, lane
    4·g + t holds words 2·t and 2·t + 1 of column g, of two tiles at a time. For "wgmma", which
    reads shared memory by itself, a tile is two cores of 8 columns × 4 words: the even words, then
    the odd ones.

    Args:
        weight: bool (K, C_out, taps, C_in).
        engine: whose order.

    Returns:
        int32 (K, ⌈C_out / 64⌉, steps, 512).
    """
    bases, outputs = weight.shape[:2]
    packed = pack_bits(weight).reshape(bases, outputs, -1)
    steps = -(-packed.shape[2] // _STEP)
    whole = np.zeros((bases, blocks(outputs) * BLOCK, steps * _STEP), np.int32)
    whole[:, :outputs, : packed.shape[2]] = packed
    split = whole.reshape(bases, -1, BLOCK, steps, _STEP).transpose(0, 1, 3, 4, 2)
    split = split.reshape(*split.shape[:3], *_STEP_SHAPE)
    order = _WGMMA_ORDER if engine == "wgmma" else _WARP_ORDER
    arranged = split.transpose(0, 1, 2, *(3 + axis for axis in order))
    return np.ascontiguousarray(arranged).reshape(bases, -1, steps, _STEP * BLOCK)


def restore_bits(
    arranged: np.ndarray, outputs: int, taps: int, channels: int, engine: Engine = "tensor"
) -> np.ndarray:
    """The inverse of `arrange_bits`: bool (K, C_out, taps, C_in)."""
    bases, _, steps, _ = arranged.shape
    order = _WGMMA_ORDER if engine == "wgmma" else _WARP_ORDER
    shape = tuple(_STEP_SHAPE[axis] for axis in order)
    split = arranged.reshape(*arranged.shape[:3], *shape)
    split = split.transpose(0, 1, 2, *(3 + int(axis) for axis in np.argsort(order)))
    rows = split.reshape(bases, -1, steps, _STEP, BLOCK).transpose(0, 1, 4, 2, 3)
    rows = rows.reshape(bases, -1, steps * _STEP)[:, :outputs, : taps * words(channels)]
    return unpack_bits(rows.reshape(bases, outputs, taps, -1), channels)


def sum_table(weight: np.ndarray, kernel: tuple[int, int], padding: int) -> np.ndarray:
    """What the sums of each output channel are made of besides counts of the product.

    A sum of ±1 over n terms is n − 2·|a| − 2·|w| + 4·|a ∧ w| or n − 2·|a ⊕ w|, |·| counting ones.
    Pixels outside the image are multiplied as −1 in all channels. With t = Σ w over the channels of
    a tap, another padding p adds (p + 1)·t for each tap outside; the taps inside are a rectangle,
    and its sum follows from four sums over rectangles that start at the first tap.

    Args:
        weight: bool (K, C_out, taps, C_in).
        kernel: (height, width), taps in all.
        padding: −1, 0 or +1.

    Returns:
        int32 (K, rows, 64·⌈C_out / 64⌉). Row 0: n − 2·|w|. Then, unless p is −1, row
        1 + y·(kw + 1) + x: (p + 1)·t summed over the taps above y and left of x.
    """
    bases, outputs, taps, channels = weight.shape
    sums = np.full((bases, taps, blocks(outputs) * BLOCK), -channels, np.int64)
    sums[:, :, :outputs] += 2 * weight.sum(axis=3).transpose(0, 2, 1)
    rows = [-sums.sum(axis=1, keepdims=True)]
    if padding != -1:
        grid = np.zeros((bases, kernel[0] + 1, kernel[1] + 1, sums.shape[2]), np.int64)
        grid[:, 1:, 1:] = sums.reshape(bases, *kernel, -1)
        rectangles = grid.cumsum(axis=1).cumsum(axis=2).reshape(bases, -1, sums.shape[2])
        rows.append((padding + 1) * rectangles)
    return np.concatenate(rows, axis=1).astype(np.int32)


def arrange_bytes(weight: np.ndarray) -> np.ndarray:
    """8-bit weights, four input channels to a word, the lowest byte first.

    Args:
        weight: integers (C_out, taps, C_in).

    Returns:
        int32 (⌈C_out / 64⌉, taps, ⌈C_in / 4⌉, 64); channels past C_in and C_out are 0.
    """
    outputs, taps, channels = weight.shape
    padded = np.zeros((blocks(outputs) * BLOCK, taps, -(-channels // 4) * 4), np.int8)
    padded[:outputs, :, :channels] = weight
    rows = padded.view("<i4").reshape(-1, BLOCK, taps, padded.shape[2] // 4)
    return np.ascontiguousarray(rows.transpose(0, 2, 3, 1))


def restore_bytes(arranged: np.ndarray, outputs: int, channels: int) -> np.ndarray:
    """The inverse of `arrange_bytes`: int8 (C_out, taps, C_in)."""
    rows = np.ascontiguousarray(arranged.transpose(0, 3, 1, 2))
    return rows.reshape(-1, *rows.shape[2:]).view(np.int8)[:outputs, :, :channels]


def arrange_floats(weight: np.ndarray) -> np.ndarray:
    """float32 (groups, C_out, n) → (groups, ⌈C_out / 64⌉, n, 64); channels past C_out are 0."""
    groups, outputs, length = weight.shape
    padded = np.zeros((groups, blocks(outputs) * BLOCK, length), np.float32)
    padded[:, :outputs] = weight
    return np.ascontiguousarray(padded.reshape(groups, -1, BLOCK, length).transpose(0, 1, 3, 2))


def restore_floats(arranged: np.ndarray, outputs: int) -> np.ndarray:
    """The inverse of `arrange_floats`."""
    rows = arranged.transpose(0, 1, 3, 2)
    return rows.reshape(len(rows), -1, rows.shape[3])[:, :outputs]
