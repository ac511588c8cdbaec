"""Picture in, segmentation out.

```python
predictor = Predictor("model.safetensors")
found = predictor("street.jpg")
found.class_map  # HW uint8
found.save("out/street.png")  # and out/street_overlay.jpg
```
"""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from binseg.data.datasets import SegmentationDataset
from binseg.data.imageio import over_white, read_image, write_image, write_mask
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.boundary import DISTANCE
from binseg.evaluation.evaluate import (
    Predictions,
    check_same_classes,
    network_predictions,
    score,
)
from binseg.evaluation.protocols import WHOLE, Network, Protocol, segment
from binseg.evaluation.result import Evaluation
from binseg.loaded import LoadedModel, load
from binseg.visualize import overlay, overlay_with_legend


@dataclass(frozen=True)
class Segmentation:
    """What a network sees in a picture.

    Attributes:
        image: the picture, HWC uint8 RGB, as a person sees it (turned as its EXIF data say).
        class_map: HW uint8 class ids, of the picture's size.
        labels: names and colours of the ids.
        seconds: wall-clock time from the decoded picture to the class map.
    """

    image: np.ndarray
    class_map: np.ndarray
    labels: LabelTable
    seconds: float

    def overlay(self, alpha: float = 0.5, *, legend: bool = False) -> np.ndarray:
        """The picture with its class colours laid over it.

        Args:
            alpha: strength of the colours, 0 to 1.
            legend: add a legend; the result is then larger than the picture (and a picture of
                more than 4096 pixels a side is shrunk to that).

        Returns:
            HWC uint8 RGB.
        """
        draw = overlay_with_legend if legend else overlay
        return draw(self.image, self.class_map, self.labels, alpha)

    def shares(self) -> dict[str, float]:
        """Each class's share of the picture's pixels, in [0, 1]; all of them, 0 where absent."""
        counts = np.bincount(self.class_map.ravel(), minlength=self.labels.num_classes)
        names = self.labels.names
        return {
            name: float(count / self.class_map.size)
            for name, count in zip(names, counts[: len(names)], strict=True)
        }

    def save(
        self, path: str | os.PathLike[str], *, with_overlay: bool = True, alpha: float = 0.5
    ) -> list[Path]:
        """Write the class ids as a palette PNG and the overlay with legend beside it.

        Args:
            path: the PNG of class ids; the overlay's name is made from it: `NAME_overlay.jpg`.
            with_overlay: write the overlay too.
            alpha: strength of its colours, 0 to 1.

        Returns:
            The files written, each whole.

        Raises:
            BinsegError: `path` does not end in .png, or cannot be written.
        """
        path = Path(path)
        write_mask(path, self.class_map, self.labels.palette)
        if not with_overlay:
            return [path]
        picture = path.with_name(f"{path.stem}_overlay.jpg")
        write_image(picture, self.overlay(alpha, legend=True))
        return [path, picture]


class Predictor:
    """A network ready to segment pictures of any size.

    Args:
        model: a model file, what `binseg.load` gives, or any callable from normalised float32
            NCHW pictures to NCHW logits (a module is moved to `device` and set to eval mode).
        labels: names and colours of the classes; needed with a bare callable, else the file's.
        preprocessing: how pictures become the network's input; needed with a bare callable, else
            the file's.
        device: "cpu", "cuda", "cuda:1", …; "auto" is a CUDA GPU if there is one, else the CPU.
        protocol: how pictures are shown to the network.

    Raises:
        BinsegError: the file is missing, foreign or damaged, or there is no such device.
        TypeError: a bare callable without labels or preprocessing.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | LoadedModel | Network,
        *,
        labels: LabelTable | None = None,
        preprocessing: Preprocessing | None = None,
        device: str = "auto",
        protocol: Protocol = WHOLE,
    ) -> None:
        self.source = "the model"
        self.header: Mapping[str, Any] = {}
        if isinstance(model, str | os.PathLike):
            self.source = os.fspath(model)
            model = load(Path(model))
        if isinstance(model, LoadedModel):
            self.header = model.header
            labels = labels or model.labels
            preprocessing = preprocessing or model.preprocessing
            model = model.model
        if labels is None or preprocessing is None:
            raise TypeError("a network that comes without a file needs labels and preprocessing")
        self.device = choose_device(device)
        if isinstance(model, nn.Module):
            model = model.to(self.device).eval()
        self.network: Network = model
        self.labels = labels
        self.preprocessing = preprocessing
        self.protocol = protocol

    def __call__(self, image: np.ndarray | str | os.PathLike[str] | Image.Image) -> Segmentation:
        """Segment one picture.

        Args:
            image: HWC uint8 RGB, a file's path, or a PIL picture; of any size.

        Raises:
            BinsegError: the file is missing, unreadable, damaged or too large, or the network's
                output cannot be used.
        """
        pixels = _as_array(image)
        started = time.perf_counter()
        class_map = segment(
            self.network, pixels, self.preprocessing, self.protocol, device=self.device
        )
        seconds = time.perf_counter() - started
        if class_map.max() >= self.labels.num_classes:
            raise BinsegError(
                f"{self.source}: predicts class {class_map.max()}, but its label table "
                f"'{self.labels.name}' has {self.labels.num_classes} classes"
            )
        return Segmentation(pixels, class_map, self.labels, seconds)

    def evaluate(
        self,
        dataset: SegmentationDataset,
        *,
        boundary_distance: float | None = DISTANCE,
        worst: int = 0,
        progress: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Score the network on labelled pictures, at the label's own resolution.

        Args:
            dataset: one split of a data set, as `binseg.data.datasets.create_dataset` opens it.
            boundary_distance: width of Boundary IoU's region as a share of the diagonal; None
                leaves it out.
            worst: number of pictures whose predictions are kept for the page of the worst.
            progress: show a bar with the time left on stderr, if that is a terminal.
            about: more to say of the evaluation in its report, for example the data's name.

        Raises:
            BinsegError: the data set has other classes than the model, or a file of it is faulty.
        """
        return score(
            self.predictions(dataset),
            dataset,
            boundary_distance=boundary_distance,
            worst=worst,
            progress=progress,
            about={**self.about, **(about or {})},
        )

    def predictions(self, dataset: SegmentationDataset) -> Predictions:
        """The class map of each of a data set's samples, at its label's own resolution.

        For `binseg.evaluation.evaluate.score`, which can also export them.

        Raises:
            BinsegError: the data set has other classes than the model.
        """
        check_same_classes(self.labels, dataset.labels, self.source)
        return network_predictions(self.network, self.preprocessing, self.protocol, self.device)

    @property
    def about(self) -> dict[str, Any]:
        """What an evaluation's report says of the model and of how it was run."""
        return {
            "model": {"file": self.source, **self.header},
            "protocol": asdict(self.protocol),
            "device": str(self.device),
        }


def evaluate(
    model: str | os.PathLike[str] | LoadedModel | Predictor,
    dataset: SegmentationDataset,
    *,
    protocol: Protocol = WHOLE,
    device: str = "auto",
    boundary_distance: float | None = DISTANCE,
    worst: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Score a model on a data set: `binseg.evaluate("model.safetensors", dataset)`.

    Args:
        model: a model file, what `binseg.load` gives, or a predictor (then `protocol` and
            `device` are its own).
        dataset: one split of a data set.
        protocol: how pictures are shown to the network.
        device: "cpu", "cuda", …; "auto" is a CUDA GPU if there is one, else the CPU.
        boundary_distance: see `Predictor.evaluate`.
        worst: see `Predictor.evaluate`.
        progress: see `Predictor.evaluate`.

    Raises:
        BinsegError: the model's file or a picture is faulty, or their classes differ.
    """
    if not isinstance(model, Predictor):
        model = Predictor(model, device=device, protocol=protocol)
    return model.evaluate(
        dataset, boundary_distance=boundary_distance, worst=worst, progress=progress
    )


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is a CUDA GPU if there is one, else the CPU.

    Raises:
        BinsegError: torch does not know the name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise BinsegError(
            f"device '{name}' cannot be used ({reason}); use auto, cpu or cuda"
        ) from error
    return device


def _as_array(image: np.ndarray | str | os.PathLike[str] | Image.Image) -> np.ndarray:
    """HWC uint8 RGB."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise BinsegError(f"a PIL picture of mode {image.mode}; give its file instead")
        return over_white(ImageOps.exif_transpose(image))
    return read_image(Path(image))
