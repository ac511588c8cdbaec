"""A program as a module of torch."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from binseg.program.check import check
from binseg.program.cuda import operators as _declared  # noqa: F401 - registers the operators
from binseg.program.cuda.operator_tensors import Plan
from binseg.program.cuda.prepared_operator import PreparedOperator
from binseg.program.cuda.steps import STEPS
from binseg.program.program import IMAGE, Program
from binseg.program.sizes import value_sizes
from binseg.program.step import Step

CPU_PLAN: Plan = (1, 0, 0)


class ProgramNetwork(nn.Module):
    """A program over the operators of `operators`, for one kind of device.

    It can be exported and compiled (`torch.export`, `torch.compile` with a backend that rounds
    every operator's result, such as "aot_eager"). A compiler that joins products and sums gives
    other last bits than the definition.

    Args:
        program: of any origin.
        plan: how convolutions over bits run, see `devices.plan_for`.
        operators: the namespace under `torch.ops` that holds the operators.

    Shapes:
        image: uint8 (N, H, W, 3), RGB, resized but not normalized.
        returns the program's output, float32 (N, h, w, classes).

    Raises:
        ProgramError: the program breaks the definition; in a call, the images' size does not fit.
    """

    def __init__(self, program: Program, *, plan: Plan = CPU_PLAN, operators: Any = None) -> None:
        super().__init__()
        types = check(program)
        self.program = program
        self.operators = torch.ops.binseg if operators is None else operators
        self.operations = nn.ModuleList(
            PreparedOperator(Step(operator, program, types), types, plan, self.operators)
            for operator in program.operators
        )

    def values(self, image: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Run the program and give each value that an operator makes; see `steps`."""
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[3] != 3:
            raise ValueError(f"expected uint8 (N, H, W, 3), not {image.dtype} {tuple(image.shape)}")
        sizes = value_sizes(self.program, image.shape[1], image.shape[2])
        readers = Counter(v for each in self.program.operators for v in set(each.inputs))
        kept = {IMAGE: image}
        for operator, operation in zip(self.program.operators, self.operations, strict=True):
            made = STEPS[operator.kind](
                operation,
                sizes[next(iter(operator.outputs.values()))],
                *(kept[value] for value in operator.inputs),
            )
            for value in set(operator.inputs):  # the last reader frees the memory
                readers[value] -= 1
                if not readers[value]:
                    del kept[value]
            for role, value in operator.outputs.items():
                kept[value] = made[role]
                yield value, made[role]

    def forward(self, image: Tensor) -> Tensor:
        output = self.program.output
        return next(made for value, made in self.values(image) if value == output).float()
