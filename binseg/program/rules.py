"""The rules of each operator: what it may read, hold and make (docs/program.md, part 2)."""

from collections.abc import Callable

import numpy as np

from binseg.program.operator_view import OperatorView
from binseg.program.program import is_integer, is_number
from binseg.program.types import (
    MAX_BASES,
    MAX_CHANNELS,
    MAX_DILATION,
    MAX_KERNEL,
    MAX_SIDE,
    MAX_SLOPE,
    MAX_STRIDE,
    MAX_SUM,
    ValueType,
)

RULES: dict[str, Callable[[OperatorView], None]] = {}


def _rule(check: Callable[[OperatorView], None]) -> Callable[[OperatorView], None]:
    """Register a rule; the operator's kind is the function's name."""
    RULES[check.__name__.strip("_")] = check
    return check


# Bits


@_rule
def _pack_sign(rule: OperatorView) -> None:
    count = rule.inputs(1, 2)
    channels = rule.input(0, "real").channels
    if count == 2 and rule.input(1, "real").channels != channels:
        raise rule.error("reads two values of different numbers of channels")
    if rule.given("gain") or rule.given("shift"):
        rule.channel_tensor("gain", channels)
        rule.channel_tensor("shift", channels)
    bases = rule.integer("bit_bases", 1, MAX_BASES, 1)
    if channels % bases:
        raise rule.error(f"cannot make {bases} bases of {channels} channels")
    rule.output("bits", ValueType("bits", channels, bases))


def _bit_convolution(rule: OperatorView) -> tuple[int, int, int]:
    """Attributes, weight and input of a convolution over bits.

    Returns:
        bases K, channels of one base's result, and of the rows of its tensors: one base's or all.
    """
    kernel = rule.integers("kernel", 2, 1, MAX_KERNEL)
    rule.integer("stride", 1, MAX_STRIDE)
    bases = len(rule.integers("dilations", None, 1, MAX_DILATION))
    rule.choice("padding", (-1, 0, 1))
    in_channels = rule.integer("in_channels", 1, MAX_CHANNELS)
    out_channels = rule.integer("out_channels", 1, MAX_CHANNELS)
    found = rule.input(0, "bits")
    if found.channels != in_channels * found.bases or found.bases not in (1, bases):
        raise rule.error(
            f"reads bits of {found.bases} × {found.channels // found.bases} channels, not of 1 "
            f"or {bases} × {in_channels}"
        )
    rows = out_channels if rule.flag("shared_weight") else bases * out_channels
    rule.bits("weight", rows * kernel[0] * kernel[1] * in_channels)
    return bases, out_channels, rows


@_rule
def _conv_bits(rule: OperatorView) -> None:
    rule.inputs(1)
    bases, channels, rows = _bit_convolution(rule)
    rule.tensor("low", (rows,), "I32", "I16")
    rule.tensor("span", (rows,), "I32", "I16")
    rule.output("bits", ValueType("bits", bases * channels, bases))


def _curve(rule: OperatorView, rows: int) -> None:
    curve = rule.tensor("curve", (3, rows), "F32")
    if np.abs(curve[:2]).max() > MAX_SLOPE:
        raise rule.error("has a tensor 'curve' with slopes beyond 2^126")
    rule.flag("tanh")


@_rule
def _conv_real(rule: OperatorView) -> None:
    rule.inputs(1, 2)
    bases, channels, rows = _bit_convolution(rule)
    _curve(rule, rows)
    rule.finish(bases * channels, bases=bases, residual_at=1)


@_rule
def _conv_merge(rule: OperatorView) -> None:
    count = rule.inputs(1, 2)
    bases, channels, rows = _bit_convolution(rule)
    _curve(rule, rows)
    if count == 2:
        rule.residual(1, bases * channels, bases)
    if rule.has("branch_act"):
        rule.activation(bases * channels, "branch_")
    rule.tensor("lambdas", (bases,), "F32")
    if not rule.given("gates"):
        rule.finish(channels, fixed=True)
        return
    rule.tensor("gates", (bases,), "F32")
    rule.real(branches=bases * channels, merged=channels)
    rule.bit_output(bases * channels, bases, fixed=True)
    rule.byte_output(channels)


# 8 bits


@_rule
def _quantize(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.byte_output(rule.input(0, "real").channels)


@_rule
def _normalize(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.input(0, "image")
    rule.tensor("scale", (3,), "F32")
    rule.tensor("shift", (3,), "F32")
    rule.real(real=3)


def _byte_convolution(rule: OperatorView) -> tuple[int, int]:
    """Attributes, tensors and input of a convolution over bytes; bases, channels of the result."""
    found = rule.input(0, "bytes", "image")
    rule.window()
    kernel = rule.integers("kernel", 2, 1, MAX_KERNEL)
    bases = rule.integer("bases", 1, MAX_BASES, 1)
    if found.channels % bases:
        raise rule.error(f"cannot make {bases} bases of {found.channels} channels")
    in_channels = found.channels // bases
    terms = kernel[0] * kernel[1] * in_channels
    if terms * 255 * 128 > MAX_SUM:
        raise rule.error(f"adds {terms} products, which 31 bits may not hold")
    out_channels = rule.shape("curve", 2, "F32")[1]
    rule.tensor("curve", (2, out_channels), "F32")
    if rule.dtype("weight", "I8", "U8") == "U8":
        rule.bits("weight", out_channels * terms)
    else:
        rule.tensor("weight", (out_channels, *kernel, in_channels), "I8")
    border = rule.attribute("border")
    values = border if isinstance(border, list | tuple) else [border]
    if values is border and len(values) != in_channels:
        raise rule.error(f"has {len(values)} numbers in 'border', not {in_channels}")
    if not all(is_integer(value) and 0 <= value <= 255 for value in values):
        raise rule.error("has a 'border' that is not bytes, integers from 0 to 255")
    return bases, bases * out_channels


@_rule
def _conv_int8(rule: OperatorView) -> None:
    rule.inputs(1, 2)
    bases, channels = _byte_convolution(rule)
    rule.finish(channels, bases=bases, residual_at=1)


@_rule
def _conv_int8_pool(rule: OperatorView) -> None:
    rule.inputs(1)
    bases, channels = _byte_convolution(rule)
    rule.finish(channels, bases=bases)


# Real numbers


@_rule
def _conv(rule: OperatorView) -> None:
    rule.inputs(1, 2)
    rule.window()
    kernel = rule.integers("kernel", 2, 1, MAX_KERNEL)
    channels = rule.input(0, "real").channels
    bases = rule.integer("bases", 1, MAX_BASES, 1)
    groups = rule.integer("groups", 1, MAX_CHANNELS, 1)
    if channels % (bases * groups):
        raise rule.error(f"cannot make {bases} bases of {groups} groups of {channels} channels")
    in_channels = channels // (bases * groups)
    if rule.dtype("weight", "F32", "BF16", "U8") == "U8":
        out_channels = rule.shape("scale", 1, "F32")[0]
        rule.bits("weight", out_channels * kernel[0] * kernel[1] * in_channels)
    else:
        out_channels = rule.shape("weight", 4, "F32", "BF16")[0]
        rule.tensor("weight", (out_channels, *kernel, in_channels), "F32", "BF16")
    if out_channels % groups:
        raise rule.error(f"cannot make {groups} groups of {out_channels} channels")
    if rule.given("bias"):
        rule.tensor("bias", (out_channels,), "F32")
    rule.finish(bases * out_channels, bases=bases, residual_at=1)


@_rule
def _affine(rule: OperatorView) -> None:
    rule.inputs(1, 2)
    channels = rule.input(0, "real").channels
    rule.channel_tensor("scale", channels)
    rule.channel_tensor("bias", channels)
    rule.finish(channels, residual_at=1)


@_rule
def _add(rule: OperatorView) -> None:
    rule.inputs(2)
    channels = rule.input(0, "real").channels
    if rule.input(1, "real").channels != channels:
        raise rule.error("reads two values of different numbers of channels")
    rule.finish(channels)


@_rule
def _mul(rule: OperatorView) -> None:
    rule.inputs(2)
    channels = rule.input(0, "real").channels
    if rule.input(1, "real").channels not in (1, channels):
        raise rule.error("reads two values of different numbers of channels")
    rule.finish(channels)


@_rule
def _act(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.attribute("act")
    rule.finish(rule.input(0, "real").channels)


@_rule
def _max_pool(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.window()
    rule.flag("ceil")
    rule.finish(rule.input(0, "real").channels)


@_rule
def _avg_pool(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.window()
    rule.flag("ceil")
    rule.choice("count", ("valid", "kernel"))
    rule.finish(rule.input(0, "real").channels)


@_rule
def _spatial_mean(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.finish(rule.input(0, "real").channels)


@_rule
def _adaptive_avg_pool(rule: OperatorView) -> None:
    rule.inputs(1)
    rule.integers("size", 2, 1, MAX_KERNEL)
    rule.finish(rule.input(0, "real").channels)


@_rule
def _group_norm(rule: OperatorView) -> None:
    rule.inputs(1)
    channels = rule.input(0, "real").channels
    groups = rule.integer("groups", 1, MAX_CHANNELS, 1)
    if channels % groups:
        raise rule.error(f"cannot make {groups} groups of {channels} channels")
    rule.choice("over", ("map", "pixel"))
    epsilon = rule.attribute("epsilon")
    if not is_number(epsilon) or not 0 < epsilon < 1:
        raise rule.error("has an 'epsilon' that is not a number between 0 and 1")
    rule.channel_tensor("scale", channels)
    rule.channel_tensor("bias", channels)
    rule.finish(channels)


@_rule
def _channel_mean(rule: OperatorView) -> None:
    rule.inputs(1)
    channels = rule.input(0, "real").channels
    size = rule.integer("size", 1, MAX_CHANNELS)
    inner = rule.integer("inner", 1, MAX_CHANNELS, 1)
    rule.flag("absolute")
    if channels % (size * inner):
        raise rule.error(f"cannot see {channels} channels as (outer, {size}, {inner})")
    rule.finish(channels // size)


# Places of pixels and channels


@_rule
def _resize(rule: OperatorView) -> None:
    others = 0 if rule.has("scale") else 1
    rule.inputs(1 + others, 2 + others)
    channels = rule.input(0, "real").channels
    if rule.has("scale"):
        rule.integers("scale", 2, 1, MAX_STRIDE)
    if rule.choice("mode", ("bilinear", "nearest")) == "bilinear":
        rule.flag("align_corners")
    rule.finish(channels, residual_at=1 + others)


@_rule
def _concat(rule: OperatorView) -> None:
    count = rule.inputs(1, MAX_CHANNELS)
    rule.finish(sum(rule.input(i, "real").channels for i in range(count)))


@_rule
def _slice(rule: OperatorView) -> None:
    rule.inputs(1)
    channels = rule.input(0, "real").channels
    start = rule.integer("from", 0, channels - 1)
    end = rule.integer("to", start + 1, channels)
    rule.finish(end - start)


@_rule
def _pad(rule: OperatorView) -> None:
    rule.inputs(1)
    found = rule.input(0, "image", "real")
    rule.integer("multiple", 1, MAX_SIDE)
    rule.output(found.kind, found)


@_rule
def _crop(rule: OperatorView) -> None:
    rule.inputs(2)
    rule.output("real", rule.input(0, "real"))


@_rule
def _flatten(rule: OperatorView) -> None:
    rule.inputs(1)
    found = rule.input(0, "real")
    height = rule.integer("height", 1, MAX_SIDE)
    width = rule.integer("width", 1, MAX_SIDE)
    rule.output("real", ValueType("real", height * width * found.channels, bf16=found.bf16))
