"""Small images decoded once into one uint8 array."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from binseg.atomic import atomic_path
from binseg.data.classification_augment import square
from binseg.data.classification_files import LabelledImages
from binseg.errors import BinsegError

OnProgress = Callable[[int, int], None]
_CHUNK = 512


def stored_bytes(images: LabelledImages, side: int | None) -> int:
    """Bytes of the decoded split; without `side`, by the first image's size."""
    height, width = (side, side) if side is not None else images.size(0)
    return len(images.targets) * height * width * 3


def decode(
    images: LabelledImages,
    side: int | None,
    *,
    workers: int = 0,
    cache: Path | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> np.ndarray:
    """Decode a whole split, uint8 (N, H, W, 3).

    Args:
        images: of one size, unless `side` is given.
        side: see `square`.
        workers: threads; the decoders run outside of Python's lock.
        cache: folder in which the array is kept and found again; None: nowhere.
        on_progress: called with (decoded, all).

    Raises:
        BinsegError: an unreadable image, or one of another size than the first.
    """
    path = None if cache is None else cache / f"{_digest(images, side)}.npy"
    if path is not None and path.exists():
        return np.load(path)
    count = len(images.targets)
    height, width = (side, side) if side is not None else images.size(0)
    store = np.empty((count, height, width, 3), np.uint8)

    def put(index: int) -> None:
        image = square(images.image(index), side)
        if image.shape != store.shape[1:]:
            raise BinsegError(
                f"image {index} of the data set has {image.shape[1]} × {image.shape[0]} "
                f"pixels, the first one {width} × {height}; set data.stored_size"
            )
        store[index] = image

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, count, _CHUNK):
            stop = min(count, start + _CHUNK)
            list(pool.map(put, range(start, stop)))
            on_progress(stop, count)
    if path is not None:
        with atomic_path(path) as temporary:
            np.save(temporary, store)
    return store


def _digest(images: LabelledImages, side: int | None) -> str:
    return hashlib.sha256(f"{side}\n{images.key()}".encode()).hexdigest()[:16]
