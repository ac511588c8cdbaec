"""A data set in memory and a network that reads classes off an image's grey value."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample

PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def table(count: int) -> LabelTable:
    names = tuple(f"class {index}" for index in range(count))
    ids = {index: index for index in range(count)} | {255: 255}
    return LabelTable("test", names, tuple((9 * index, 90, 0) for index in range(count)), ids)


class Images:
    """Samples in memory, with the interface of a data set."""

    def __init__(self, samples: Sequence[Sample], labels: LabelTable) -> None:
        self.samples = list(samples)
        self.labels = labels
        self.faults: Sequence[str] = ()
        self.expected: int | None = None
        self.labelled = True

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def sample_name(self, index: int) -> str:
        return self.samples[index].name

    def sample_paths(self, index: int) -> None:
        """Nothing of it is in files."""

    def read_instances(self, index: int) -> np.ndarray | None:
        return None


class GreyNet(nn.Module):
    """Class c where the image is nearest to grey value c / (C − 1): logits −(x − grey_c)²."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("greys", torch.linspace(0, 1, num_classes).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return -((x[:, :1] - self.greys) ** 2)


def image_of(class_map: np.ndarray, num_classes: int) -> np.ndarray:
    """The image that `GreyNet` sees `class_map` in; 255 is black."""
    known = np.where(class_map == 255, 0, class_map)
    grey = np.round(known * (255 / (num_classes - 1))).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def make_images(*maps: np.ndarray, num_classes: int = 4) -> Images:
    """Images whose labels are `maps` and which show them without error."""
    samples = [
        Sample(image_of(ids, num_classes), ids.astype(np.uint8), f"image{number}")
        for number, ids in enumerate(maps)
    ]
    return Images(samples, table(num_classes))
