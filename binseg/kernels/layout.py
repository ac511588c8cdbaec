"""How bits and bytes lie in memory; the same on every backend.

Activations are NHWC with the bases side by side: int32 (N, H, W, bases, words(C)). Unused bits of
the last word are 0 in activations and in weights, so that they never differ and count for nothing.
Weights put 64 output channels side by side: a SIMD lane is one output channel, its 32-bit word 32
input channels, and no sum over lanes is ever needed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.kernels.shape import BLOCK, WORD, blocks, words

_BIT = 1 << torch.arange(WORD, dtype=torch.int64)
_GATHER = sum(1 << (56 - 7 * byte) for byte in range(8))


def pack_bits(bits: Tensor) -> Tensor:
    """Bool (..., C) to int32 words (..., ⌈C / 32⌉); bit c mod 32 of word ⌊c / 32⌋."""
    channels = bits.shape[-1]
    eights = F.pad(bits, (0, -channels % WORD)).flatten().view(torch.int64)
    # the product has the lowest bits of eight bytes side by side at its top
    gathered = ((eights * _GATHER) >> 56).to(torch.uint8).view(torch.int32)
    return gathered.view(*bits.shape[:-1], words(channels))


def unpack_bits(packed: Tensor, channels: int) -> Tensor:
    """int32 words (..., ⌈C / 32⌉) to bool (..., C)."""
    bits = (packed.long().unsqueeze(-1) & _BIT.to(packed.device)) != 0
    return bits.flatten(-2)[..., :channels]


def pack_weight(weight: Tensor, bases: int = 1) -> Tensor:
    """Signs of convolution weights in the kernels' order.

    Args:
        weight: (bases·C_out, C_in, kh, kw), floating point (1 where ≥ 0) or bool.

    Returns:
        int32 (bases, ⌈C_out / 64⌉, kh·kw, ⌈C_in / 32⌉, 64); rows past C_out are 0.
    """
    bits = weight if weight.dtype == torch.bool else weight >= 0
    return _arrange(pack_bits(bits.flatten(2).transpose(1, 2).unflatten(0, (bases, -1))))


def unpack_weight(packed: Tensor, in_channels: int, out_channels: int) -> Tensor:
    """The inverse of `pack_weight`: bool (bases·C_out, C_in, taps, 1)."""
    rows = packed.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, :out_channels]
    bits = unpack_bits(rows, in_channels)
    return bits.flatten(0, 1).transpose(1, 2).unsqueeze(-1)


def pack_int8_weight(weight: Tensor) -> Tensor:
    """8-bit weights in the kernels' order: four input channels to a word, lowest byte first.

    Args:
        weight: int8 (C_out, C_in, kh, kw).

    Returns:
        int32 (⌈C_out / 64⌉, kh·kw, ⌈C_in / 4⌉, 64); channels past C_in and C_out are 0.
    """
    out_channels, in_channels = weight.shape[:2]
    fours = -(-in_channels // 4)
    padded = weight.new_zeros((out_channels, weight[0, 0].numel(), fours * 4))
    padded[..., :in_channels] = weight.flatten(2).transpose(1, 2)
    return _arrange(padded.contiguous().view(torch.int32).unsqueeze(0))[0]


def _arrange(rows: Tensor) -> Tensor:
    """(bases, C_out, taps, words) to (bases, blocks, taps, words, 64)."""
    bases, channels, taps, length = rows.shape
    padded = rows.new_zeros((bases, blocks(channels) * BLOCK, taps, length))
    padded[:, :channels] = rows
    return padded.unflatten(1, (-1, BLOCK)).permute(0, 1, 3, 4, 2).contiguous()
