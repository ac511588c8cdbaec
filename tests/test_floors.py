"""A small tour through all that is installed; `make floors` runs it with the lowest versions."""

import subprocess
import sys

import numpy as np
from small_packed import halves, write_small_packed

from binseg.data.imageio import read_mask, write_image


def binseg(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "binseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_packed_network_predicts(tmp_path):
    image, model = tmp_path / "street.png", write_small_packed(tmp_path / "m.safetensors")
    write_image(image, halves(30, 40))
    binseg("predict", model, image, "--out", tmp_path / "out")
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out" / "street.png"), halves(30, 40)[..., 0] > 127
    )


def test_two_steps_of_training_and_a_prediction(tmp_path):
    run, image = tmp_path / "run", tmp_path / "street.png"
    binseg(
        *("train", "--config", "scenes/groupnet18_bpac", "--out", run),
        *("--data.scenes_train", 4, "--data.scenes_val", 2, "--data.batch_size", 2),
        *("--data.scenes_size", "[32,48]", "--data.crop", "[32,48]"),
        *("--model.width", 8, "--trainer.epochs", 1, "--trainer.validate_every", 1),
    )
    write_image(image, halves(32, 48))
    binseg("predict", run / "best.safetensors", image, "--out", tmp_path / "out")
    assert read_mask(tmp_path / "out" / "street.png").shape == (32, 48)
