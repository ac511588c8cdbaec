"""What runs a program on this machine: libbinseg, or the slow reference where there is none."""

import warnings
from typing import Protocol

import numpy as np

from binseg.model_file import model_file_bytes
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program
from binseg.program.sizes import Size
from binseg.runtime.library import LibraryError, Network

_NO_PREPROCESSING = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "short_side": None}
"""Of a program that gets its images in their own size; the normalization is in the program."""


class Executor(Protocol):
    """Runs one program; images are uint8 (H, W, 3), RGB, resized but not normalized."""

    def scores(self, image: np.ndarray) -> np.ndarray:
        """The program's output, float32 (h, w, classes)."""
        ...

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        """The class of each pixel, uint8 of `size` (default: the image's)."""
        ...


def create_executor(program: Program) -> Executor:
    """The fastest executor that there is; a warning, once, if it is the slow reference.

    Raises:
        ProgramError: the program breaks the definition.
    """
    reference = Interpreter(program)
    try:
        return _Compiled(program)
    except LibraryError as error:
        warnings.warn(
            f"packed networks run by the slow reference, some hundred times slower: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return reference


class _Compiled:
    """libbinseg."""

    def __init__(self, program: Program) -> None:
        header = {
            "kind": "packed",
            "program": program.to_json(),
            "preprocessing": _NO_PREPROCESSING,
        }
        self._network = Network(bytes(model_file_bytes(header, program.tensors, program.bfloat16)))

    def scores(self, image: np.ndarray) -> np.ndarray:
        return self._network.scores(image, resize=False)

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        return self._network.upsample_argmax(self.scores(image), size or image.shape[:2])
