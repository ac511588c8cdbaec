"""Random valid programs that use every operator, for holding executors against the interpreter.

    program, (height, width) = random_program(seed)
    image = random_image(seed, height, width)

Each program has every kind of operator at least once, joined to others at random, with a random
choice of outputs, odd numbers of channels, and sizes down to one pixel. Half of the tensors hold
multiples of 1/4, so that sums hit thresholds and maxima tie.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from binseg.program.builder import ProgramBuilder
from binseg.program.program import IMAGE, Program
from binseg.program.sizes import Size, windows_over
from binseg.program.tensors import pack_bits, to_bfloat16
from binseg.program.types import ACTIVATIONS

CHANNELS = (1, 2, 3, 5, 7, 8, 11, 16, 17, 24, 31, 32, 33, 48, 64, 65)
LARGEST = 48
"""Pixels along a side that values grow to."""


@dataclass(frozen=True)
class Value:
    """A value made so far; `channels` counts all bases."""

    number: int
    kind: str
    channels: int
    size: Size
    bases: int = 1


def random_image(seed: int, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_program(seed: int) -> tuple[Program, Size]:
    """A program, and (height, width) of an image that it takes."""
    return _Maker(seed).make()


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = ProgramBuilder()
        side = LARGEST if seed % 3 else 6  # every third image is tiny
        self.size = int(self.rng.integers(1, side + 1)), int(self.rng.integers(1, side + 1))
        self.values = [Value(IMAGE, "image", 3, self.size)]
        self.read: set[int] = set()
        self.names = 0

    def make(self) -> tuple[Program, Size]:
        self.normalize()
        kinds = sorted(KINDS)
        for kind in [*self.rng.permutation(kinds), *self.rng.choice(kinds, 6)]:
            KINDS[kind](self)
        return self.builder.build(self.join()), self.size

    def join(self) -> int:
        """One value of at most 255 channels that everything unread goes into."""
        for value in list(self.values):
            if value.number not in self.read and value.kind == "bits":
                self.conv_real(value)
            if value.number not in self.read and value.kind == "bytes":
                self.conv_int8(value)
            if value.number not in self.read and value.kind == "image":
                self.normalize(value)
        ends = [v for v in self.values if v.kind == "real" and v.number not in self.read]
        like = max(self.values, key=lambda v: v.size[0] * v.size[1])
        small = [self.conv(v, kernel=(1, 1), outputs=int(self.rng.integers(1, 6))) for v in ends]
        large = [self.resize(v, like) for v in small]
        rest = [v for v in large if v.number not in self.read]
        (scores,) = self.add("concat", rest, {"real": sum(v.channels for v in rest)}, like.size)
        return scores.number

    # Choices

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, options):
        return options[int(self.rng.integers(len(options)))]

    def some_channels(self) -> int:
        return int(self.one_of(CHANNELS))

    def divisor(self, number: int, most: int = 8) -> int:
        return int(self.one_of([d for d in range(1, most + 1) if number % d == 0]))

    def pick(self, *kinds: str, fits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A value, rather one that nobody reads yet."""
        found = [v for v in self.values if v.kind in kinds and fits(v)]
        unread = [v for v in found if v.number not in self.read]
        found = unread if unread and self.chance(0.8) else found
        return self.one_of(found) if found else None

    def real(self, fits: Callable[[Value], bool] = lambda value: True) -> Value:
        value = self.pick("real", fits=fits)
        return value if value is not None else self.pick("real")

    def bits(self) -> Value:
        return self.pick("bits") or self.pack_sign()

    def bytes(self) -> Value:
        return self.pick("bytes", "image") or self.quantize()

    def shaped(self, channels: int, size: Size) -> Value:
        """A real value of this form, made if there is none."""
        found = self.pick("real", fits=lambda v: (v.channels, v.size) == (channels, size))
        if found is not None:
            return found
        like = next(v for v in self.values if v.size == size)
        return self.resize(self.conv(self.real(), kernel=(1, 1), outputs=channels), like)

    # Tensors

    def tensor(self, array: np.ndarray, *, bfloat16: bool = False) -> str:
        self.names += 1
        return self.builder.tensor(f"t{self.names}", array, bfloat16=bfloat16)

    def numbers(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        values = self.rng.normal(size=shape) * scale
        if self.chance():
            values = np.round(values * 4) / 4
        return values.astype(np.float32)

    def each(self, channels: int, scale: float = 1.0) -> str:
        """A number for each channel, or fewer that are repeated."""
        count = channels // self.divisor(channels) if self.chance(0.3) else channels
        return self.tensor(self.numbers(count, scale=scale))

    def signs(self, count: int) -> str:
        return self.tensor(pack_bits(self.rng.normal(size=count)))

    # Operators

    def add(
        self, kind: str, inputs, outputs: dict, size: Size, tensors=None, attributes=None
    ) -> list[Value]:
        """Outputs are role → channels of a real value, or role → (kind, channels, bases)."""
        numbers = [v.number for v in inputs]
        self.read |= set(numbers)
        attributes = {f"{name}_": value for name, value in (attributes or {}).items()}
        made = self.builder.add(kind, numbers, list(outputs), tensors=tensors, **attributes)
        new = []
        for number, what in zip(made, outputs.values(), strict=True):
            name, channels, bases = what if isinstance(what, tuple) else ("real", what, 1)
            new.append(Value(number, name, channels, size, bases))
        self.values += new
        return new

    def roles(self, *names: str) -> list[str]:
        """A random choice of outputs that is not empty."""
        chosen = [name for name in names if self.chance()]
        return chosen or [self.one_of(names)]

    def some_bytes(self) -> list:
        return [
            float(np.float32(2.0 ** self.rng.integers(0, 7) * self.rng.random() + 0.1)),
            int(self.rng.integers(0, 256)),
        ]

    def finish(
        self,
        kind,
        inputs,
        channels,
        size,
        tensors=None,
        attributes=None,
        *,
        bases=1,
        residual=False,
        fixed=False,
        wanted=(),
    ) -> Value:
        tensors, inputs, attributes = dict(tensors or {}), list(inputs), dict(attributes or {})
        if residual and self.chance():
            rows = channels // bases if self.chance(0.3) else channels
            found = self.pick("real", fits=lambda v: (v.channels, v.size) == (rows, size))
            inputs += [found] if found is not None else []
        if "act" in attributes or self.chance():
            act = attributes.setdefault("act", str(self.one_of(ACTIVATIONS)))
            if act in ("prelu", "rprelu"):
                tensors["slope"] = self.each(channels, 0.3)
            if act == "rprelu":
                tensors |= {role: self.each(channels, 0.5) for role in ("before", "after")}
        outputs = {}
        for role in wanted or self.roles("real", "bits", "bytes"):
            if role == "real":
                outputs[role] = channels
                if self.chance():
                    attributes["dtype"] = str(self.one_of(("f32", "bf16")))
            elif role == "bits":
                if self.chance():
                    tensors["threshold"] = self.each(channels, 0.5)
                groups = bases
                if not fixed and (channels % bases or self.chance()):
                    groups = attributes["bit_bases"] = self.divisor(channels)
                outputs[role] = ("bits", channels, groups)
            else:
                attributes["bytes"] = self.some_bytes()
                outputs[role] = ("bytes", channels, 1)
        return self.add(kind, inputs, outputs, size, tensors, attributes)[0]

    def pack_sign(self) -> Value:
        x = self.real()
        inputs, tensors = [x], {}
        if self.chance():
            second = self.pick("real", fits=lambda v: (v.channels, v.size) == (x.channels, (1, 1)))
            inputs += [second] if second is not None else [self.spatial_mean(x)]
        if self.chance():
            tensors = {role: self.each(x.channels) for role in ("gain", "shift")}
        bases = self.divisor(x.channels)
        outputs = {"bits": ("bits", x.channels, bases)}
        return self.add("pack_sign", inputs, outputs, x.size, tensors, {"bit_bases": bases})[0]

    def bit_convolution(self, x: Value):
        """Bases, result's channels of one, rows of tensors, result's size, attributes, weight."""
        bases = x.bases if x.bases > 1 else int(self.rng.integers(1, 5))
        kernel = [int(k) for k in self.rng.choice([1, 2, 3, 3, 3, 5], 2)]
        stride = int(self.one_of((1, 1, 2, 3)))
        outputs, inputs = self.some_channels(), x.channels // x.bases
        attributes = {
            "kernel": kernel,
            "stride": stride,
            "dilations": [int(d) for d in self.rng.choice([1, 1, 2, 3, 9, 70], bases)],
            "padding": int(self.one_of((-1, 0, 1))),
            "in_channels": inputs,
            "out_channels": outputs,
        }
        rows = bases * outputs
        if self.chance(0.3):
            attributes["shared_weight"] = True
            rows = outputs
        terms = kernel[0] * kernel[1] * inputs
        size = -(-x.size[0] // stride), -(-x.size[1] // stride)
        return bases, outputs, rows, terms, size, attributes, {"weight": self.signs(rows * terms)}

    def conv_bits(self) -> Value:
        x = self.bits()
        bases, outputs, rows, terms, size, attributes, tensors = self.bit_convolution(x)
        low = self.rng.integers(-terms, terms + 2, rows)
        span = self.rng.integers(-terms, terms + 1, rows)
        dtype = self.one_of((np.int16, np.int32))
        tensors |= {"low": self.tensor(low.astype(dtype)), "span": self.tensor(span.astype(dtype))}
        made = {"bits": ("bits", bases * outputs, bases)}
        return self.add("conv_bits", [x], made, size, tensors, attributes)[0]

    def curve(self, rows: int, terms: int) -> str:
        # a power of two keeps multiples of 1/4 such, so that results tie with thresholds
        small = 2.0 ** -round(math.log2(terms) / 2)
        return self.tensor(self.numbers(3, rows) * np.float32([[small], [small], [1]]))

    def conv_real(self, x: Value | None = None) -> Value:
        wanted = () if x is None else ("real",)
        x = x or self.bits()
        bases, outputs, rows, terms, size, attributes, tensors = self.bit_convolution(x)
        tensors["curve"] = self.curve(rows, terms)
        if self.chance(0.3):
            attributes["tanh"] = True
        return self.finish(
            "conv_real", [x], bases * outputs, size, tensors, attributes, bases=bases,
            residual=True, wanted=wanted,
        )  # fmt: skip

    def conv_merge(self) -> Value:
        x = self.bits()
        bases, outputs, rows, terms, size, attributes, tensors = self.bit_convolution(x)
        tensors |= {
            "curve": self.curve(rows, terms),
            "lambdas": self.tensor(self.numbers(bases, scale=0.6)),
        }
        inputs, channels = [x], bases * outputs
        if self.chance():
            rows = self.one_of((channels, outputs))
            found = self.pick("real", fits=lambda v: (v.channels, v.size) == (rows, size))
            if found is None and any(v.size == size for v in self.values):
                found = self.shaped(rows, size)
            inputs += [found] if found is not None else []
        if self.chance(0.3):
            attributes["tanh"] = True
        if self.chance():
            act = attributes["branch_act"] = str(self.one_of(("rprelu", *ACTIVATIONS)))
            roles = {"prelu": ("slope",), "rprelu": ("before", "slope", "after")}.get(act, ())
            tensors |= {f"branch_{role}": self.each(channels, 0.4) for role in roles}
        if self.chance():
            return self.finish("conv_merge", inputs, outputs, size, tensors, attributes, fixed=True)
        tensors["gates"] = self.tensor(self.numbers(bases))
        made = {}
        for role in self.roles("branches", "merged", "bits", "bytes"):
            if role in ("branches", "merged"):
                made[role] = channels if role == "branches" else outputs
                attributes["dtype"] = str(self.one_of(("f32", "bf16")))
            elif role == "bits":
                made[role] = ("bits", channels, bases)
                if self.chance():
                    tensors["threshold"] = self.each(channels)
            else:
                made[role] = ("bytes", outputs, 1)
                attributes["bytes"] = self.some_bytes()
        return self.add("conv_merge", inputs, made, size, tensors, attributes)[0]

    def quantize(self) -> Value:
        x = self.real()
        made = {"bytes": ("bytes", x.channels, 1)}
        return self.add("quantize", [x], made, x.size, None, {"bytes": self.some_bytes()})[0]

    def normalize(self, x: Value | None = None) -> Value:
        x = x or self.pick("image")
        tensors = {
            "scale": self.tensor(np.abs(self.numbers(3, scale=0.02)) + np.float32(0.01)),
            "shift": self.tensor(self.numbers(3)),
        }
        more = {"dtype": "bf16"} if self.chance(0.3) else {}
        return self.add("normalize", [x], {"real": 3}, x.size, tensors, more)[0]

    def window(self, size: Size, *, same: bool = False) -> dict:
        """Attributes of a window that leaves pixels."""
        while True:
            found = {
                "kernel": [int(k) for k in self.rng.integers(1, 5, 2)],
                "stride": [int(s) for s in self.rng.integers(1, 4, 2)],
                "pads": [int(p) for p in self.rng.integers(0, 4, 4)],
            }
            if self.chance(0.3):
                found["dilation"] = [int(d) for d in self.rng.integers(1, 4, 2)]
            if all(0 < side <= LARGEST + 6 for side in windows_over(found, size)):
                return found

    def byte_convolution(self, x: Value):
        bases = self.divisor(x.channels, 4) if self.chance(0.3) else 1
        inputs, outputs = x.channels // bases, self.some_channels()
        attributes = self.window(x.size)
        if bases > 1:
            attributes["bases"] = bases
        border = [int(b) for b in self.rng.integers(0, 256, inputs)]
        attributes["border"] = border if self.chance() else border[0]
        shape = (outputs, *attributes["kernel"], inputs)
        terms = int(np.prod(shape[1:]))
        weight = (
            self.signs(outputs * terms)
            if self.chance(0.3)
            else self.tensor(self.rng.integers(-128, 128, shape).astype(np.int8))
        )
        curve = self.numbers(2, outputs) / np.float32([[terms**0.5 * 9000], [1]])
        return bases, bases * outputs, attributes, {"weight": weight, "curve": self.tensor(curve)}

    def conv_int8(self, x: Value | None = None) -> Value:
        wanted = () if x is None else ("real",)
        x = x or self.bytes()
        bases, channels, attributes, tensors = self.byte_convolution(x)
        size = windows_over(attributes, x.size)
        return self.finish(
            "conv_int8", [x], channels, size, tensors, attributes, bases=bases, residual=True,
            wanted=wanted,
        )  # fmt: skip

    def conv_int8_pool(self) -> Value:
        x = self.bytes()
        bases, channels, attributes, tensors = self.byte_convolution(x)
        height, width = windows_over(attributes, x.size)
        size = (height + 1) // 2, (width + 1) // 2
        return self.finish("conv_int8_pool", [x], channels, size, tensors, attributes, bases=bases)

    def conv(
        self, x: Value | None = None, *, kernel: Size | None = None, outputs: int | None = None
    ) -> Value:
        x, exact = x or self.real(), outputs is not None
        if kernel is None:
            attributes = self.window(x.size)
        else:
            attributes = {"kernel": list(kernel), "stride": [1, 1], "pads": [0, 0, 0, 0]}
        bases = self.divisor(x.channels, 4) if not exact and self.chance(0.3) else 1
        groups = 1
        if not exact and self.chance(0.3):
            groups = attributes["groups"] = self.divisor(x.channels // bases, 64)
        if bases > 1:
            attributes["bases"] = bases
        channels = outputs or groups * max(1, self.some_channels() // groups)
        shape = (channels, *attributes["kernel"], x.channels // bases // groups)
        scale = float(np.prod(shape[1:])) ** -0.5
        tensors, kind = {}, int(self.rng.integers(3))
        if kind == 0:
            tensors["weight"] = self.signs(int(np.prod(shape)))
            tensors["scale"] = self.tensor(self.numbers(channels, scale=scale))
        elif kind == 1:
            stored = to_bfloat16(self.numbers(*shape, scale=scale))
            tensors["weight"] = self.tensor(stored, bfloat16=True)
        else:
            tensors["weight"] = self.tensor(self.numbers(*shape, scale=scale))
        if self.chance():
            tensors["bias"] = self.tensor(self.numbers(channels))
        size = windows_over(attributes, x.size)
        wanted = ("real",) if exact else ()
        return self.finish(
            "conv", [x], bases * channels, size, tensors, attributes, bases=bases, residual=True,
            wanted=wanted,
        )  # fmt: skip

    def affine(self) -> Value:
        x = self.real()
        tensors = {"scale": self.each(x.channels), "bias": self.each(x.channels)}
        return self.finish("affine", [x], x.channels, x.size, tensors, residual=True)

    def add_(self) -> Value:
        x = self.real()
        other = self.spatial_mean(x) if self.chance(0.3) else self.shaped(x.channels, x.size)
        return self.finish("add", [x, other], x.channels, x.size)

    def mul(self) -> Value:
        x = self.real()
        which = int(self.rng.integers(3))
        if which == 0:
            other = self.spatial_mean(x)
        elif which == 1:
            other = self.channel_mean(x, size=x.channels)
        else:
            other = self.shaped(x.channels, x.size)
        # products of products would leave the range of float32
        return self.finish("mul", [x, other], x.channels, x.size, None, {"act": "hardtanh"})

    def act(self) -> Value:
        x = self.real()
        act = str(self.one_of(ACTIVATIONS))
        return self.finish("act", [x], x.channels, x.size, None, {"act": act})

    def pool(self, kind: str, **more) -> Value:
        x = self.real()
        attributes = self.window(x.size) | more
        # a window with no pixel in the image gives −∞ or nan, which the rest could not take
        if "dilation" in attributes:
            attributes["pads"] = [0, 0, 0, 0]
        kernel, pads = attributes["kernel"], attributes["pads"]
        attributes["pads"] = [min(p, kernel[i % 2] - 1) for i, p in enumerate(pads)]
        if self.chance():
            attributes["ceil"] = True
        if min(windows_over(attributes, x.size)) < 1:
            attributes |= {"kernel": [1, 1], "pads": [0, 0, 0, 0]}
        size = windows_over(attributes, x.size)
        return self.finish(kind, [x], x.channels, size, None, attributes)

    def max_pool(self) -> Value:
        return self.pool("max_pool")

    def avg_pool(self) -> Value:
        return self.pool("avg_pool", count=str(self.one_of(("valid", "kernel"))))

    def spatial_mean(self, x: Value | None = None) -> Value:
        wanted = () if x is None else ("real",)
        x = x or self.real()
        return self.finish("spatial_mean", [x], x.channels, (1, 1), wanted=wanted)

    def channel_mean(self, x: Value | None = None, *, size: int | None = None) -> Value:
        wanted = () if x is None else ("real",)
        x = x or self.real()
        size = size or self.divisor(x.channels, 65)
        attributes = {"size": size}
        if self.chance():
            attributes["inner"] = self.divisor(x.channels // size, 65)
        if self.chance():
            attributes["absolute"] = True
        return self.finish(
            "channel_mean", [x], x.channels // size, x.size, None, attributes, wanted=wanted
        )

    def adaptive_avg_pool(self) -> Value:
        x = self.real()
        size = [int(side) for side in self.rng.integers(1, 8, 2)]
        made = (size[0], size[1])
        return self.finish("adaptive_avg_pool", [x], x.channels, made, None, {"size": size})

    def group_norm(self) -> Value:
        x = self.real()
        tensors = {"scale": self.each(x.channels), "bias": self.each(x.channels)}
        attributes = {"over": str(self.one_of(("map", "pixel"))), "epsilon": 1e-5}
        if self.chance():
            attributes["groups"] = self.divisor(x.channels)
        return self.finish("group_norm", [x], x.channels, x.size, tensors, attributes)

    def resize(self, x: Value | None = None, like: Value | None = None) -> Value:
        wanted = () if x is None else ("real",)
        x = x or self.real()
        attributes = {"mode": str(self.one_of(("bilinear", "nearest")))}
        if attributes["mode"] == "bilinear" and self.chance():
            attributes["align_corners"] = True
        if like is None and self.chance() and max(x.size) <= LARGEST // 3:
            scale = [int(s) for s in self.rng.integers(1, 4, 2)]
            attributes["scale"] = scale
            inputs, size = [x], (x.size[0] * scale[0], x.size[1] * scale[1])
        else:
            like = like or self.one_of(self.values)
            inputs, size = [x, like], like.size
        return self.finish(
            "resize", inputs, x.channels, size, None, attributes, residual=True, wanted=wanted
        )

    def concat(self) -> Value:
        x = self.real(fits=lambda v: v.channels < 100)
        inputs = [x]
        while len(inputs) < 3 and self.chance(0.8):
            more = self.pick("real", fits=lambda v: v.size in (x.size, (1, 1)) and v.channels < 100)
            inputs += [more] if more is not None else []
        inputs = [inputs[i] for i in self.rng.permutation(len(inputs))]
        channels = sum(v.channels for v in inputs)
        return self.finish("concat", inputs, channels, x.size)

    def slice(self) -> Value:
        x = self.real()
        start = int(self.rng.integers(0, x.channels))
        end = int(self.rng.integers(start + 1, x.channels + 1))
        return self.finish("slice", [x], end - start, x.size, None, {"from": start, "to": end})

    def pad(self) -> Value:
        x = self.pick("real", "image")
        multiple = int(self.rng.integers(1, 9))
        size = -(-x.size[0] // multiple) * multiple, -(-x.size[1] // multiple) * multiple
        made = {x.kind: (x.kind, x.channels, 1)}
        return self.add("pad", [x], made, size, None, {"multiple": multiple})[0]

    def crop(self) -> Value:
        x = self.real()
        like = self.one_of(
            [v for v in self.values if v.size[0] <= x.size[0] and v.size[1] <= x.size[1]]
        )
        return self.add("crop", [x, like], {"real": x.channels}, like.size)[0]

    def flatten(self) -> Value:
        x = self.pick("real", fits=lambda v: v.channels * v.size[0] * v.size[1] <= 2048)
        if x is None:
            x = self.spatial_mean(self.real())
        height, width = x.size
        made = {"real": height * width * x.channels}
        return self.add("flatten", [x], made, (1, 1), None, {"height": height, "width": width})[0]


KINDS: dict[str, Callable[[_Maker], Value]] = {
    "pack_sign": _Maker.pack_sign,
    "conv_bits": _Maker.conv_bits,
    "conv_real": _Maker.conv_real,
    "conv_merge": _Maker.conv_merge,
    "quantize": _Maker.quantize,
    "normalize": _Maker.normalize,
    "conv_int8": _Maker.conv_int8,
    "conv_int8_pool": _Maker.conv_int8_pool,
    "conv": _Maker.conv,
    "affine": _Maker.affine,
    "add": _Maker.add_,
    "mul": _Maker.mul,
    "act": _Maker.act,
    "max_pool": _Maker.max_pool,
    "avg_pool": _Maker.avg_pool,
    "spatial_mean": _Maker.spatial_mean,
    "adaptive_avg_pool": _Maker.adaptive_avg_pool,
    "group_norm": _Maker.group_norm,
    "channel_mean": _Maker.channel_mean,
    "resize": _Maker.resize,
    "concat": _Maker.concat,
    "slice": _Maker.slice,
    "pad": _Maker.pad,
    "crop": _Maker.crop,
    "flatten": _Maker.flatten,
}
"""Every operator, by kind."""
