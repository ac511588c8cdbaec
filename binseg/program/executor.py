"""What runs a program on this machine."""

from typing import Protocol

import numpy as np

from binseg.program.interpreter import Interpreter
from binseg.program.program import Program
from binseg.program.sizes import Size


class Executor(Protocol):
    """Runs one program; images are uint8 (H, W, 3), RGB, resized but not normalized."""

    def scores(self, image: np.ndarray) -> np.ndarray:
        """The program's output, float32 (h, w, classes)."""
        ...

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        """The class of each pixel, uint8 of `size` (default: the image's)."""
        ...


def create_executor(program: Program) -> Executor:
    """The fastest executor that there is.

    Raises:
        ProgramError: the program breaks the definition.
    """
    return Interpreter(program)
