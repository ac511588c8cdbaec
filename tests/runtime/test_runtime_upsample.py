"""The largest of upsampled scores, against the definition at every pixel."""

import numpy as np
import pytest
from model_files import model_file
from random_programs import random_program

from binseg.program.arithmetic import upsample_argmax
from binseg.runtime.library import Network


@pytest.fixture(scope="module")
def networks():
    file = model_file(random_program(0)[0])
    return lambda isa: Network(file, isa=isa, threads=2)


@pytest.mark.parametrize("classes", [1, 2, 11, 19, 255])
@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((5, 7), (40, 56)),
        ((9, 4), (61, 13)),
        ((1, 1), (3, 5)),
        ((30, 30), (8, 9)),
        ((2, 3), (2, 3)),
    ],
)
def test_equals_the_definition(networks, isa, classes, size, target):
    rng = np.random.default_rng(classes)
    scores = rng.normal(size=(*size, classes)).astype(np.float32)
    scores[::2] = np.round(scores[::2])  # ties
    expected = upsample_argmax(scores, *target)
    np.testing.assert_array_equal(networks(isa).upsample_argmax(scores, target), expected)


@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e4, 1e30])
def test_classes_that_are_nearly_equal(networks, isa, magnitude):
    """A class may be left out early only where rounding cannot make it win."""
    rng = np.random.default_rng(7)
    level = rng.normal(size=(6, 6, 1)).astype(np.float32)
    ulps = rng.integers(-3, 4, (6, 6, 40)).astype(np.float32) * np.float32(2**-23)
    scores = np.float32(magnitude) * level * (1 + ulps)
    flat = scores.copy()
    flat[:] = scores[0, 0]  # the same at all corners
    for case in (scores, flat):
        expected = upsample_argmax(case, 83, 71)
        np.testing.assert_array_equal(networks(isa).upsample_argmax(case, (83, 71)), expected)


@pytest.mark.parametrize("largest", [np.inf, -np.inf, np.finfo(np.float32).max])
def test_numbers_at_the_end_of_float32_give_some_class(networks, isa, largest):
    rng = np.random.default_rng(3)
    for classes in (1, 2, 20, 255):
        scores = rng.normal(size=(5, 4, classes)).astype(np.float32)
        scores[rng.random(scores.shape) < 0.3] = largest
        for case in (scores, np.full_like(scores, largest)):
            assert networks(isa).upsample_argmax(case, (31, 23)).max() < classes


def test_nan_is_an_error(networks):
    scores = np.zeros((2, 2, 3), np.float32)
    scores[1, 1, 2] = np.nan
    with pytest.raises(ValueError, match="nan"):
        networks(None).upsample_argmax(scores, (4, 4))
