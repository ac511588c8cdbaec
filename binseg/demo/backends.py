"""What runs the demo's networks: the backends of this machine, one image at a time on each."""

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from binseg.compiler.packed import PackedSegmenter
from binseg.evaluation.protocols import Network
from binseg.loaded import LoadedModel
from binseg.predictor import Predictor, Segmentation
from binseg.program import executor

CUDA = "cuda"

_turns = {"cpu": RLock(), CUDA: RLock()}
"""Who holds a device's lock has it for itself: two networks at a time would both be slower, and
their times would mean nothing."""


def backends() -> list[str]:
    """What this machine can run packed networks on, the fastest first.

    The instruction sets of libbinseg, and "reference", which is always there.
    """
    return executor.backends()


def device_of(backend: str) -> str:
    """The device that a backend runs on."""
    return CUDA if backend == CUDA else "cpu"


class BackendPredictor(Predictor):
    """A predictor that runs on one backend and waits for its turn on the device.

    Args:
        model: moved to the backend's device.
        backend: one of `backends()`.
        source: what messages call the model.

    Attributes:
        backend: the argument.
        model: the network itself, on the device.
        turn: lock of the device; the thread that holds it may still call the predictor.
        wait: returns when the device has nothing left to do.
    """

    def __init__(self, model: LoadedModel, backend: str, *, source: str = "the model") -> None:
        super().__init__(model, device=device_of(backend))
        self.source = source
        self.model = model.model
        self.backend = backend
        self.turn = _turns[device_of(backend)]
        self.wait: Callable[[], None] = torch.cuda.synchronize if backend == CUDA else _no_wait
        self.network = self._clock = _Clock(self.network, self.wait)

    def select_backend(self) -> None:
        """Let the backend run the network, which predictors of several backends share; for the
        holder of `turn`."""
        if isinstance(self.model, PackedSegmenter) and self.model.executor.backend != self.backend:
            self.model.run_on(self.backend)

    def __call__(self, image: Any) -> Any:
        return self.timed(image)[0]

    def timed(self, image: Any) -> tuple[Segmentation, dict[str, float]]:
        """Segment an image and say what took how long.

        Args:
            image: see `Predictor.__call__`; the time of opening a file counts as pre-processing.

        Returns:
            The segmentation, and milliseconds: "pre-processing" up to the network's input tensor,
            "network" from there to its scores, "upsampling" from those to the class map of the
            image's size.

        Raises:
            BinsegError: see `Predictor.__call__`.
        """
        with self.turn:
            self.select_backend()
            began = time.perf_counter()
            found = super().__call__(image)
            ended = time.perf_counter()
        moments = (began, self._clock.began, self._clock.ended, ended)
        names = ("pre-processing", "network", "upsampling")
        times = (1e3 * (after - before) for before, after in pairwise(moments))
        return found, dict(zip(names, times, strict=True))


class _Clock:
    """A network that notes when it last began and ended, by `time.perf_counter`."""

    def __init__(self, network: Network, wait: Callable[[], None]) -> None:
        self.began = self.ended = 0.0
        self._network = network
        self._wait = wait
        # only networks that have `scores` may seem to
        if scores := getattr(network, "scores", None):
            self.scores = partial(self._noted, scores)

    def __call__(self, x: Tensor) -> Tensor:
        return self._noted(self._network, x)

    def _noted(self, run: Network, x: Tensor) -> Tensor:
        self._wait()
        self.began = time.perf_counter()
        scores = run(x)
        self._wait()
        self.ended = time.perf_counter()
        return scores


def _no_wait() -> None:
    """The CPU is never behind."""
