"""What runs the demo's networks: the backends of this machine, one image at a time."""

import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from binseg.data.labels import LabelTable
from binseg.data.preprocess import resize_image
from binseg.inference.packed import PackedNetwork, default_threads
from binseg.inference.protocol import input_size
from binseg.program import executor
from binseg.program.arithmetic import upsample_argmax
from binseg.program.file import read_program
from binseg.program.interpreter import Interpreter
from binseg.runtime.library import Network

if TYPE_CHECKING:
    from binseg.loaded import LoadedModel

STEPS = ("pre-processing", "network", "upsampling")
"""From the image to the network's input, from there to its scores, from those to the class map."""

_AGAIN_BELOW = 150.0  # milliseconds that an image may take to be run again for its times
_RUNS = 3

turn = RLock()
"""Who holds it has the processor: two networks at a time would both be slower, and their times
would mean nothing."""


class Runner(Protocol):
    """A network ready to run.

    Attributes:
        labels: names and colours of its classes.
        threads: that work on one image.
    """

    labels: LabelTable
    threads: int

    def timed(self, image: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """The class of each pixel, uint8 (H, W), of an image, uint8 (H, W, 3), and what took how
        long: milliseconds of `STEPS`.

        Raises:
            BinsegError: the image is too small for the network.
        """
        ...


def backends() -> list[str]:
    """What this machine can run packed networks on, the fastest first.

    The instruction sets of libbinseg, and "reference", which is always there.
    """
    return executor.backends()


def timed_again(runner: Runner, image: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """As `Runner.timed`, with the fastest of a few runs if they are short: in the first one the
    processor's caches hold something else, and any may have met a busy moment."""
    class_map, best = runner.timed(image)
    spent = sum(best.values())
    for _ in range(_RUNS - 1):
        if spent >= _AGAIN_BELOW:
            break
        _, again = runner.timed(image)
        spent += sum(again.values())
        best = min(best, again, key=lambda times: sum(times.values()))
    return class_map, best


class PackedRunner:
    """A packed network on one backend, without torch.

    Args:
        path: of its file.
        backend: one of `backends()`.

    Raises:
        BinsegError: the file is damaged or foreign.
    """

    def __init__(self, path: Path, backend: str) -> None:
        whole = PackedNetwork(path, threads=1)  # which knows all that can be wrong with the file
        self.labels = whole.labels
        self._preprocessing = whole.preprocessing
        self.threads = 1
        if backend == executor.REFERENCE:
            self._scores = Interpreter(read_program(path)[0]).scores
            self._upsampled: Any = lambda scores, size: upsample_argmax(scores, *size)
            return
        network = Network(path.read_bytes(), isa=backend, threads=default_threads())
        self._scores = partial(network.scores, resize=False)
        self._upsampled = network.upsample_argmax
        self.threads = network.threads

    def timed(self, image: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        height, width = image.shape[:2]
        with turn:
            moments = [time.perf_counter()]
            seen = resize_image(image, input_size(self._preprocessing, height, width))
            moments.append(time.perf_counter())
            scores = self._scores(seen)
            moments.append(time.perf_counter())
            class_map = self._upsampled(scores, (height, width))
            moments.append(time.perf_counter())
        return class_map, _steps(moments)


class TorchRunner:
    """A full-precision network in torch.

    Args:
        loaded: its file's content.
    """

    def __init__(self, loaded: "LoadedModel") -> None:
        import torch

        from binseg.predictor import Predictor

        # the faster one of torch's formats for convolutions on a CPU
        model = loaded.model.to(memory_format=torch.channels_last)
        self._predictor = Predictor(loaded, device="cpu")
        self._predictor.network = self._clock = _Clock(model)
        self.labels = loaded.labels
        self.threads = torch.get_num_threads()

    def timed(self, image: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        with turn:
            began = time.perf_counter()
            found = self._predictor(image)
            moments = [began, self._clock.began, self._clock.ended, time.perf_counter()]
        return found.class_map, _steps(moments)


class _Clock:
    """A network that notes when it last began and ended."""

    def __init__(self, network: Any) -> None:
        self.began = self.ended = 0.0
        self._network = network

    def __call__(self, x: Any) -> Any:
        return self._noted(self._network, x)

    def scores(self, x: Any) -> Any:
        """Logits on the head's own grid."""
        return self._noted(self._network.scores, x)

    def _noted(self, run: Any, x: Any) -> Any:
        self.began = time.perf_counter()
        scores = run(x)
        self.ended = time.perf_counter()
        return scores


def _steps(moments: list[float]) -> dict[str, float]:
    times = (1e3 * (after - before) for before, after in pairwise(moments))
    return dict(zip(STEPS, times, strict=True))
