"""Readers of modules: torch's own layers and binseg's."""

from typing import Any

import torch
from torch import Tensor, nn

from binseg.compiler.affine import norm_affine
from binseg.compiler.grammar import Context, reads_module
from binseg.compiler.graph import Value
from binseg.nn.activations import RPReLU
from binseg.nn.bases import BaseSum
from binseg.nn.binarize import sign, weight_scale
from binseg.nn.layers import BinaryConv2d

# --- convolutions ---


@reads_module(nn.Conv2d)
def _conv(context: Context, conv: nn.Conv2d, x: Any) -> Value:
    x = context.value(x)
    if isinstance(conv.padding, str):
        raise context.refuse("its padding must be numbers")
    context.require(conv.padding_mode == "zeros", "it must be padded with zeros")
    context.require(x.branches == 1 or conv.groups == 1, "bases and groups exclude each other")
    height, width = conv.padding
    weight = conv.weight.detach().cpu().double().permute(0, 2, 3, 1)
    node = context.node(
        "conv",
        x,
        layer=conv,
        attributes={
            "kernel": list(conv.kernel_size),
            "stride": list(conv.stride),
            "pads": [height, width, height, width],
            "dilation": list(conv.dilation),
            "groups": conv.groups,
            "bases": x.branches,
        },
        tensors={"weight": weight, "bias": _bias(conv, len(weight))},
    )
    return node.give("real", conv.out_channels * x.branches, pixel=x.pixel, branches=x.branches)


@reads_module(nn.Linear)
def _linear(context: Context, linear: nn.Linear, x: Any) -> Value:
    x = context.value(x)
    context.require(x.pixel, "it must read a map of one pixel")
    weight = linear.weight.detach().cpu().double()[:, None, None, :]
    node = context.node(
        "conv",
        x,
        layer=linear,
        attributes={**_ONE_BY_ONE, "bases": x.branches},
        tensors={"weight": weight, "bias": _bias(linear, len(weight))},
    )
    return node.give("real", linear.out_features * x.branches, pixel=True, branches=x.branches)


_ONE_BY_ONE = {
    "kernel": [1, 1],
    "stride": [1, 1],
    "pads": [0, 0, 0, 0],
    "dilation": [1, 1],
    "groups": 1,
}


@reads_module(BinaryConv2d)
def _binary_conv(context: Context, conv: BinaryConv2d, x: Any) -> Value:
    x = context.value(x)
    size = [conv.kernel_size, conv.kernel_size]
    if conv.real_input:
        return _bit_weight_conv(context, conv, x)
    context.require(x.branches == 1 or conv.bases == 1, "bases inside bases")
    bases = max(conv.bases, x.branches)
    node = context.node(
        "binary",
        x,
        layer=conv,
        attributes={
            "kernel": size,
            "stride": conv.stride,
            "dilations": list(conv.dilations) * x.branches,
            "padding": int(conv.padding_value),
            "in_channels": conv.in_channels,
            "out_channels": conv.out_channels,
            "shared_weight": x.branches > 1,
        },
    )
    sums = node.give("real", bases * conv.out_channels, pixel=x.pixel, branches=x.branches)
    return sums if conv.scaling_map is None else _scaled(context, conv, x, sums)


def _bit_weight_conv(context: Context, conv: BinaryConv2d, x: Value) -> Value:
    """A convolution of real numbers with weights of 1 bit."""
    context.require(conv.bases == 1 or conv.shared_input, "bases of real numbers of their own")
    context.require(len(set(conv.dilations)) == 1, "bases of real numbers with rates of their own")
    weight = conv.latent_weight.detach().cpu()
    factor = weight_scale(weight, conv.scale, conv.bases)
    scale = torch.ones(len(weight)) if factor is None else factor.flatten()
    size = [conv.kernel_size, conv.kernel_size]
    border = conv.dilations[0] * (conv.kernel_size - 1) // 2
    node = context.node(
        "conv",
        x,
        layer=conv,
        attributes={
            "kernel": size,
            "stride": [conv.stride] * 2,
            "pads": [border] * 4,
            "dilation": [conv.dilations[0]] * 2,
            "groups": 1,
            "bases": x.branches,
        },
        tensors={
            "weight": (sign(weight) > 0).permute(0, 2, 3, 1),
            "scale": scale.double(),
            "bias": torch.zeros(len(weight), dtype=torch.float64),
        },
    )
    return node.give("real", len(weight) * x.branches, pixel=x.pixel, branches=x.branches)


def _scaled(context: Context, conv: BinaryConv2d, x: Value, sums: Value) -> Value:
    """XNOR-Net's scaling map, see `ScalingMap`, times the sums."""
    mean = context.node(
        "channel_mean", x, attributes={"size": conv.in_channels, "inner": 1, "absolute": True}
    ).give("real", 1, pixel=x.pixel)
    size, rate = conv.kernel_size, conv.dilations[0]
    box = torch.full((1, size, size, 1), size**-2, dtype=torch.float32).double()
    scale = context.node(
        "conv",
        mean,
        attributes={
            "kernel": [size, size],
            "stride": [conv.stride] * 2,
            "pads": [rate * (size - 1) // 2] * 4,
            "dilation": [rate, rate],
            "groups": 1,
            "bases": 1,
            "exact": True,
        },
        tensors={"weight": box, "bias": torch.zeros(1, dtype=torch.float64)},
    ).give("real", 1, pixel=x.pixel)
    return context.node("mul", sums, scale).give("real", sums.channels, pixel=sums.pixel)


def _bias(layer: nn.Module, channels: int) -> Tensor:
    bias = layer.bias
    if not isinstance(bias, Tensor):
        return torch.zeros(channels, dtype=torch.float64)
    return bias.detach().cpu().double()


# --- sums of bases and normalizations ---


@reads_module(BaseSum)
def _base_sum(context: Context, layer: BaseSum, x: Any) -> Value:
    return sum_of_bases(context, context.value(x), layer.bases, layer.lambdas)


def sum_of_bases(context: Context, x: Value, bases: int, lambdas: Tensor | None) -> Value:
    """Σ_k λ_k·x_k, or the mean, see `binseg.nn.bases.merge_bases`."""
    if bases == 1:
        return x
    factors = torch.full((bases,), 1 / bases) if lambdas is None else lambdas.detach().cpu()
    node = context.node(
        "base_sum",
        x,
        attributes={"bases": bases, "mean": lambdas is None},
        tensors={"lambdas": factors.double()},
    )
    return node.give("real", x.channels // bases, pixel=x.pixel, branches=x.branches)


@reads_module(nn.BatchNorm2d)
def _batchnorm(context: Context, norm: nn.BatchNorm2d, x: Any) -> Value:
    context.require(norm.running_mean is not None, "it has no running statistics")
    scale, bias = norm_affine(norm)
    return context.like(
        "affine", context.value(x), layer=norm, tensors={"scale": scale, "bias": bias}
    )


@reads_module(nn.GroupNorm)
def _group_norm(context: Context, norm: nn.GroupNorm, x: Any) -> Value:
    x = context.value(x)
    context.require(x.branches == 1)
    return normalized(context, x, norm.num_groups, "map", norm.eps, norm.weight, norm.bias)


def normalized(
    context: Context,
    x: Value,
    groups: int,
    over: str,
    epsilon: float,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Value:
    """(x − mean) / √(variance + ε)·weight + bias over groups of channels."""
    scale = torch.ones(x.channels) if weight is None else weight.detach().cpu()
    shift = torch.zeros(x.channels) if bias is None else bias.detach().cpu()
    return context.like(
        "group_norm",
        x,
        attributes={"groups": groups, "over": over, "epsilon": epsilon},
        tensors={"scale": scale.double(), "bias": shift.double()},
    )


# --- nothing at inference ---


@reads_module(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
def _identity(context: Context, layer: nn.Module, x: Any) -> Any:
    return x


@reads_module(nn.Flatten)
def _flatten(context: Context, layer: nn.Flatten, x: Any) -> Value:
    x = context.value(x)
    context.require(x.pixel, "it must read a map of one pixel")
    return x


# --- nonlinearities ---


def act(context: Context, x: Value, name: str, layer: nn.Module, **tensors: Tensor) -> Value:
    """The activation called `name`; `layer` is what it was trained as, of one channel each."""
    rows = {role: tensor.detach().cpu().double() for role, tensor in tensors.items()}
    return context.like("act", x, layer=layer, attributes={"act": name}, tensors=rows)


_PLAIN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
}


@reads_module(*_PLAIN)
def _plain(context: Context, layer: nn.Module, x: Any) -> Value:
    name = next(_PLAIN[kind] for kind in type(layer).__mro__ if kind in _PLAIN)
    return act(context, context.value(x), name, layer)


@reads_module(nn.Hardtanh)
def _hardtanh(context: Context, layer: nn.Hardtanh, x: Any) -> Value:
    context.require((layer.min_val, layer.max_val) == (-1, 1), "it must clamp to −1 and 1")
    return act(context, context.value(x), "hardtanh", layer)


@reads_module(nn.PReLU)
def _prelu(context: Context, layer: nn.PReLU, x: Any) -> Value:
    x = context.value(x)
    own = x.channels // x.branches
    return act(context, x, "prelu", layer, slope=layer.weight.expand(own))


@reads_module(nn.LeakyReLU)
def _leaky_relu(context: Context, layer: nn.LeakyReLU, x: Any) -> Value:
    x = context.value(x)
    slope = torch.full((x.channels // x.branches,), layer.negative_slope)
    return act(context, x, "prelu", layer, slope=slope)


@reads_module(RPReLU)
def _rprelu(context: Context, layer: RPReLU, x: Any) -> Value:
    return act(
        context,
        context.value(x),
        "rprelu",
        layer,
        before=layer.before_shift,
        slope=layer.prelu.weight,
        after=layer.after_shift,
    )


# --- poolings and resizing ---


@reads_module(nn.MaxPool2d)
def _max_pool(context: Context, pool: nn.MaxPool2d, x: Any) -> Value:
    context.require(not pool.return_indices, "it must not return indices")
    return max_pool(context, x, pool.kernel_size, pool.stride, pool.padding, pool.dilation,
                    pool.ceil_mode)  # fmt: skip


def max_pool(
    context: Context,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    """As `F.max_pool2d`."""
    x = context.value(x)
    attributes = _window(kernel_size, stride, padding)
    attributes["dilation"] = _two(dilation)
    if ceil_mode:
        attributes["ceil"] = True
    node = context.node("max_pool", x, attributes=attributes)
    return node.give("real", x.channels, pixel=x.pixel, branches=x.branches)


@reads_module(nn.AvgPool2d)
def _avg_pool(context: Context, pool: nn.AvgPool2d, x: Any) -> Value:
    return avg_pool(context, x, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode,
                    pool.count_include_pad, pool.divisor_override)  # fmt: skip


def avg_pool(
    context: Context,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """As `F.avg_pool2d`."""
    x = context.value(x)
    context.require(divisor_override is None, "its divisor must be the window's size")
    border = count_include_pad and any(_two(padding))
    context.require(not (border and ceil_mode), "a border that counts and a ceiling")
    attributes = _window(kernel_size, stride, padding)
    attributes["count"] = "kernel" if border else "valid"
    if ceil_mode:
        attributes["ceil"] = True
    node = context.node("avg_pool", x, attributes=attributes)
    return node.give("real", x.channels, pixel=x.pixel, branches=x.branches)


@reads_module(nn.AdaptiveAvgPool2d)
def _adaptive_avg_pool(context: Context, pool: nn.AdaptiveAvgPool2d, x: Any) -> Value:
    return adaptive_avg_pool(context, x, pool.output_size)


def adaptive_avg_pool(context: Context, x: Any, output_size: Any) -> Value:
    """As `F.adaptive_avg_pool2d`."""
    x = context.value(x)
    size = _two(output_size)
    if size == [1, 1]:
        return spatial_mean(context, x)
    context.require(all(isinstance(side, int) for side in size), "its size must be numbers")
    node = context.node("adaptive_avg_pool", x, attributes={"size": size})
    return node.give("real", x.channels, branches=x.branches)


def spatial_mean(context: Context, x: Value) -> Value:
    """The mean over all pixels."""
    node = context.node("spatial_mean", x)
    return node.give("real", x.channels, pixel=True, branches=x.branches)


@reads_module(nn.Upsample)
def _upsample(context: Context, layer: nn.Upsample, x: Any) -> Value:
    context.require(layer.size is None, "its size must follow from the image's")
    return resize_by(context, context.value(x), layer.scale_factor, layer.mode, layer.align_corners)


def resize_by(
    context: Context, x: Value, factor: Any, mode: str, align_corners: bool | None
) -> Value:
    """Resizing by integer factors."""
    scale = _two(factor)
    context.require(all(side == int(side) >= 1 for side in scale), "its scale must be an integer")
    attributes = {**resize_mode(context, mode, align_corners), "scale": [int(s) for s in scale]}
    node = context.node("resize", x, attributes=attributes)
    return node.give("real", x.channels, branches=x.branches)


def resize_mode(context: Context, mode: str, align_corners: bool | None) -> dict[str, Any]:
    """The attributes of a `resize`."""
    context.require(mode in ("nearest", "bilinear"), f'mode "{mode}"')
    return {"mode": mode, **({"align_corners": True} if align_corners else {})}


def _window(kernel_size: Any, stride: Any, padding: Any) -> dict[str, Any]:
    height, width = _two(padding)
    kernel = _two(kernel_size)
    return {
        "kernel": kernel,
        "stride": _two(stride) if stride else kernel,
        "pads": [height, width, height, width],
    }


def _two(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value, value]
