"""Resizing and normalisation."""

import numpy as np
import pytest
import torch

from binseg.data.preprocess import Preprocessing, resize_image, resize_labels
from binseg.errors import BinsegError


@pytest.mark.parametrize(
    ("short", "size", "target"),
    [(None, (360, 480), (360, 480)), (180, (360, 480), (180, 240)), (100, (300, 201), (149, 100))],
)
def test_target_size(short: int | None, size: tuple, target: tuple) -> None:
    preprocessing = Preprocessing(short_side=short)
    assert preprocessing.target_size(*size) == target
    assert preprocessing.resize(np.zeros((*size, 3), np.uint8)).shape == (*target, 3)


def test_very_long_image_keeps_a_pixel() -> None:
    assert Preprocessing(short_side=1).target_size(1000, 3) == (333, 1)


@pytest.mark.parametrize("size", [(2, 3, 5, 7), (1, 3, 1, 1), (0, 3, 4, 4), (3, 3, 1, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalize_is_the_formula_and_keeps_the_layout(
    layout: torch.memory_format, size: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    images = images.contiguous(memory_format=layout)
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    result = preprocessing.normalize(images)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float64).view(3, 1, 1)
    expected = (images.double() / 255 - mean) / std
    torch.testing.assert_close(result.double(), expected, atol=1e-6, rtol=1e-5)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=layout)
    generator.manual_seed(0)
    again = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    assert torch.equal(images, again), "the input must not be changed"


def test_normalize_of_a_view_of_a_larger_batch() -> None:
    images = torch.randint(0, 256, (4, 3, 9, 11), dtype=torch.uint8)
    part = images.contiguous(memory_format=torch.channels_last)[1:3, :, 2:7, 1:8]
    assert not part.permute(0, 2, 3, 1).is_contiguous()
    preprocessing = Preprocessing()
    torch.testing.assert_close(
        preprocessing.normalize(part), preprocessing.normalize(part.contiguous()), rtol=0, atol=0
    )


def test_normalize_refuses_what_is_already_float() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Preprocessing().normalize(torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("factor", [2, 3])
def test_labels_and_image_stay_in_step(factor: int) -> None:
    """An edge must lie at the same place in both after shrinking and after growing."""
    labels = np.zeros((12, 36), np.uint8)
    labels[:, 18:] = 1
    image = np.repeat(labels[:, :, None] * 255, 3, axis=2)
    for size in ((12 // factor, 36 // factor), (12 * factor, 36 * factor)):
        small = resize_image(image, size)[..., 0] > 127
        np.testing.assert_array_equal(small, resize_labels(labels, size).astype(bool))


def test_labels_are_never_mixed() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (31, 17))
    assert set(np.unique(resize_labels(labels, (50, 40)))) <= {0, 7, 255}


def test_dict_round_trip_and_tampering() -> None:
    preprocessing = Preprocessing(short_side=180)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    good = preprocessing.to_dict()
    for change in (
        {"std": [1, 0, 1]},
        {"std": [1, 1]},
        {"mean": ["a", 0, 0]},
        {"mean": None},
        {"mean": [float("nan"), 0, 0]},
        {"short_side": 0},
        {"short_side": "180"},
        {"short_side": True},
    ):
        with pytest.raises(BinsegError):
            Preprocessing.from_dict({**good, **change})
    with pytest.raises(BinsegError, match="std"):
        Preprocessing.from_dict({"mean": [0, 0, 0], "short_side": None})
