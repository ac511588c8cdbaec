"""Finds the CUDA toolkit that can compile for the torch in use."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from binseg.errors import BinsegError

_TORCH = Path(torch.__file__).parent


class BuildError(BinsegError):
    """The kernels cannot be built or loaded on this machine.

    Attributes:
        output: everything the compiler wrote, if it was the compiler's fault.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit.

    Attributes:
        home: its folder, with bin/nvcc and include/.
        version: of nvcc.
        cudart: the runtime library to link.
    """

    home: Path
    version: str
    cudart: Path


def find_toolkit() -> Toolkit:
    """The first CUDA toolkit that has all that is needed, at torch's major version.

    Raises:
        BuildError: there is none; the message says what the ones found lack.
    """
    if torch.version.cuda is None:
        raise BuildError("this torch is built without CUDA; install one that has it")
    needed = torch.version.cuda.split(".")[0]
    found = []
    for home in _cuda_homes():
        nvcc = home / "bin" / "nvcc"
        if not nvcc.is_file():
            continue
        version = re.search(r"release ([\d.]+)", output_of([str(nvcc), "--version"]))
        if version is None:
            found.append(f"{nvcc} does not run")
        elif version[1].split(".")[0] != needed:
            found.append(f"{home} is CUDA {version[1]}")
        elif not (home / "include" / "cuda_runtime.h").is_file():
            found.append(f"{home} has no include/cuda_runtime.h")
        elif (cudart := _find_cudart(home, needed)) is None:
            found.append(f"{home} has no libcudart.so, and there is none beside torch")
        else:
            return Toolkit(home, version[1], cudart)
    what = f"found: {'; '.join(found)}" if found else "no nvcc was found"
    raise BuildError(
        f"no CUDA {needed} toolkit ({what}); install one or set CUDA_HOME to its folder"
    )


def _cuda_homes() -> Iterator[Path]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if value := os.environ.get(variable):
            yield Path(value)
    if nvcc := shutil.which("nvcc"):
        # nvcc on the path may be a script somewhere else; the compiler itself knows where it lives
        here = re.search(
            r"_HERE_=(.+)", output_of([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull])
        )
        yield (Path(here[1].strip()) if here else Path(nvcc).resolve().parent).parent
    yield from _TORCH.parent.glob("nvidia/cu*")
    for folder in ("/usr/local", "/opt"):
        yield from sorted(Path(folder).glob("cuda*"), reverse=True)


def _find_cudart(home: Path, major: str) -> Path | None:
    for name in ("libcudart.so", f"libcudart.so.{major}"):
        for pattern in ("lib64", "lib", "targets/*/lib", "lib/*-linux-gnu"):
            if paths := sorted(home.glob(f"{pattern}/{name}")):
                return paths[0]
    beside = (
        *_TORCH.parent.glob(f"nvidia/*/lib/libcudart.so.{major}"),
        *_TORCH.glob("lib/libcudart*"),
    )
    return next(iter(beside), None)


def output_of(command: Sequence[str]) -> str:
    """What a program prints, empty if it fails."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        ).stdout
    return ""
