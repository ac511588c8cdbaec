"""Semantic segmentation with 1-bit weights and activations.

The names below load on first use, so that `import binseg` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from binseg import openmp, smp_hook

if TYPE_CHECKING:
    from binseg.compiler.pack import pack
    from binseg.data.config import DataConfig
    from binseg.data.datasets import create_dataset
    from binseg.errors import BinsegError
    from binseg.loaded import load, save
    from binseg.nn.segmenter import list_models
    from binseg.nn.start import create_model
    from binseg.predictor import Predictor, Segmentation, evaluate
    from binseg.shipped import shipped_models
    from binseg.summarize import summary
    from binseg.training.config import (
        BinarizationConfig,
        DistillationConfig,
        Experiment,
        LossConfig,
        ModelConfig,
        OptimizerConfig,
        TrainerConfig,
    )
    from binseg.training.run import train

_HOMES = {
    "BinarizationConfig": "binseg.training.config",
    "BinsegError": "binseg.errors",
    "DataConfig": "binseg.data.config",
    "DistillationConfig": "binseg.training.config",
    "Experiment": "binseg.training.config",
    "LossConfig": "binseg.training.config",
    "ModelConfig": "binseg.training.config",
    "OptimizerConfig": "binseg.training.config",
    "Predictor": "binseg.predictor",
    "Segmentation": "binseg.predictor",
    "TrainerConfig": "binseg.training.config",
    "create_dataset": "binseg.data.datasets",
    "create_model": "binseg.nn.start",
    "evaluate": "binseg.predictor",
    "list_models": "binseg.nn.segmenter",
    "load": "binseg.loaded",
    "pack": "binseg.compiler.pack",
    "save": "binseg.loaded",
    "shipped_models": "binseg.shipped",
    "summary": "binseg.summarize",
    "train": "binseg.training.run",
}

__all__ = [
    "BinarizationConfig",
    "BinsegError",
    "DataConfig",
    "DistillationConfig",
    "Experiment",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Predictor",
    "Segmentation",
    "TrainerConfig",
    "create_dataset",
    "create_model",
    "evaluate",
    "list_models",
    "load",
    "pack",
    "save",
    "shipped_models",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "ray":
        return importlib.import_module("binseg.ray")
    if name not in _HOMES:
        raise AttributeError(f"module 'binseg' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


# before anything imports torch, which loads OpenMP
openmp.sleep_at_barriers()
smp_hook.install()
