"""One image from its file to its outputs and its record: what every process of `predict` does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from binseg.atomic import NoSpaceError
from binseg.data.imageio import read_image
from binseg.errors import BinsegError
from binseg.inference.protocol import Protocol
from binseg.malloc import keep_freed_memory
from binseg.prediction.outputs import Outputs
from binseg.prediction.records import Made
from binseg.predictor import Predictor, Segmentation


@dataclass(frozen=True)
class Job:
    """What all images of a run have in common; travels to other processes.

    Attributes:
        model: a model file, or the name of a shipped model.
        out: folder to write into.
        made: what the outputs depend on.
        device: where the network runs.
        protocol: how an image is shown to it.
        threads: that work on an image, where libbinseg runs the network; None: its default.
    """

    model: str
    out: Path
    made: Made
    device: str
    protocol: Protocol
    threads: int | None = None

    def predictor(self) -> Predictor:
        """The network, loaded in this process."""
        return Predictor(
            self.model, device=self.device, protocol=self.protocol, threads=self.threads
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        path: of the image.
        record: to write down; None if it could not be segmented.
        fault: why it could not, one line.
        ends_all: whether the fault is none of the image's: nothing more can be written.
    """

    path: str
    record: dict[str, Any] | None = None
    fault: str = ""
    ends_all: bool = False


class ImageSegmenter:
    """Reads an image, has it segmented, and writes what is made of it.

    Args:
        job: what to make.
        segment: from HWC uint8 RGB to the segmentation.
    """

    def __init__(self, job: Job, segment: Callable[[np.ndarray], Segmentation]) -> None:
        self._job = job
        self._segment = segment
        keep_freed_memory()
        self._outputs = Outputs(job.out)

    def __call__(self, path: str) -> Outcome:
        """Segment one image; what is wrong with it is in the outcome."""
        try:
            try:
                return Outcome(path, self._record(path))
            except MemoryError as error:
                raise BinsegError(f"{path}: not enough memory; make the image smaller") from error
        except NoSpaceError as error:
            return Outcome(path, fault=str(error), ends_all=True)
        except BinsegError as error:
            try:
                # nor is a disk that takes nothing any more this image's fault
                self._outputs.check_writable()
            except BinsegError as of_disk:
                return Outcome(path, fault=str(of_disk), ends_all=True)
            text = str(error)
            return Outcome(path, fault=text if path in text else f"{path}: {text}")

    def _record(self, path: str) -> dict[str, Any]:
        made = self._job.made
        about = made.about(path)  # before it is read: what changes later is not what was read
        found = self._segment(read_image(path))
        drawing = None if made.alpha is None else found.overlay(made.alpha, legend=True)
        files = self._outputs.write(path, found.class_map, found.labels.palette, drawing)
        return {
            "file": path,
            "model": self._job.model,
            "width": found.class_map.shape[1],
            "height": found.class_map.shape[0],
            "seconds": round(found.seconds, 4),
            "shares": {each: round(share, 6) for each, share in found.shares().items()},
            "outputs": list(map(str, files)),
            **about,
        }
