"""Augmentation: exact by seed, image and labels in step, padding that never counts."""

import numpy as np
import pytest

from binseg.data.augment import train_transform
from binseg.data.augment_config import AugmentConfig
from binseg.data.turns import quarter_turned, rotated, with_hole
from binseg.errors import BinsegError


def striped() -> tuple[np.ndarray, np.ndarray]:
    """Class by column and by row in the label; the same pattern in the image."""
    y, x = np.mgrid[:60, :80]
    labels = ((x // 16) % 3 + 3 * ((y // 15) % 2)).astype(np.uint8)
    return np.repeat(labels[:, :, None] * 40 + 20, 3, axis=2), labels


def test_the_seed_fixes_the_result_whatever_came_before() -> None:
    image, labels = striped()
    config = AugmentConfig(hue=0.1, gamma=0.5, blur=0.5, noise=0.5, jpeg=0.5)
    first, second = (train_transform(config, (48, 48)) for _ in range(2))
    for index in range(5):
        second(image, labels, (9, 9, index))
    different = set()
    for seed in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
        a, b = first(image, labels, seed), second(image, labels, seed)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
        different.add(a[0].tobytes())
    assert len(different) == 4


def test_result_has_the_crop_size_and_the_input_stays() -> None:
    image, labels = striped()
    before = image.copy(), labels.copy()
    image.flags.writeable = labels.flags.writeable = False  # as the cache gives them
    transform = train_transform(AugmentConfig(blur=1, noise=1, hue=0.2, gamma=1, jpeg=1), (33, 57))
    for index in range(10):
        out_image, out_labels = transform(image, labels, (0, 0, index))
        assert (out_image.shape, out_image.dtype) == ((33, 57, 3), np.uint8)
        assert (out_labels.shape, out_labels.dtype) == ((33, 57), np.uint8)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_image_and_labels_move_together() -> None:
    image, labels = striped()
    plain = AugmentConfig(brightness=0, contrast=0, saturation=0)
    transform = train_transform(plain, (40, 40))
    agreement = []
    for index in range(20):
        out_image, out_labels = transform(image, labels, (0, 0, index))
        inside = out_labels != 255
        expected = out_labels[inside].astype(int) * 40 + 20
        agreement.append(np.mean(np.abs(out_image[..., 0][inside] - expected) < 20))
    assert min(agreement) > 0.85  # all but blended edges


@pytest.mark.parametrize(
    "change",
    [{"flip_vertical": 1}, {"rotate90": 1}, {"rotate": 10}, {"rare_every": 1}, {"cutout": 1}],
    ids=lambda change: next(iter(change)),
)
def test_image_and_labels_turn_together(change) -> None:
    image, labels = striped()
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "scale_min": 1, "scale_max": 1}
    plain = train_transform(AugmentConfig(**still), (40, 30))
    transform = train_transform(
        AugmentConfig(**still, **change), (40, 30), pixels=np.array([1] * 6)
    )
    agreement, changed = [], 0
    for index in range(20):
        out_image, out_labels = transform(image, labels, (0, 0, index))
        assert out_image.shape == (40, 30, 3)
        assert out_labels.shape == (40, 30)
        inside = out_labels != 255
        expected = out_labels[inside].astype(int) * 40 + 20
        agreement.append(np.mean(np.abs(out_image[..., 0][inside] - expected) < 20))
        changed += not np.array_equal(out_labels, plain(image, labels, (0, 0, index))[1])
    assert min(agreement) > 0.85
    assert changed > 10


def test_turns_are_those_of_numpy_and_corners_do_not_count() -> None:
    image, labels = striped()
    one, other = rotated(image[:, :60], labels[:, :60], 90.0, (0, 0, 0))
    np.testing.assert_array_equal(one, np.rot90(image[:, :60]))
    np.testing.assert_array_equal(other, np.rot90(labels[:, :60]))
    for turns in range(4):
        np.testing.assert_array_equal(
            quarter_turned(image, labels, turns)[1], np.rot90(labels, turns)
        )
    _, tilted = rotated(image, labels, 30.0, (1, 2, 3))
    assert tilted[0, 0] == tilted[-1, -1] == 255
    assert set(np.unique(tilted)) <= {*range(6), 255}


def test_a_hole_covers_image_and_label() -> None:
    image, labels = striped()
    sides = set()
    for seed in range(40):
        generator = np.random.default_rng(seed)
        cut_image, cut_labels = with_hole(image, labels, generator, 0.5, (1, 2, 3))
        hole = cut_labels == 255
        assert (cut_image[hole] == (1, 2, 3)).all()
        assert (cut_image[~hole] == image[~hole]).all()
        rows, columns = hole.any(axis=1).sum(), hole.any(axis=0).sum()
        assert hole.sum() == rows * columns
        sides |= {int(rows), int(columns)}
    assert min(sides) >= 3
    assert max(sides) <= 40
    assert len(sides) > 15
    assert (labels != 255).all()


def test_every_nth_crop_shows_a_rare_class() -> None:
    """One pixel of class 1 in a large image of class 0: crops show it when they are asked to."""
    image = np.zeros((200, 300, 3), np.uint8)
    labels = np.zeros((200, 300), np.uint8)
    labels[150, 290] = 1
    config = AugmentConfig(rare_every=3, scale_min=1, scale_max=1)
    transform = train_transform(config, (20, 20), pixels=np.array([10**9, 1]))
    shown = [(transform(image, labels, (0, 4, index))[1] == 1).any() for index in range(60)]
    assert all(shown[2::3])
    assert sum(shown) < 25
    places = {
        int(np.argmax(transform(image, labels, (0, 4, index))[1])) for index in range(2, 60, 3)
    }
    assert len(places) > 10  # and not always in the same place
    ignored = np.full_like(labels, 255)
    assert (transform(image, ignored, (0, 0, 0))[1] == 255).all()


def test_padding_has_the_mean_colour_and_is_ignored() -> None:
    image, labels = striped()
    config = AugmentConfig(scale_min=0.5, scale_max=0.5, brightness=0, contrast=0, saturation=0)
    out_image, out_labels = train_transform(config, (100, 100), (0.2, 0.4, 0.6))(
        image, labels, (0, 0, 0)
    )
    outside = out_labels == 255
    assert outside.sum() == 100 * 100 - 30 * 40
    assert (out_image[outside] == (51, 102, 153)).all()


def test_draws_cover_their_range_and_are_independent() -> None:
    """Scale, place and flip must not follow from one another (one seed for all would do that)."""
    y, x = np.mgrid[:64, :64]
    image = np.stack([x * 4, y * 4, np.zeros_like(x)], axis=-1).astype(np.uint8)
    labels = np.zeros((64, 64), np.uint8)
    plain = AugmentConfig(scale_min=1, scale_max=2, brightness=0, contrast=0, saturation=0)
    transform = train_transform(plain, (32, 32))
    scale, place, flip = [], [], []
    for index in range(200):
        out, _ = transform(image, labels, (0, 0, index))
        across = out[16, :, 0].astype(float)
        slope = (across[-1] - across[0]) / 31
        flip.append(float(slope < 0))
        scale.append(4 / abs(slope))
        room = 64 * 4 * (1 - 32 / (64 * scale[-1]))
        place.append(out[0, :, 1].astype(float).mean() / max(room, 1))
    assert min(scale) < 1.15
    assert max(scale) > 1.85
    assert 0.35 < np.mean(flip) < 0.65
    correlation = np.abs(np.corrcoef([scale, place, flip]) - np.eye(3))
    assert correlation.max() < 0.3, correlation


def test_nothing_to_do_is_the_identity() -> None:
    image, labels = striped()
    still = AugmentConfig(scale_min=1, scale_max=1, flip=0, brightness=0, contrast=0, saturation=0)
    out_image, out_labels = train_transform(still, labels.shape)(image, labels, (0,))
    np.testing.assert_array_equal(out_image, image)
    np.testing.assert_array_equal(out_labels, labels)


@pytest.mark.parametrize(
    "change",
    [
        {"scale_min": 0},
        {"scale_min": 3},
        {"flip": 1.5},
        {"hue": 0.7},
        {"noise": -1},
        {"gamma": 5},
        {"blur_sigma": 0.1},
        {"noise_sigma": 256},
        {"jpeg_quality": 0},
        {"jpeg": float("nan")},
    ],
)
def test_impossible_settings(change: dict) -> None:
    with pytest.raises(BinsegError, match="augment"):
        AugmentConfig(**change)


STILL = {"scale_min": 1, "scale_max": 1, "flip": 0, "brightness": 0, "contrast": 0, "saturation": 0}


def variants(count: int = 200, **change: float) -> list[np.ndarray]:
    """float (32, 32, 3) variants of one grey image, only `change` being done to it."""
    image = np.full((32, 32, 3), 128, np.uint8)
    transform = train_transform(AugmentConfig(**{**STILL, **change}), (32, 32))
    return [transform(image, image[..., 0], (0, 0, n))[0].astype(float) for n in range(count)]


def test_noise_has_deviations_up_to_its_sigma_and_its_probability() -> None:
    deviations = np.array([image.std() for image in variants(noise=0.5, noise_sigma=20)])
    assert 0.4 < np.mean(deviations > 0) < 0.6
    assert 17 < deviations.max() < 20.5
    # uniform from 0 to 20
    assert 8 < deviations[deviations > 0].mean() < 12


def test_gamma_darkens_and_lightens_within_its_range() -> None:
    values = np.array([image[0, 0, 0] for image in variants(gamma=1.0)])
    lowest, highest = 255 * (128 / 255) ** 2, 255 * (128 / 255) ** 0.5
    assert lowest - 1 <= values.min() < lowest + 6
    assert highest - 6 < values.max() <= highest + 1
    assert 0.4 < np.mean(values > 128) < 0.6


def test_blur_and_jpeg_take_fine_detail_and_keep_the_mean() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(90, 160, (48, 48, 3), np.uint8)
    for change in ({"blur": 1.0}, {"jpeg": 1.0, "jpeg_quality": 5}):
        transform = train_transform(AugmentConfig(**{**STILL, **change}), (48, 48))
        found = [transform(image, image[..., 0], (0, 0, n))[0].astype(float) for n in range(30)]
        spreads = [each.std() for each in found]
        assert min(spreads) < 0.8 * image.std()
        assert np.ptp(spreads) > 0.5  # strengths are drawn
        assert np.abs(np.mean(found) - image.mean()) < 1.5
