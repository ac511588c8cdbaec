"""Readers of functions and methods: torch's own and binseg's."""

import builtins
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.compiler import modules
from binseg.compiler.grammar import ChannelsLast, Context, Shape, Side, reads_function
from binseg.compiler.graph import Value
from binseg.nn.bases import gate_branches, join_branches, merge_bases, part_branches
from binseg.nn.heads.fcn import resize_logits
from binseg.nn.shapes import check_sides, crop_to, flatten_pixels, mean_of_neighbours
from binseg.nn.smp_grids import padded

_SMP_MULTIPLE = 32

# --- arithmetic ---


@reads_function(operator.add, operator.iadd, torch.add, methods="add add_")
def _add(context: Context, a: Any, b: Any, *, alpha: int = 1) -> Value:
    context.require(alpha == 1, "it must not scale")
    return _binary(context, "add", a, b)


@reads_function(operator.mul, operator.imul, torch.mul, methods="mul mul_")
def _mul(context: Context, a: Any, b: Any) -> Value:
    return _binary(context, "mul", a, b)


def _binary(context: Context, kind: str, a: Any, b: Any) -> Value:
    if not isinstance(a, Value):
        a, b = b, a
    a = context.value(a)
    if not isinstance(b, Value):
        return _with_constant(context, kind, a, b)
    context.require(a.branches == b.branches, "maps of different bases")
    wide = b.pixel and not a.pixel
    if (a.pixel and not b.pixel) or (a.channels == 1 < b.channels and kind == "mul"):
        a, b, wide = b, a, True
    thin = kind == "mul" and b.channels == 1
    context.require(a.channels == b.channels or thin, "maps of different channels")
    context.require(a.pixel or not b.pixel or wide)
    return context.node(kind, a, b).give("real", a.channels, pixel=a.pixel, branches=a.branches)


def _with_constant(context: Context, kind: str, x: Value, constant: Any) -> Value:
    """x + constant or x·constant, a number or one for each channel."""
    own = x.channels // x.branches
    try:
        rows = torch.as_tensor(constant, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise context.refuse(f"a {type(constant).__name__} beside a map") from error
    if rows.ndim > 1:
        trailing = all(side == 1 for side in rows.shape[-2:]) if rows.ndim >= 3 else x.pixel
        context.require(trailing and rows.numel() in (1, own), "a constant of another shape")
        rows = rows.flatten()
    elif rows.ndim == 1 and rows.numel() > 1:
        context.require(x.pixel and rows.numel() == own, "a constant of another shape")
    rows = rows.expand(own).clone()
    one, zero = torch.ones_like(rows), torch.zeros_like(rows)
    scale, bias = (one, rows) if kind == "add" else (rows, zero)
    return context.like("affine", x, tensors={"scale": scale, "bias": bias})


@reads_function(torch.stack)
def _stack(context: Context, maps: Any, dim: int = 0) -> list[Value]:
    context.require(dim == 0, "it must be summed over the maps")
    return [context.value(each) for each in maps]


@reads_function(torch.sum, methods="sum")
def _sum(context: Context, maps: Any, dim: int = -1) -> Value:
    context.require(isinstance(maps, list) and dim == 0, "only stacked maps can be summed")
    total = maps[0]
    for each in maps[1:]:
        total = _binary(context, "add", total, each)
    return total


# --- nonlinearities ---

_ACTS: dict[str, tuple[type[nn.Module], list[Any], str]] = {
    "relu": (nn.ReLU, [F.relu, torch.relu, torch.relu_], "relu relu_"),
    "relu6": (nn.ReLU6, [F.relu6], ""),
    "tanh": (nn.Tanh, [torch.tanh, F.tanh], "tanh"),
    "sigmoid": (nn.Sigmoid, [torch.sigmoid, F.sigmoid], "sigmoid"),
    "silu": (nn.SiLU, [F.silu], ""),
    "hardsigmoid": (nn.Hardsigmoid, [F.hardsigmoid], ""),
    "hardswish": (nn.Hardswish, [F.hardswish], ""),
}


def _enter_act(name: str) -> None:
    kind, functions, methods = _ACTS[name]

    @reads_function(*functions, methods=methods)
    def read(context: Context, x: Any, inplace: bool = False) -> Value:
        return modules.act(context, context.value(x), name, kind())


for _name in _ACTS:
    _enter_act(_name)


@reads_function(F.hardtanh)
def _hardtanh(
    context: Context, x: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    context.require((min_val, max_val) == (-1, 1), "it must clamp to −1 and 1")
    return modules.act(context, context.value(x), "hardtanh", nn.Hardtanh())


@reads_function(torch.clamp, methods="clamp clamp_")
def _clamp(context: Context, x: Any, min: Any = None, max: Any = None) -> Value:
    return _hardtanh(context, x, min, max)


@reads_function(F.leaky_relu)
def _leaky_relu(
    context: Context, x: Any, negative_slope: float = 0.01, inplace: bool = False
) -> Value:
    x = context.value(x)
    slope = torch.full((x.channels // x.branches,), negative_slope)
    return modules.act(context, x, "prelu", nn.LeakyReLU(negative_slope), slope=slope)


@reads_function(torch.abs, methods="abs")
def _abs(context: Context, x: Any) -> Value:
    return context.like("act", context.value(x), attributes={"act": "abs"})


# --- poolings, means, resizing ---


@reads_function(F.max_pool2d, torch.max_pool2d)
def _max_pool(
    context: Context,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    context.require(not return_indices, "it must not return indices")
    return modules.max_pool(context, x, kernel_size, stride, padding, dilation, ceil_mode)


@reads_function(F.avg_pool2d)
def _avg_pool(
    context: Context,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    return modules.avg_pool(
        context, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@reads_function(F.adaptive_avg_pool2d)
def _adaptive_avg_pool(context: Context, x: Any, output_size: Any) -> Value:
    return modules.adaptive_avg_pool(context, x, output_size)


@reads_function(torch.mean, methods="mean")
def _mean(context: Context, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    x = context.value(x)
    axes = sorted(axis % 4 for axis in (dim if isinstance(dim, list | tuple) else [dim or 0]))
    if axes == [2, 3]:
        return modules.spatial_mean(context, x)
    context.require(axes == [1] and keepdim and x.branches == 1, "a mean over these axes")
    node = context.node("channel_mean", x, attributes={"size": x.channels, "inner": 1})
    return node.give("real", 1, pixel=x.pixel)


@reads_function(F.interpolate)
def _interpolate(
    context: Context,
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    x = context.value(x)
    context.require(not antialias, "antialiasing")
    if size is None:
        return modules.resize_by(context, x, scale_factor, mode, align_corners)
    return _resized(context, x, size, mode, align_corners)


@reads_function(resize_logits)
def _resize_logits(context: Context, x: Any, size: Any) -> Value:
    return _resized(context, context.value(x), size, "bilinear", False)


def _resized(context: Context, x: Value, size: Any, mode: str, align_corners: bool | None) -> Value:
    """Resizing to the size of another map."""
    other = _same_size_as(size)
    if other is None:
        raise context.refuse("its size must be that of another map")
    attributes = modules.resize_mode(context, mode, align_corners)
    node = context.node("resize", x, other, attributes=attributes)
    return node.give("real", x.channels, pixel=other.pixel, branches=x.branches)


def _same_size_as(size: Any) -> Value | None:
    """The map whose height and width `size` is."""
    if isinstance(size, Shape):
        return size.of if size.spatial else None
    if isinstance(size, list | tuple) and len(size) == 2:
        height, width = size
        if isinstance(height, Side) and isinstance(width, Side) and height.of is width.of:
            return height.of if (height.axis, width.axis) == (2, 3) else None
    return None


@reads_function(F.layer_norm)
def _layer_norm(
    context: Context,
    x: Any,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> ChannelsLast:
    if not isinstance(x, ChannelsLast):
        raise context.refuse("it must be over the channels of each pixel")
    context.require(list(normalized_shape) == [x.of.channels], "it must be over all channels")
    return ChannelsLast(modules.normalized(context, x.of, 1, "pixel", eps, weight, bias))


@reads_function(torch.permute, methods="permute")
def _permute(context: Context, x: Any, *axes: Any) -> Value | ChannelsLast:
    order = tuple(axes[0] if len(axes) == 1 else axes)
    if isinstance(x, ChannelsLast) and order == (0, 3, 1, 2):
        return x.of
    context.require(order == (0, 2, 3, 1), "another order")
    return ChannelsLast(context.value(x))


# --- parts and joints ---


@reads_function(torch.cat, torch.concat)
def _cat(context: Context, maps: Any, dim: int = 0) -> Value:
    values = [context.value(each) for each in maps]
    context.require(dim in (1, -3), "it must be along the channels")
    context.require(all(each.branches == 1 for each in values), "maps of bases")
    node = context.node("concat", *values)
    pixel = all(each.pixel for each in values)
    return node.give("real", sum(each.channels for each in values), pixel=pixel)


@reads_function(operator.getitem)
def _getitem(context: Context, x: Any, index: Any) -> Any:
    if isinstance(x, Shape):
        return _of_shape(context, x, index)
    if isinstance(x, list | tuple):
        return x[index]
    x = context.value(x)
    parts = list(index) if isinstance(index, tuple) else [index]
    while len(parts) > 2 and parts[-1] is None and x.pixel:
        parts.pop()  # a vector that becomes a map of one pixel
    whole = slice(None)
    context.require(
        all(part == whole for part in parts[:1] + parts[2:]) and x.branches == 1,
        "only channels can be sliced",
    )
    if len(parts) < 2 or parts[1] == whole:
        return x
    context.require(isinstance(parts[1], slice), "only ranges of channels can be sliced")
    start, stop, step = parts[1].indices(x.channels)
    context.require(step == 1 and start < stop, "only ranges of channels can be sliced")
    return _sliced(context, x, start, stop)


@reads_function(torch.chunk, methods="chunk")
def _chunk(context: Context, x: Any, chunks: int, dim: int = 0) -> list[Value]:
    x = context.value(x)
    return _split(context, x, -(-x.channels // chunks), dim)


@reads_function(torch.split, methods="split")
def _split(context: Context, x: Any, size: Any, dim: int = 0) -> list[Value]:
    x = context.value(x)
    context.require(dim in (1, -3) and x.branches == 1, "only channels can be split")
    if isinstance(size, int):
        size = [min(size, x.channels - start) for start in range(0, x.channels, size)]
    ends = [sum(size[: i + 1]) for i in range(len(size))]
    return [_sliced(context, x, end - own, end) for end, own in zip(ends, size, strict=True)]


def _sliced(context: Context, x: Value, start: int, stop: int) -> Value:
    node = context.node("slice", x, attributes={"from": start, "to": stop})
    return node.give("real", stop - start, pixel=x.pixel)


@reads_function(torch.flatten, methods="flatten")
def _flatten(context: Context, x: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
    x = context.value(x)
    context.require(x.pixel and start_dim == 1, "it must read a map of one pixel")
    return x


@reads_function(methods="view reshape squeeze unsqueeze")
def _reshape(context: Context, x: Any, *size: Any) -> Value:
    x = context.value(x)
    context.require(x.pixel, "only maps of one pixel can be reshaped")
    return x


@reads_function(F.dropout, F.dropout2d, methods="contiguous float clone detach")
def _identity(context: Context, x: Any, *options: Any, **more: Any) -> Value:
    return context.value(x)


@reads_function(methods="expand")
def _expand(context: Context, x: Any, *size: Any) -> Value:
    """A map of one pixel over all pixels of another, which every reader of it does by itself."""
    x = context.value(x)
    context.require(x.pixel and list(size[:2]) == [-1, -1], "only one pixel can be spread")
    other = _same_size_as(size[2:])
    if other is None:
        raise context.refuse("its size must be that of another map")
    return x


@reads_function(methods="repeat")
def _repeat(context: Context, x: Any, *times: Any) -> Value:
    """A map once for each base."""
    x = context.value(x)
    counts = list(times[0]) if len(times) == 1 else list(times)
    context.require(
        len(counts) == 4 and counts[0] == counts[2] == counts[3] == 1 and x.branches == 1,
        "only channels can be repeated",
    )
    node = context.node("repeat", x, attributes={"times": counts[1]})
    return node.give("real", x.channels * counts[1], pixel=x.pixel)


# --- sizes ---


@reads_function(builtins.getattr)
def _getattr(context: Context, x: Any, name: str) -> Shape:
    context.require(name == "shape", f"its {name} is not known")
    return Shape(context.value(x))


@reads_function(methods="size")
def _size(context: Context, x: Any, axis: int | None = None) -> Any:
    shape = Shape(context.value(x))
    return shape if axis is None else _of_shape(context, shape, axis)


def _of_shape(context: Context, shape: Shape, index: Any) -> Any:
    axes = [2, 3] if shape.spatial else [0, 1, 2, 3]
    if isinstance(index, slice):
        chosen = axes[index]
        return Shape(shape.of, spatial=True) if chosen == [2, 3] else [
            _of_shape(context, Shape(shape.of), axis) for axis in chosen
        ]  # fmt: skip
    axis = axes[index]
    if axis == 1:
        return shape.of.channels // shape.of.branches
    return Side(shape.of, axis)


# --- binseg's own ---


@reads_function(merge_bases)
def _merge(context: Context, x: Any, bases: int, lambdas: Tensor | None) -> Value:
    return modules.sum_of_bases(context, context.value(x), bases, lambdas)


@reads_function(gate_branches)
def _gate(context: Context, branches: Any, merged: Any, theta: Tensor, bases: int) -> Value:
    branches = context.value(branches)
    gates = torch.sigmoid(theta.double()).expand(bases)
    node = context.node("gate", branches, context.value(merged), tensors={"gates": gates})
    return node.give("real", branches.channels, pixel=branches.pixel)


@reads_function(part_branches)
def _part(context: Context, x: Any, branches: int) -> Value:
    x = context.value(x)
    context.require(x.branches == 1, "bases inside bases")
    return context.node("part", x).give("real", x.channels, pixel=x.pixel, branches=branches)


@reads_function(join_branches)
def _join(context: Context, x: Any, branches: int) -> Value:
    x = context.value(x)
    context.require(x.branches == branches, "bases of another number")
    return context.node("part", x).give("real", x.channels, pixel=x.pixel)


@reads_function(mean_of_neighbours)
def _mean_of_neighbours(context: Context, x: Any, size: int) -> Value:
    x = context.value(x)
    node = context.node("channel_mean", x, attributes={"size": size, "inner": 1})
    return node.give("real", x.channels // size, pixel=x.pixel)


@reads_function(flatten_pixels)
def _flatten_pixels(context: Context, x: Any) -> Value:
    x = context.value(x)
    if x.pixel:
        return x
    if x.node.kind == "affine":  # the same after the flattening, where a sign can take it up
        flat = _flatten_pixels(context, x.node.inputs[0])
        return context.like("affine", flat, tensors=dict(x.node.tensors))
    # only the layer that reads them knows how many pixels there are, see `tidy.size_flatten`
    return context.node("flatten", x).give("real", x.channels, pixel=True)


@reads_function(padded)
def _padded(context: Context, x: Any) -> Value:
    x = context.value(x)
    node = context.node("pad", x, attributes={"multiple": _SMP_MULTIPLE})
    return node.give("real", x.channels)


@reads_function(crop_to)
def _crop_to(context: Context, x: Any, image: Any) -> Value:
    x = context.value(x)
    return context.node("crop", x, context.value(image)).give("real", x.channels)


@reads_function(check_sides)
def _check_sides(context: Context, *arguments: Any) -> None:
    """A program's sizes follow from its `flatten`."""
