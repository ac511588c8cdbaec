"""A pretrained encoder as a backbone's teacher: the student imitates its last map.

Source: Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", section 2.2, with a 1×1
convolution as the regressor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.data.classification import ClassificationData

SIDE = 128
"""Pixels of a side that the teacher sees: images of 64 are enlarged, so that its map at stride 32
is as fine as a student's at stride 16."""
_AT_A_TIME = 50


class ImageFeatures:
    """An encoder's last map of every training image, unaugmented.

    Args:
        encoder: returns a list of maps, finest first; in eval mode, on `device`.
        data: its training images must be in memory.
        device: where the encoder runs.
        autocast: whether it runs in bfloat16.

    Raises:
        BinsegError: the images are not kept in memory.
    """

    def __init__(
        self,
        encoder: nn.Module,
        data: ClassificationData,
        device: torch.device,
        *,
        autocast: bool,
    ) -> None:
        self._data = data
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            # in main memory: half a gigabyte for 50,000 images and 320 channels
            maps = [
                encoder(data.preprocessing.normalize(images))[-1].to("cpu", torch.float16)
                for images in data.plain_images(SIDE, _AT_A_TIME)
            ]
        with torch.autocast(device.type, enabled=False):  # it knows no float16 beside bfloat16
            self._maps = torch.cat(maps)

    def cut(self, indices: list[int], epoch: int, size: tuple[int, int]) -> Tensor:
        """float32 (N, C, *size): what a training batch of `epoch` shows of the maps."""
        theta = self._data.views(indices, epoch)
        maps = self._maps[indices].float()
        grid = F.affine_grid(theta, [*maps.shape[:2], *size], align_corners=False)
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)


def features_of(encoder: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """float32 (N, C, *size): the encoder's last map of normalised images."""
    large = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    with torch.no_grad():
        last = encoder(large)[-1].float()
    return F.interpolate(last, size=size, mode="bilinear", align_corners=False)
