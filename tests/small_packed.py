"""A small packed network as a file, made without torch."""

from pathlib import Path

import numpy as np

from binseg.data.label_table import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.program.builder import ProgramBuilder
from binseg.program.file import write_program
from binseg.program.program import Program
from binseg.program.tensors import pack_bits

LABELS = LabelTable("halves", ("dark", "bright"), ((20, 20, 20), (240, 240, 40)), {0: 0, 1: 1})


def small_program() -> Program:
    """Class 1 where the image is bright: an 8-bit stem, a convolution of bits, real scores."""
    builder = ProgramBuilder()
    (bits,) = builder.add(
        "conv_int8",
        [builder.image],
        ["bits"],
        tensors={
            "weight": builder.tensor("stem.weight", np.ones((8, 1, 1, 3), np.int8)),
            "curve": builder.tensor(
                "stem.curve", np.repeat(np.array([[1], [-382.5]], np.float32), 8, axis=1)
            ),
        },
        kernel=[1, 1],
        stride=[1, 1],
        pads=[0, 0, 0, 0],
        border=0,
    )
    signs = np.array([[-1], [1]]) * np.ones((2, 8))  # class 0 wants −1 everywhere, class 1 +1
    (scores,) = builder.add(
        "conv_real",
        [bits],
        ["real"],
        tensors={
            "weight": builder.tensor("head.weight", pack_bits(signs.reshape(2, 1, 1, 8) > 0)),
            "curve": builder.tensor("head.curve", np.array([[1, 1], [1, 1], [0, 0]], np.float32)),
        },
        kernel=[1, 1],
        stride=1,
        dilations=[1],
        padding=1,
        in_channels=8,
        out_channels=2,
    )
    return builder.build(scores)


def write_small_packed(path: Path, short_side: int | None = None) -> Path:
    """Write `small_program` with `LABELS`; returns `path`."""
    write_program(
        path,
        small_program(),
        labels=LABELS.to_dict(),
        preprocessing=Preprocessing(short_side=short_side).to_dict(),
        other_layers="int8",
    )
    return path


def halves(height: int, width: int) -> np.ndarray:
    """An image, dark on the left and bright on the right: uint8 (height, width, 3)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return image
