"""Builds the CUDA kernels for the CPU, with `emulation.h` in the place of CUDA."""

import os
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import binseg.kernels
from binseg.kernels import isa
from binseg.kernels.cuda import Kernels, Plan

HERE = Path(__file__).parent
SOURCES = Path(binseg.kernels.__file__).parent / "csrc" / "cuda"
FLAGS = ("-O1", "-fPIC", "-std=c++20", "-ffp-contract=off", "-w")


def load(folder: Path, arch: int) -> Any:
    """The operators of an emulated GPU, built in `folder`; 750 is sm_75."""
    name = f"binseg_emulated_{arch}"
    torch_home = Path(torch.__file__).parent
    flags = [
        os.environ.get("CXX", "g++"),
        *FLAGS,
        "-DBINSEG_EMULATED",
        f"-DBINSEG_ARCH={arch}",
        f"-DBINSEG_LIBRARY={name}",
        "-DBINSEG_DEVICE=CPU",
        f"-I{HERE}",
        "-isystem",
        str(torch_home / "include"),
        "-isystem",
        sysconfig.get_path("include"),
    ]
    sources = [*sorted(SOURCES.glob("*.cu")), SOURCES / "binding.cpp"]

    def compile_one(source: Path) -> str:
        target = folder / f"{arch}_{source.stem}.o"
        _run([*flags, "-x", "c++", "-c", str(source), "-o", str(target)])
        return str(target)

    with ThreadPoolExecutor(max_workers=isa.cores()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = folder / f"{name}.so"
    libraries = [f"-L{torch_home / 'lib'}", "-ltorch_cpu", "-lc10"]
    _run([flags[0], "-shared", *objects, "-o", str(library), *libraries])
    torch.ops.load_library(library)
    return getattr(torch.ops, name)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")


class EmulatedKernels(Kernels):
    """Kernels whose results lie between guards, which `check` looks at."""

    _GUARD = 64  # elements

    def __init__(self, operators: Any, plan: Plan) -> None:
        super().__init__(operators, plan)
        self._guarded: list[Tensor] = []

    def _empty(self, like: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        numel = int(torch.Size(size).numel())
        whole = torch.full((numel + 2 * self._GUARD,), 77, dtype=dtype)
        self._guarded.append(whole)
        return whole[self._GUARD : self._GUARD + numel].view(size)

    def check(self) -> None:
        """Raise if a kernel wrote outside a result."""
        for whole in self._guarded:
            assert (whole[: self._GUARD] == 77).all()
            assert (whole[-self._GUARD :] == 77).all()
        self._guarded.clear()
