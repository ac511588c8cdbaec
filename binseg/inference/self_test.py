"""Self-tests: what executors compute on this machine against the definition."""

from collections.abc import Callable

import numpy as np

from binseg.errors import BinsegError
from binseg.program.builder import ProgramBuilder
from binseg.program.executor import Executor, create_executor
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program
from binseg.program.tensors import pack_bits


def check_library(isa: str) -> None:
    """Compare libbinseg with the reference.

    Args:
        isa: one of `binseg.runtime.library.isas`.

    Raises:
        BinsegError: the scores differ, or the network does not run.
    """
    remedy = "set BINSEG_ISA to another instruction set"
    check_executor(lambda program: create_executor(program, isa), isa, remedy)


def check_executor(create: Callable[[Program], Executor], name: str, remedy: str) -> None:
    """Compare a small network with the reference, at sizes that are no multiple of anything.

    Args:
        create: makes the executor.
        name: what an error calls it.
        remedy: what to do until the fault is found.

    Raises:
        BinsegError: the scores differ, or the network does not run.
    """
    program = _network()
    image = np.random.default_rng(1).integers(0, 256, (29, 41, 3), dtype=np.uint8)
    if not np.array_equal(create(program).scores(image), Interpreter(program).scores(image)):
        raise BinsegError(f"wrong scores on {name}; {remedy} and report this")


def _network() -> Program:
    """8 bits, then bits, then two bases with bits in and float32 out."""
    rng = np.random.default_rng(0)
    builder = ProgramBuilder()

    def curve(rows: int, channels: int) -> np.ndarray:
        return rng.normal(size=(rows, channels)).astype(np.float32)

    (bits,) = builder.add(
        "conv_int8",
        [builder.image],
        ["bits"],
        tensors={
            "weight": builder.tensor(
                "stem.weight", rng.integers(-127, 128, (37, 3, 3, 3), dtype=np.int8)
            ),
            "curve": builder.tensor("stem.curve", curve(2, 37)),
        },
        kernel=[3, 3],
        stride=[2, 2],
        pads=[1, 1, 1, 1],
        border=[124, 116, 104],
    )
    (bits,) = builder.add(
        "conv_bits",
        [bits],
        ["bits"],
        tensors={
            "weight": builder.tensor("middle.weight", pack_bits(rng.random((134, 3, 3, 37)) < 0.5)),
            "low": builder.tensor("middle.low", rng.integers(-20, 20, 134, dtype=np.int32)),
            "span": builder.tensor("middle.span", rng.integers(0, 400, 134, dtype=np.int32)),
        },
        kernel=[3, 3],
        stride=1,
        dilations=[1, 2],
        padding=1,
        in_channels=37,
        out_channels=67,
    )
    (scores,) = builder.add(
        "conv_real",
        [bits],
        ["real"],
        tensors={
            "weight": builder.tensor("head.weight", pack_bits(rng.random((10, 3, 3, 67)) < 0.5)),
            "curve": builder.tensor("head.curve", curve(3, 10)),
        },
        kernel=[3, 3],
        stride=1,
        dilations=[1, 3],
        padding=0,
        in_channels=67,
        out_channels=5,
    )
    return builder.build(scores)
