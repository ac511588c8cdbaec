"""A teacher that sees every image once: its scores are kept and cut out with each crop."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.data.module import CropGeometry, SegmentationData
from binseg.training.losses import distillation_loss

STRIDE = 4
"""Pixels from one kept score to the next: a full-precision network's finest map is hardly finer,
and the scores of 367 images of 360 × 480 with 11 classes take 87 MB."""


class ImageScores:
    """The teacher's scores of all training images, unaugmented.

    Args:
        teacher: network in eval mode, on `device`.
        data: whose training split; no other images are looked at.
        device: where the teacher runs.
        autocast: whether it runs in bfloat16.

    Raises:
        BinsegError: faulty images.
    """

    def __init__(
        self, teacher: nn.Module, data: SegmentationData, device: torch.device, *, autocast: bool
    ) -> None:
        self._data = data
        # on the CPU: all of a large set's would fill a GPU's memory
        self._scores: list[Tensor] = []
        for place in range(len(data.training)):
            image = torch.tensor(data.training[place].image).permute(2, 0, 1)
            images = data.preprocessing.normalize(image[None].to(device))
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                scores = [teacher(images), teacher(images.flip(3)).flip(3)]
            size = [-(-length // STRIDE) for length in images.shape[2:]]
            mean = (scores[0].float() + scores[1].float()) / 2
            small = F.interpolate(mean, size=size, mode="bilinear", align_corners=False)
            self._scores.append(small[0].to("cpu", torch.float16))

    def loss(
        self, logits: Tensor, labels: Tensor, names: Sequence[str], epoch: int, temperature: float
    ) -> Tensor:
        """The distillation loss of a batch, on every fourth pixel in both directions.

        Args:
            logits: (N, C, H, W), the student's.
            labels: (N, H, W); pixels with 255 do not count.
            names: N training images that the crops were cut from.
            epoch: from 0, that they were cut in.
            temperature: see `distillation_loss`.
        """
        crop = labels.shape[1], labels.shape[2]
        size = [-(-length // STRIDE) for length in crop]
        theirs = torch.stack([self._cut(name, epoch, crop, size) for name in names])
        ours = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
        rows, columns = (
            torch.arange(count, device=labels.device) * length // count + length // count // 2
            for count, length in zip(size, crop, strict=True)
        )
        seen = labels[:, rows.clamp(max=crop[0] - 1)][:, :, columns.clamp(max=crop[1] - 1)]
        return distillation_loss(ours, theirs.to(ours.device), seen, temperature)

    def _cut(self, name: str, epoch: int, crop: tuple[int, int], size: Sequence[int]) -> Tensor:
        """float32 (C, *size): the scores where the crop shows the image."""
        geometry = self._data.crop_geometry(name, epoch)
        scores = self._scores[geometry.place][None].float()
        theta = torch.tensor([crop_to_image(geometry, crop)])
        grid = F.affine_grid(theta, [1, scores.shape[1], *size], align_corners=False)
        return F.grid_sample(scores, grid, padding_mode="border", align_corners=False)[0]


def crop_to_image(geometry: CropGeometry, crop: tuple[int, int]) -> list[list[float]]:
    """The affine map from a point of the crop to the same point of its image.

    Args:
        geometry: where the crop comes from.
        crop: its height and width in pixels.

    Returns:
        2 × 3 numbers for (x, y, 1) → (x, y), both from −1 at the left or upper edge to 1 at the
        opposite one, as `affine_grid` has them with align_corners=False.
    """
    factors, shifts = [], []
    for length, whole, start, part, shown, before in zip(
        crop, geometry.size, *geometry.window, strict=True
    ):
        # edge coordinates: image = start + (crop − before) · part / shown
        factors.append(length / whole * part / shown)
        shifts.append((2 * start + (length - 2 * before) * part / shown) / whole - 1)
    mirror = -1.0 if geometry.flipped else 1.0
    return [[mirror * factors[1], 0.0, shifts[1]], [0.0, factors[0], shifts[0]]]
