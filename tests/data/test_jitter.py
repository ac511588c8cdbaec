"""The matrix of brightness, contrast and saturation against its three steps."""

import itertools

import numpy as np
import pytest

from binseg.data.jitter import Factors, jitter, random_factors


def grey(image: np.ndarray) -> np.ndarray:
    """float64 (H, W, 1), by ITU-R BT.601."""
    return (image @ [0.299, 0.587, 0.114])[..., None]


def sample() -> np.ndarray:
    """Middle colours, so that no order of the steps clips."""
    return np.random.default_rng(0).integers(90, 150, (17, 23, 3), np.uint8)


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_it_is_torchvisions_three_steps_in_any_order(order: tuple[int, ...]) -> None:
    factors = Factors(brightness=1.2, contrast=0.7, saturation=1.3)
    steps = (
        lambda x: factors.brightness * x,
        lambda x: factors.contrast * x + (1 - factors.contrast) * grey(x).mean(),
        lambda x: factors.saturation * x + (1 - factors.saturation) * grey(x),
    )
    expected = sample().astype(float)
    for index in order:
        expected = steps[index](expected)
    assert np.abs(jitter(sample(), factors) - expected).max() <= 1


def test_factors_of_one_change_nothing() -> None:
    np.testing.assert_array_equal(jitter(sample(), Factors(1, 1, 1)), sample())


def test_the_extremes() -> None:
    image = sample()
    assert not jitter(image, Factors(0, 1, 1)).any()
    flat = jitter(image, Factors(1, 0, 1))
    assert flat.min() == flat.max() == round(grey(image).mean())
    colourless = jitter(image, Factors(1, 1, 0)).astype(int)
    assert np.ptp(colourless, axis=-1).max() == 0
    assert (jitter(image, Factors(2, 1, 1)) == np.minimum(255, 2 * image.astype(int))).all()


def test_factors_fill_their_range() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([random_factors(generator, Factors(0.3, 0, 1)) for _ in range(500)])
    assert (drawn[:, 1] == 1).all()
    for column, strength in ((0, 0.3), (2, 1)):
        assert 1 - strength <= drawn[:, column].min() < 1 - 0.95 * strength
        assert 1 + 0.95 * strength < drawn[:, column].max() <= 1 + strength
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1]) < 0.15
