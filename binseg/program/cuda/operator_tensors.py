"""An operator's tensors as the operators of torch read them, made once when a program is opened."""

from collections.abc import Callable, Mapping

import numpy as np

from binseg.program.cuda.weights import (
    ENGINES,
    arrange_bits,
    arrange_bytes,
    arrange_floats,
    sum_table,
)
from binseg.program.program import Operator
from binseg.program.step import Step
from binseg.program.types import ValueType

Plan = tuple[int, int, int]
"""Number of the engine, rows of a tile, bytes of shared memory; 0 chooses the latter two."""

Arrays = dict[str, np.ndarray]

_CHANNEL_ROLES = ("gain", "shift", "scale", "bias", "slope", "before", "after", "threshold")
"""A number for each channel of the result, or fewer that are repeated."""


def prepare(step: Step, types: Mapping[int, ValueType], plan: Plan) -> Arrays:
    """Arrays by name: roles of the program, and what is derived from them."""
    channels = max(types[value].channels for value in step.operator.outputs.values())
    maker = _MAKERS.get(step.operator.kind)
    if maker is not None:
        return maker(step, channels, plan)
    return {
        role: step.channels(role, channels)
        for role in step.operator.tensors
        if role in _CHANNEL_ROLES
    }


def fuses_activation(operator: Operator, prefix: str = "") -> bool:
    """Whether a convolution does the activation, a form of PReLU between two shifts."""
    return operator.attributes.get(f"{prefix}act", "relu") in ("relu", "prelu", "rprelu")


def _bit_conv(step: Step, plan: Plan) -> Arrays:
    kernel = (step["kernel"][0], step["kernel"][1])
    weight = step.bit_weight > 0
    weight = weight.reshape(*weight.shape[:2], kernel[0] * kernel[1], -1)
    return {
        "weight": arrange_bits(weight, ENGINES[plan[0]]),
        "table": sum_table(weight, kernel, step["padding"]),
    }


def _rows(step: Step, role: str) -> np.ndarray:
    """A tensor with a number for each channel of all bases, those of one repeated if shared."""
    tensor = step.tensors[role]
    times = step.bases if step.get("shared_weight", False) else 1
    return np.tile(tensor, (1,) * (tensor.ndim - 1) + (times,))


def _shifted_prelu(step: Step, channels: int, prefix: str = "") -> list[np.ndarray]:
    """before, slope and after of the activation; −0 for +0 is no difference to the definition."""
    zero, kind = np.zeros(channels, np.float32), step.get(f"{prefix}act", None)
    slope = np.ones(channels, np.float32) if kind is None else zero
    if kind in ("prelu", "rprelu"):
        slope = step.channels(f"{prefix}slope", channels)
    if kind != "rprelu":
        return [zero, slope, zero]
    before, after = (step.channels(f"{prefix}{role}", channels) for role in ("before", "after"))
    return [before, slope, after]


def _conv_bits(step: Step, channels: int, plan: Plan) -> Arrays:
    limits = {role: _rows(step, role).astype(np.int32) for role in ("low", "span")}
    return {**_bit_conv(step, plan), **limits}


def _conv_real(step: Step, channels: int, plan: Plan) -> Arrays:
    made = {**_bit_conv(step, plan), "curve": _rows(step, "curve")}
    own = {role: step.channels(role, channels) for role in step.tensors if role in _CHANNEL_ROLES}
    if fuses_activation(step.operator) and (
        "act" in step.operator.attributes or "threshold" in own
    ):
        threshold = own.get("threshold", np.zeros(channels, np.float32))
        made["post"] = np.stack([*_shifted_prelu(step, channels), threshold])
    return {**made, **own}


def _conv_merge(step: Step, channels: int, plan: Plan) -> Arrays:
    made = {**_bit_conv(step, plan), "curve": _rows(step, "curve")}
    made |= {role: step.tensors[role] for role in ("lambdas", "gates") if role in step.tensors}
    width = step["out_channels"] * (step.bases if "gates" in step.tensors else 1)
    for role in _CHANNEL_ROLES:
        if role in step.tensors:
            made[role] = step.channels(role, width)
    if "branch_act" in step.operator.attributes and fuses_activation(step.operator, "branch_"):
        rows = step["out_channels"] * step.bases
        made["post"] = np.stack(_shifted_prelu(step, rows, "branch_"))
    return made


def _conv_int8(step: Step, channels: int, plan: Plan) -> Arrays:
    taps = step["kernel"][0] * step["kernel"][1]
    weight = step.byte_weight.reshape(len(step.byte_weight), taps, -1)
    border = np.zeros(-(-weight.shape[2] // 4) * 4, np.uint8)
    border[: weight.shape[2]] = step["border"]
    return {
        "weight": arrange_bytes(weight),
        "border": border,
        "curve": step.tensors["curve"],
        **_finish(step, channels),
    }


def _conv(step: Step, channels: int, plan: Plan) -> Arrays:
    weight, groups = step.real_weight, step.bases * step.get("groups", 1)
    made = {"weight": arrange_floats(weight.reshape(groups, len(weight) // groups, -1))}
    if "bias" in step.tensors:
        made["bias"] = np.tile(step.tensors["bias"], step.bases)
    return {**made, **_finish(step, channels)}


def _finish(step: Step, channels: int) -> Arrays:
    roles = ("slope", "before", "after", "threshold")
    return {role: step.channels(role, channels) for role in roles if role in step.tensors}


_MAKERS: dict[str, Callable[[Step, int, Plan], Arrays]] = {
    "conv_bits": _conv_bits,
    "conv_real": _conv_real,
    "conv_merge": _conv_merge,
    "conv_int8": _conv_int8,
    "conv_int8_pool": _conv_int8,
    "conv": _conv,
}
