"""A pretraining of seconds: noise in three colours and a network of a few channels."""

from pathlib import Path

import numpy as np
from PIL import Image

from binseg.data.classification_config import ClassificationConfig
from binseg.training.config import (
    BinarizationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from binseg.training.pretraining_config import ClassificationLossConfig, Pretraining


def write_tree(root: Path) -> Path:
    """Three classes of noise in three colours, 8 training and 4 val images each, 16×16."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label in range(3):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 160, (16, 16, 3), dtype=np.uint8)
                image[:, :, label] += 80
                Image.fromarray(image).save(folder / f"{number}.png")
    return root


def tiny(root: Path, **trainer: object) -> Pretraining:
    """Two epochs of four steps, with mixup, a moving average and two binarization steps."""
    return Pretraining(
        data=ClassificationConfig(
            root=str(root), size=16, batch_size=6, val_batch_size=5, calibration_images=9
        ),
        model=ModelConfig("groupnet18_star", bases=2, width=8, output_stride=8, downsample="real"),
        optimizer=OptimizerConfig(lr=2e-3),
        loss=ClassificationLossConfig(mixup=0.2),
        binarization=BinarizationConfig(activation_epochs=1),
        trainer=TrainerConfig(**{"epochs": 2, "ema": 0.5, **trainer}),
    )
