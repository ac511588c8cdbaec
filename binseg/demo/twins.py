"""The full-precision network that a 1-bit one is compared with: classes, bytes and time."""

import statistics
import time
from collections import deque
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from binseg.demo.backends import Runner, TorchRunner, turn
from binseg.demo.inference import DemoResult
from binseg.demo.models import ModelList
from binseg.errors import BinsegError

if TYPE_CHECKING:
    from binseg.nn.segmenter import Segmenter

_now = time.monotonic
_CALLS = 3
_SECONDS = 1.0  # after which one call more is not worth a visitor's time
_FIRST_ROUNDS = 3  # one with each of the first requests
_EVERY = 60.0  # seconds until the next one; the machine may have changed its pace
_KEPT_ROUNDS = 5
_IMPLAUSIBLE = 1.5  # times what the request itself took


@dataclass(frozen=True)
class Comparison:
    """A result beside the same network in full precision.

    Attributes:
        fp32_bytes: of that network, with 32 bits for every parameter and statistic.
        times_faster: how many times as fast the model is, both from the image to the class map on
            as many cores as each takes; None if it could not be measured.
        note: what was measured, or why it was not.
        milliseconds: of the model, the best of what was measured; None with `times_faster`.
        class_map: HW uint8 of the trained twin; None if the model comes without one.
    """

    fp32_bytes: int
    times_faster: float | None
    note: str
    milliseconds: float | None
    class_map: np.ndarray | None


class Twins:
    """Compares the models of a list; may be used by many threads.

    Without a trained twin times are those of the same topology with random weights, on which they
    do not depend. Each is the minimum of the medians of a few rounds at different times, so that
    a moment in which the machine is busy with something else does not decide.

    Args:
        models: the list.
    """

    def __init__(self, models: ModelList) -> None:
        self._models = models
        self._twins: dict[str, Runner | None] = {}
        self._bytes: dict[str, int] = {}
        self._rounds: dict[tuple[str, str, tuple[int, ...]], _Rounds] = {}
        self._lock = RLock()

    def compare(self, found: DemoResult) -> Comparison:
        """The result's image by the twin.

        Raises:
            BinsegError: the twin's file is damaged.
        """
        key = found.key
        with self._lock:
            twin = self._twin(key)
            fp32_bytes = self._fp32_bytes(key)
            if twin is None:
                why = "not measured: the network has no full-precision twin"
                return Comparison(fp32_bytes, None, why, None, None)
            size = found.class_map.shape
            known = key, found.backend, size
            if known not in self._rounds:
                self._rounds[known] = _Rounds(self._models.runner(key, found.backend), twin)
            seconds = sum(found.milliseconds.values()) / 1e3
            own, full = self._rounds[known].best(found.image, seconds)
            class_map = None
            if self._models.get(key).twin is not None:
                class_map, _ = twin.timed(found.image)
        note = (
            f"measured here at {size[1]} x {size[0]}: {1e3 * own:.1f} ms, "
            f"its full-precision twin in fp32 {1e3 * full:.1f} ms"
        )
        return Comparison(fp32_bytes, full / own, note, 1e3 * own, class_map)

    def _twin(self, key: str) -> Runner | None:
        if key not in self._twins:
            self._twins[key] = self._made(key)
        return self._twins[key]

    def _made(self, key: str) -> Runner | None:
        from binseg.loaded import LoadedModel

        if self._models.get(key).twin is not None:
            return self._models.runner(key, "reference", "full")
        loaded = self._models.load(key)
        try:
            model = _full_precision(loaded.model)
        except BinsegError:
            return None
        return TorchRunner(LoadedModel(model.eval(), loaded.labels, loaded.preprocessing))

    def _fp32_bytes(self, key: str) -> int:
        from binseg.nn.float_file import outlines
        from binseg.summarize import measure_size

        if key not in self._bytes:
            model = self._models.load(key).model
            try:
                with outlines():
                    model = _full_precision(model)
            except BinsegError:
                pass  # a network that is not ours has no other precision
            self._bytes[key] = measure_size(model).float_bytes
        return self._bytes[key]


class _Rounds:
    """Seconds of a model and of its twin for images of one size."""

    def __init__(self, own: Runner, twin: Runner) -> None:
        self._runners = own, twin
        self._rounds: deque[tuple[float, float]] = deque(maxlen=_KEPT_ROUNDS)
        self._count = 0
        self._last = 0.0

    def best(self, image: np.ndarray, seconds: float) -> tuple[float, float]:
        """The minima; measures anew where that is due.

        Args:
            image: to run with.
            seconds: that the model took just now; far less than what was measured means that the
                machine was busy then.
        """
        now = _now()
        own = min((own for own, _ in self._rounds), default=0.0)
        is_old = self._count < _FIRST_ROUNDS or now - self._last > _EVERY
        if is_old or own > _IMPLAUSIBLE * seconds:
            with turn:
                first, second = (_seconds(runner, image) for runner in self._runners)
            self._rounds.append((first, second))
            self._count += 1
            self._last = now
        own_times, twin_times = zip(*self._rounds, strict=True)
        return min(own_times), min(twin_times)


def _full_precision(model: "Segmenter") -> "Segmenter":
    """The same topology in full precision, with random weights.

    Raises:
        BinsegError: the network has no such twin.
    """
    from binseg.nn.segmenter import create_model

    if not model.architecture:
        raise BinsegError("a packed network that does not say what it was made of")
    return create_model(**{**model.architecture, "precision": "full"})


def _seconds(runner: Runner, image: np.ndarray) -> float:
    """Median of a few calls."""
    runner.timed(image)
    times: list[float] = []
    while len(times) < _CALLS and sum(times) < _SECONDS:
        times.append(sum(runner.timed(image)[1].values()) / 1e3)
    return statistics.median(times)
