"""Calls of the operators that CUDA kernels must answer as the CPU does, on a GPU or emulated.

Each `…_calls` gives names and arguments; `check` compares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from binseg.program.cuda import operators, weights  # registers them
from binseg.program.cuda.operator_tensors import Plan

assert operators.register

TENSOR: Plan = (weights.ENGINES.index("tensor"), 0, 0)

Call = tuple[str, tuple[Any, ...]]


def check(given: Any, device: str, call: Call) -> None:
    """The operators `given` on `device` against the CPU's."""
    name, arguments = call
    wanted = getattr(torch.ops.binseg, name)(*arguments)
    got = getattr(given, name)(
        *(each.to(device) if isinstance(each, Tensor) else each for each in arguments)
    )
    many = isinstance(wanted, tuple)
    for one, other in zip(got if many else (got,), wanted if many else (wanted,), strict=True):
        one = one.cpu()
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name
        different = (one != other) & ~((one != one) & (other != other))
        assert not different.any(), (
            f"{name}: {int(different.sum())} of {one.numel()} differ, first at "
            f"{different.nonzero()[0].tolist()}"
        )


@dataclass(frozen=True)
class Case:
    """A convolution over bits; `shared` means that all bases read the same input."""

    name: str
    size: tuple[int, int, int]
    channels: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    dilations: tuple[int, ...] = (1,)
    padding: int = -1
    shared: bool = False

    @property
    def bases(self) -> int:
        return len(self.dilations)

    @property
    def terms(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.channels[0]

    def inputs(self, rng: np.random.Generator, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
        """Bits, weight and table."""
        bases = 1 if self.shared else self.bases
        bits = weights.pack_bits(rng.random((*self.size, bases, self.channels[0])) < 0.5)
        taps = self.kernel[0] * self.kernel[1]
        weight = rng.random((self.bases, self.channels[1], taps, self.channels[0])) < 0.5
        arranged = weights.arrange_bits(weight, weights.ENGINES[plan[0]])
        table = weights.sum_table(weight, self.kernel, self.padding)
        return torch.from_numpy(bits), torch.from_numpy(arranged), torch.from_numpy(table)

    def shape(self, plan: Plan) -> tuple[Any, ...]:
        form = (self.kernel, self.stride, self.dilations, self.padding, plan)
        return (*self.channels, *form)

    def output(self, channels: int) -> tuple[int, ...]:
        height, width = (-(-side // self.stride) for side in self.size[1:])
        return self.size[0], height, width, channels


CONVS = [
    Case("one pixel", (1, 1, 1), (64, 64), padding=0),
    Case("few channels", (1, 4, 5), (3, 33), padding=1),
    Case("odd channels", (2, 5, 3), (33, 70), stride=2, padding=0),
    Case("one word more", (1, 6, 5), (70, 64), dilations=(2,), padding=1),
    Case("dilation past the image", (1, 3, 4), (64, 40), dilations=(9,), padding=0),
    Case("far past it", (1, 3, 4), (40, 64), dilations=(50,), padding=1),
    Case("four words", (1, 7, 9), (128, 64), dilations=(2,), padding=-1),
    Case("many chunks", (1, 4, 4), (320, 72), padding=0),
    Case("bases", (1, 5, 6), (64, 36), dilations=(1, 3, 2), padding=0),
    Case("shared input", (2, 4, 5), (96, 64), dilations=(2, 1), padding=1, shared=True),
    Case("even kernel", (1, 5, 5), (32, 8), kernel=(2, 4), stride=2, padding=1),
    Case("1×1", (1, 6, 7), (128, 100), kernel=(1, 1), stride=2, padding=0),
    Case("long row", (1, 1, 150), (32, 3), kernel=(1, 5), dilations=(1, 40), padding=0),
    Case("large kernel", (1, 6, 5), (5, 9), kernel=(7, 7), padding=0, stride=3),
    Case("empty batch", (0, 4, 4), (64, 64), dilations=(1, 2), padding=0),
]

MERGES = [case for case in CONVS if case.channels[1] % 4 != 1] + [
    Case("four bases", (1, 5, 7), (64, 64), dilations=(1, 2, 3, 4), padding=0),
    Case("eight bases", (1, 3, 3), (32, 20), dilations=(1,) * 8, padding=1, shared=True),
]


def numbers(rng: np.random.Generator, *size: int) -> Tensor:
    """Multiples of 1/4, so that sums hit thresholds."""
    return torch.from_numpy((np.round(rng.normal(size=size) * 4) / 4).astype(np.float32))


def bits_calls(case: Case, plan: Plan) -> Iterator[Call]:
    rng = np.random.default_rng(0)
    given, count, terms = case.inputs(rng, plan), case.bases * case.channels[1], case.terms
    level = rng.integers(-terms, terms + 1, count) // 3
    width = rng.integers(0, terms, count)
    for low, span in (
        (level, 2**31 - 1 - level),  # at least
        (np.full(count, -(2**31)), level + 2**31),  # at most
        (level, width),
        (level + width + 1, 2**32 - 2 - width),  # outside
    ):
        limits = [
            torch.from_numpy(each.astype(np.int64).astype(np.uint32).view(np.int32))
            for each in (low, span)
        ]
        yield "conv_bits", (*given, *limits, *case.shape(plan))


def real_calls(case: Case, plan: Plan) -> Iterator[Call]:
    rng = np.random.default_rng(1)
    given, own = case.inputs(rng, plan), case.channels[1]
    rows = case.bases * own
    sums = torch.tensor([1.0, 1.0, 0.0])[:, None].repeat(1, rows)
    yield "conv_real", (*given, sums, False, None, None, True, False, *case.shape(plan))
    for tanh, residual, post, keep, pack in (
        (False, own, None, True, True),
        (False, rows, None, False, True),
        (True, 0, None, True, True),
        (False, rows, 4, True, True),
        (True, own, 4, False, True),
        (False, 0, 4, True, False),
    ):
        curve = numbers(rng, 3, rows) * torch.tensor([[0.0625], [0.0625], [1.0]])
        added = numbers(rng, *case.output(residual)) if residual else None
        after = numbers(rng, post, rows) if post else None
        yield "conv_real", (*given, curve, tanh, added, after, keep, pack, *case.shape(plan))


def merge_calls(case: Case, plan: Plan) -> Iterator[Call]:
    rng = np.random.default_rng(2)
    given, own = case.inputs(rng, plan), case.channels[1]
    rows = case.bases * own
    for tanh, residual, post, gated, moved, keep, pack in (
        (False, own, False, False, True, True, True),
        (False, rows, True, True, True, True, True),
        (True, 0, False, True, False, False, True),
        (False, own, True, True, False, False, False),
        (False, rows, False, False, False, False, True),
    ):
        curve = numbers(rng, 3, rows) * torch.tensor([[0.0625], [0.0625], [1.0]])
        yield (
            "conv_merge",
            (
                *given,
                curve,
                tanh,
                numbers(rng, *case.output(residual)) if residual else None,
                numbers(rng, 3, rows) if post else None,
                numbers(rng, case.bases),
                numbers(rng, case.bases) if gated else None,
                numbers(rng, rows if gated else own) if moved else None,
                keep,
                pack,
                *case.shape(plan),
            ),
        )


def pack_calls() -> Iterator[Call]:
    rng = np.random.default_rng(3)
    special = torch.tensor([float("nan"), -0.0, 0.0, -float("inf"), float("inf"), 1e-45, -1e-45])
    for size, bases in (
        ((1, 1, 1, 1), 1),
        ((2, 3, 5, 33), 1),
        ((1, 4, 3, 128), 2),
        ((2, 2, 70, 93), 3),
        ((0, 2, 2, 8), 1),
    ):
        x = numbers(rng, *size)
        x.view(-1)[: special.numel()] = special[: x.numel()]
        affine = numbers(rng, 2, size[3])
        planes = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        for map_ in (x, planes, x.repeat(1, 1, 1, 2)[..., ::2], x.bfloat16()):
            if map_.shape[3] % bases == 0:
                yield "pack_sign", (map_, None, bases)
                yield "pack_sign", (map_, affine, bases)


def byte_calls() -> Iterator[Call]:
    rng = np.random.default_rng(4)
    for size, outputs, kernel, stride, pads, dilation in (
        ((1, 1, 1, 3), 64, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
        ((2, 9, 11, 3), 65, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
        ((1, 6, 5, 33), 70, (3, 2), (1, 2), (2, 0, 1, 3), (2, 1)),
        ((1, 20, 8, 4), 5, (2, 3), (3, 1), (0, 0, 0, 0), (1, 2)),
        ((0, 4, 4, 3), 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ):
        channels = size[3]
        x = torch.from_numpy(rng.integers(0, 256, size, np.uint8))
        taps = kernel[0] * kernel[1]
        weight = weights.arrange_bytes(rng.integers(-128, 128, (outputs, taps, channels)))
        border = torch.zeros(-(-channels // 4) * 4, dtype=torch.uint8)
        border[:channels] = torch.from_numpy(rng.integers(0, 256, channels, np.uint8))
        curve = numbers(rng, 2, outputs) * torch.tensor([[0.001], [1.0]])
        for pool in (False, True):
            call = (x, torch.from_numpy(weight), border, curve, pool)
            yield "conv_int8", (*call, kernel, stride, pads, dilation)


def float_calls() -> Iterator[Call]:
    rng = np.random.default_rng(5)
    for size, outputs, groups, kernel, stride, pads, dilation in (
        ((1, 1, 1, 3), 64, 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((2, 7, 9, 33), 70, 1, (3, 2), (2, 1), (2, 0, 1, 3), (1, 2)),
        ((1, 9, 8, 40), 9, 4, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((2, 6, 5, 17), 1, 17, (3, 3), (1, 2), (1, 1, 1, 1), (2, 1)),
        ((0, 6, 5, 4), 16, 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ):
        length = kernel[0] * kernel[1] * size[3] // groups
        weight = rng.normal(size=(groups, outputs, length)).astype(np.float32)
        arranged = torch.from_numpy(weights.arrange_floats(weight))
        x = torch.from_numpy(rng.normal(size=size).astype(np.float32))
        for bias in (None, numbers(rng, groups * outputs)):
            window = (kernel, stride, pads, dilation)
            yield "conv_float", (x, arranged, bias, outputs, groups, *window)


def other_calls() -> Iterator[Call]:
    rng = np.random.default_rng(6)

    def values(*size: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=size).astype(np.float32))

    x = values(2, 3, 5, 7)
    yield "fma", (x, values(7), values(7))
    yield "fma", (x.permute(0, 2, 1, 3), values(2, 1, 1, 1), values(5, 1, 1))
    for sigmoid in (False, True):
        yield "tanh", (x * 10, sigmoid)
    levels = x * 40
    levels.view(-1)[:6] = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.5, 1.5, -2.5])
    for scale, zero in ((1.0, 0), (0.7, 114), (3.0, 255)):
        yield "quantize", (levels, scale, zero)
    for dtype in (torch.float32, torch.float64):
        yield "ordered_sum", (values(3, 41, 5).to(dtype),)
    for old, new in (((1, 1), (4, 5)), ((3, 5), (24, 33)), ((6, 7), (6, 7)), ((9, 8), (4, 3))):
        maps = numbers(rng, 2, *old, 19)
        for bilinear, align_corners in ((True, False), (True, True), (False, False)):
            yield "resize", (maps, *new, bilinear, align_corners)
        planes = maps.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        for scores in (maps, planes, torch.ones_like(maps)):
            yield "upsample_argmax", (scores, *new)
    yield "upsample_argmax", (numbers(rng, 1, 4, 4, 255), 9, 11)


def all_other_calls() -> list[Call]:
    return [*pack_calls(), *byte_calls(), *float_calls(), *other_calls()]
