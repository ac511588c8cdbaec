"""Comparison of a packed network with the trained one; where they differ, whose fault it is.

A network of signs can be sensitive: a number next to 0 that is rounded to the other side changes
a bit, and the bit may change many pixels. Two correct computations of such a network differ as much
as one does from itself when its input moves by a millionth. So the trained network is measured by
that, too, before packing is blamed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from binseg.compiler.packed import PackedSegmenter
from binseg.nn.segmenter import Segmenter
from binseg.program.file import OtherLayers

MIN_AGREEMENT: dict[OtherLayers, float] = {"fp32": 0.999, "bf16": 0.98, "int8": 0.95}
"""Share of equal pixels that a packed network must reach, by the arithmetic of its other layers."""

PERTURBATION = 1e-6
"""Relative size of the change of an input that a trained network is tried with; float32 rounds at
6e-8, and a few dozen roundings stand between the image and the scores."""

_TOLERANCE = 5.0
"""How many times as much as by such a change a class map may differ by packing."""
_TRIALS = 16


@dataclass(frozen=True)
class Agreement:
    """How two class maps compare, over all pixels of all images.

    Attributes:
        images: how many.
        equal: share of the pixels whose class is the same, in [0, 1].
        own: share of the pixels whose class the trained network keeps when its input is perturbed
            by `PERTURBATION`, in the worst of several trials; None if that was not tried.
    """

    images: int
    equal: float
    own: float | None = None

    @property
    def is_sensitivity(self) -> bool:
        """Whether the difference is no larger than the trained network's own sensitivity allows."""
        return self.own is not None and 1 - self.equal <= _TOLERANCE * (1 - self.own)


def agreement(trained: Segmenter, packed: Segmenter, inputs: Iterable[Tensor]) -> float:
    """Share of the pixels, in [0, 1], whose class is the same in both networks' class maps.

    Args:
        trained, packed: in eval mode, on the CPU.
        inputs: float32 (N, 3, H, W), normalised; at least one.
    """
    different = pixels = 0
    with torch.inference_mode():
        for x in inputs:
            unequal = trained.class_map(x) != packed.class_map(x)
            different += int(unequal.sum())
            pixels += unequal.numel()
    return 1 - different / pixels


def verify(
    trained: Segmenter,
    packed: PackedSegmenter,
    inputs: Callable[[], Iterable[Tensor]],
    *,
    minimum: float,
) -> Agreement:
    """Compare a packed network with the trained one, and if they differ too much that with itself.

    Args:
        trained: in eval mode, on the CPU.
        packed: made of it.
        inputs: gives images afresh at each call: float32 (1, 3, H, W), normalised; at least one.
        minimum: share of equal pixels that is enough.
    """
    different: list[int] = []
    pixels = 0
    with torch.inference_mode():
        for x in inputs():
            unequal = trained.class_map(x) != packed.class_map(x)
            different.append(int(unequal.sum()))
            pixels += unequal.numel()
        equal = 1 - sum(different) / pixels
        if equal >= minimum:
            return Agreement(len(different), equal)
        own = sum(
            _own_change(trained, x, enough=count)
            for x, count in zip(inputs(), different, strict=True)
            if count
        )
    return Agreement(len(different), equal, 1 - own / pixels)


def perturbed(x: Tensor, seed: int) -> Tensor:
    """`x` with every number changed by one part in a million, up or down at random."""
    generator = torch.Generator().manual_seed(seed)
    return x * (1 + PERTURBATION * torch.rand(x.shape, generator=generator).sub_(0.5).sign_())


def _own_change(trained: Segmenter, x: Tensor, *, enough: int) -> int:
    """Pixels whose class a perturbation changes, the most of several trials.

    One number next to 0 is turned by every second or third of them. They end when one has changed
    `enough`.
    """
    expected = trained.class_map(x)
    most = 0
    for seed in range(_TRIALS):
        most = max(most, int((trained.class_map(perturbed(x, seed)) != expected).sum()))
        if most >= enough:
            break
    return most
