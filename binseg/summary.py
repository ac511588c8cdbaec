"""What of a network is 1 bit and what is not."""

from dataclasses import dataclass

from torch import nn

from binseg.nn.layers import BinaryConv2d


@dataclass(frozen=True)
class Size:
    """Parameters and bytes of a network.

    Attributes:
        binary: weights that are ±1 after training.
        real: all other parameters.
        float_bytes: with 32 bits for every parameter and statistic, as a float file holds it.
        packed_bytes: with 1 bit for a binary weight and 32 for everything else. Computed, not
            measured; headers are not counted.
    """

    binary: int
    real: int
    float_bytes: int
    packed_bytes: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.binary + self.real


def measure_size(model: nn.Module) -> Size:
    """Count the parameters and bytes of `model`; see `Size`."""
    binary = sum(m.weight.numel() for m in model.modules() if isinstance(m, BinaryConv2d))
    parameters = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    return Size(
        binary=binary,
        real=parameters - binary,
        float_bytes=4 * (parameters + statistics),
        packed_bytes=-(-binary // 8) + 4 * (parameters - binary + statistics),
    )
