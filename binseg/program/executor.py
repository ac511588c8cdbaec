"""Executors of programs on this machine: libbinseg, or the slow reference without it."""

import time
import warnings
from typing import Protocol

import numpy as np

from binseg.errors import unknown_name
from binseg.model_file import model_file_bytes
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program
from binseg.program.sizes import Size
from binseg.runtime.library import LibraryError, Network, isas

REFERENCE = "reference"

_NO_PREPROCESSING = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "short_side": None}
"""Of a program that gets its images in their own size; the normalization is in the program."""


class Executor(Protocol):
    """Runs one program; images are uint8 (H, W, 3), RGB, resized but not normalized.

    Attributes:
        backend: what it is, one of `backends`.
        threads: that work on one image.
    """

    threads: int

    @property
    def backend(self) -> str: ...

    def scores(self, image: np.ndarray) -> np.ndarray:
        """The program's output, float32 (h, w, classes)."""
        ...

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        """The class of each pixel, uint8 of `size` (default: the image's)."""
        ...

    def operator_seconds(self, image: np.ndarray) -> list[float]:
        """Wall-clock time of each operator, in the program's order."""
        ...


def backends() -> list[str]:
    """What this machine can run programs on, the fastest first: instruction sets of libbinseg, and
    "reference", which is always there."""
    try:
        return [*isas(), REFERENCE]
    except LibraryError:
        return [REFERENCE]  # `binseg doctor` says why


def create_executor(program: Program, backend: str | None = None) -> Executor:
    """What runs a program.

    Args:
        program: of any origin.
        backend: one of `backends`; None for the environment's BINSEG_ISA or the fastest, with a
            warning if that is the slow reference.

    Raises:
        ProgramError: the program breaks the definition.
        BinsegError: there is no such backend on this machine.
    """
    if backend == REFERENCE:
        return _Reference(program)
    if backend is not None and backend not in backends():
        raise unknown_name("backend", backend, backends())
    try:
        return _Compiled(program, backend)
    except LibraryError as error:
        if backend is not None:
            raise
        warnings.warn(
            f"packed networks run by the slow reference, some hundred times slower: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return _Reference(program)


class _Reference:
    """The interpreter."""

    backend = REFERENCE
    threads = 1

    def __init__(self, program: Program) -> None:
        self._program = program
        self._interpreter = Interpreter(program)

    def scores(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._interpreter.scores(image))

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        return self._interpreter.class_map(image, size)

    def operator_seconds(self, image: np.ndarray) -> list[float]:
        owner = {
            value: index
            for index, operator in enumerate(self._program.operators)
            for value in operator.outputs.values()
        }
        seconds = [0.0] * len(self._program.operators)
        began = time.perf_counter()
        for value, _ in self._interpreter.values(image):
            now = time.perf_counter()
            seconds[owner[value]] += now - began
            began = now
        return seconds


class _Compiled:
    """libbinseg."""

    def __init__(self, program: Program, isa: str | None = None) -> None:
        header = {
            "kind": "packed",
            "program": program.to_json(),
            "preprocessing": _NO_PREPROCESSING,
        }
        content = model_file_bytes(header, program.tensors, program.bfloat16)
        self._network = Network(bytes(content), isa=isa)

    @property
    def backend(self) -> str:
        return self._network.isa

    @property
    def threads(self) -> int:
        return self._network.threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._network.threads = count

    def scores(self, image: np.ndarray) -> np.ndarray:
        return self._network.scores(image, resize=False)

    def class_map(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        return self._network.upsample_argmax(self.scores(image), size or image.shape[:2])

    def operator_seconds(self, image: np.ndarray) -> list[float]:
        return [seconds for _, seconds in self._network.operator_times(image)]
