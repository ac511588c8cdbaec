"""The README's animation: drawn streets, and what a 1-bit network finds in them.

    python tools/street_image.py scenes docs/street.webp

Streets are of the test split, which no training sees. In each a line moves from left to right; what
lies behind it has the colours of the classes.
"""

import sys
from collections.abc import Iterator

import numpy as np
from PIL import Image

import binseg
from binseg.data.datasets import ScenesDataset

SCENES = (3, 8, 12, 21)
SIZE = 288, 384
STEPS, STEP, REST = 16, 60, 1400  # frames of a sweep; milliseconds of a frame, and at its end


def frames(model: str) -> Iterator[tuple[np.ndarray, int]]:
    """Image and its milliseconds."""
    predictor = binseg.Predictor(model, device="cpu")
    streets = ScenesDataset("test", max(SCENES) + 1, SIZE)
    for index in SCENES:
        found = predictor(streets[index].image)
        shown = found.overlay(0.65)
        yield found.image, REST // 2
        for step in range(1, STEPS + 1):
            column = SIZE[1] * step // STEPS
            frame = found.image.copy()
            frame[:, :column] = shown[:, :column]
            if step < STEPS:
                frame[:, column : column + 3] = 255
            yield frame, REST if step == STEPS else STEP


def main() -> None:
    model, path = sys.argv[1:]
    images, milliseconds = zip(*frames(model), strict=True)
    first, *others = map(Image.fromarray, images)
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=milliseconds,
        loop=0,
        quality=60,
        method=6,
    )


if __name__ == "__main__":
    main()
