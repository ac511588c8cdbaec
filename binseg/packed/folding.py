"""What the layers of a packed network are made by, besides the trained layers themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from binseg.packed.calibration import Range

Rest = Literal["fp32", "bf16", "int8"]
"""Arithmetic of the layers that are not binary."""


@dataclass(frozen=True)
class Folding:
    """How a trained network is packed.

    Attributes:
        rest: arithmetic of the stem, the head's first convolution and real 1×1 downsampling.
        ranges: of the inputs of the real convolutions, for int8; empty where only sizes count.
        names: the network's layers by module, for messages.
    """

    rest: Rest
    ranges: Mapping[nn.Module, Range] = field(default_factory=dict)
    names: Mapping[nn.Module, str] = field(default_factory=dict)

    def name(self, module: nn.Module) -> str:
        """The name of a layer in the trained network."""
        return self.names.get(module, type(module).__name__)
