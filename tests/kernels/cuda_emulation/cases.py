"""Comparisons of CUDA kernels with the reference, on a GPU or emulated.

Each `check_…` takes the kernels and the device they run on; the reference runs on the CPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from binseg.kernels import layout, reference
from binseg.kernels.shape import ConvShape


@dataclass(frozen=True)
class Case:
    """A binary convolution; `shared` says that all bases read the same input."""

    name: str
    size: tuple[int, int, int]
    channels: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    dilations: tuple[int, ...] = (1,)
    padding: int = -1
    shared: bool = False

    @property
    def shape(self) -> ConvShape:
        return ConvShape(*self.channels, self.kernel, self.stride, self.dilations, self.padding)

    def inputs(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(sum(map(ord, self.name)))
        bases = len(self.dilations)
        signs = torch.rand(*self.size, 1 if self.shared else bases, self.channels[0]) < 0.5
        out = bases * self.channels[1]
        weight = torch.rand(out, self.channels[0], *self.kernel) < 0.5
        return layout.pack_bits(signs), layout.pack_weight(weight, bases)

    def parameters(self, rows: int) -> Tensor:
        return torch.randn(rows, len(self.dilations) * self.channels[1])

    def output(self, bases: int) -> tuple[int, ...]:
        height, width = self.shape.output_size(*self.size[1:])
        return self.size[0], height, width, bases, self.channels[1]


CONVS = [
    Case("one pixel", (1, 1, 1), (64, 64), padding=0),
    Case("few channels", (1, 4, 5), (3, 33), padding=1),
    Case("odd channels", (2, 5, 3), (33, 70), stride=2, padding=0),
    Case("one word more", (1, 6, 5), (70, 64), dilations=(2,), padding=1),
    Case("dilation past the picture", (1, 3, 4), (64, 40), dilations=(9,), padding=0),
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
    Case("many bases", (1, 3, 3), (32, 20), dilations=(1,) * 9, padding=1, shared=True),
]


def _to(device: str, *tensors: Any) -> list[Any]:
    return [t.to(device) if isinstance(t, Tensor) else t for t in tensors]


def _equal(name: str, got: Tensor, wanted: Tensor) -> None:
    got = got.cpu()
    assert got.shape == wanted.shape, f"{name}: {tuple(got.shape)}, not {tuple(wanted.shape)}"
    assert got.dtype == wanted.dtype, f"{name}: {got.dtype}, not {wanted.dtype}"
    different = (got != wanted) & ~((got != got) & (wanted != wanted))
    assert not different.any(), (
        f"{name}: {int(different.sum())} of {got.numel()} differ, first at "
        f"{different.nonzero()[0].tolist()}"
    )


def check_sum(kernels: Any, device: str, case: Case) -> None:
    call = (*case.inputs(), case.shape)
    for dtype in (torch.int32, torch.int16):
        got = kernels.conv_sum(*_to(device, *call), dtype)
        _equal(f"sums {dtype}", got, reference.conv_sum(*call, dtype))


def check_bits(kernels: Any, device: str, case: Case) -> None:
    call = (*case.inputs(), case.shape)
    size = (len(case.dilations) * case.channels[1],)
    level = torch.randint(-case.shape.terms, case.shape.terms + 1, size).div(3).int()
    width = torch.randint(0, case.shape.terms, size, dtype=torch.int32)
    at_least = (level, (2**31 - 1 - level.long()).int())
    at_most = (torch.full(size, -(2**31), dtype=torch.int32), (level.long() + 2**31))
    at_most = (at_most[0], torch.where(at_most[1] >= 2**31, at_most[1] - 2**32, at_most[1]).int())
    outside = (level + width + 1, (2**32 - 2 - width.long() - 2**32).int())
    for low, span in (at_least, at_most, (level, width), outside):
        got = kernels.conv_bits(*_to(device, *call, low, span))
        _equal("bits", got, reference.conv_bits(*call, low, span))


def check_real(kernels: Any, device: str, case: Case) -> None:
    call = (*case.inputs(), case.shape)
    curve = case.parameters(3)
    own, post = len(case.dilations), case.parameters(4)
    post[post.abs() < 0.2] = 0.0
    for tanh, bases, pack, after in (
        (False, 1, True, None),
        (False, own, True, None),
        (False, 0, False, None),
        (True, 0, True, None),
        (False, own, True, post),
        (False, 0, True, post),
        (False, 1, False, post),
        (True, 1, True, post),
    ):
        if tanh:
            curve = curve * torch.tensor([[1.0], [0.05], [1.0]])
        residual = torch.randn(case.output(bases)) if bases else None
        values, signs = kernels.conv_real(*_to(device, *call, curve, tanh, residual, pack, after))
        wanted, wanted_signs = reference.conv_real(*call, curve, tanh, residual, pack, after)
        if tanh:
            torch.testing.assert_close(values.cpu(), wanted, rtol=1e-5, atol=1e-5)
        else:
            _equal("values", values, wanted)
        if pack:
            signed = values.cpu()
            if after is not None:
                signed = signed + after[3].unflatten(0, (own, -1))
            wanted_signs = reference.pack_sign(signed)
        _equal("signs", signs, wanted_signs)


def check_merge(kernels: Any, device: str, case: Case) -> None:
    call = (*case.inputs(), case.shape)
    bases = len(case.dilations)
    curve, lambdas = case.parameters(3) / case.shape.terms, torch.rand(bases)
    gates = torch.rand(bases)
    for gate, keep, pack, tanh, residual_bases in (
        (None, True, True, False, 1),
        (gates, True, True, False, bases),
        (gates, False, True, True, 1),
        (gates, False, False, False, 1),
        (None, False, False, False, bases),
    ):
        residual = torch.randn(case.output(residual_bases))
        more = (curve, tanh, residual, lambdas, gate, keep, pack)
        branches, merged, signs = kernels.conv_merge(*_to(device, *call, *more))
        wanted, wanted_merged, wanted_signs = reference.conv_merge(*call, *more)
        torch.testing.assert_close(branches.cpu(), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(merged.cpu(), wanted_merged, rtol=1e-5, atol=1e-5)
        source = merged if gate is None else branches
        if pack:
            wanted_signs = reference.pack_sign(source.cpu())
        _equal("signs", signs, wanted_signs)


PACKS = [(1, 1, 1, 1, 1), (2, 3, 5, 1, 33), (1, 4, 3, 2, 64), (2, 2, 70, 3, 31), (0, 2, 2, 1, 8)]


def check_pack(kernels: Any, device: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    special = torch.tensor([float("nan"), -0.0, 0.0, float("-inf"), float("inf"), 1e-45, -1e-45])
    x = torch.randn(size)
    x.view(-1)[: special.numel()] = special[: x.numel()]
    images, height, width, bases, channels = size
    planes = torch.randn(images, bases * channels, height, width)
    spread = torch.randn(*size[:4], 2 * channels)[..., ::2]
    affine = torch.randn(images, 2, bases * channels)
    affine[affine.abs() < 0.3] = 0.0
    shared = torch.randn(2, bases * channels)
    for map_ in (
        x,
        planes.unflatten(1, (bases, channels)).permute(0, 3, 4, 1, 2),
        spread,
        x.transpose(1, 2),
    ):
        for dtype in (torch.float32, torch.bfloat16):
            y = map_.to(dtype)
            assert y.stride() == map_.stride() or map_ is spread
            for scale in (None, shared, affine):
                got = kernels.pack_sign(*_to(device, y, scale))
                _equal("packed", got, reference.pack_sign(y, scale))


def check_quantize(kernels: Any, device: str, channels: int) -> None:
    torch.manual_seed(channels)
    x = torch.randn(2, channels, 5, 7) * 40
    x.view(-1)[:6] = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.5, 1.5, -2.5])
    for map_ in (x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1).contiguous()):
        for scale, zero in ((1.0, 0), (0.7, 114), (3.0, 255)):
            _equal(
                "levels",
                kernels.quantize(map_.to(device), scale, zero),
                reference.quantize(map_, scale, zero),
            )


INT8 = [
    ((1, 1, 1), (3, 64), (7, 7), 2),
    ((2, 9, 11), (3, 64), (7, 7), 2),
    ((1, 6, 5), (33, 70), (3, 3), 1),
    ((1, 20, 8), (1, 5), (2, 3), 3),
    ((0, 4, 4), (3, 8), (3, 3), 1),
]


def check_int8(
    kernels: Any, device: str, size: Any, channels: Any, kernel: Any, stride: int
) -> None:
    torch.manual_seed(1)
    inputs, outputs = channels
    shape = ConvShape(inputs, outputs, kernel, stride, (1 if stride > 1 else 2,), 0)
    x = torch.randint(0, 256, (*size, -(-inputs // 4) * 4), dtype=torch.uint8)
    weight = layout.pack_int8_weight(
        torch.randint(-128, 128, (outputs, inputs, *kernel), dtype=torch.int8)
    )
    curve = torch.randn(2, outputs) * torch.tensor([[0.001], [1.0]])
    for zero, relu in ((0, False), (114, True)):
        call = (x, weight, shape, zero, curve, relu)
        _equal("int8", kernels.conv_int8(*_to(device, *call)), reference.conv_int8(*call))
        if size[0] == 0:
            continue
        got = kernels.conv_int8_pool(*_to(device, *call[:-1]))
        for name, one, wanted in zip(
            ("pooled", "signs"), got, reference.conv_int8_pool(*call[:-1]), strict=True
        ):
            _equal(name, one, wanted)


UPSAMPLES = [
    ((1, 1, 1, 3), (4, 5)),
    ((2, 3, 5, 19), (24, 33)),
    ((1, 6, 7, 2), (6, 7)),
    ((1, 9, 8, 255), (4, 3)),
    ((1, 4, 4, 1), (8, 8)),
    ((0, 2, 2, 3), (4, 4)),
]


def check_upsample(kernels: Any, device: str, size: Any, target: tuple[int, int]) -> None:
    torch.manual_seed(2)
    scores = torch.randn(size)
    for map_ in (scores, scores.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)):
        got = kernels.upsample_argmax(map_.to(device), *target).cpu()
        assert got.shape == (size[0], *target)
        assert got.dtype == torch.uint8
        if size[0] == 0:
            continue
        wide = torch.nn.functional.interpolate(
            map_.permute(0, 3, 1, 2), size=target, mode="bilinear", align_corners=False
        )
        chosen = wide.gather(1, got.long().unsqueeze(1)).squeeze(1)
        assert (wide.max(dim=1).values - chosen).max() < 1e-5
    flat = torch.ones(size)
    assert not kernels.upsample_argmax(flat.to(device), *target).any(), "the lowest id wins a tie"
