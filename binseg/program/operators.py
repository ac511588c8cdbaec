"""What operators compute: docs/program.md, part 2, in numpy, for one image.

Each function takes the step, the size of its result and its inputs, and returns the outputs by
role. Values are float32 (H, W, C); bool (H, W, B, C) for bits, true is +1; uint8 (H, W, C).
"""

from collections.abc import Callable

import numpy as np

from binseg.program.activations import PLAIN, prelu
from binseg.program.arithmetic import bilinear, fma, nearest, round_bfloat16, tanh
from binseg.program.convolution import Window, integer_sums, max_pool, real_sums, sum_pool
from binseg.program.sizes import Size
from binseg.program.step import Step, signs

Array = np.ndarray
Outputs = dict[str, Array]

OPERATORS: dict[str, Callable[..., Outputs]] = {}


def _operator(run: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """Register an operator; its kind is the function's name."""
    OPERATORS[run.__name__.strip("_")] = run
    return run


# Finish


def _finish(step: Step, y: Array, residual: Array | None = None, bases: int = 1) -> Outputs:
    """The end of a real operator.

    Args:
        step: of the operator.
        y: float32 (H, W, C).
        residual: of all bases, or of one that serves all.
        bases: of the result, and of its bits if the attribute `bit_bases` is missing.
    """
    if residual is not None:
        y = y + _repeated(residual, y.shape[2])
    if "act" in step.operator.attributes:
        y = _activate(step, y)
    return _outputs(step, {"real": y}, bits=y, bases=step.get("bit_bases", bases), byte=y)


def _repeated(values: Array, channels: int) -> Array:
    return np.tile(values, channels // values.shape[2])


def _activate(step: Step, v: Array, prefix: str = "") -> Array:
    kind, count = step[f"{prefix}act"], v.shape[2]
    if kind == "prelu":
        return prelu(v, step.channels(f"{prefix}slope", count))
    if kind == "rprelu":
        before, slope, after = (
            step.channels(f"{prefix}{role}", count) for role in ("before", "slope", "after")
        )
        return prelu(v + before, slope) + after
    return PLAIN[kind](v)


def _outputs(step: Step, real: Outputs, *, bits: Array, bases: int, byte: Array) -> Outputs:
    """Those that are asked for: real ones stored, and what bits and bytes are taken of."""
    made, wanted = {}, step.operator.outputs
    for role, value in real.items():
        if role in wanted:
            made[role] = round_bfloat16(value) if step.get("dtype", "f32") == "bf16" else value
    if "bits" in wanted:
        if "threshold" in step.tensors:
            bits = bits + step.channels("threshold", bits.shape[2])
        made["bits"] = _split(bits >= 0, bases)
    if "bytes" in wanted:
        inverse_scale, zero_point = step["bytes"]
        rounded = np.rint(byte * np.float32(inverse_scale)) + np.float32(zero_point)
        made["bytes"] = np.nan_to_num(np.clip(rounded, 0, 255), nan=0).astype(np.uint8)
    return made


def _split(bits: Array, bases: int) -> Array:
    """(H, W, B·C) → (H, W, B, C)."""
    return bits.reshape(*bits.shape[:2], bases, -1)


# Bits


@_operator
def _pack_sign(step: Step, size: Size, x: Array, more: Array | None = None) -> Outputs:
    v = x if more is None else x + more
    if "gain" in step.tensors:
        v = fma(v, step.channels("gain", v.shape[2]), step.channels("shift", v.shape[2]))
    return {"bits": _split(v >= 0, step.get("bit_bases", 1))}


def _bit_sums(step: Step, size: Size, bits: Array) -> Array:
    """(H, W, K, C_out) sums of ±1, exact."""
    kernel = (step["kernel"][0], step["kernel"][1])
    values = signs(bits)
    return np.stack(
        [
            integer_sums(
                values[:, :, k if bits.shape[2] > 1 else 0],
                step.bit_weight[k],
                Window.same(kernel, step["stride"], dilation, size),
                step["padding"],
                1,
            )
            for k, dilation in enumerate(step["dilations"])
        ],
        axis=2,
    )


def _rows(step: Step, tensor: Array) -> Array:
    """(…, K·C_out), or (…, C_out) if shared, → (…, K or 1, C_out)."""
    return tensor.reshape(*tensor.shape[:-1], -1, step["out_channels"])


@_operator
def _conv_bits(step: Step, size: Size, bits: Array) -> Outputs:
    low, span = (_rows(step, step.tensors[role]).astype(np.int64) for role in ("low", "span"))
    unsigned = (_bit_sums(step, size, bits).astype(np.int64) - low) & 0xFFFFFFFF
    return {"bits": unsigned <= (span & 0xFFFFFFFF)}


def _curve(step: Step, sums: Array) -> Array:
    """f(s) of sums (H, W, K, C_out), float32."""
    s = sums.astype(np.float32)
    first, second, third = _rows(step, step.tensors["curve"])
    if step.get("tanh", False):
        return fma(first, tanh(second * s), third)
    return fma(np.where(s >= 0, first, second), s, third)


@_operator
def _conv_real(step: Step, size: Size, bits: Array, residual: Array | None = None) -> Outputs:
    y = _curve(step, _bit_sums(step, size, bits))
    return _finish(step, y.reshape(*size, -1), residual, step.bases)


@_operator
def _conv_merge(step: Step, size: Size, bits: Array, residual: Array | None = None) -> Outputs:
    out = _curve(step, _bit_sums(step, size, bits))
    if residual is not None:
        out = out + _repeated(residual, out[0, 0].size).reshape(out.shape)
    if "branch_act" in step.operator.attributes:
        out = _activate(step, out.reshape(*size, -1), "branch_").reshape(out.shape)
    merged = np.zeros_like(out[:, :, 0])
    for k, factor in enumerate(step.tensors["lambdas"]):
        merged = fma(factor, out[:, :, k], merged)
    if "gates" not in step.tensors:
        return _finish(step, merged)
    m = merged[:, :, None]
    branches = fma(step.tensors["gates"][:, None], out - m, m).reshape(*size, -1)
    real = {"branches": branches, "merged": merged}
    return _outputs(step, real, bits=branches, bases=step.bases, byte=merged)


# Bytes


@_operator
def _quantize(step: Step, size: Size, x: Array) -> Outputs:
    return _outputs(step, {}, bits=x, bases=1, byte=x)


@_operator
def _normalize(step: Step, size: Size, image: Array) -> Outputs:
    y = fma(image.astype(np.float32), step.tensors["scale"], step.tensors["shift"])
    return _outputs(step, {"real": y}, bits=y, bases=1, byte=y)


def _byte_sums(step: Step, window: Window, x: Array) -> list[Array]:
    """For each base (H, W, C_out) sums of products, exact."""
    border = np.array(step["border"], np.float32)
    parts = np.split(x.astype(np.float32), step.bases, axis=2)
    return [integer_sums(part, step.byte_weight, window, border, 255 * 128) for part in parts]


def _finish_bytes(step: Step, sums: list[Array], residual: Array | None = None) -> Outputs:
    gain, shift = step.tensors["curve"]
    y = np.concatenate([fma(s.astype(np.float32), gain, shift) for s in sums], axis=2)
    return _finish(step, y, residual, step.bases)


@_operator
def _conv_int8(step: Step, size: Size, x: Array, residual: Array | None = None) -> Outputs:
    return _finish_bytes(step, _byte_sums(step, step.window(size), x), residual)


@_operator
def _conv_int8_pool(step: Step, size: Size, x: Array) -> Outputs:
    pool = Window((3, 3), (2, 2), (1, 1), (1, 1), size)
    sums = _byte_sums(step, step.window(step.windows(x)), x)
    return _finish_bytes(step, [max_pool(s, pool) for s in sums])


# Real numbers


@_operator
def _conv(step: Step, size: Size, x: Array, residual: Array | None = None) -> Outputs:
    bias = np.tile(step.tensors["bias"], step.bases) if "bias" in step.tensors else None
    groups = step.bases * step.get("groups", 1)
    y = real_sums(x, step.real_weight, bias, step.window(size), groups)
    return _finish(step, y, residual, step.bases)


@_operator
def _affine(step: Step, size: Size, x: Array, residual: Array | None = None) -> Outputs:
    y = fma(x, step.channels("scale", x.shape[2]), step.channels("bias", x.shape[2]))
    return _finish(step, y, residual)


@_operator
def _add(step: Step, size: Size, a: Array, b: Array) -> Outputs:
    return _finish(step, a + b)


@_operator
def _mul(step: Step, size: Size, a: Array, b: Array) -> Outputs:
    return _finish(step, a * b)


@_operator
def _act(step: Step, size: Size, x: Array) -> Outputs:
    return _finish(step, x)


@_operator
def _max_pool(step: Step, size: Size, x: Array) -> Outputs:
    return _finish(step, max_pool(x, step.window(size)))


@_operator
def _avg_pool(step: Step, size: Size, x: Array) -> Outputs:
    window = step.window(size)
    top, left, bottom, right = step["pads"] if step["count"] == "kernel" else (0, 0, 0, 0)
    count = window.pixels((x.shape[0], x.shape[1]), (top, left), (bottom, right))
    return _finish(step, sum_pool(x, window) / count[:, :, None])


@_operator
def _spatial_mean(step: Step, size: Size, x: Array) -> Outputs:
    pixels = x.reshape(-1, x.shape[2])
    total = pixels.cumsum(axis=0, dtype=np.float64)[-1]  # np.sum adds in an order of its own
    return _finish(step, (total / len(pixels)).astype(np.float32).reshape(1, 1, -1))


@_operator
def _adaptive_avg_pool(step: Step, size: Size, x: Array) -> Outputs:
    y = np.empty((*size, x.shape[2]), np.float32)
    for i in range(size[0]):
        for j in range(size[1]):
            rows, columns = (
                _bin(*each) for each in ((i, x.shape[0], size[0]), (j, x.shape[1], size[1]))
            )
            pixels = x[rows, columns].reshape(-1, x.shape[2])
            y[i, j] = pixels.cumsum(axis=0, dtype=np.float32)[-1] / np.float32(len(pixels))
    return _finish(step, y)


def _bin(index: int, length: int, count: int) -> slice:
    """The rows or columns of one pixel of `adaptive_avg_pool`."""
    return slice(index * length // count, -(-(index + 1) * length // count))


@_operator
def _group_norm(step: Step, size: Size, x: Array) -> Outputs:
    groups = step.get("groups", 1)
    values: Array = x.astype(np.float64).reshape(size[0] * size[1], groups, -1)
    # (…, n): the numbers of one mean in the order in which they are summed
    if step["over"] == "map":
        values = values.transpose(1, 0, 2).reshape(groups, -1)
    mean = _ordered_mean(values)
    inverse = 1 / np.sqrt(_ordered_mean((values - mean) ** 2) + step["epsilon"])
    v = ((values - mean) * inverse).astype(np.float32)
    if step["over"] == "map":
        v = v.reshape(groups, size[0] * size[1], -1).transpose(1, 0, 2)
    v = np.ascontiguousarray(v).reshape(x.shape)
    return _finish(
        step, fma(v, step.channels("scale", x.shape[2]), step.channels("bias", x.shape[2]))
    )


def _ordered_mean(values: Array) -> Array:
    """The mean along the last axis, which is kept; np.sum adds in an order of its own."""
    return values.cumsum(axis=-1)[..., -1:] / values.shape[-1]


@_operator
def _channel_mean(step: Step, size: Size, x: Array) -> Outputs:
    x = np.abs(x) if step.get("absolute", False) else x
    parts = x.reshape(*size, -1, step["size"], step.get("inner", 1))
    total = np.zeros_like(parts[:, :, :, 0])
    for i in range(step["size"]):
        total += parts[:, :, :, i]
    return _finish(step, (total / np.float32(step["size"])).reshape(*size, -1))


# Places of pixels and channels


@_operator
def _resize(step: Step, size: Size, x: Array, *others: Array) -> Outputs:
    if step["mode"] == "nearest":
        y = nearest(x, *size)
    else:
        y = bilinear(x, *size, align_corners=step.get("align_corners", False))
    residual = others if "scale" in step.operator.attributes else others[1:]
    return _finish(step, y, residual[0] if residual else None)


@_operator
def _concat(step: Step, size: Size, *inputs: Array) -> Outputs:
    spread = [np.broadcast_to(x, (*size, x.shape[2])) for x in inputs]
    return _finish(step, np.concatenate(spread, axis=2))


@_operator
def _slice(step: Step, size: Size, x: Array) -> Outputs:
    return _finish(step, x[:, :, step["from"] : step["to"]])


@_operator
def _pad(step: Step, size: Size, x: Array) -> Outputs:
    below, right = size[0] - x.shape[0], size[1] - x.shape[1]
    y = np.pad(x, ((0, below), (0, right), (0, 0)), mode="edge")
    return dict.fromkeys(step.operator.outputs, y)


@_operator
def _crop(step: Step, size: Size, x: Array, like: Array) -> Outputs:
    return {"real": x[: size[0], : size[1]]}


@_operator
def _flatten(step: Step, size: Size, x: Array) -> Outputs:
    return {"real": x.reshape(1, 1, -1)}
