"""The steps from a smooth network to a binary one inside one run."""

from dataclasses import dataclass

from torch import nn

from binseg.errors import BinsegError
from binseg.nn.activations import ActivationMode, BinaryActivation
from binseg.nn.binarize import WeightMode
from binseg.nn.layers import BinaryConv2d, set_binarization
from binseg.training.config import BinarizationConfig


@dataclass(frozen=True)
class Step:
    """One step: epochs [start, end) with these stand-ins; `final` is the fully binary one."""

    name: str
    start: int
    end: int
    activations: ActivationMode
    weights: WeightMode
    final: bool

    def apply(self, network: nn.Module) -> None:
        """Switch every binary layer of `network` to this step."""
        set_binarization(network, activations=self.activations, weights=self.weights)


def plan_steps(config: BinarizationConfig, epochs: int) -> list[Step]:
    """The steps of a run of `epochs` epochs, in order; the last is binary and never empty.

    Source: two-step training as in Martinez et al. 2020, "Training Binary Neural Networks with
    Real-to-Binary Convolutions", section 4.2; the tanh start as in Group-Net's released code.

    Raises:
        BinsegError: the first steps leave no epoch for the binary one.
    """
    smooth, activation = config.smooth_epochs, config.activation_epochs
    if min(smooth, activation) < 0 or smooth + activation >= epochs:
        raise BinsegError(
            f"binarization.smooth_epochs + activation_epochs ({smooth} + {activation}) must leave "
            f"at least one of trainer.epochs ({epochs}) for the binary network"
        )
    steps = [
        Step("smooth", 0, smooth, config.smooth_activation, "real", final=False),
        Step("activations", smooth, smooth + activation, "sign", "real", final=False),
        Step("binary", smooth + activation, epochs, "sign", "binary", final=True),
    ]
    return [step for step in steps if step.end > step.start]


def step_at(steps: list[Step], epoch: int) -> Step:
    """The step that `epoch` belongs to; the last one beyond the end."""
    return next((step for step in steps if epoch < step.end), steps[-1])


def set_temperature(network: nn.Module, config: BinarizationConfig, progress: float) -> None:
    """Set t of every tanh-based gradient: log-spaced from first to last as progress goes 0 to 1."""
    first, last = config.ede_temperature
    temperature = first * (last / first) ** progress
    for module in network.modules():
        if isinstance(module, BinaryActivation | BinaryConv2d):
            module.temperature = temperature
