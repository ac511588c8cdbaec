"""Pipelines of one's own in albumentations' serialization: masks stay masks, faults are named."""

import re

import albumentations as A
import cv2
import numpy as np
import pytest
import yaml

from binseg.data.augment import train_transform
from binseg.data.augment_config import AugmentConfig
from binseg.data.config import DataConfig
from binseg.data.module import SegmentationData
from binseg.data.pipeline import Pipeline
from binseg.errors import BinsegError

CROP = (40, 56)


def written(folder, *transforms):
    path = folder / "pipeline.yaml"
    A.save(A.Compose(list(transforms)), path, data_format="yaml")
    return path


def crop():
    rows, columns = np.mgrid[: CROP[0], : CROP[1]]
    labels = ((rows // 10 + columns // 10) % 3 + 1).astype(np.uint8)
    return np.repeat(labels[..., None] * 60, 3, axis=2), labels


def test_masks_stay_masks_and_what_is_filled_is_ignored(tmp_path):
    path = written(tmp_path, A.Affine(rotate=(20, 40), scale=(0.5, 0.7), p=1))
    pipeline = Pipeline(path, CROP)
    image, labels = crop()
    changed, mask = pipeline(image, labels, np.random.default_rng(1))
    assert changed.shape == image.shape
    assert set(np.unique(mask)) == {1, 2, 3, 255}
    assert mask[0, 0] == 255
    inside = cv2.erode((mask != 255).astype(np.uint8), np.ones((5, 5))).astype(bool)
    agreement = np.abs(changed[..., 0].astype(int) - mask.astype(int) * 60) < 30
    assert agreement[inside].mean() > 0.85


def test_draws_follow_from_the_generator_and_are_independent(tmp_path):
    path = written(tmp_path, A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5))
    transform = train_transform(
        AugmentConfig(scale_min=1, scale_max=1, flip=0, brightness=0, contrast=0, saturation=0,
                      extra=path), CROP,
    )  # fmt: skip
    image, labels = crop()
    labels[:5, :5] = 9
    seen = set()
    for index in range(24):
        first, second = (transform(image, labels, (0, 0, index))[1] for _ in range(2))
        np.testing.assert_array_equal(first, second)
        seen.add(tuple(bool((part == 9).any()) for part in (first[:, :9], first[:9])))
    assert len(seen) == 4  # one seed for both would give two


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("transform: [", "not valid YAML near line"),
        ("a: 1", r"no pipeline of albumentations.*albumentations\.save"),
        ({"__class_fullname__": "Compose", "transforms": [{"p": 1}]}, "a transform has no"),
        ({"__class_fullname__": "HorizontalFlop", "p": 1}, "'HorizontalFlop'.*HorizontalFlip"),
        ({"__class_fullname__": "GaussianBlur", "p": 1, "blur": 3}, "GaussianBlur: .*blur"),
        ({"__class_fullname__": "GaussianBlur", "p": 7}, "GaussianBlur: .*p"),
        (
            {"__class_fullname__": "Affine", "p": 1, "mask_interpolation": 1},
            r"Affine: mask_interpolation 1 .*write 0",
        ),
        (
            {"__class_fullname__": "RandomCrop", "p": 1, "height": 8, "width": 9},
            r"makes uint8 40 × 56 into uint8 8 × 9; remove what crops",
        ),
        ({"__class_fullname__": "Normalize", "p": 1}, "into float32 40 × 56; remove"),
        (
            {"__class_fullname__": "RandomCrop", "p": 1, "height": 80, "width": 90},
            r"fails on a crop of 40 × 56",
        ),
    ],
)
def test_faults_are_named_with_file_transform_and_remedy(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump({"transform": content})
    path.write_text(text)
    with pytest.raises(BinsegError, match=rf"{re.escape(str(path))}: .*{message}") as caught:
        Pipeline(path, CROP)
    assert "\n" not in str(caught.value)


def test_a_run_checks_its_pipeline_before_it_begins(tmp_path):
    config = DataConfig(name="scenes", augment=AugmentConfig(extra=tmp_path / "none.yaml"))
    with pytest.raises(BinsegError, match=r"none\.yaml: cannot be read.*data\.augment\.extra"):
        SegmentationData(config).check_augmentation()
    turning = SegmentationData(DataConfig(name="scenes", augment=AugmentConfig(rotate=5)))
    turning.check_augmentation()
    with pytest.raises(BinsegError, match=r"cannot follow data\.augment\.rotate;"):
        turning.check_augmentation(plain=True)
