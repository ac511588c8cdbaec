"""Functions of maps whose sizes matter; the compiler looks at each of them as a whole."""

from torch import Tensor

from binseg.errors import BinsegError


def flatten_pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W·C, 1, 1): channels last, so that packed maps need no new order."""
    return x.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]


def mean_of_neighbours(x: Tensor, size: int) -> Tensor:
    """The mean of each `size` channels side by side: (N, C, H, W) → (N, C / size, H, W)."""
    return x.unflatten(1, (-1, size)).mean(dim=2)


def crop_to(x: Tensor, image: Tensor) -> Tensor:
    """The top left of `x` (N, C, H', W'), of the size of `image` (N, 3, H, W)."""
    return x[..., : image.shape[-2], : image.shape[-1]]


def check_sides(x: Tensor, smallest: int, largest: int, network: str) -> None:
    """Refuse images (N, 3, H, W) with a side outside [smallest, largest].

    Raises:
        BinsegError: with the sizes that `network` takes.
    """
    height, width = x.shape[-2:]
    if not (smallest <= height <= largest and smallest <= width <= largest):
        raise BinsegError(
            f"{network} takes images of {smallest} to {largest} pixels a side, not "
            f"{height} × {width}; resize them to 224 × 224"
        )
