"""Semantic segmentation with 1-bit weights and activations.

The names below load on first use, so that `import binseg` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from binseg import openmp, smp_hook

if TYPE_CHECKING:
    from binseg.compiler.pack import pack
    from binseg.errors import BinsegError
    from binseg.loaded import load, save
    from binseg.nn.segmenter import list_models
    from binseg.nn.start import create_model
    from binseg.predictor import Predictor, Segmentation, evaluate
    from binseg.shipped import shipped_models
    from binseg.summarize import summary
    from binseg.training.run import train

_HOMES = {
    "BinsegError": "binseg.errors",
    "Predictor": "binseg.predictor",
    "Segmentation": "binseg.predictor",
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
    "BinsegError",
    "Predictor",
    "Segmentation",
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
    if name not in _HOMES:
        raise AttributeError(f"module 'binseg' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


# before anything imports torch, which loads OpenMP
openmp.sleep_at_barriers()
smp_hook.install()
