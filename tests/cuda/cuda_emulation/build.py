"""Builds the CUDA kernels for the CPU, with `emulation.h` in the place of CUDA."""

import os
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from binseg.program.cuda import operators

HERE = Path(__file__).parent
SOURCES = Path(operators.__file__).parent / "csrc"
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

    with ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(compile_one, sources))
    library = folder / f"{name}.so"
    libraries = [f"-L{torch_home / 'lib'}", "-ltorch_cpu", "-lc10"]
    _run([flags[0], "-shared", *objects, "-o", str(library), *libraries])
    _DEFINED[name] = operators.register(name, cpu=False)  # the schemas are the same
    torch.ops.load_library(library)
    return getattr(torch.ops, name)


_DEFINED: dict[str, torch.library.Library] = {}
"""A library that nobody holds takes its operators with it."""


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")
