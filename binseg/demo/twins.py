"""The full-precision network that a 1-bit one is compared with: its bytes and its time."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial

import torch

from binseg.demo.backends import BackendPredictor
from binseg.demo.models import ModelList
from binseg.errors import BinsegError
from binseg.nn.float_file import outlines
from binseg.nn.segmenter import Segmenter, create_model
from binseg.summarize import measure_size

_now = time.monotonic
_CALLS = 3
_SECONDS = 1.0  # after which one call more is not worth a visitor's time
_FIRST_ROUNDS = 3  # one with each of the first requests
_EVERY = 60.0  # seconds until the next one; the machine may have changed its pace
_KEPT_ROUNDS = 5
_IMPLAUSIBLE = 1.5  # times what the request itself took


@lru_cache
def fp32_bytes(models: ModelList, key: str) -> int:
    """Bytes of a model in full precision, with 32 bits for every parameter and statistic."""
    model = models.load(key).model
    try:
        with outlines():
            model = _full_precision(model)
    except BinsegError:
        pass  # a network that is not ours has no other precision
    return measure_size(model).float_bytes


def times_faster(
    models: ModelList, key: str, backend: str, size: tuple[int, int], seconds: float
) -> tuple[float | None, str]:
    """How many times faster a model is here than the same network in full precision.

    Both go from an image's tensor to its class map. The full-precision one runs in torch, in
    fp32, in the better of torch's memory formats; its weights are random, on which no time
    depends. Each figure is the minimum of the medians of a few rounds at different times, so that
    a moment in which the machine is busy with something else does not decide.

    Args:
        models, key, backend: as for `ModelList.predictor`.
        size: (height, width) of the image, before the model's own resizing.
        seconds: that the model took just now for the same.

    Returns:
        The ratio, or None; and what was measured, or why it was not.
    """
    predictor = models.predictor(key, backend)
    comparison = _comparison(predictor, predictor.preprocessing.target_size(*size))
    if comparison is None:
        return None, "not measured: the network has no full-precision twin"
    return comparison.figures(seconds)


class Comparison:
    """Times of a model and of its full-precision twin for images of one size.

    Args:
        predictor: of the model.
        twin: on the same device.
        size: (height, width) of the networks' input.
    """

    def __init__(self, predictor: BackendPredictor, twin: Segmenter, size: tuple[int, int]) -> None:
        self._predictor = predictor
        self._twin = twin
        self._size = size
        self._rounds: deque[tuple[float, float]] = deque(maxlen=_KEPT_ROUNDS)
        self._count = 0
        self._last = 0.0

    def figures(self, seconds: float) -> tuple[float, str]:
        """The ratio and what was measured; measures anew where that is due.

        Args:
            seconds: that the model took just now; far less than what was measured means that the
                machine was busy then.
        """
        now = _now()
        own, fp32 = self._best()
        if self._count < _FIRST_ROUNDS or now - self._last > _EVERY or own > _IMPLAUSIBLE * seconds:
            self._rounds.append(self._round())
            self._count += 1
            self._last = now
            own, fp32 = self._best()
        height, width = self._size
        return fp32 / own, (
            f"measured here at {width} x {height}: {1e3 * own:.1f} ms, "
            f"its full-precision twin in fp32 {1e3 * fp32:.1f} ms"
        )

    def _best(self) -> tuple[float, float]:
        if not self._rounds:
            return float("inf"), float("inf")
        own, fp32 = zip(*self._rounds, strict=True)
        return min(own), min(fp32)

    def _round(self) -> tuple[float, float]:
        """Seconds of the model and of its twin, in turn."""
        predictor, twin = self._predictor, self._twin
        generator = torch.Generator().manual_seed(0)
        image = torch.randn((1, 3, *self._size), generator=generator).to(predictor.device)
        with predictor.turn, torch.inference_mode():
            predictor.select_backend()
            own = _seconds(partial(predictor.model.class_map, image), predictor.wait)
            theirs = []
            for layout in (torch.contiguous_format, torch.channels_last):
                twin.to(memory_format=layout)
                x = image.contiguous(memory_format=layout)
                theirs.append(_seconds(partial(twin.class_map, x), predictor.wait))
        return own, min(theirs)


@lru_cache(maxsize=64)
def _comparison(predictor: BackendPredictor, size: tuple[int, int]) -> Comparison | None:
    twin = _twin(predictor)
    return None if twin is None else Comparison(predictor, twin, size)


@lru_cache(maxsize=4)
def _twin(predictor: BackendPredictor) -> Segmenter | None:
    try:
        return _full_precision(predictor.model).eval().to(predictor.device)
    except BinsegError:
        return None


def _full_precision(model: Segmenter) -> Segmenter:
    """The same topology in full precision, with random weights.

    Raises:
        BinsegError: the network has no such twin.
    """
    if not model.architecture:
        raise BinsegError("a packed network that does not say what it was made of")
    return create_model(**{**model.architecture, "precision": "full"})


def _seconds(run: Callable[[], object], wait: Callable[[], None]) -> float:
    """Median of a few calls."""
    run()
    wait()
    times: list[float] = []
    while len(times) < _CALLS and sum(times) < _SECONDS:
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
