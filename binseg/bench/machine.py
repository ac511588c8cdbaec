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
from binseg.machine import cores, processor
from binseg.program.executor import backends

_PACKAGES = ("binseg", "onnxruntime", "onnx", "numpy")


def describe(device: str = "cpu") -> dict[str, Any]:
    """JSON values; what cannot be found out is None."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "usable_cores": cores(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "instructions": backends(),
            "in_use": os.environ.get("BINSEG_ISA") or backends()[0],
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


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16; without, torch is slower in it than in fp32."""
    # torch has no public name for this question
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


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
