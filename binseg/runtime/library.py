"""Python's door to libbinseg: packed networks on the CPU, with ctypes and numpy.

network = Network(Path("model.safetensors").read_bytes())
classes = network.segment(image)  # uint8 (H, W, 3) → uint8 (H, W)
"""

import ctypes
import functools
import os
import threading
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from binseg.errors import BinsegError
from binseg.runtime.build import NAME, BuildError, build, is_checkout

_INTERFACE = 1
_BAD_MODEL, _BAD_ARGUMENT, _BAD_IMAGE, _NO_MEMORY = 1, 2, 3, 4


class LibraryError(BinsegError):
    """There is no libbinseg on this machine; the message says why, and what to do."""


class ModelError(BinsegError):
    """A file that holds no network that this library runs."""


class ImageError(BinsegError):
    """An image that the network cannot take."""


@dataclass(frozen=True)
class InputPreparation:
    """How a network wants its images.

    Attributes:
        mean, std: of the channels R, G, B, of values from 0 to 1; the network applies them itself.
        short_side: pixels that the shorter side is resized to, or None.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int | None


class Network:
    """A packed network, ready to run.

    Threads may share one: calls wait for each other. For calls side by side open several.

    Args:
        file: the bytes of a packed model file.
        isa: instruction set, one of `isas()`; None: the environment's BINSEG_ISA, or the best.
        threads: that work on one image.

    Raises:
        LibraryError: libbinseg is missing.
        ModelError: the file is damaged or no packed network.
        ValueError: an unknown instruction set, or an impossible number of threads.
    """

    def __init__(self, file: bytes, *, isa: str | None = None, threads: int = 1) -> None:
        self._library = library()
        self._lock = threading.Lock()
        self._handle = c_void_p()
        name = None if isa is None else isa.encode()
        status = self._library.binseg_open(file, len(file), name, byref(self._handle))
        self._check(status)
        self.threads = threads
        mean, std, short_side = (c_double * 3)(), (c_double * 3)(), c_int64()
        self._library.binseg_preprocessing(self._handle, mean, std, byref(short_side))
        self.preparation = InputPreparation(
            (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), short_side.value or None
        )

    def __del__(self) -> None:
        if handle := self.__dict__.get("_handle"):
            self._library.binseg_close(handle)

    @property
    def classes(self) -> int:
        """How many classes the network knows."""
        return int(self._library.binseg_classes(self._handle))

    @property
    def isa(self) -> str:
        """The instruction set that it runs on."""
        return self._library.binseg_isa(self._handle).decode()

    @property
    def threads(self) -> int:
        """Threads that work on one image; they sleep in between."""
        return int(self._library.binseg_threads(self._handle))

    @threads.setter
    def threads(self, count: int) -> None:
        with self._lock:
            self._check(self._library.binseg_set_threads(self._handle, count))

    def segment(self, image: np.ndarray) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: uint8 (H, W, 3), RGB, of any size.

        Returns:
            uint8 (H, W).

        Raises:
            ImageError: too large, or too small for this network.
            ValueError: not an image of this kind.
        """
        image = _as_image(image)
        height, width, _ = image.shape
        classes = np.empty((height, width), np.uint8)
        with self._lock:
            status = self._library.binseg_segment(
                self._handle, *_view(image), classes.ctypes.data, width
            )
            self._check(status)
        return classes

    def scores(self, image: np.ndarray, *, resize: bool = True) -> np.ndarray:
        """The network's output before it is upsampled.

        Args:
            image: uint8 (H, W, 3), RGB.
            resize: to the short side first; without it the network sees the image as it is.

        Returns:
            float32 (h, w, classes), the caller's own.

        Raises:
            ImageError, ValueError: see `segment`.
        """
        image = _as_image(image)
        found, height, width = POINTER(c_float)(), c_int64(), c_int64()
        with self._lock:
            status = self._library.binseg_scores(
                self._handle, *_view(image), int(resize), byref(found), byref(height), byref(width)
            )
            self._check(status)
            shape = (height.value, width.value, self.classes)
            return np.ctypeslib.as_array(found, shape).copy()

    def upsample_argmax(self, scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The largest of bilinearly upsampled scores; of equal ones the lowest class.

        Args:
            scores: float32 (h, w, C).
            size: (height, width) of the result.

        Returns:
            uint8 (height, width).

        Raises:
            ValueError: nan among the scores, or an impossible size.
        """
        scores = np.ascontiguousarray(scores, np.float32)
        if scores.ndim != 3:
            raise ValueError(f"expected scores (h, w, C), not {scores.shape}")
        if min(size) < 1:
            raise ValueError(f"cannot make {size[1]}×{size[0]} pixels")
        classes = np.empty(size, np.uint8)
        with self._lock:
            status = self._library.binseg_upsample_argmax(
                self._handle, scores.ctypes.data, *scores.shape, classes.ctypes.data, *size, size[1]
            )
            self._check(status)
        return classes

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) to which an image is resized before the network sees it.

        Raises:
            ImageError, ValueError: see `segment`.
        """
        rows, columns = c_int64(), c_int64()
        with self._lock:
            status = self._library.binseg_input_size(
                self._handle, height, width, byref(rows), byref(columns)
            )
            self._check(status)
        return rows.value, columns.value

    def operator_times(self, image: np.ndarray) -> list[tuple[str, float]]:
        """Kind and wall-clock seconds of each operator, in order, for one image."""
        self._library.binseg_set_timing(self._handle, 1)
        try:
            self.scores(image)
            return [
                (
                    self._library.binseg_operator_name(self._handle, i).decode(),
                    self._library.binseg_operator_seconds(self._handle, i),
                )
                for i in range(self._library.binseg_operator_count(self._handle))
            ]
        finally:
            self._library.binseg_set_timing(self._handle, 0)

    def _check(self, status: int) -> None:
        if status == 0:
            return
        message = self._library.binseg_error(self._handle).decode(errors="replace")
        if status == _BAD_MODEL:
            raise ModelError(message)
        if status == _BAD_IMAGE:
            raise ImageError(message)
        if status == _NO_MEMORY:
            raise MemoryError(message)
        raise ValueError(message)


def isas() -> tuple[str, ...]:
    """Instruction sets that this processor can run, the best first; portable is always there.

    Raises:
        LibraryError: libbinseg is missing.
    """
    return tuple(library().binseg_isas().decode().split())


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image resized as OpenCV does it: INTER_AREA where pixels get fewer, else INTER_LINEAR.

    Args:
        image: uint8 (H, W, 3).
        size: (height, width).

    Raises:
        ValueError: an impossible size.
    """
    image = _as_image(image)
    if min(size) < 1:
        raise ValueError(f"cannot resize to {size[1]}×{size[0]} pixels")
    resized = np.empty((*size, 3), np.uint8)
    if library().binseg_resize(*_view(image), resized.ctypes.data, *size):
        raise ValueError(f"cannot resize {image.shape[:2]} to {size}")
    return resized


@functools.cache
def library() -> ctypes.CDLL:
    """libbinseg: the file that BINSEG_LIBRARY names, or the package's own.

    In a source checkout that is built from the sources as they are, now if need be.

    Raises:
        LibraryError: there is none.
    """
    path = _find()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"{path}: cannot be loaded: {error}") from None
    _declare(loaded)
    if loaded.binseg_version() != _INTERFACE:
        raise LibraryError(f"{path}: belongs to another version of binseg; install it again")
    return loaded


def _find() -> Path:
    if named := os.environ.get("BINSEG_LIBRARY"):
        return Path(named)
    if is_checkout():
        try:
            return build()
        except BuildError as error:
            raise LibraryError(str(error)) from None
    path = Path(__file__).parent / NAME
    if not path.is_file():
        raise LibraryError(
            "this installation of binseg has no compiled library: it was installed from source "
            "without a C++ compiler; install one (`apt install g++`) and binseg again"
        )
    return path


def _declare(loaded: ctypes.CDLL) -> None:
    image = (c_void_p, c_int64, c_int64, c_int64)
    size = POINTER(c_int64)
    for name, result, arguments in (
        ("version", c_int, ()),
        ("isas", c_char_p, ()),
        ("open", c_int, (c_char_p, c_size_t, c_char_p, POINTER(c_void_p))),
        ("close", None, (c_void_p,)),
        ("error", c_char_p, (c_void_p,)),
        ("classes", c_int, (c_void_p,)),
        ("isa", c_char_p, (c_void_p,)),
        ("preprocessing", None, (c_void_p, POINTER(c_double), POINTER(c_double), size)),
        ("set_threads", c_int, (c_void_p, c_int)),
        ("threads", c_int, (c_void_p,)),
        ("segment", c_int, (c_void_p, *image, c_void_p, c_int64)),
        ("scores", c_int, (c_void_p, *image, c_int, POINTER(POINTER(c_float)), size, size)),
        (
            "upsample_argmax",
            c_int,
            (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64, c_int64, c_int64),
        ),
        ("input_size", c_int, (c_void_p, c_int64, c_int64, size, size)),
        ("resize", c_int, (*image, c_void_p, c_int64, c_int64)),
        ("operator_count", c_int64, (c_void_p,)),
        ("operator_name", c_char_p, (c_void_p, c_int64)),
        ("set_timing", None, (c_void_p, c_int)),
        ("operator_seconds", c_double, (c_void_p, c_int64)),
    ):
        function = getattr(loaded, f"binseg_{name}")
        function.restype, function.argtypes = result, arguments


def _as_image(image: np.ndarray) -> np.ndarray:
    """The image with pixels side by side; rows may have gaps."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if image.strides[1:] != (3, 1) or image.strides[0] < 3 * image.shape[1]:
        return np.ascontiguousarray(image)
    return image


def _view(image: np.ndarray) -> tuple[int, int, int, int]:
    """Pointer, height, width, bytes from row to row."""
    return image.ctypes.data, image.shape[0], image.shape[1], image.strides[0]
