"""Values that lie inside others (concatenations, slices, crops) hold what copies would hold."""

import numpy as np
import pytest
from model_files import model_file

from binseg.program.builder import ProgramBuilder
from binseg.program.interpreter import Interpreter
from binseg.runtime.library import Network


class Maker:
    """Adds operators with random weights to a program."""

    def __init__(self, seed: int) -> None:
        self.builder, self.rng, self.names = ProgramBuilder(), np.random.default_rng(seed), 0

    def tensor(self, *shape: int) -> str:
        self.names += 1
        values = self.rng.normal(size=shape).astype(np.float32)
        return self.builder.tensor(f"t{self.names}", values)

    def image(self) -> int:
        tensors = {"scale": self.tensor(3), "shift": self.tensor(3)}
        return self.builder.add("normalize", [0], ["real"], tensors=tensors)[0]

    def conv(self, x: int, inputs: int, outputs: int, **more) -> int:
        shape = {"kernel": [3, 3], "stride": [1, 1], "pads": [1, 1, 1, 1]} | more
        tensors = {"weight": self.tensor(outputs, 3, 3, inputs)}
        return self.builder.add("conv", [x], ["real"], tensors=tensors, **shape)[0]

    def one(self, kind: str, inputs: list[int], roles=("real",), **more) -> int:
        return self.builder.add(kind, inputs, list(roles), **more)[0]


def check(maker: Maker, output: int) -> None:
    program = maker.builder.build(output)
    image = maker.rng.integers(0, 256, (11, 14, 3), dtype=np.uint8)
    network, expected = Network(model_file(program), threads=2), Interpreter(program).scores(image)
    for _ in range(2):
        np.testing.assert_array_equal(network.scores(image), expected)


def dense_block(maker: Maker, x: int, channels: int) -> tuple[int, int]:
    for _ in range(3):
        new = maker.conv(x, channels, 5)
        x, channels = maker.one("concat", [x, new]), channels + 5
    return x, channels


def test_a_dense_block():
    maker = Maker(0)
    x, channels = dense_block(maker, maker.image(), 3)
    check(maker, maker.conv(x, channels, 4))


def test_the_output_is_a_concatenation():
    maker = Maker(1)
    x, _ = dense_block(maker, maker.image(), 3)
    check(maker, x)


def test_a_part_is_read_after_the_whole():
    maker = Maker(2)
    x = maker.image()
    a, b = maker.conv(x, 3, 4), maker.conv(x, 3, 4)
    both = maker.conv(maker.one("concat", [a, b]), 8, 4)
    check(maker, maker.one("add", [maker.one("add", [both, a]), b]))


def test_the_output_is_a_part():
    maker = Maker(3)
    x = maker.image()
    a = maker.conv(x, 3, 6)
    whole = maker.one("concat", [maker.conv(x, 3, 2), a])
    check(maker, maker.one("add", [maker.one("slice", [whole], from_=2, to_=8), a]))


def test_one_value_twice_and_in_two_places():
    maker = Maker(4)
    a = maker.conv(maker.image(), 3, 3)
    twice, again = maker.one("concat", [a, a]), maker.one("concat", [a, a, a])
    check(maker, maker.one("concat", [twice, again, a]))


def test_different_storage_and_a_spread_pixel():
    maker = Maker(5)
    x = maker.image()
    half = maker.conv(x, 3, 3, dtype="bf16")
    pixel = maker.one("spatial_mean", [x])
    mixed = maker.one("concat", [x, half, pixel], dtype="bf16")
    check(maker, maker.one("concat", [mixed, x, half]))


def test_slices_of_slices_of_concatenations():
    maker = Maker(6)
    x = maker.image()
    whole = maker.one("concat", [maker.conv(x, 3, 7), maker.conv(x, 3, 6)])
    middle = maker.one("slice", [whole], from_=2, to_=12)
    inner = maker.one("slice", [middle], from_=3, to_=8)
    joined = maker.one("concat", [inner, middle, x])
    check(maker, maker.conv(joined, 18, 5))


@pytest.mark.parametrize("threshold", [False, True])
def test_a_concatenation_with_bits_and_an_activation(threshold):
    maker = Maker(7)
    x = maker.image()
    a, b = maker.conv(x, 3, 5), maker.conv(x, 3, 4)
    tensors = {"threshold": maker.tensor(9)} if threshold else {}
    real, bits = maker.builder.add("concat", [a, b], ["real", "bits"], tensors=tensors)
    active = maker.one("concat", [a, real], act_="relu")
    weight = maker.builder.tensor("weight", np.uint8([0b01011010, 1]))
    signs = maker.one(
        "conv_real",
        [bits],
        tensors={"weight": weight, "curve": maker.tensor(3, 1)},
        kernel=[1, 1],
        stride=1,
        dilations=[1],
        padding=-1,
        in_channels=9,
        out_channels=1,
    )
    check(maker, maker.one("concat", [active, signs, real]))


def test_crops_of_padded_maps():
    maker = Maker(8)
    x = maker.image()
    padded = maker.one("pad", [x], multiple_=8)
    wide = maker.conv(padded, 3, 4)
    cropped = maker.builder.add("crop", [wide, x], ["real"])[0]
    check(maker, maker.one("concat", [cropped, x, maker.one("add", [x, x])]))
