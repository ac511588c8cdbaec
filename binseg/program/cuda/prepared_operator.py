"""One operator of a program made ready for torch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from binseg.program.cuda.operator_tensors import Plan, prepare
from binseg.program.step import Step
from binseg.program.types import ValueType


class PreparedOperator(nn.Module):
    """One operator of a program; its tensors are buffers.

    Args:
        step: the operator and its tensors.
        types: of the program's values.
        plan: of convolutions over bits.
        operators: the namespace under `torch.ops`.

    Attributes:
        operator: which.
        operators: as given.
        roles: outputs that are made.
        bases: how many it works over.
        channels: of its result, the most of all outputs.
    """

    def __init__(
        self, step: Step, types: Mapping[int, ValueType], plan: Plan, operators: Any
    ) -> None:
        super().__init__()
        self.operator = step.operator
        self.operators = operators
        self.roles = set(step.operator.outputs)
        self.bases = step.bases
        self.channels = max(types[value].channels for value in step.operator.outputs.values())
        self._plan = plan
        for name, array in prepare(step, types, plan).items():
            self.register_buffer(f"_{name}", torch.from_numpy(array.copy()))

    def __getitem__(self, name: str) -> Any:
        """An attribute."""
        return self.operator.attributes[name]

    def get(self, name: str, default: Any) -> Any:
        """An attribute that may be missing."""
        return self.operator.attributes.get(name, default)

    def has(self, name: str) -> bool:
        """Whether there is an attribute of this name."""
        return name in self.operator.attributes

    def tensor(self, name: str) -> Tensor | None:
        """A prepared tensor, if there is one."""
        return self._buffers.get(f"_{name}")

    def bit_shape(self) -> tuple[Any, ...]:
        """Of a convolution over bits, as its operator takes it."""
        names = ("in_channels", "out_channels", "kernel", "stride", "dilations", "padding")
        return (*(self[name] for name in names), self._plan)

    def window(self) -> tuple[Any, ...]:
        """kernel, stride, pads and dilation of a convolution or pooling."""
        return self["kernel"], self["stride"], self["pads"], self.get("dilation", (1, 1))
