"""A teacher that sees whole images: its scores must lie where the crop shows the image."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.data.augment_config import AugmentConfig
from binseg.data.labels import IGNORE
from binseg.data.module import CropGeometry, DataConfig, SegmentationData
from binseg.data.window import Window
from binseg.training.losses import distillation_loss
from binseg.training.teacher_scores import ImageScores, crop_to_image

SCENES = DataConfig(
    name="scenes", scenes_train=8, scenes_val=1, scenes_size=(96, 132), batch_size=4
)


class Copying(nn.Module):
    """Scores that are the image itself, so that scores of crops can be told from images."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def kept_scores(data: SegmentationData) -> ImageScores:
    return ImageScores(Copying(), data, torch.device("cpu"), autocast=False)


@pytest.mark.parametrize("scales", [(0.5, 0.8), (1.0, 1.0), (1.3, 2.0)])
def test_scores_lie_where_the_crop_shows_the_image(scales: tuple[float, float]) -> None:
    still = AugmentConfig(
        scale_min=scales[0], scale_max=scales[1], brightness=0, contrast=0, saturation=0
    )
    data = SegmentationData(replace(SCENES, crop=(80, 104), augment=still))
    scores = kept_scores(data)
    loader, flips = data.train_dataloader(), set()
    for epoch in range(2):
        for batch in loader:
            crops = data.preprocessing.normalize(batch["image"]).numpy()
            for crop, labels, name in zip(crops, batch["label"], batch["name"], strict=True):
                flips.add(data.crop_geometry(name, epoch).flipped)
                theirs = scores._cut(name, epoch, (80, 104), (20, 26)).numpy()
                ours = cv2.resize(crop[0].copy(), (26, 20), interpolation=cv2.INTER_AREA)
                shown = cv2.erode(np.uint8(labels.numpy() != IGNORE)[2::4, 2::4], np.ones((3, 3)))
                distance = {
                    (down, right): np.abs(np.roll(theirs[0], (down, right), (0, 1)) - ours)[
                        shown > 0
                    ].mean()
                    for down in (-1, 0, 1)
                    for right in (-1, 0, 1)
                }
                assert min(distance, key=distance.__getitem__) == (0, 0)
    assert flips == {False, True}


def test_corners_of_a_crop_by_hand() -> None:
    # rows 10 to 30 of 40 are shown on 60 pixels below a border of 15; columns 5 to 45 of 80 on 80
    window = Window(start=(10, 5), length=(20, 40), shown=(60, 80), before=(15, 0))
    theta = np.array(crop_to_image(CropGeometry(0, (40, 80), window, False), (90, 80)))
    # 15 pixels above the part are 5 of the image's rows: row 5 is −0.75, column 5 −0.875
    assert theta @ (-1, -1, 1) == pytest.approx((-0.875, -0.75))
    # row 5 + 90 / 3 = 35 is 0.75, column 45 0.125
    assert theta @ (1, 1, 1) == pytest.approx((0.125, 0.75))
    mirrored = np.array(crop_to_image(CropGeometry(0, (40, 80), window, True), (90, 80)))
    assert mirrored @ (-1, 1, 1) == pytest.approx((0.125, 0.75))


def test_loss_of_whole_crops_is_that_of_the_teacher_on_every_fourth_pixel() -> None:
    plain = AugmentConfig(scale_min=1, scale_max=1, flip=0, brightness=0, contrast=0, saturation=0)
    data = SegmentationData(replace(SCENES, crop=(96, 132), augment=plain))
    scores = kept_scores(data)
    batch = next(iter(data.train_dataloader()))
    images = data.preprocessing.normalize(batch["image"])
    # Copying's scores of an image and of its mirror image are the same
    quarter = F.interpolate(images, size=(24, 33), mode="bilinear", align_corners=False)
    logits = torch.randn(4, 3, 96, 132)
    ours = F.interpolate(logits, size=(24, 33), mode="bilinear", align_corners=False)
    labels = batch["label"].clone()
    labels[:, :48] = IGNORE
    expected = distillation_loss(ours, quarter, labels[:, 2::4, 2::4], 2.0)
    found = scores.loss(logits, labels, batch["name"], 0, 2.0)
    assert float(found) == pytest.approx(float(expected), rel=1e-2)  # kept in float16
    nothing = scores.loss(logits, torch.full_like(labels, IGNORE), batch["name"], 0, 2.0)
    assert float(nothing) == 0
