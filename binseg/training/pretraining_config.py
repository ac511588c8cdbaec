"""Everything a pretraining is made of, as typed dataclasses that YAML and the command line fill."""

from dataclasses import dataclass, field
from typing import Any

from binseg.data.classification_config import ClassificationConfig
from binseg.errors import BinsegError
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)


@dataclass
class ClassificationLossConfig:
    """Cross-entropy and what softens its targets.

    Args:
        label_smoothing: share of the target that all classes get alike, 0 to 1.
        mixup: α of the Beta(α, α) that two images are mixed by; 0: no mixing.
    """

    label_smoothing: float = 0.1
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise BinsegError(
                f"loss.label_smoothing must be at least 0 and below 1, not {self.label_smoothing:g}"
            )
        if not 0 <= self.mixup < 1e6:
            raise BinsegError(f"loss.mixup must be at least 0, not {self.mixup:g}")


@dataclass
class Pretraining:
    """One pretraining run of a classifier, for its backbone's sake."""

    data: ClassificationConfig = field(default_factory=ClassificationConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: ClassificationLossConfig = field(default_factory=ClassificationLossConfig)
    binarization: BinarizationConfig = field(default_factory=BinarizationConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def classifier_arguments(model: ModelConfig, num_classes: int) -> dict[str, Any]:
    """Keyword arguments of `create_classifier`: only what was set.

    Raises:
        BinsegError: an option that only segmentation networks have is set.
    """
    arguments = model.arguments(num_classes)
    head_options = arguments.pop("head_options", {})
    for option in ("head", "encoder", "encoder_weights"):
        if option in arguments:
            head_options[option] = arguments.pop(option)
    if head_options:
        raise BinsegError(
            f"model: a classifier has no head of segmentation and no encoder of smp's; remove "
            f"{', '.join(sorted(head_options))} (give them to `binseg train`)"
        )
    return arguments
