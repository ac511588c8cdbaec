"""Random crops and mirror images, for a whole batch at once on the training device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.data.classification_config import ClassificationConfig
from binseg.data.preprocess import resize_image

_RATIOS = (3 / 4, 4 / 3)


def augment(images: Tensor, config: ClassificationConfig, key: tuple[int, ...]) -> Tensor:
    """Crop, enlarge and mirror each image of a batch in its own way.

    Resized windows are sampled and not averaged, which serves images that grow or hardly shrink.

    Args:
        images: uint8 (N, 3, H, W) on any device.
        config: what is done.
        key: numbers that fix the changes, e.g. (seed, epoch, batch); drawn on the CPU, so that
            every device sees the same.

    Returns:
        uint8 (N, 3, size, size), channels_last.
    """
    count, _, height, width = images.shape
    places, mirrored = _draw(config, key, count, (height, width))
    if config.crop == "shift":
        return fit_size(_shifted(images, places, mirrored, config.padding), config.size)
    return _resampled(images, _theta(places, mirrored), config.size)


def views(
    config: ClassificationConfig, key: tuple[int, ...], count: int, size: tuple[int, int]
) -> Tensor:
    """Where `augment`'s images come from.

    Args:
        config, key: as given to `augment`.
        count: N, images of the batch.
        size: (H, W) of the images; H = W if their crop is "shift".

    Returns:
        float32 (N, 2, 3), the affine maps from a point (x, y, 1) of a changed image to that of
        the image, both from −1 at the left or upper edge to 1 at the opposite one.
    """
    windows, mirrored = _draw(config, key, count, size)
    if config.crop == "shift":
        shifts = (windows - config.padding) / size
        windows = np.concatenate([shifts, np.ones((count, 2))], axis=1)
    return _theta(windows, mirrored)


def _draw(
    config: ClassificationConfig, key: tuple[int, ...], count: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Windows as of `random_windows`, or offsets (N, 2) in the border of "shift"; and bool (N,),
    which images are mirrored."""
    rng = np.random.default_rng(list(key))
    mirrored = rng.random(count) < 0.5 if config.flip else np.zeros(count, bool)
    if config.crop == "shift":
        return rng.integers(0, 2 * config.padding + 1, (count, 2)), mirrored
    return random_windows(rng, count, *size, config.area), mirrored


def augment_one(
    image: np.ndarray, config: ClassificationConfig, key: tuple[int, ...]
) -> np.ndarray:
    """`augment` for a large image of its own size, uint8 (H, W, 3) to (size, size, 3).

    Windows are averaged when they shrink; a random shift is one of the image's middle square.
    """
    if config.crop == "shift":
        middle = torch.from_numpy(np.ascontiguousarray(square(image, config.size)))
        changed = augment(middle.permute(2, 0, 1)[None], config, key)
        return changed[0].permute(1, 2, 0).numpy()
    rng = np.random.default_rng(list(key))
    mirrored = config.flip and rng.random() < 0.5
    height, width = image.shape[:2]
    ((top, left, high, wide),) = random_windows(rng, 1, height, width, config.area)
    rows, columns = max(1, round(high * height)), max(1, round(wide * width))
    y, x = int(top * height), int(left * width)
    window = resize_image(image[y : y + rows, x : x + columns], (config.size, config.size))
    return window[:, ::-1] if mirrored else window


def fit_size(images: Tensor, size: int) -> Tensor:
    """The middle square of uint8 (N, 3, H, W) as (N, 3, size, size), channels_last."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = images[:, :, top : top + side, left : left + side]
    if images.shape[-2:] != (size, size):
        resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        images = resized.round_().clamp_(0, 255).to(torch.uint8)
    return images.contiguous(memory_format=torch.channels_last)


def square(image: np.ndarray, side: int | None) -> np.ndarray:
    """uint8 (H, W, 3) with its shorter side resized to `side`, cut to the middle square.

    With None the image stays as it is.
    """
    if side is None:
        return image
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = max(side, round(height * scale)), max(side, round(width * scale))
    image = resize_image(image, size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return image[top : top + side, left : left + side]


def random_windows(
    rng: np.random.Generator, count: int, height: int, width: int, area: tuple[float, float]
) -> np.ndarray:
    """float64 (N, 4): top, left, height and width of random windows, as shares of the image.

    The area is uniform in `area`, the ratio of the sides log-uniform in [3/4, 4/3], and a side
    longer than the image is cut to it (Szegedy et al. 2015, "Going Deeper with Convolutions",
    section 6).
    """
    share = rng.uniform(*area, count)
    ratio = np.exp(rng.uniform(np.log(_RATIOS[0]), np.log(_RATIOS[1]), count))
    pixels = share * height * width
    high = np.minimum(np.sqrt(pixels / ratio) / height, 1)
    wide = np.minimum(np.sqrt(pixels * ratio) / width, 1)
    top, left = rng.random((2, count)) * np.stack([1 - high, 1 - wide])
    return np.stack([top, left, high, wide], axis=1)


def _shifted(images: Tensor, offsets: np.ndarray, mirrored: np.ndarray, padding: int) -> Tensor:
    """Windows of the image's own size at `offsets` (N, 2) of a mirrored-edge border."""
    count, _, height, width = images.shape
    rows = _reflected(offsets[:, :1] - padding + np.arange(height), height)
    columns = _reflected(offsets[:, 1:] - padding + np.arange(width), width)
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    place = torch.arange(count, device=images.device)[:, None, None]
    row = torch.from_numpy(rows).to(images.device)[:, :, None]
    column = torch.from_numpy(np.ascontiguousarray(columns)).to(images.device)[:, None, :]
    return images.permute(0, 2, 3, 1)[place, row, column].permute(0, 3, 1, 2)


def _reflected(index: np.ndarray, length: int) -> np.ndarray:
    """Indices beyond an axis of `length` reflected into it: −1 becomes 1."""
    if length == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * length - 2)
    return np.minimum(index, 2 * length - 2 - index)


def _theta(windows: np.ndarray, mirrored: np.ndarray) -> Tensor:
    top, left, high, wide = windows.T
    # grid_sample's coordinates run from −1 to 1 over the image
    theta = np.zeros((len(windows), 2, 3), np.float32)
    theta[:, 0, 0] = np.where(mirrored, -wide, wide)
    theta[:, 1, 1] = high
    theta[:, 0, 2] = 2 * left + wide - 1
    theta[:, 1, 2] = 2 * top + high - 1
    return torch.from_numpy(theta)


def _resampled(images: Tensor, theta: Tensor, size: int) -> Tensor:
    grid = F.affine_grid(theta.to(images.device), [len(images), 3, size, size], align_corners=False)
    pixels = images.float().contiguous(memory_format=torch.channels_last)
    out = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    return out.round_().clamp_(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)
