"""Parameters and bytes of networks, and of a module's own tensors."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from binseg.compiler.packed import PackedClassifier, PackedSegmenter
from binseg.nn.layers import BinaryConv2d
from binseg.summarize.programs import program_bytes, program_parameters


@dataclass(frozen=True)
class Size:
    """Parameters and bytes of a network.

    Attributes:
        binary: weights that are ±1 after training.
        real: all other parameters.
        float_bytes: with 32 bits for every parameter and statistic, as a float file holds it.
        packed_bytes: with 1 bit for a binary weight. Everything else has 32 bits in a trained
            network and its own in a packed one. Computed, not measured; headers are not counted.
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
    """Count the parameters and bytes of a trained or packed network; see `Size`."""
    if isinstance(model, PackedSegmenter | PackedClassifier):
        counts = program_parameters(model.program)
        total = sum(counts.values())
        binary = counts.get(1, 0)
        return Size(binary, total - binary, 4 * total, program_bytes(model.program))
    parameters: Counter[int] = Counter()
    float_bytes = packed_bytes = 0
    for module in model.modules():
        own = own_parameters(module)
        parameters.update(own)
        float_bytes += own_float_bytes(module)
        packed_bytes += own_packed_bytes(module)
    binary = parameters.pop(1, 0)
    return Size(binary, sum(parameters.values()), float_bytes, packed_bytes)


def own_parameters(module: nn.Module) -> dict[int, int]:
    """Bits of a parameter → how many there are."""
    if isinstance(module, BinaryConv2d):
        logits = 0 if module.weight_logit is None else module.weight_logit.numel()
        return {1: module.weight.numel(), **({32: logits} if logits else {})}
    counts: Counter[int] = Counter()
    for parameter in module.parameters(recurse=False):
        counts[8 * parameter.element_size()] += parameter.numel()
    return dict(counts)


def own_float_bytes(module: nn.Module) -> int:
    """With 32 bits for every parameter and statistic."""
    return 4 * (sum(own_parameters(module).values()) + _statistics(module))


def own_packed_bytes(module: nn.Module) -> int:
    """With 1 bit for a binary weight and 32 for everything else."""
    counts = own_parameters(module)
    binary = counts.pop(1, 0)
    return -(-binary // 8) + 4 * (sum(counts.values()) + _statistics(module))


def own_binary_bytes(module: nn.Module) -> int:
    """The part of `own_packed_bytes` that holds 1-bit weights."""
    return -(-own_parameters(module).get(1, 0) // 8)


def _statistics(module: nn.Module) -> int:
    """Numbers that are neither parameters nor constants: a BatchNorm's mean and variance."""
    buffers = module.buffers(recurse=False)
    return sum(buffer.numel() for buffer in buffers if buffer.is_floating_point())
