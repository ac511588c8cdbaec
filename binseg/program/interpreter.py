"""The reference interpreter: docs/program.md in numpy, one image at a time.

Every executor is held against it, and where no compiled library is, it runs networks.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from binseg.program.arithmetic import upsample_argmax
from binseg.program.check import check
from binseg.program.operators import OPERATORS
from binseg.program.program import IMAGE, Program, ProgramError
from binseg.program.sizes import Size, value_sizes
from binseg.program.step import Step


class Interpreter:
    """Runs a program; one object may be used by many threads.

    Args:
        program: of any origin.

    Raises:
        ProgramError: it breaks the definition.
    """

    def __init__(self, program: Program) -> None:
        types = check(program)
        self._program = program
        self._steps = [Step(operator, program, types) for operator in program.operators]

    def values(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Run the program and give each value that an operator makes.

        Args:
            image: uint8 (H, W, 3), RGB, resized but not normalized.

        Yields:
            value and array: float32 (H, W, C); bool (H, W, B, C) for bits, true is +1; uint8 (H, W,
            C) for bytes and images.

        Raises:
            ProgramError: the image is too small or of a size that does not fit the network.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), not {image.dtype} {image.shape}")
        sizes = value_sizes(self._program, image.shape[0], image.shape[1])
        readers = Counter(value for step in self._steps for value in set(step.operator.inputs))
        kept = {IMAGE: image}
        for step in self._steps:
            outputs = step.operator.outputs
            inputs = [kept[value] for value in step.operator.inputs]
            size = sizes[next(iter(outputs.values()))]
            with np.errstate(all="ignore"):
                made = OPERATORS[step.operator.kind](step, size, *inputs)
            for value in set(step.operator.inputs):  # the last reader frees the memory
                readers[value] -= 1
                if not readers[value]:
                    del kept[value]
            for role, value in outputs.items():
                kept[value] = made[role]
                yield value, made[role]

    def scores(self, image: np.ndarray) -> np.ndarray:
        """The program's output.

        Args:
            image: uint8 (H, W, 3), RGB, resized but not normalized.

        Returns:
            float32 (h, w, classes).

        Raises:
            ProgramError: see `values`; or the output holds nan.
        """
        scores = next(array for value, array in self.values(image) if value == self._program.output)
        if np.isnan(scores).any():
            raise ProgramError("the network's scores hold nan: its weights are damaged")
        return scores

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: uint8 (H, W, 3), RGB, resized but not normalized.
            size: (height, width) of the result (default: the image's).

        Returns:
            uint8 (height, width).

        Raises:
            ProgramError: see `scores`.
        """
        height, width = size or image.shape[:2]
        return upsample_argmax(self.scores(image), height, width)
