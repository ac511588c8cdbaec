"""What operators of programs compute, in torch: docs/program.md, part 2, for batches.

Each function takes the operation, the size of its result and its inputs, and returns the outputs by
role. Values are float32 or bfloat16 (N, H, W, C); bits as `weights` describes; uint8 (N, H, W, C).
Elementwise operators of torch round each result by itself; where the definition has fma, an order
of sums, or a division by a constant (which torch turns into a product), an operator of binseg's or
a division by a tensor stands in the place of torch's.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.program.cuda.operator_tensors import fuses_activation
from binseg.program.cuda.prepared_operator import PreparedOperator
from binseg.program.sizes import Size

Outputs = dict[str, Tensor]

STEPS: dict[str, Callable[..., Outputs]] = {}


def _step(run: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """Register a function; the operator's kind is its name."""
    STEPS[run.__name__.strip("_")] = run
    return run


# Finish


def _finish(
    op: PreparedOperator, y: Tensor, residual: Tensor | None = None, bases: int = 1
) -> Outputs:
    if residual is not None:
        y = y + _repeated(residual.float(), y.shape[3])
    if op.has("act"):
        y = _activate(op, y)
    return _outputs(op, {"real": y}, bits=y, bases=op.get("bit_bases", bases), byte=y)


def _repeated(x: Tensor, channels: int) -> Tensor:
    return x if x.shape[3] == channels else x.repeat(1, 1, 1, channels // x.shape[3])


def _outputs(
    op: PreparedOperator, real: Outputs, *, bits: Tensor | None, bases: int, byte: Tensor
) -> Outputs:
    """Those that are asked for; `bits` None where they are made elsewhere."""
    made: Outputs = {}
    for role, value in real.items():
        if role in op.roles:
            made[role] = value.bfloat16() if op.get("dtype", "f32") == "bf16" else value
    if "bits" in op.roles and bits is not None:
        threshold = op.tensor("threshold")
        moved = bits if threshold is None else bits + threshold
        made["bits"] = op.operators.pack_sign(moved, None, bases)
    if "bytes" in op.roles:
        made["bytes"] = op.operators.quantize(byte, *op["bytes"])
    return made


def _activate(op: PreparedOperator, v: Tensor) -> Tensor:
    kind = op["act"]
    if kind in ("prelu", "rprelu"):
        before, slope, after = (op.tensor(role) for role in ("before", "slope", "after"))
        u = v if before is None else v + before
        u = torch.where(u >= 0, u, slope * u)  # type: ignore[operator]
        return u if after is None else u + after
    return _PLAIN[kind](op.operators, v)


def _over_six(v: Tensor) -> Tensor:
    return (v / torch.full_like(v, 6) + 0.5).clamp(0, 1)


_PLAIN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "relu": lambda ops, v: v.clamp(min=0),
    "relu6": lambda ops, v: v.clamp(0, 6),
    "tanh": lambda ops, v: ops.tanh(v, False),
    "sigmoid": lambda ops, v: ops.tanh(v, True),
    "silu": lambda ops, v: v * ops.tanh(v, True),
    "hardtanh": lambda ops, v: v.clamp(-1, 1),
    "hardsigmoid": lambda ops, v: _over_six(v),
    "hardswish": lambda ops, v: v * _over_six(v),
    "abs": lambda ops, v: v.abs(),
}


# Bits


@_step
def _pack_sign(op: PreparedOperator, size: Size, x: Tensor, more: Tensor | None = None) -> Outputs:
    v = x if more is None else x.float() + more.float()
    gain, shift = op.tensor("gain"), op.tensor("shift")
    affine = None if gain is None or shift is None else torch.stack([gain, shift])
    return {"bits": op.operators.pack_sign(v, affine, op.get("bit_bases", 1))}


@_step
def _conv_bits(op: PreparedOperator, size: Size, bits: Tensor) -> Outputs:
    names = ("weight", "table", "low", "span")
    return {"bits": op.operators.conv_bits(bits, *map(op.tensor, names), *op.bit_shape())}


@_step
def _conv_real(
    op: PreparedOperator, size: Size, bits: Tensor, residual: Tensor | None = None
) -> Outputs:
    fused = fuses_activation(op.operator)
    bases = op.get("bit_bases", op.bases)
    pack = fused and "bits" in op.roles and bases == op.bases
    keep = not fused or bool(op.roles - {"bits"}) or not pack
    y, signs = op.operators.conv_real(
        bits,
        *map(op.tensor, ("weight", "table", "curve")),
        op.get("tanh", False),
        None if residual is None else residual.float(),
        op.tensor("post") if fused else None,
        keep,
        pack,
        *op.bit_shape(),
    )
    if not fused:
        return _finish(op, y, bases=op.bases)
    made = _outputs(op, {"real": y}, bits=None if pack else y, bases=bases, byte=y)
    return {**made, "bits": signs} if pack else made


@_step
def _conv_merge(
    op: PreparedOperator, size: Size, bits: Tensor, residual: Tensor | None = None
) -> Outputs:
    if op.has("branch_act") and not fuses_activation(op.operator, "branch_"):
        return _merge(op, bits, residual)
    gates = op.tensor("gates")
    finish_here = gates is None and op.has("act")
    pack = "bits" in op.roles and not finish_here
    keep = bool(op.roles & {"merged", "real", "bytes"}) or finish_here
    branches, merged, signs = op.operators.conv_merge(
        bits,
        *map(op.tensor, ("weight", "table", "curve")),
        op.get("tanh", False),
        None if residual is None else residual.float(),
        op.tensor("post"),
        op.tensor("lambdas"),
        gates,
        None if finish_here else op.tensor("threshold"),
        keep,
        pack,
        *op.bit_shape(),
    )
    if finish_here:
        return _finish(op, merged)
    real = {"real": merged} if gates is None else {"branches": branches, "merged": merged}
    made = _outputs(op, real, bits=None, bases=1, byte=merged)
    return {**made, "bits": signs} if pack else made


def _merge(op: PreparedOperator, bits: Tensor, residual: Tensor | None) -> Outputs:
    """conv_merge whose branches go through an activation that its kernel does not know."""
    out, _ = op.operators.conv_real(
        bits,
        *map(op.tensor, ("weight", "table", "curve")),
        op.get("tanh", False),
        None if residual is None else residual.float(),
        None,
        True,
        False,
        *op.bit_shape(),
    )
    out = _PLAIN[op["branch_act"]](op.operators, out).unflatten(3, (op.bases, -1))
    merged, lambdas, gates = (
        torch.zeros_like(out[..., 0, :]),
        op.tensor("lambdas"),
        op.tensor("gates"),
    )
    for k in range(op.bases):
        merged = op.operators.fma(out[..., k, :], lambdas[k], merged)  # type: ignore[index]
    if gates is None:
        return _finish(op, merged)
    m = merged[..., None, :]
    branches = op.operators.fma(out - m, gates[:, None], m).flatten(3)
    real = {"branches": branches, "merged": merged}
    return _outputs(op, real, bits=branches, bases=op.bases, byte=merged)


# Bytes


@_step
def _quantize(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    return _outputs(op, {}, bits=None, bases=1, byte=x.float())


@_step
def _normalize(op: PreparedOperator, size: Size, image: Tensor) -> Outputs:
    y = op.operators.fma(image.float(), op.tensor("scale"), op.tensor("shift"))
    return _outputs(op, {"real": y}, bits=None, bases=1, byte=y)


@_step
def _conv_int8(
    op: PreparedOperator, size: Size, x: Tensor, residual: Tensor | None = None
) -> Outputs:
    count = x.shape[0]
    if op.bases > 1:  # each base is an image of its own
        x = x.unflatten(3, (op.bases, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
    names = ("weight", "border", "curve")
    pool = op.operator.kind == "conv_int8_pool"
    y = op.operators.conv_int8(x, *map(op.tensor, names), pool, *op.window())
    if op.bases > 1:
        y = y.unflatten(0, (count, op.bases)).permute(0, 2, 3, 1, 4).flatten(3)
    return _finish(op, y, residual, op.bases)


@_step
def _conv_int8_pool(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    return _conv_int8(op, size, x)


# Real numbers


@_step
def _conv(op: PreparedOperator, size: Size, x: Tensor, residual: Tensor | None = None) -> Outputs:
    groups = op.bases * op.get("groups", 1)
    y = op.operators.conv_float(
        x.float(),
        op.tensor("weight"),
        op.tensor("bias"),
        op.channels // groups,
        groups,
        *op.window(),
    )
    return _finish(op, y, residual, op.bases)


@_step
def _affine(op: PreparedOperator, size: Size, x: Tensor, residual: Tensor | None = None) -> Outputs:
    y = op.operators.fma(x.float(), op.tensor("scale"), op.tensor("bias"))
    return _finish(op, y, residual)


@_step
def _add(op: PreparedOperator, size: Size, a: Tensor, b: Tensor) -> Outputs:
    return _finish(op, a.float() + b.float())


@_step
def _mul(op: PreparedOperator, size: Size, a: Tensor, b: Tensor) -> Outputs:
    return _finish(op, a.float() * b.float())


@_step
def _act(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    return _finish(op, x.float())


def _taps(op: PreparedOperator, size: Size, x: Tensor, outside: float) -> list[Tensor]:
    """What each tap of a window reads, in row order: (N, H', W', C) each."""
    kernel, stride, pads, dilation = op.window()
    ends = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    after = [max(0, ends[i] - pads[i] - x.shape[1 + i]) for i in (0, 1)]
    wide = F.pad(x.float(), (0, 0, pads[1], after[1], pads[0], after[0]), value=outside)
    return [
        wide[
            :,
            ky * dilation[0] : ky * dilation[0] + (size[0] - 1) * stride[0] + 1 : stride[0],
            kx * dilation[1] : kx * dilation[1] + (size[1] - 1) * stride[1] + 1 : stride[1],
        ]
        for ky in range(kernel[0])
        for kx in range(kernel[1])
    ]


@_step
def _max_pool(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    y, *others = _taps(op, size, x, -float("inf"))
    for tap in others:
        y = torch.maximum(y, tap)
    return _finish(op, y)


@_step
def _avg_pool(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    y, *others = _taps(op, size, x, 0)
    for tap in others:
        y = y + tap
    return _finish(op, y / _pixels(op, size, x))


def _pixels(op: PreparedOperator, size: Size, x: Tensor) -> Tensor:
    """How many pixels of each window count: float32 (H', W', 1)."""
    kernel, stride, pads, dilation = op.window()
    inside = []
    for axis in (0, 1):
        starts = torch.arange(size[axis], device=x.device) * stride[axis] - pads[axis]
        at = starts[:, None] + torch.arange(kernel[axis], device=x.device) * dilation[axis]
        before, after = (pads[axis], pads[axis + 2]) if op["count"] == "kernel" else (0, 0)
        inside.append(((at >= -before) & (at < x.shape[1 + axis] + after)).sum(1).float())
    return (inside[0][:, None] * inside[1])[:, :, None]


def _mean(op: PreparedOperator, x: Tensor) -> Tensor:
    """(outer, n, inner) → (outer, inner): the sum in order, over n."""
    total: Tensor = op.operators.ordered_sum(x)
    return total / torch.full_like(total, x.shape[1])


@_step
def _spatial_mean(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    return _finish(op, _mean(op, x.flatten(1, 2).double()).float()[:, None, None])


@_step
def _adaptive_avg_pool(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    rows = []
    for i in range(size[0]):
        part = x[:, _bin(i, x.shape[1], size[0])].float()
        bins = [part[:, :, _bin(j, x.shape[2], size[1])] for j in range(size[1])]
        rows.append(torch.stack([_mean(op, each.flatten(1, 2)) for each in bins], dim=1))
    return _finish(op, torch.stack(rows, dim=1))


def _bin(index: int, length: int, count: int) -> slice:
    """The rows or columns of one pixel of `adaptive_avg_pool`."""
    return slice(index * length // count, -(-(index + 1) * length // count))


@_step
def _group_norm(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    groups = op.get("groups", 1)
    values = x.double().flatten(1, 2).unflatten(2, (groups, -1))  # N, pixels, G, C / G
    over_map = op["over"] == "map"
    if over_map:
        values = values.transpose(1, 2)
    shape = values.shape
    values = values.reshape(shape[0] * shape[1] * (1 if over_map else shape[2]), -1, 1)
    mean = _mean(op, values)[:, None]
    centered = values - mean
    variance = _mean(op, centered * centered)[:, None]
    root = (variance + op["epsilon"]).sqrt()
    v = (centered * (torch.ones_like(root) / root)).float().reshape(shape)
    if over_map:
        v = v.transpose(1, 2)
    v = v.reshape(x.shape)
    return _finish(op, op.operators.fma(v, op.tensor("scale"), op.tensor("bias")))


@_step
def _channel_mean(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    x = x.float().abs() if op.get("absolute", False) else x.float()
    parts = x.reshape(-1, op["size"], op.get("inner", 1))
    return _finish(op, _mean(op, parts).reshape(*x.shape[:3], -1))


# Places of pixels and channels


@_step
def _resize(op: PreparedOperator, size: Size, x: Tensor, *others: Tensor) -> Outputs:
    bilinear = op["mode"] == "bilinear"
    y = op.operators.resize(x.float(), *size, bilinear, op.get("align_corners", False))
    residual = others if op.has("scale") else others[1:]
    return _finish(op, y, residual[0] if residual else None)


@_step
def _concat(op: PreparedOperator, size: Size, *inputs: Tensor) -> Outputs:
    spread = [x.float().expand(-1, *size, -1) for x in inputs]
    return _finish(op, torch.cat(spread, dim=3))


@_step
def _slice(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    return _finish(op, x[..., op["from"] : op["to"]].float())


@_step
def _pad(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    rows, columns = (
        torch.arange(size[i], device=x.device).clamp(max=x.shape[1 + i] - 1) for i in (0, 1)
    )
    return dict.fromkeys(op.roles, x[:, rows][:, :, columns])


@_step
def _crop(op: PreparedOperator, size: Size, x: Tensor, like: Tensor) -> Outputs:
    return {"real": x[:, : size[0], : size[1]]}


@_step
def _flatten(op: PreparedOperator, size: Size, x: Tensor) -> Outputs:
    return {"real": x.reshape(x.shape[0], 1, 1, -1)}
