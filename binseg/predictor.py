"""Image in, segmentation out.

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
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from binseg.data.image_input import ImageLike, as_rgb
from binseg.data.imageio import write_image, write_mask
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.boundary import DISTANCE
from binseg.inference.packed import PackedNetwork, is_program
from binseg.inference.protocol import WHOLE, Protocol
from binseg.model_file import read_header
from binseg.visualize import overlay, overlay_with_legend

if TYPE_CHECKING:  # torch and what needs it load where it is needed: packed networks run without
    import torch

    from binseg.data.datasets import SegmentationDataset
    from binseg.data.samples import Sample
    from binseg.evaluation.evaluate import Predictions
    from binseg.evaluation.protocols import Network
    from binseg.evaluation.result import Evaluation
    from binseg.loaded import LoadedModel


@dataclass(frozen=True)
class Segmentation:
    """What a network sees in an image.

    Attributes:
        image: HWC uint8 RGB, as a person sees it (turned as its EXIF data say).
        class_map: HW uint8 class ids, of the image's size.
        labels: names and colours of the ids.
        seconds: wall-clock time from the decoded image to the class map.
    """

    image: np.ndarray
    class_map: np.ndarray
    labels: LabelTable
    seconds: float

    def overlay(self, alpha: float = 0.5, *, legend: bool = False) -> np.ndarray:
        """The image with its class colours laid over it.

        Args:
            alpha: strength of the colours, 0 to 1.
            legend: add a legend; the result is then larger than the image (and an image of more
                than 4096 pixels a side is shrunk to that).

        Returns:
            HWC uint8 RGB.
        """
        draw = overlay_with_legend if legend else overlay
        return draw(self.image, self.class_map, self.labels, alpha)

    def shares(self) -> dict[str, float]:
        """Each class's share of the image's pixels, in [0, 1]; all of them, 0 where absent."""
        counts = Image.fromarray(self.class_map).histogram()  # numpy takes twice as long
        names = self.labels.names
        return {
            name: count / self.class_map.size
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
        overlay = path.with_name(f"{path.stem}_overlay.jpg")
        write_image(overlay, self.overlay(alpha, legend=True))
        return [path, overlay]


class Predictor:
    """A network ready to segment images of any size.

    A file of a packed network runs by libbinseg, without torch, on the CPU with the protocol
    "whole"; everything else runs in torch.

    Args:
        model: a model file, what `binseg.load` gives, or any callable from normalised float32
            NCHW images to NCHW logits (a module is moved to `device` and set to eval mode).
        labels: names and colours of the classes; needed with a bare callable, else the file's.
        preprocessing: how images become the network's input; needed with a bare callable, else
            the file's.
        device: "cpu", "cuda", "cuda:1", …; "auto" is the CPU for files of packed networks; for
            others a CUDA GPU if there is one, else the CPU.
        protocol: how images are shown to the network.
        threads: that work on an image where libbinseg runs the network (default: OMP_NUM_THREADS,
            or one for each processor that this process may use); torch has its own number.

    Raises:
        BinsegError: the file is missing, foreign or damaged, or there is no such device.
        ImportError: torch is needed and not installed.
        TypeError: a bare callable without labels or preprocessing.
    """

    def __init__(
        self,
        model: "str | os.PathLike[str] | LoadedModel | Network",
        *,
        labels: LabelTable | None = None,
        preprocessing: Preprocessing | None = None,
        device: str = "auto",
        protocol: Protocol = WHOLE,
        threads: int | None = None,
    ) -> None:
        self.source = "the model"
        self.header: Mapping[str, Any] = {}
        self.protocol = protocol
        self.packed: PackedNetwork | None = None
        if isinstance(model, str | os.PathLike):
            self.source = os.fspath(model)
            on_cpu = device in ("auto", "cpu")
            if on_cpu and protocol.name == "whole" and is_program(read_header(self.source)):
                self.packed = PackedNetwork(model, threads=threads)
                self.header = self.packed.header
                self.labels = labels or self.packed.labels
                self.preprocessing = self.packed.preprocessing
                self.device: torch.device | str = "cpu"
                return
        from torch import nn

        from binseg.loaded import LoadedModel, load

        if isinstance(model, str | os.PathLike):
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

    @overload
    def __call__(self, image: ImageLike) -> Segmentation: ...

    @overload
    def __call__(self, image: list[ImageLike] | tuple[ImageLike, ...]) -> list[Segmentation]: ...

    def __call__(
        self, image: ImageLike | list[ImageLike] | tuple[ImageLike, ...]
    ) -> Segmentation | list[Segmentation]:
        """Segment one image, or each of several.

        Args:
            image: HWC uint8 RGB, a file's path, a file's content (bytes or an open binary file) or
                a PIL image, of any size; a list or tuple of these gives a list.

        Raises:
            BinsegError: the file is missing, unreadable, damaged or too large, or the network's
                output cannot be used.
            TypeError: something else.
            ValueError: an array that is not HWC uint8 RGB.
        """
        if isinstance(image, list | tuple):
            return [self(each) for each in image]
        pixels = as_rgb(image)
        self._make_ready()
        started = time.perf_counter()
        class_map = self._class_map(pixels)
        seconds = time.perf_counter() - started
        if class_map.max() >= self.labels.num_classes:
            raise BinsegError(
                f"{self.source}: predicts class {class_map.max()}, but its label table "
                f"'{self.labels.name}' has {self.labels.num_classes} classes"
            )
        return Segmentation(pixels, class_map, self.labels, seconds)

    def _make_ready(self) -> None:
        """Compile what is compiled on first use, before a clock starts."""
        make_ready = None if self.packed else getattr(self.network, "make_ready", None)
        if make_ready is not None:
            make_ready(choose_device(str(self.device)))

    def _class_map(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """HW uint8, of `size` (default: the image's)."""
        if self.packed is not None:
            return self.packed.class_map(image, size)
        from binseg.evaluation.protocols import segment

        return segment(
            self.network, image, self.preprocessing, self.protocol, size, device=self.device
        )

    def evaluate(
        self,
        dataset: "SegmentationDataset",
        *,
        boundary_distance: float | None = DISTANCE,
        worst: int = 0,
        progress: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> "Evaluation":
        """Score the network on labelled images, at the label's own resolution.

        Args:
            dataset: one split of a data set, as `binseg.data.datasets.create_dataset` opens it.
            boundary_distance: width of Boundary IoU's region as a share of the diagonal; None
                leaves it out.
            worst: number of images whose predictions are kept for the page of the worst.
            progress: show a bar with the time left on stderr, if that is a terminal.
            about: more to say of the evaluation in its report, for example the data's name.

        Raises:
            BinsegError: the data set has other classes than the model, or a file of it is faulty.
        """
        from binseg.evaluation.evaluate import score

        return score(
            self.predictions(dataset),
            dataset,
            boundary_distance=boundary_distance,
            worst=worst,
            progress=progress,
            about={**self.about, **(about or {})},
        )

    def predictions(self, dataset: "SegmentationDataset") -> "Predictions":
        """The class map of each of a data set's samples, at its label's own resolution.

        For `binseg.evaluation.evaluate.score`, which can also export them.

        Raises:
            BinsegError: the data set has other classes than the model.
        """
        from binseg.evaluation.evaluate import check_same_classes

        check_same_classes(self.labels, dataset.labels, self.source)
        self._make_ready()

        def predict(sample: "Sample") -> np.ndarray:
            return self._class_map(sample.image, (sample.labels.shape[0], sample.labels.shape[1]))

        return predict

    @property
    def about(self) -> dict[str, Any]:
        """What an evaluation's report says of the model and of how it was run."""
        return {
            "model": {"file": self.source, **self.header},
            "protocol": asdict(self.protocol),
            "device": str(self.device),
        }


def evaluate(
    model: "str | os.PathLike[str] | LoadedModel | Predictor",
    dataset: "SegmentationDataset",
    *,
    protocol: Protocol = WHOLE,
    device: str = "auto",
    boundary_distance: float | None = DISTANCE,
    worst: int = 0,
    progress: bool = False,
) -> "Evaluation":
    """Score a model on a data set: `binseg.evaluate("model.safetensors", dataset)`.

    Args:
        model: a model file, what `binseg.load` gives, or a predictor (then `protocol` and
            `device` are its own).
        dataset: one split of a data set.
        protocol: how images are shown to the network.
        device: "cpu", "cuda", …; "auto" is a CUDA GPU if there is one, else the CPU.
        boundary_distance: see `Predictor.evaluate`.
        worst: see `Predictor.evaluate`.
        progress: see `Predictor.evaluate`.

    Raises:
        BinsegError: the model's file or an image is faulty, or their classes differ.
    """
    if not isinstance(model, Predictor):
        model = Predictor(model, device=device, protocol=protocol)
    return model.evaluate(
        dataset, boundary_distance=boundary_distance, worst=worst, progress=progress
    )


def choose_device(name: str = "auto") -> "torch.device":
    """The device called `name`; "auto" is a CUDA GPU if there is one, else the CPU.

    Raises:
        BinsegError: torch does not know the name, or this machine has no such device.
    """
    import torch

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
