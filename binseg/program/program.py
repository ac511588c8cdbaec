"""The program of a packed network: operators over numbered values, and tensors.

The definition is docs/program.md. Nothing here knows torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VERSION = 1
IMAGE = 0
"""The value that is the image."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        kind: see docs/program.md, part 2.
        inputs: values read, in the order of the definition; optional ones left out at the end.
        outputs: role → value; roles that nobody reads are left out.
        tensors: role → name of a tensor of the program.
        attributes: plain JSON values.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: Mapping[str, int]
    tensors: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A whole program.

    Attributes:
        operators: in an order in which they can be run.
        output: the value that holds the class scores.
        tensors: name → array in natural order; bfloat16 as uint16 with the name in `bfloat16`.
        bfloat16: names of the tensors that hold bfloat16.
    """

    operators: tuple[Operator, ...]
    output: int
    tensors: Mapping[str, np.ndarray]
    bfloat16: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The header's part; tensors are written beside it."""
        return {
            "version": VERSION,
            "operators": [
                {
                    "op": operator.kind,
                    "in": list(operator.inputs),
                    "out": dict(operator.outputs),
                    **({"tensors": dict(operator.tensors)} if operator.tensors else {}),
                    **operator.attributes,
                }
                for operator in self.operators
            ],
            "output": self.output,
        }
