"""Calibration of the ranges that 8 bits must cover, on a few images."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.layers import BinaryConv2d

LEVELS = 255
_SAMPLES = 1 << 14
"""Values kept of each map and batch."""
_CUTS = [1 - cut / 50 for cut in range(48)]


@dataclass(frozen=True)
class Range:
    """Real numbers that a byte stands for: value = (byte − zero_point)·scale.

    Attributes:
        low, high: ends of the range; it holds 0, which then has a byte of its own.
    """

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Of one step."""
        return (self.high - self.low) / LEVELS or 1.0

    @property
    def zero_point(self) -> int:
        """The byte that stands for 0."""
        return min(max(round(-self.low / self.scale), 0), LEVELS)


def activation_ranges(model: nn.Module, images: Iterable[Tensor]) -> dict[nn.Module, Range]:
    """The range of the input of each convolution of `model` that reads real numbers.

    Args:
        model: a float network, which is run in eval mode and left as it was.
        images: normalised float32 (N, 3, H, W); what the network will see.

    Returns:
        By module; each range is the one with the smallest mean squared error of the rounded values
        among those cut from the extremes, see `best_range`.

    Raises:
        BinsegError: no image, or a network that gives nan.
    """
    seen = {m: _Samples() for m in model.modules() if _reads_real_numbers(m)}
    device = next(model.parameters()).device
    with ExitStack() as stack:
        for module, samples in seen.items():
            handle = module.register_forward_pre_hook(partial(_look, samples))
            stack.callback(handle.remove)
        stack.enter_context(evaluating(model))
        for batch in images:
            model(batch.to(device))
    if any(not samples.kept for samples in seen.values()):
        raise BinsegError("int8 needs images to calibrate on: give at least one")
    return {module: best_range(torch.cat(samples.kept)) for module, samples in seen.items()}


def best_range(values: Tensor) -> Range:
    """The range whose rounding and clipping has the smallest mean squared error on `values`.

    The high end is cut first, then the low end, then the high one again, in steps of a fiftieth
    of the extremes: outliers are clipped where that makes the step finer for all others.

    Args:
        values: floating point (n,), n ≥ 1.

    Raises:
        BinsegError: a value is not finite.
    """
    values = values.float()
    if not values.isfinite().all():
        raise BinsegError("the network gives nan: its weights are damaged or its training diverged")
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    best = Range(low, high)
    if low == high:
        return best
    for end in ("high", "low", "high"):
        if (best.high if end == "high" else best.low) == 0:
            continue
        cuts = [Range(best.low, high * cut) for cut in _CUTS]
        if end == "low":
            cuts = [Range(low * cut, best.high) for cut in _CUTS]
        best = min(cuts, key=lambda candidate: _error(values, candidate))
    return best


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode and without gradients inside the `with`."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _reads_real_numbers(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) or (isinstance(module, BinaryConv2d) and module.real_input)


@dataclass
class _Samples:
    kept: list[Tensor] = field(default_factory=list)


def _look(samples: _Samples, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Keep some of a layer's input values, the same ones each time the network is run."""
    values = inputs[0].detach().float().cpu().flatten()
    if len(values) > _SAMPLES:
        generator = torch.Generator().manual_seed(len(samples.kept))
        places = torch.randint(len(values), (_SAMPLES,), generator=generator)
        values = values[places]
    if len(values):
        samples.kept.append(values)


def _error(values: Tensor, candidate: Range) -> float:
    levels = (values / candidate.scale).round_().add_(candidate.zero_point).clamp_(0, LEVELS)
    return float(
        levels.sub_(candidate.zero_point).mul_(candidate.scale).sub_(values).square_().sum()
    )
