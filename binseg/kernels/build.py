"""Compiles the kernels on first use, and keeps the result; `load` is all that an operator needs.

A library is called NAME-(recipe)-(compiler).so, with hashes of what went in. Where no compiler is
left on the machine, the library of any compiler will do.
"""

import errno
import json
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import torch

from binseg.kernels import isa
from binseg.kernels.cache import (
    CACHE,
    cache_folder,
    failed_when_new,
    find,
    keep,
    locked,
    note_failure,
    say,
    writable_folder,
)
from binseg.kernels.recipes import RECIPES, Recipe
from binseg.kernels.toolchain import TORCH, BuildError, Tools, find_compiler, find_toolkit, run

_opened: dict[str, Path | BuildError] = {}
_opening = threading.Lock()


def load(name: Literal["cpu", "cuda"]) -> None:
    """Compile the kernels if need be and register their operators; the second time does nothing.

    What happened the first time holds for the whole process: a fault is raised again at once.

    Raises:
        BuildError: they cannot be built or loaded; one line says why.
    """
    if name not in _opened:
        with _opening:
            if name not in _opened:
                try:
                    _opened[name] = open_library(RECIPES[name]())
                except BuildError as error:
                    _opened[name] = error
    outcome = _opened[name]
    if isinstance(outcome, BuildError):
        raise BuildError(str(outcome), outcome.output)


def open_library(recipe: Recipe) -> Path:
    """Build and load one library; a cached one that does not load is built again, once.

    Raises:
        BuildError: it cannot be built or loaded.
    """
    path = cached(recipe)
    if path is not None:
        try:
            torch.ops.load_library(str(path))
            return path
        except OSError as error:
            if failed_when_new(path):
                raise _unloadable(path, error) from error
    path = build(recipe, again=path is not None)
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        note_failure(path)
        raise _unloadable(path, error) from error
    return path


def _unloadable(path: Path, error: OSError) -> BuildError:
    return BuildError(
        f"{path}: cannot be loaded ({error.__cause__ or error}); set {CACHE} to a folder that "
        "programs may run from"
    )


def cached(recipe: Recipe) -> Path | None:
    """The library that `build` returns without compiling; None if there is none.

    Raises:
        BuildError: a source is missing, or there is no place for a cache.
    """
    if sys.platform == "win32":
        raise BuildError("the kernels are built on Linux and macOS; on Windows use WSL")
    try:
        key = _find_tools(recipe).key
    except BuildError:
        key = "*"
    return find(f"{recipe.name}-{recipe.key()}-{key}")


def build(recipe: Recipe, *, again: bool = False) -> Path:
    """The compiled library of a recipe, from the cache if it is there and whole.

    Args:
        recipe: what to build.
        again: compile in any case.

    Raises:
        BuildError: no compiler, an error in compiling, no place to write, or another process that
            holds the lock for too long.
    """
    try:
        path = cached(recipe)
        if path is None or again:
            tools = _find_tools(recipe)
            folder = writable_folder(recipe.name)
            with locked(folder, recipe.name):
                # another process may have built it while this one waited
                path = None if again else cached(recipe)
                path = path or _compile(recipe, tools, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BuildError(
                f"{error.filename or cache_folder()}: no space left for the kernels; free some or "
                f"set {CACHE} to another folder"
            ) from error
        raise BuildError(f"{error.filename or 'the kernels'}: {error.strerror or error}") from error
    return path


def _find_tools(recipe: Recipe) -> Tools:
    cxx, version = find_compiler()
    return Tools(cxx, version, find_toolkit() if recipe.nvcc else None)


def _compile(recipe: Recipe, tools: Tools, folder: Path) -> Path:
    """Build under the lock; the library appears in `folder` whole or not at all."""
    prefix = f".{recipe.name}-"
    for left in folder.glob(f"{prefix}*"):  # by a builder that was killed
        shutil.rmtree(left, ignore_errors=True)
    library = folder / f"{recipe.name}-{recipe.key()}-{tools.key}.so"
    began = time.monotonic()
    say(f"compiling the 1-bit kernels for {recipe.title} (once, about {recipe.seconds} s) …")
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        keep((_with_nvcc if recipe.nvcc else _with_cxx)(recipe, tools, place), library)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    say(f"… done in {time.monotonic() - began:.0f} s")
    return library


def _with_cxx(recipe: Recipe, tools: Tools, place: Path) -> Path:
    include = [f"-I{TORCH / 'include'}", f"-I{TORCH / 'include/torch/csrc/api/include'}"]
    library = place / f"binseg_{recipe.name}.so"

    def cxx(what: str, *arguments: str) -> None:
        run((*tools.cxx, *arguments), what=what, tools=tools, folder=recipe.folder, scratch=place)

    def compile_unit(unit: str) -> str:
        target = f"{place / unit}.o"
        cxx(unit, *recipe.flags, *include, *recipe.units[unit], "-c", unit, "-o", target)
        return target

    with ThreadPoolExecutor(isa.cores()) as pool:
        objects = list(pool.map(compile_unit, recipe.units))
    found = (f"-L{TORCH / 'lib'}", *recipe.link)
    cxx(library.name, "-shared", *objects, "-o", str(library), *found)
    return library


def _with_nvcc(recipe: Recipe, tools: Tools, place: Path) -> Path:
    """By torch.utils.cpp_extension in a process of its own, which also tries to load the result.

    The process spares this one the import, a change of its environment, and operators that are
    registered from a file that is about to move.
    """
    assert tools.toolkit is not None
    scripts = (str(Path(sys.executable).parent), sysconfig.get_path("scripts"))
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *scripts))
    if shutil.which("ninja", path=path) is None:
        raise BuildError("ninja was not found, which builds CUDA code; run `pip install ninja`")
    # a toolkit may lack the library under the name that the linker looks for
    (place / "libcudart.so").symlink_to(tools.toolkit.cudart)
    arguments = {
        "name": f"binseg_{recipe.name}",
        "sources": [str(recipe.folder / unit) for unit in recipe.units],
        "extra_cflags": recipe.flags,
        "extra_cuda_cflags": recipe.nvcc,
        "extra_ldflags": ["-L.", *recipe.link],
        "build_directory": str(place),
        "with_cuda": True,
        "is_python_module": False,
    }
    script = (
        "import json, sys; from torch.utils.cpp_extension import load;"
        "load(**json.loads(sys.argv[1]))"
    )
    run(
        (sys.executable, "-c", script, json.dumps(arguments)),
        what="the CUDA code",
        tools=tools,
        folder=place,
        scratch=place,
        environment={
            "PATH": path,
            "CUDA_HOME": str(tools.toolkit.home),
            "CXX": shlex.join(tools.cxx),
        },
    )
    return place / f"binseg_{recipe.name}.so"
