"""placeholder"""

import numpy as np

from binseg.data.samples import Sample


def draw_scene(seed: int, index: int, size: tuple[int, int] = (144, 192)) -> Sample:
    rng = np.random.default_rng([seed, index])
    labels = np.sort(rng.integers(0, 8, size, dtype=np.uint8), axis=0)
    image = np.repeat(labels[:, :, None] * 30, 3, 2)
    return Sample(image, labels, f"scene_{seed}_{index}")
