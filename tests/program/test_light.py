"""Packed networks run with numpy and safetensors alone."""

import subprocess
import sys

from random_programs import random_program

from binseg.program.check import check
from binseg.program.file import write_program

SCRIPT = """
import sys
import numpy as np
from binseg.program.file import read_program
from binseg.program.image_resize import resize_image, target_size
from binseg.program.interpreter import Interpreter

program, header = read_program(sys.argv[1])
height, width = (int(side) for side in sys.argv[2:])
image = np.zeros((2 * height, 2 * width, 3), np.uint8)
short_side = header["preprocessing"]["short_side"]
small = resize_image(image, target_size(*image.shape[:2], short_side))
print(Interpreter(program).class_map(small, image.shape[:2]).shape)
heavy = {"torch", "cv2", "PIL", "yaml", "rich", "matplotlib", "lightning", "torchvision"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_a_packed_network_needs_no_torch_and_no_opencv(tmp_path):
    program, (height, width) = random_program(2)
    path = tmp_path / "m.safetensors"
    names = [str(i) for i in range(check(program)[program.output].channels)]
    preprocessing = {"mean": [0, 0, 0], "std": [1, 1, 1], "short_side": min(height, width)}
    write_program(path, program, labels={"names": names}, preprocessing=preprocessing,
                  other_layers="fp32")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(height), str(width)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [str((2 * height, 2 * width)), "[]"]
