"""Whole programs in torch against the reference interpreter, value by value."""

from typing import Any

import numpy as np
import torch

from binseg.program.cuda.network import ProgramNetwork
from binseg.program.cuda.weights import unpack_bits
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program


def check_program(program: Program, images: list[np.ndarray], device: str, **options: Any) -> None:
    """Every value of every image: integers and bits equal, real numbers bit for bit.

    Args:
        program: of any origin.
        images: of one size.
        device: of torch.
        options: of `ProgramNetwork`.
    """
    network = ProgramNetwork(program, **options).to(device)
    wanted = [dict(Interpreter(program).values(image)) for image in images]
    batch = torch.from_numpy(np.stack(images)).to(device)
    for value, found in network.values(batch):
        for index, one in enumerate(found.cpu()):
            expected = wanted[index][value]
            if expected.dtype == np.bool_:
                got = unpack_bits(one.numpy(), expected.shape[3])
            else:
                got = (one.float() if one.dtype == torch.bfloat16 else one).numpy()
            operator = next(o for o in program.operators if value in o.outputs.values())
            message = f"image {index}, value {value} of {operator}"
            np.testing.assert_array_equal(got, expected, err_msg=message)
