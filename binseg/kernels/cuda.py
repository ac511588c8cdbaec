"""The CUDA kernels: what they need beside their arguments, and the tensors that they fill.

Weights are re-arranged once into the order in which tensor cores read them, and kept as long as the
weight itself. A sum of ±1 over n terms is n − 2·|a| − 2·|w| + 4·|a ∧ w| (sm_80 and later) or
n − 2·|a ⊕ w|, |·| counting ones; what depends on weights alone is in a table beside them.
"""

import math
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from binseg.errors import BinsegError, unknown_name
from binseg.kernels import build, reference, results
from binseg.kernels.shape import ConvShape, blocks

ENVIRONMENT = "BINSEG_CUDA"
ENGINES = ("cores", "tensor", "wgmma")
"""CUDA cores; tensor cores, a warp at a time; those of sm_90a, four warps at a time."""

_STEP = 8  # words that one matrix instruction takes
_MOST_BASES = 64
_LARGEST_REACH = 2**29
_LARGEST_GRID = 65535


@cache
def backend(device: torch.device) -> "Kernels":
    """The kernels for the GPU `device`, built on first use.

    The environment variable BINSEG_CUDA names one of `ENGINES` to use in place of "tensor".

    Raises:
        BuildError: no kernels for this machine.
        BinsegError: the environment names an unknown engine, or one that this GPU does not have.
    """
    asked = os.environ.get(ENVIRONMENT) or None
    if asked is not None and asked not in ENGINES:
        raise unknown_name(f"engine in {ENVIRONMENT}", asked, ENGINES)
    build.load("cuda")
    capability = torch.cuda.get_device_capability(device)
    had = engines(capability)
    if asked is not None and asked not in had:
        raise BinsegError(f"{ENVIRONMENT}={asked}: this GPU has {' and '.join(had)} only")
    properties = torch.cuda.get_device_properties(device)
    plan = Plan(
        engine=asked or had[0],
        capability=capability,
        multiprocessors=properties.multi_processor_count,
        shared_limit=getattr(properties, "shared_memory_per_block_optin", 48 * 1024),
    )
    return Kernels(torch.ops.binseg_cuda, plan)


def engines(capability: tuple[int, int]) -> tuple[str, ...]:
    """Those of `ENGINES` that a GPU has, the default first."""
    # later GPUs have no 1-bit tensor cores: their instructions on bits are emulated
    if not (7, 5) <= capability < (10, 0):
        return ("cores",)
    return ("tensor", "wgmma", "cores") if capability == (9, 0) else ("tensor", "cores")


@dataclass(frozen=True)
class Plan:
    """How convolutions run on a GPU.

    Attributes:
        engine: one of `ENGINES`.
        capability: of the GPU.
        multiprocessors: of the GPU.
        shared_limit: bytes of shared memory that a block of threads may have.
        rows: output pixels of a block of threads: 128, 64 or 32; None chooses.
    """

    engine: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_limit: int
    rows: int | None = None

    @property
    def counts_and(self) -> bool:
        """Whether products count a ∧ w, not a ⊕ w."""
        return self.engine != "cores" and self.capability >= (8, 0)

    def tile_rows(self, pixels: int, columns: int) -> int:
        """The largest tile that still gives every multiprocessor work."""
        if self.rows is not None:
            return self.rows
        if -(-pixels // 128) * columns >= 2 * self.multiprocessors:
            return 128
        return 64 if -(-pixels // 64) * columns >= self.multiprocessors else 32


class Kernels:
    """The functions of `reference` on CUDA.

    Args:
        operators: the namespace under `torch.ops` that holds the kernels.
        plan: for the GPU they run on.
    """

    NAME = "cuda"

    def __init__(self, operators: Any, plan: Plan) -> None:
        self.plan = plan
        self._operators = operators
        self._prepared: Any = WeakTensorKeyDictionary()

    def pack_sign(self, x: Tensor, affine: Tensor | None = None) -> Tensor:
        out = results.pack_sign(x, self._empty)
        self._operators.pack_sign(x, _or_nothing(affine, x), out)
        return out

    def conv_sum(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, dtype: torch.dtype
    ) -> Tensor:
        if not _is_supported(shape):
            return reference.conv_sum(bits, weight, shape, dtype)
        call = self._call(bits, weight, shape)
        out = results.conv_sum(bits, shape, dtype, self._empty)
        self._operators.conv_sum(*call.inputs, out, *call.numbers)
        return out

    def conv_bits(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, low: Tensor, span: Tensor
    ) -> Tensor:
        if not _is_supported(shape):
            return reference.conv_bits(bits, weight, shape, low, span)
        call = self._call(bits, weight, shape)
        out = results.conv_bits(bits, shape, self._empty)
        self._operators.conv_bits(*call.inputs, low, span, out, *call.numbers)
        return out

    def conv_real(
        self,
        bits: Tensor,
        weight: Tensor,
        shape: ConvShape,
        curve: Tensor,
        tanh: bool,
        residual: Tensor | None,
        pack: bool,
        post: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if not _is_supported(shape):
            return reference.conv_real(bits, weight, shape, curve, tanh, residual, pack, post)
        call = self._call(bits, weight, shape)
        out, signs = results.conv_real(bits, shape, pack, self._empty)
        after = _or_nothing(residual, curve), _or_nothing(post, curve)
        self._operators.conv_real(*call.inputs, curve, tanh, *after, out, signs, *call.numbers)
        return out, signs

    def conv_merge(
        self,
        bits: Tensor,
        weight: Tensor,
        shape: ConvShape,
        curve: Tensor,
        tanh: bool,
        residual: Tensor,
        lambdas: Tensor,
        gates: Tensor | None,
        keep_merged: bool,
        pack: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not _is_supported(shape):
            return reference.conv_merge(
                bits, weight, shape, curve, tanh, residual, lambdas, gates, keep_merged, pack
            )
        call = self._call(bits, weight, shape, all_bases=True)
        made = results.conv_merge(bits, shape, gates is not None, keep_merged, pack, self._empty)
        self._operators.conv_merge(
            *call.inputs,
            curve,
            tanh,
            residual,
            lambdas,
            _or_nothing(gates, curve),
            *made,
            *call.numbers,
        )
        return made

    def quantize(self, x: Tensor, inverse_scale: float, zero_point: int) -> Tensor:
        out = results.quantize(x, self._empty)
        self._operators.quantize(x, inverse_scale, zero_point, out)
        return out

    def conv_int8(
        self,
        x: Tensor,
        weight: Tensor,
        shape: ConvShape,
        zero_point: int,
        curve: Tensor,
        relu: bool,
    ) -> Tensor:
        if not _is_supported(shape):
            return reference.conv_int8(x, weight, shape, zero_point, curve, relu)
        out = results.conv_int8(x, shape, self._empty)
        self._operators.conv_int8(
            _aligned(x), _aligned(weight), curve, relu, out, _int8_numbers(shape, zero_point)
        )
        return out

    def conv_int8_pool(
        self, x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor
    ) -> tuple[Tensor, Tensor]:
        if not _is_supported(shape):
            return reference.conv_int8_pool(x, weight, shape, zero_point, curve)
        sums = self._empty(x, (*results.map_size(x, shape), shape.out_channels), torch.int32)
        self._operators.conv_int8(
            _aligned(x),
            _aligned(weight),
            curve.new_empty(0),
            False,
            sums,
            _int8_numbers(shape, zero_point),
        )
        out, signs = results.conv_int8_pool(x, shape, self._empty)
        self._operators.pool_sums(sums, curve, out, signs)
        return out, signs

    def upsample_argmax(self, scores: Tensor, height: int, width: int) -> Tensor:
        out = results.upsample_argmax(scores, height, width, self._empty)
        self._operators.upsample_argmax(scores, out)
        return out

    def _empty(self, like: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device=like.device)

    def _call(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, all_bases: bool = False
    ) -> "_Call":
        columns = blocks(shape.out_channels) * (1 if all_bases else shape.bases)
        pixels = math.prod(results.map_size(bits, shape))
        numbers = (
            [*shape.kernel, shape.stride, shape.out_channels, *shape.dilations],
            [
                int(shape.padding_value != -1),
                ENGINES.index(self.plan.engine),
                self.plan.tile_rows(pixels, columns),
                self.plan.shared_limit,
            ],
        )
        arranged, table = self._prepare(weight, shape)
        return _Call((_aligned(bits), arranged, table), numbers)

    def _prepare(self, weight: Tensor, shape: ConvShape) -> tuple[Tensor, Tensor]:
        """The weight in the kernels' order and its table, remembered until the weight changes.

        A CUDA graph holds the addresses of what it was captured with: it has to be captured again
        after its weights have changed.
        """
        version = None if weight.is_inference() else weight._version
        key = shape.in_channels, shape.kernel, shape.padding_value
        known = self._prepared.get(weight)
        if known is not None and known.version == version and key in known.made:
            return known.made[key]
        made = (
            arrange(weight, self.plan.engine == "wgmma"),
            make_table(weight, shape, self.plan.counts_and),
        )
        # what is made while a graph is captured holds nothing before the graph runs
        if not (weight.is_cuda and torch.cuda.is_current_stream_capturing()):
            if known is None or known.version != version:
                known = self._prepared[weight] = _Prepared(version, {})
            known.made[key] = made
        return made


@dataclass(frozen=True)
class _Prepared:
    """What was made of one version of a weight."""

    version: int | None
    made: dict[tuple[int, tuple[int, int], int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Call:
    """What all binary convolutions are called with."""

    inputs: tuple[Tensor, Tensor, Tensor]
    numbers: tuple[list[int], list[int]]


def arrange(weight: Tensor, wgmma: bool = False) -> Tensor:
    """Weights in the order in which matrix instructions read them.

    A step is 8 words of the (tap, word) pairs in order, filled up with zeros. Column g of tile j,
    of the four 8-column tiles in a group of 32 channels, is channel 8·⌊g / 2⌋ + 2·j + g mod 2, so
    that a thread's sums belong to 8 channels side by side.

    For warps, lane 4·g + t holds words 2·t and 2·t + 1 of column g, of two tiles at a time. For
    `wgmma`, which reads shared memory by itself, a tile is two cores of 8 columns × 4 words: the
    even words, then the odd ones.

    Args:
        weight: from `layout.pack_weight`.
        wgmma: which order.

    Returns:
        int32 (K, ⌈C_out / 64⌉, steps, 512).
    """
    flat = weight.flatten(2, 3)
    flat = F.pad(flat, (0, 0, 0, -flat.shape[2] % _STEP))
    # dimensions 2 to 9: steps, t, word of the pair, group, half of g, pair of tiles, tile of the
    # pair, parity of g
    split = flat.unflatten(3, (2, 4, 2, 2, 2)).unflatten(2, (-1, 4, 2))
    order = (5, 7, 8, 4, 6, 9, 3) if wgmma else (5, 7, 6, 9, 3, 8, 4)
    return split.permute(0, 1, 2, *order).flatten(3).contiguous()


def make_table(weight: Tensor, shape: ConvShape, counts_and: bool) -> Tensor:
    """What the sums of each output channel are made of besides counts of the product.

    Pixels outside the picture are multiplied as −1 in all channels. With t = Σ w over the channels
    of a tap, another padding value p adds (p + 1)·t for each tap outside; the taps inside are a
    rectangle, and its sum follows from four sums over rectangles that start at the first tap.

    Args:
        weight: from `layout.pack_weight`.
        shape: of the convolution.
        counts_and: whether the product counts a ∧ w, not a ⊕ w.

    Returns:
        int32 (K, rows, 64·⌈C_out / 64⌉). Row 0: n − 2·|w|, or n. Then, unless p is −1, row
        1 + y·(kw + 1) + x: (p + 1)·t summed over the taps above y and left of x.
    """
    ones = _count_ones(weight).sum(3).transpose(1, 2).flatten(2)  # K, taps, channels
    sums = 2 * ones - shape.in_channels
    first = -sums.sum(1, keepdim=True)
    if not counts_and:
        first = torch.full_like(first, shape.terms)
    rows = [first]
    if shape.padding_value != -1:
        grid = F.pad(sums.unflatten(1, shape.kernel), (0, 0, 1, 0, 1, 0))
        rectangles = grid.cumsum(1).cumsum(2).flatten(1, 2)
        rows.append((shape.padding_value + 1) * rectangles)
    return torch.cat(rows, dim=1).int().contiguous()


def _count_ones(packed: Tensor) -> Tensor:
    """Ones in each 32-bit word, as int64."""
    count = packed.long() & 0xFFFFFFFF
    count = count - ((count >> 1) & 0x55555555)
    count = (count & 0x33333333) + ((count >> 2) & 0x33333333)
    count = (count + (count >> 4)) & 0x0F0F0F0F
    return (count * 0x01010101 >> 24) & 0xFF


def _is_supported(shape: ConvShape) -> bool:
    """Whether coordinates stay within 32 bits; sizes that nobody trains go to the reference."""
    reach = max(shape.dilations) * max(shape.kernel)
    columns = blocks(shape.out_channels) * shape.bases
    return reach < _LARGEST_REACH and shape.bases <= _MOST_BASES and columns <= _LARGEST_GRID


def _aligned(x: Tensor) -> Tensor:
    """`x` where its memory starts at a multiple of 16 bytes, or else a copy that does."""
    return x if x.data_ptr() % 16 == 0 else x.clone()


def _or_nothing(tensor: Tensor | None, like: Tensor) -> Tensor:
    """`tensor`, or an empty one on the device of `like`, which the binding reads as none."""
    return like.new_empty(0) if tensor is None else tensor


def _int8_numbers(shape: ConvShape, zero_point: int) -> list[int]:
    return [*shape.kernel, shape.stride, shape.dilations[0], shape.out_channels, zero_point]
