"""The activations of programs, docs/program.md, part 2: float32 → float32."""

from collections.abc import Callable

import numpy as np

from binseg.program.arithmetic import sigmoid, tanh

_ZERO, _ONE, _HALF, _SIX = (np.float32(value) for value in (0, 1, 0.5, 6))


def _hardsigmoid(v: np.ndarray) -> np.ndarray:
    return np.clip(v / _SIX + _HALF, _ZERO, _ONE)


PLAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda v: np.maximum(v, _ZERO),
    "relu6": lambda v: np.clip(v, _ZERO, _SIX),
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": lambda v: v * sigmoid(v),
    "hardtanh": lambda v: np.clip(v, -_ONE, _ONE),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda v: v * _hardsigmoid(v),
    "abs": np.abs,
}
"""Those without tensors."""


def prelu(v: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """v where it is at least 0, else slope·v."""
    return np.where(v >= 0, v, slope * v)
