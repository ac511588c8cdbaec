"""From a decoded image to what a network takes in: resizing and normalising.

torch and OpenCV load on first use: to run packed networks, which resize and normalise by
themselves, neither is needed.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from binseg.errors import BinsegError

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How images become network input; travels with a model in its file.

    Args:
        mean: mean of R, G, B on a scale from 0 to 1 (default: ImageNet's).
        std: standard deviation of R, G, B on the same scale, above 0.
        short_side: pixels of the shorter side after resizing, aspect kept; None: native size.

    Raises:
        BinsegError: a value is out of range.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    short_side: int | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            raise BinsegError(f"preprocessing: mean {self.mean} is not three numbers")
        if len(self.std) != 3 or not all(math.isfinite(v) and v > 0 for v in self.std):
            raise BinsegError(f"preprocessing: std {self.std} is not three numbers above 0")
        if self.short_side is not None and self.short_side < 1:
            raise BinsegError(f"preprocessing: short_side {self.short_side} must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as they are written into model files."""
        return {"mean": list(self.mean), "std": list(self.std), "short_side": self.short_side}

    @classmethod
    def from_dict(cls, data: Any) -> "Preprocessing":
        """The inverse of `to_dict`, for files that may be foreign or damaged.

        Raises:
            BinsegError: a part is missing, of a wrong type or out of range.
        """
        try:
            side = data["short_side"]
            if side is not None and (isinstance(side, bool) or not isinstance(side, int)):
                raise TypeError(f"short_side {side!r} is not an integer")
            return cls(_three(data["mean"]), _three(data["std"]), side)
        except (KeyError, TypeError, ValueError) as error:
            what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
            raise BinsegError(
                f"damaged preprocessing: {what}; make the file again with binseg"
            ) from error

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels that an image of `height` × `width` is resized to."""
        if self.short_side is None:
            return height, width
        scale = self.short_side / min(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize an image, uint8 (H, W, 3), to `target_size`; by area if it shrinks, else linear.

        Returns `image` itself if the size already fits.
        """
        return resize_image(image, self.target_size(image.shape[0], image.shape[1]))

    def normalize(self, images: "Tensor") -> "Tensor":
        """(x / 255 − mean) / std for each channel, on the tensor's own device.

        Args:
            images: uint8 (N, 3, H, W) in [0, 255], any memory format.

        Returns:
            float32 (N, 3, H, W) in the same memory format (channels_last stays channels_last).
        """
        import torch

        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected uint8 N3HW, not {images.dtype} {tuple(images.shape)}")
        # one multiply-add: x · (1 / 255 std) − mean / std
        scale = [1 / (255 * std) for std in self.std]
        shift = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        constants = torch.tensor([scale, shift], dtype=torch.float32, device=images.device)
        result = images.to(torch.float32)
        rows = result.permute(0, 2, 3, 1)
        if rows.is_contiguous():
            # whole rows of R, G, B at a time: torch vectorizes only along the innermost axis
            row_scale, row_shift = constants.repeat(1, rows.shape[2])
            rows.flatten(2).mul_(row_scale).add_(row_shift)
            return result
        scale_, shift_ = constants.view(2, 1, 3, 1, 1)
        return result.mul_(scale_).add_(shift_)

    def to_bytes(self, images: "Tensor") -> "Tensor":
        """The inverse of `normalize`, rounded: float32 (N, 3, H, W) → uint8."""
        import torch

        mean, std = torch.tensor([self.mean, self.std], device=images.device).view(2, 1, 3, 1, 1)
        return ((images * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)


def network_input(image: np.ndarray, preprocessing: Preprocessing) -> "Tensor":
    """An image, HWC uint8 RGB, as a network takes it: float32 (1, 3, H, W), normalised."""
    import torch

    # copies only what torch would warn of: other strides, or memory that may not be written to
    pixels = np.require(preprocessing.resize(image), requirements=["C", "W"])
    return preprocessing.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous())


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) to `size` = (height, width): area averages when shrinking, else linear."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    import cv2

    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def size_within(height: int, width: int, longest: int) -> tuple[int, int]:
    """(height, width) in pixels, shrunk so that the long side is at most `longest`."""
    shrink = min(1.0, longest / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W) train ids to `size` = (height, width) by the nearest pixel, ids never mixed.

    The exact rule is used: cv2's plain INTER_NEAREST samples up to half a pixel away from where
    `resize_image` puts the image.
    """
    height, width = size
    if labels.shape == (height, width):
        return labels
    import cv2

    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _three(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise TypeError(f"{values!r} is not three numbers")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{values!r} is not three numbers")
    first, second, third = (float(value) for value in values)
    return first, second, third
