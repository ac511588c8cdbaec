"""Packed networks on the CPU, from an image's bytes to its class map, without torch."""

import os
import warnings

import numpy as np

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError, BinsegWarning
from binseg.inference.protocol import check_image, input_size
from binseg.model_file import read_header
from binseg.program.file import read_program
from binseg.program.image_resize import resize_image
from binseg.program.interpreter import Interpreter
from binseg.runtime.library import LibraryError, Network, library
from binseg.shipped import resolve

PROGRAM_FORMAT = 2
"""Packed files of this format and later hold programs."""

_MOST_THREADS = 256  # libbinseg's limit


class PackedNetwork:
    """A packed network, run by libbinseg, or by the slow reference where there is no libbinseg.

    Several threads may share one: libbinseg works on one image at a time.

    Args:
        path: a packed model file, or the name of a shipped model.
        threads: that work on one image (default: OMP_NUM_THREADS, or one for each processor that
            this process may use).

    Attributes:
        path: as given, for messages.
        header: the file's whole JSON header.
        labels: names and colours of the classes.
        preprocessing: how the network sees images; it resizes and normalises by itself.
        native: libbinseg's network; None where there is no libbinseg.

    Raises:
        BinsegError: a missing, damaged or foreign file, one of an earlier format, or no packed
            network.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = os.fspath(path)
        self.header = read_header(self.path)
        self.native: Network | None = None
        self._reference: Interpreter | None = None
        if has_library():
            if not is_program(self.header):
                read_program(self.path)  # which says what the file is
            try:
                content = resolve(path).read_bytes()
                self.native = Network(content, threads=threads or default_threads())
            except BinsegError as error:
                raise BinsegError(f"{path}: {error}") from error
        else:
            self._reference = Interpreter(read_program(self.path)[0])
        try:
            self.labels = LabelTable.from_dict(self.header["labels"])
            self.preprocessing = Preprocessing.from_dict(self.header["preprocessing"])
        except BinsegError as error:
            raise BinsegError(f"{path}: {error}") from error
        except KeyError as error:
            raise BinsegError(
                f"{path}: the header is damaged ({error} is missing); get the file again"
            ) from error
        if self.native is not None and self.native.classes != self.labels.num_classes:
            raise BinsegError(
                f"{path}: the network has {self.native.classes} classes, its label table "
                f"{self.labels.num_classes} names"
            )

    def class_map(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: uint8 (H, W, 3), RGB, of any size.
            size: (height, width) of the class map, for example the label's; the image's if None.

        Returns:
            uint8 (height, width).

        Raises:
            BinsegError: the image is too small for the network, its sides are too unequal, or the
                network's weights are damaged.
            ValueError: not an image of this kind.
        """
        check_image(image)
        height, width = image.shape[:2]
        seen = input_size(self.preprocessing, height, width)
        try:
            if self.native is None:
                assert self._reference is not None
                return self._reference.class_map(resize_image(image, seen), size or (height, width))
            if size is None or size == (height, width):
                return self.native.segment(image)
            return self.native.upsample_argmax(self.native.scores(image), size)
        except MemoryError as error:
            raise BinsegError(
                f"not enough memory for an image of {width} x {height} pixels; make it smaller"
            ) from error


def is_program(header: dict[str, object]) -> bool:
    """Whether a model file's header is a packed network's that this module runs."""
    version = header["format"]
    return header["kind"] == "packed" and isinstance(version, int) and version >= PROGRAM_FORMAT


def has_library() -> bool:
    """Whether libbinseg is here; warns, each time, if it is not."""
    try:
        library()
    except LibraryError as error:
        warnings.warn(
            f"packed networks run by the slow reference, some hundred times slower: {error}",
            BinsegWarning,
            stacklevel=3,
        )
        return False
    return True


def default_threads() -> int:
    """As many as OMP_NUM_THREADS says, or as processors that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said.isdecimal() and int(said) > 0:
        return min(int(said), _MOST_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return os.cpu_count() or 1
