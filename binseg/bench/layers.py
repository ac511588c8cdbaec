"""One 3×3 binary convolution, and one group block of four bases, at ResNet-18's shapes."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.bench.machine import has_bf16
from binseg.bench.onnx_layer import onnx_conv
from binseg.bench.options import BenchOptions
from binseg.bench.timing import Timing, measure, ratios, threads
from binseg.kernels import isa, ops
from binseg.kernels.dispatch import use
from binseg.kernels.layout import pack_weight
from binseg.kernels.shape import ConvShape

FP32 = ["fp32 NCHW", "fp32 channels_last"]
INT8 = ["int8 torch", "int8 ONNX Runtime"]
SIGN = " sign "  # in the names of sides that only take signs and pack them
BASES = 4

Side = Callable[[], object]


@dataclass(frozen=True)
class LayerShape:
    """A 3×3 convolution with as many channels out as in, stride 1, batch 1.

    Attributes:
        channels: C.
        height, width: of the map, in pixels.
        dilation: rate.
    """

    channels: int
    height: int
    width: int
    dilation: int = 1

    @property
    def macs(self) -> int:
        """Products of one convolution: C_out·C_in·9·H·W."""
        return self.channels**2 * 9 * self.height * self.width

    def __str__(self) -> str:
        text = f"C{self.channels} {self.height}×{self.width}"
        return text if self.dilation == 1 else f"{text} d{self.dilation}"


SHAPES = (
    LayerShape(64, 120, 160),
    LayerShape(128, 60, 80),
    LayerShape(256, 30, 40),
    LayerShape(512, 30, 40, 2),
)
"""ResNet-18's four stages at 480 × 640 and output stride 16."""


def measure_layers(
    options: BenchOptions,
    notes: list[str],
    progress: Callable[[str], None],
    shapes: Sequence[LayerShape],
) -> Iterator[dict[str, Any]]:
    """Each shape's convolution in fp32, bf16, int8 and 1 bit.

    Args:
        options: how long, with how many threads and on which backends.
        notes: takes a line about every side that this machine cannot run.
        progress: told what is being measured.
        shapes: of the layers.

    Yields:
        JSON values for each number of threads and shape; "speedup" is against the fastest fp32
        and int8.
    """
    for number in options.threads:
        with threads(number), torch.inference_mode():
            for shape in shapes:
                sides = {**_torch_sides(shape, notes), **_int8_sides(shape, number, notes)}
                for backend in chosen_backends(options):
                    sides.update(_binary_sides(shape, backend))
                timings = measure(
                    sides,
                    rounds=options.rounds,
                    seconds=options.seconds,
                    progress=lambda side, shape=shape: progress(f"{shape}, {side}"),  # type: ignore[misc]
                )
                yield _result(shape, number, timings, shape.macs)


def measure_blocks(
    options: BenchOptions,
    progress: Callable[[str], None],
    shapes: Sequence[LayerShape],
) -> Iterator[dict[str, Any]]:
    """A Group-Net block of two convolutions and `BASES` bases at each shape: 8 convolutions.

    The first convolutions give bits by thresholds; the last are merged with the shortcut, and
    gated for the next block or not, down to its signs.
    """
    for number in options.threads:
        with threads(number), torch.inference_mode():
            for shape in shapes:
                sides = {
                    f"{backend} {name}": side
                    for backend in chosen_backends(options)
                    for name, side in _block_sides(shape, backend).items()
                }
                timings = measure(
                    sides,
                    rounds=options.rounds,
                    seconds=options.seconds,
                    progress=lambda side, shape=shape: progress(f"block {shape}, {side}"),  # type: ignore[misc]
                )
                yield _result(shape, number, timings, 2 * BASES * shape.macs)


def chosen_backends(options: BenchOptions) -> tuple[str, ...]:
    """Those asked for, or the fastest of this machine, and AVX2 where there is AVX-512."""
    if options.backends:
        return options.backends
    known = isa.supported()
    return tuple(name for name in (known[-1], "avx2") if name in known and name != "portable") or (
        "portable",
    )


def _result(
    shape: LayerShape, number: int, timings: dict[str, Timing], macs: int
) -> dict[str, Any]:
    convolutions = {name: timing for name, timing in timings.items() if SIGN not in name}
    return {
        "shape": {**asdict(shape), "name": str(shape)},
        "threads": number,
        "macs": macs,
        "sides": {
            name: timing.to_dict()
            | ({} if SIGN in name else {"gmacs_per_second": macs / timing.seconds / 1e9})
            for name, timing in timings.items()
        },
        "speedup_over_fp32": ratios(convolutions, FP32),
        "speedup_over_int8": ratios(convolutions, INT8),
    }


def _torch_sides(shape: LayerShape, notes: list[str]) -> dict[str, Side]:
    x = torch.randn(1, shape.channels, shape.height, shape.width)
    w = torch.randn(shape.channels, shape.channels, 3, 3)
    sides: dict[str, Side] = {}
    last = torch.channels_last
    for name, dtype, form in (
        ("fp32 NCHW", torch.float32, torch.contiguous_format),
        ("fp32 channels_last", torch.float32, last),
        ("bf16 channels_last", torch.bfloat16, last),
    ):
        sides[name] = _convolution(
            x.to(dtype, memory_format=form), w.to(dtype, memory_format=form), shape.dilation
        )
    if not has_bf16():
        del sides["bf16 channels_last"]
        _note(notes, "bf16: this processor has no instructions for it")
    return sides


def _convolution(x: Tensor, w: Tensor, dilation: int) -> Side:
    return lambda: F.conv2d(x, w, None, 1, dilation, dilation)


def _int8_sides(shape: LayerShape, number: int, notes: list[str]) -> dict[str, Side]:
    sides: dict[str, Side] = {}
    for name, build in (("int8 torch", _torch_int8), ("int8 ONNX Runtime", _onnx_int8)):
        try:
            side = build(shape, number)
            side()
        except (ImportError, AttributeError, RuntimeError) as error:
            _note(notes, f"{name}: not measured ({str(error).splitlines()[0]})")
        else:
            sides[name] = side
    return sides


def _torch_int8(shape: LayerShape, number: int) -> Side:
    scales = torch.full((shape.channels,), 0.01)
    zeros = torch.zeros(shape.channels, dtype=torch.long)
    w = torch.randn(shape.channels, shape.channels, 3, 3)
    x = torch.rand(1, shape.channels, shape.height, shape.width)
    with warnings.catch_warnings():
        # torch is about to drop these; then this side will be missing
        warnings.simplefilter("ignore")
        weight = torch.quantize_per_channel(w, scales, zeros, 0, torch.qint8)
        levels = torch.quantize_per_tensor(
            x.contiguous(memory_format=torch.channels_last), 0.01, 0, torch.quint8
        )
    around, rate = [shape.dilation] * 2, [shape.dilation] * 2
    packed = torch.ops.quantized.conv2d_prepack(weight, None, [1, 1], around, rate, 1)
    return lambda: torch.ops.quantized.conv2d(levels, packed, 0.1, 0)


def _onnx_int8(shape: LayerShape, number: int) -> Side:
    try:
        return onnx_conv(shape.channels, shape.height, shape.width, shape.dilation, number)
    except ImportError as error:
        raise ImportError(f"{error}; pip install 'binseg[export]'") from error


def _binary_sides(shape: LayerShape, backend: str) -> dict[str, Side]:
    channels = shape.channels
    conv = ConvShape(channels, channels, (3, 3), 1, (shape.dilation,), 1)
    weight = pack_weight(torch.randn(channels, channels, 3, 3))
    picture = torch.randn(1, channels, shape.height, shape.width)
    flat = picture.permute(0, 2, 3, 1).contiguous().unsqueeze(3)  # float, channels last
    bits = ops.pack_sign(flat)
    low, span, curve = _epilogues(conv)

    def on(side: Side) -> Side:
        def run() -> object:
            with use(backend):
                return side()

        return run

    def total(x: Tensor) -> Tensor:
        return ops.conv_sum(x, weight, conv, dtype=torch.int16)

    return {
        f"{backend} int16": on(lambda: total(bits)),
        f"{backend} bits": on(lambda: ops.conv_bits(bits, weight, conv, low, span)),
        f"{backend} real": on(lambda: ops.conv_real(bits, weight, conv, curve, residual=flat)),
        f"{backend} NHWC in": on(lambda: total(ops.pack_sign(flat))),
        f"{backend} NCHW in": on(lambda: total(ops.pack_sign(ops.nhwc(picture)))),
        f"{backend} sign NHWC": on(lambda: ops.pack_sign(flat)),
        f"{backend} sign NCHW": on(lambda: ops.pack_sign(ops.nhwc(picture))),
    }


def _block_sides(shape: LayerShape, backend: str) -> dict[str, Side]:
    channels = shape.channels
    conv = ConvShape(channels, channels, (3, 3), 1, (shape.dilation,) * BASES, 1)
    first, last = (
        pack_weight(torch.randn(BASES * channels, channels, 3, 3), BASES) for _ in range(2)
    )
    low, span, curve = _epilogues(conv)
    lambdas, gates = torch.rand(BASES), torch.rand(BASES)

    def block(bases: int) -> Side:
        x = torch.randn(1, shape.height, shape.width, bases, channels)
        bits = ops.pack_sign(x)

        def run() -> object:
            with use(backend):
                inner = ops.conv_bits(bits, first, conv, low, span)
                return ops.conv_merge(
                    inner,
                    last,
                    conv,
                    curve,
                    x,
                    lambdas,
                    gates=gates if bases > 1 else None,
                    keep_merged=False,
                )

        return run

    return {"merged": block(1), "gated": block(BASES)}


def _epilogues(conv: ConvShape) -> tuple[Tensor, Tensor, Tensor]:
    """Thresholds near 0 and a curve, for all bases."""
    channels = conv.bases * conv.out_channels
    low = torch.randint(-20, 20, (channels,), dtype=torch.int32)
    return low, 2**31 - 1 - low, torch.randn(3, channels) * 0.1


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)
