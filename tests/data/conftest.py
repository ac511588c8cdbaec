"""Small data sets in the real layouts, written for each test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from binseg.data.imageio import write_image, write_mask

WritePair = Callable[..., None]


@pytest.fixture
def write_pair() -> WritePair:
    """write_pair(image_path, mask_path, seed, size): a random image and ids 0 … 3 by columns."""

    def write(image: Path, mask: Path, seed: int = 0, size: tuple[int, int] = (24, 32)) -> None:
        rng = np.random.default_rng(seed)
        ids = np.repeat(np.arange(size[1], dtype=np.uint8)[None] * 4 // size[1], size[0], axis=0)
        noise = rng.integers(0, 60, (*size, 3), np.uint8)
        write_image(image, noise + 60 * ids[:, :, None] // 2)
        write_mask(mask, ids)

    return write


@pytest.fixture
def camvid(tmp_path: Path, write_pair: WritePair) -> Path:
    """A CamVid folder: six training images, three for validation."""
    root = tmp_path / "CamVid"
    for split, count in (("train", 6), ("val", 3)):
        for n in range(count):
            seed = n + 100 * (split == "val")
            image = root / split / f"{split}{n}.png"
            write_pair(image, root / f"{split}annot" / f"{split}{n}.png", seed)
    return root
