"""The fixed corruptions, against formulas and OpenCV; data sets seen through them."""

import io

import numpy as np
import pytest
from PIL import Image

from binseg.data.corruptions import CORRUPTIONS, CorruptedDataset
from binseg.data.datasets import ScenesDataset


@pytest.fixture
def scene() -> np.ndarray:
    return ScenesDataset("val", 1, (64, 96))[0].image


def corrupted(name: str, image: np.ndarray) -> np.ndarray:
    found = CORRUPTIONS[name](image, np.random.default_rng(0))
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    return found


@pytest.mark.parametrize("sigma", [10, 20])
def test_noise_has_its_deviation(sigma: int) -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = corrupted(f"noise σ {sigma}", grey).astype(float) - 128
    assert abs(noise.std() - sigma) < 0.03 * sigma
    assert abs(noise.mean()) < 0.3
    # channels and neighbours are independent of one another
    flat = noise.reshape(-1, 3)
    assert abs(np.corrcoef(flat[:, 0], flat[:, 1])[0, 1]) < 0.03
    assert abs(np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_brightness_is_a_factor(scene: np.ndarray, factor: float) -> None:
    found = corrupted(f"brightness × {factor}", scene)
    assert np.abs(found - np.clip(factor * scene.astype(float), 0, 255)).max() <= 1


def test_contrast_is_halved_about_the_mean_grey(scene: np.ndarray) -> None:
    x = scene.astype(float)
    grey = (x @ [0.299, 0.587, 0.114]).mean()
    assert np.abs(corrupted("contrast × 0.5", scene) - (x + grey) / 2).max() <= 1


def test_blur_is_a_gaussian_of_two_pixels() -> None:
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    edge = np.repeat((np.arange(41) >= 20)[None, :, None] * np.uint8(200), 41, 0).repeat(3, 2)
    profile = np.diff(corrupted("blur σ 2", edge)[20, :, 0].astype(float)) / 200
    places = np.arange(40) - 19
    assert abs((profile * places).sum()) < 0.1
    assert abs(np.sqrt((profile * places**2).sum()) - 2) < 0.1
    assert corrupted("blur σ 2", dot).max() < 255 / 20


def test_jpeg_is_that_of_pillow(scene: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(scene).save(file, "JPEG", quality=20)
    theirs = np.asarray(Image.open(file)).astype(float)
    ours = corrupted("JPEG 20", scene).astype(float)
    assert np.abs(ours - theirs).mean() < 1.5
    assert np.abs(ours - scene).mean() > 2 * np.abs(ours - theirs).mean()


def test_a_data_set_is_corrupted_the_same_each_time_and_each_image_in_its_own_way() -> None:
    plain = ScenesDataset("val", 3, (32, 48))
    first, second = (CorruptedDataset(plain, "noise σ 20") for _ in range(2))
    noises = []
    for index in (2, 0, 1):
        sample = first[index]
        np.testing.assert_array_equal(sample.image, second[index].image)
        np.testing.assert_array_equal(sample.labels, plain[index].labels)
        assert sample.name == plain[index].name
        noises.append(sample.image.astype(float) - plain[index].image)
    assert np.abs(np.corrcoef([noise.ravel() for noise in noises]) - np.eye(3)).max() < 0.1
