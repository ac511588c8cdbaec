"""What a benchmark ran on: processor, instruction set, versions, the commit."""

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import binseg
from binseg.errors import BinsegError
from binseg.kernels import isa
from binseg.runtime.library import isas

_PACKAGES = ("binseg", "openvino", "nncf", "onnxruntime", "onnx", "numpy")
_LIMITS = ("BINSEG_ISA", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def describe(device: str = "cpu") -> dict[str, Any]:
    """JSON values; what cannot be found out is None."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "processor": isa.processor(),
            "cores": os.cpu_count(),
            "usable_cores": isa.cores(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "instructions": _instructions(),
            "limits": {name: os.environ[name] for name in _LIMITS if name in os.environ},
            "torch_instructions": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: _version(name) for name in _PACKAGES},
            "cuda": torch.version.cuda if device == "cuda" else None,
        },
        "commit": _commit(),
    }


def _instructions() -> list[str]:
    """Instruction sets of libbinseg on this processor, the best first; empty without it."""
    try:
        return list(isas())
    except BinsegError:
        return []


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the checkout that binseg is in, with "+" if its code has been changed since."""
    folder = Path(binseg.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # an installed copy may lie inside the checkout of something else
    if git("ls-files", "__init__.py") != "__init__.py":
        return None
    commit = git("rev-parse", "--short=12", "HEAD")
    return f"{commit}+" if commit and git("status", "--porcelain", "--", ".") else commit
