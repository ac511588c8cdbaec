"""The full-precision network that a 1-bit one is compared with: its bytes and its time."""

import statistics
import time
from collections.abc import Callable
from functools import lru_cache, partial

import torch

from binseg.demo.backends import BackendPredictor
from binseg.demo.models import ModelList
from binseg.errors import BinsegError
from binseg.nn.float_file import outlines
from binseg.nn.segmenter import Segmenter, create_model
from binseg.summarize import measure_size

_CALLS = 3
_SECONDS = 1.0  # after which one call more is not worth a visitor's time


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
    models: ModelList, key: str, backend: str, size: tuple[int, int]
) -> tuple[float | None, str]:
    """How many times faster a model is here than the same network in full precision.

    Both go from a picture's tensor to its class map. The full-precision one runs in torch, in
    fp32, in the better of torch's memory formats; its weights are random, on which no time
    depends. Measured once for a model, a backend and a size.

    Args:
        models, key, backend: as for `ModelList.predictor`.
        size: (height, width) of the picture, before the model's own resizing.

    Returns:
        The ratio, or None; and what was measured, or why it was not.
    """
    predictor = models.predictor(key, backend)
    return _measured(predictor, predictor.preprocessing.target_size(*size))


@lru_cache(maxsize=256)
def _measured(predictor: BackendPredictor, size: tuple[int, int]) -> tuple[float | None, str]:
    model, device = predictor.model, predictor.device
    try:
        rival = _full_precision(model).eval().to(device)
    except BinsegError:
        return None, "not measured: the network has no full-precision twin"
    picture = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0)).to(device)
    with predictor.turn, torch.inference_mode():
        with predictor.in_use():
            own = _seconds(partial(model.class_map, picture), predictor.wait)
        theirs = []
        for layout in (torch.contiguous_format, torch.channels_last):
            rival.to(memory_format=layout)
            x = picture.contiguous(memory_format=layout)
            theirs.append(_seconds(partial(rival.class_map, x), predictor.wait))
    fp32 = min(theirs)
    return fp32 / own, (
        f"measured here at {size[1]} x {size[0]}: {1e3 * own:.1f} ms, "
        f"its full-precision twin in fp32 {1e3 * fp32:.1f} ms"
    )


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
