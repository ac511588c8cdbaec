"""One 3×3 binary convolution, and one group block of four bases, at ResNet-18's shapes."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.bench.machine import has_bf16
from binseg.bench.onnx_layer import onnx_conv
from binseg.bench.options import BenchOptions
from binseg.bench.timing import Timing, measure, ratios, threads
from binseg.program.builder import ProgramBuilder
from binseg.program.executor import create_executor
from binseg.program.program import IMAGE, Program
from binseg.program.tensors import pack_bits
from binseg.runtime.library import isas

FP32 = ["fp32 NCHW", "fp32 channels_last"]
INT8 = ["int8 torch", "int8 ONNX Runtime"]
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
    known = isas()  # the best first
    return (known[0], "avx2") if known[0] == "avx512" else known[:1]


def _result(
    shape: LayerShape, number: int, timings: dict[str, Timing], macs: int
) -> dict[str, Any]:
    return {
        "shape": {**asdict(shape), "name": str(shape)},
        "threads": number,
        "macs": macs,
        "sides": {
            name: timing.to_dict() | {"gmacs_per_second": macs / timing.seconds / 1e9}
            for name, timing in timings.items()
        },
        "speedup_over_fp32": ratios(timings, FP32),
        "speedup_over_int8": ratios(timings, INT8),
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


def _binary_sides(shape: LayerShape, isa: str) -> dict[str, Side]:
    """To bits by thresholds, and to a real map and bits with a shortcut."""
    return {f"{isa} {name}": _operators(shape, isa, 1, [name]) for name in ("bits", "real")}


def _block_sides(shape: LayerShape, isa: str) -> dict[str, Side]:
    return {name: _operators(shape, isa, BASES, ["bits", name]) for name in ("merged", "gated")}


def _operators(shape: LayerShape, isa: str, bases: int, kinds: Sequence[str]) -> Side:
    """What libbinseg takes for 3×3 convolutions over bits, one after the other, in seconds.

    Args:
        shape: of the maps.
        isa: instruction set.
        bases: of each convolution.
        kinds: of the convolutions: "bits", "real", "merged", "gated".
    """
    maker = _ProgramMaker(shape, bases)
    for kind in kinds:
        maker.convolve(kind)
    executor = create_executor(maker.finish(), isa)
    executor.threads = torch.get_num_threads()
    image = np.random.default_rng(1).integers(0, 256, (shape.height, shape.width, 3), np.uint8)
    return lambda: sum(executor.operator_seconds(image)[1 : 1 + len(kinds)])


class _ProgramMaker:
    """A program of convolutions between an 8-bit one and scores; each reads the bits of the one
    before, and its real map as shortcut."""

    def __init__(self, shape: LayerShape, bases: int) -> None:
        self._rng, self._builder = np.random.default_rng(0), ProgramBuilder()
        self._shape, self._bases, self._names = shape, bases, 0
        stem = {"weight": self._rng.integers(-99, 99, (shape.channels, 1, 1, 3), np.int8)}
        stem["curve"] = self._numbers(2, shape.channels)
        window = {"kernel": [1, 1], "stride": [1, 1], "pads": [0] * 4, "border": 0}
        roles = ["real", "bits"]
        self._real, self._bits = self._add("conv_int8", [IMAGE], roles, stem, **window)

    def convolve(self, kind: str) -> None:
        channels, bases = self._shape.channels, self._bases
        form, tensors = self._form(3, channels, [self._shape.dilation] * bases)
        if kind == "bits":
            low = self._rng.integers(-20, 20, bases * channels, np.int32)
            tensors |= {"low": low, "span": 2**31 - 1 - low}
            (self._bits,) = self._add("conv_bits", [self._bits], ["bits"], tensors, **form)
            return
        tensors["curve"] = self._numbers(3, bases * channels)
        if kind != "real":
            tensors["lambdas"] = self._numbers(bases)
        if kind == "gated":
            tensors["gates"] = self._numbers(bases)
        roles = ["branches" if kind == "gated" else "real", "bits"]
        name = "conv_real" if kind == "real" else "conv_merge"
        self._real, self._bits = self._add(name, [self._bits, self._real], roles, tensors, **form)

    def finish(self) -> Program:
        """Two classes, of all that was made."""
        (part,) = self._add("slice", [self._real], ["real"], {}, from_=0, to=2)
        form, tensors = self._form(1, 2, [1] * self._bases)
        tensors["curve"] = self._numbers(3, 2 * self._bases)
        (scores,) = self._add("conv_real", [self._bits, part], ["real"], tensors, **form)
        return self._builder.build(scores)

    def _form(
        self, side: int, outputs: int, dilations: list[int]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        inputs = self._shape.channels
        weight = pack_bits(self._numbers(len(dilations) * outputs, side, side, inputs))
        form = {"kernel": [side, side], "stride": 1, "dilations": dilations, "padding": 1}
        return {**form, "in_channels": inputs, "out_channels": outputs}, {"weight": weight}

    def _numbers(self, *size: int) -> np.ndarray:
        return self._rng.normal(size=size).astype(np.float32)

    def _add(
        self,
        kind: str,
        inputs: list[int],
        roles: list[str],
        tensors: dict[str, np.ndarray],
        **attributes: Any,
    ) -> tuple[int, ...]:
        named = {}
        for role, array in tensors.items():
            self._names += 1
            named[role] = self._builder.tensor(f"t{self._names}", array)
        return self._builder.add(kind, inputs, roles, tensors=named, **attributes)


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)
