"""Maps that are updated in place hold what new ones would hold: residuals nobody reads again."""

import numpy as np
import pytest
from model_files import model_file

from binseg.program.builder import ProgramBuilder
from binseg.program.interpreter import Interpreter
from binseg.runtime.library import Network

CHANNELS, BASES = 33, 2


class Block:
    """A program of residual convolutions over bits, as Group-Net's blocks are."""

    def __init__(self) -> None:
        self.builder, self.rng, self.names = ProgramBuilder(), np.random.default_rng(0), 0

    def tensor(self, *shape: int, bits: bool = False) -> str:
        self.names += 1
        values = self.rng.normal(size=shape).astype(np.float32)
        if bits:
            values = self.rng.integers(0, 256, -(-int(np.prod(shape)) // 8)).astype(np.uint8)
            values[-1] &= (1 << (np.prod(shape) % 8 or 8)) - 1
        return self.builder.tensor(f"t{self.names}", values)

    def start(self) -> tuple[int, int]:
        tensors = {"scale": self.tensor(3), "shift": self.tensor(3)}
        (image,) = self.builder.add("normalize", [0], ["real"], tensors=tensors)
        return self.builder.add(
            "conv",
            [image],
            ["real", "bits"],
            tensors={"weight": self.tensor(BASES * CHANNELS, 3, 3, 3)},
            kernel=[3, 3],
            stride=[1, 1],
            pads=[1, 1, 1, 1],
            bit_bases=BASES,
        )

    def conv(self, bits: int, residual: int, roles: tuple[str, ...], **tensors: str) -> list[int]:
        shape = (BASES * CHANNELS, 3, 3, CHANNELS)
        tensors |= {
            "weight": self.tensor(*shape, bits=True),
            "curve": self.tensor(3, BASES * CHANNELS),
        }
        return self.builder.add(
            "conv_merge" if "lambdas" in tensors else "conv_real",
            [bits, residual],
            list(roles),
            tensors=tensors,
            kernel=[3, 3],
            stride=1,
            dilations=[1, 2],
            padding=0,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
        )

    def merge(self, bits: int, residual: int, roles=("branches", "bits")) -> list[int]:
        gates = {"lambdas": self.tensor(BASES), "gates": self.tensor(BASES)}
        return self.conv(bits, residual, roles, **gates)

    def scores(self, real: int) -> int:
        (scores,) = self.builder.add(
            "conv",
            [real],
            ["real"],
            tensors={"weight": self.tensor(4, 1, 1, BASES * CHANNELS)},
            kernel=[1, 1],
            stride=[1, 1],
            pads=[0, 0, 0, 0],
        )
        return scores

    def check(self, real: int) -> None:
        program = self.builder.build(self.scores(real))
        image = self.rng.integers(0, 256, (13, 18, 3), dtype=np.uint8)
        network, expected = Network(model_file(program), threads=2), Interpreter(program)
        for _ in range(2):
            np.testing.assert_array_equal(network.scores(image), expected.scores(image))


def test_one_map_through_all_blocks():
    block = Block()
    real, bits = block.start()
    real, bits = block.conv(bits, real, ("real", "bits"))
    real, bits = block.merge(bits, real)
    real, bits = block.conv(bits, real, ("real", "bits"))
    (real,) = block.merge(bits, real, ("branches",))
    block.check(real)


@pytest.mark.parametrize("merges", [False, True])
def test_a_residual_that_is_read_again(merges):
    block = Block()
    real, bits = block.start()
    one, more = block.merge(bits, real) if merges else block.conv(bits, real, ("real", "bits"))
    (two,) = block.merge(more, real, ("branches",))
    (both,) = block.builder.add("add", [one, two], ["real"])
    (all_three,) = block.builder.add("add", [both, real], ["real"])
    block.check(all_three)


def test_a_residual_that_lies_in_a_concatenation():
    block = Block()
    real, bits = block.start()
    (whole,) = block.builder.add("concat", [real, real], ["real"])
    updated, more = block.conv(bits, real, ("real", "bits"))
    (updated,) = block.merge(more, updated, ("branches",))
    channels = {"from": 0, "to": BASES * CHANNELS}
    (part,) = block.builder.add("slice", [whole], ["real"], **channels)
    (both,) = block.builder.add("add", [updated, part], ["real"])
    block.check(both)
