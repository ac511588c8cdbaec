"""Compiles the CUDA kernels on first use and keeps them; `load` is all that others need.

A library lies in the cache, in a folder named by a hash of what went in: sources, flags, compilers
and torch.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from binseg.machine import CACHE, cache_folder
from binseg.program.cuda.toolkit import BuildError, Toolkit, find_toolkit, output_of

TIMEOUT = "BINSEG_BUILD_TIMEOUT"
"""Seconds that the compilation, or the wait for another process's, may take."""

SOURCES = Path(__file__).parent / "csrc"

_SECONDS = 600.0
_NAME = "binseg_cuda"
# the stable C interface is that of torch 2.11, the oldest that binseg supports; USE_CUDA shows it
# torch's stream
_CXX_FLAGS = (
    "-O3",
    "-std=c++20",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
    "-DUSE_CUDA",
)
_FAULT = re.compile(r"\b(error|fatal)\s*:|undefined (reference|symbol)|cannot find", re.IGNORECASE)


@functools.cache
def load() -> Path:
    """Compile the kernels for this machine's GPUs if need be, and register them.

    Returns:
        the library.

    Raises:
        BuildError: they cannot be built or loaded; one line says why.
    """
    count = torch.cuda.device_count()
    if not count:
        raise BuildError("torch sees no CUDA device; check that nvidia-smi lists one")
    return load_for({torch.cuda.get_device_capability(index) for index in range(count)})


def load_for(capabilities: set[tuple[int, int]]) -> Path:
    """As `load`, for GPUs of these (major, minor) capabilities, which need not be here."""
    path = build(capabilities)
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be loaded ({error.__cause__ or error}); remove it, or set {CACHE} to "
            "a folder that programs may run from"
        ) from error
    return path


def build(capabilities: set[tuple[int, int]], *, sources: Path = SOURCES) -> Path:
    """The compiled library, from the cache if it is there.

    Raises:
        BuildError: no toolkit or compiler, an error in compiling, no place to write, or another
            process that compiles for too long.
    """
    toolkit = find_toolkit()
    # the 1-bit wgmma instructions exist in sm_90a only
    names = ["90a" if each == (9, 0) else "{}{}".format(*each) for each in sorted(capabilities)]
    flags = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in names]
    nvcc = ("-O3", "-std=c++20", "-fmad=false", *flags)
    folder = cache_folder() / f"cuda-{_key(sources, toolkit, nvcc)}"
    library = folder / f"{_NAME}.so"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_shared(folder)
        if not library.is_file():
            with _locked(folder):
                if not library.is_file():  # another process may have built it meanwhile
                    _compile(sources, toolkit, nvcc, library)
    except OSError as error:
        raise BuildError(
            f"{error.filename or folder}: {error.strerror or error}; set {CACHE} to a folder of "
            "your own with some space"
        ) from error
    return library


def _key(sources: Path, toolkit: Toolkit, nvcc: Sequence[str]) -> str:
    parts = [
        repr((toolkit, nvcc, _CXX_FLAGS)),
        torch.__version__,
        output_of([*_cxx(), "--version"]),
    ]
    for path in sorted(sources.iterdir()):
        parts.append(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _cxx() -> list[str]:
    command = shlex.split(os.environ.get("CXX") or "g++")
    if shutil.which(command[0]) is None:
        raise BuildError(f"no C++ compiler '{command[0]}' was found; install g++, or set CXX")
    return command


def _refuse_shared(folder: Path) -> None:
    """A library is code: it must be this user's alone."""
    status = folder.stat()
    if status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022:
        raise BuildError(f"{folder}: other users can write it; set {CACHE} to a folder of your own")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A lock that the system takes back when this process ends, however it ends."""
    limit = _time_limit()
    deadline = time.monotonic() + limit
    with (folder / "lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BuildError(
                        f"{file.name}: another process has held this lock for {limit:g} s; end it, "
                        f"then run again ({TIMEOUT} sets the limit in seconds)"
                    ) from None
                time.sleep(0.1)
        yield


def _time_limit() -> float:
    try:
        return float(os.environ.get(TIMEOUT) or _SECONDS)
    except ValueError:
        raise BuildError(f"{TIMEOUT} must be a number of seconds") from None


def _compile(sources: Path, toolkit: Toolkit, nvcc: Sequence[str], library: Path) -> None:
    """By torch.utils.cpp_extension, in a process of its own that also tries to load the result: its
    lock waits forever, and it registers operators from a file that is about to move."""
    scripts = (str(Path(sys.executable).parent), sysconfig.get_path("scripts"))
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *scripts))
    if shutil.which("ninja", path=path) is None:
        raise BuildError("ninja was not found, which builds CUDA code; run `pip install ninja`")
    print(
        "binseg: compiling the CUDA kernels (once, about a minute) …", file=sys.stderr, flush=True
    )
    place = Path(tempfile.mkdtemp(prefix=".build-", dir=library.parent))
    try:
        # a toolkit may lack the library under the name that the linker looks for
        (place / "libcudart.so").symlink_to(toolkit.cudart)
        arguments = {
            "name": _NAME,
            "sources": [str(path) for path in sorted(sources.iterdir()) if path.suffix in _UNITS],
            "extra_cflags": _CXX_FLAGS,
            "extra_cuda_cflags": nvcc,
            "extra_ldflags": ["-L."],
            "build_directory": str(place),
            "with_cuda": True,
            "is_python_module": False,
        }
        script = (
            "import json, sys; from torch.utils.cpp_extension import load;"
            "load(**json.loads(sys.argv[1]))"
        )
        try:
            done = subprocess.run(
                [sys.executable, "-c", script, json.dumps(arguments)],
                cwd=place,
                env={
                    **os.environ,
                    "LC_ALL": "C",
                    "TMPDIR": str(place),
                    "PATH": path,
                    "CUDA_HOME": str(toolkit.home),
                    "CXX": shlex.join(_cxx()),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_time_limit(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(
                f"the CUDA kernels: not compiled within {error.timeout:g} s; raise {TIMEOUT}"
            ) from error
        if done.returncode:
            raise BuildError(f"the CUDA kernels: {_first_fault(done.stdout)}", done.stdout)
        (place / library.name).replace(library)
    finally:
        shutil.rmtree(place, ignore_errors=True)


_UNITS = (".cpp", ".cu")


def _first_fault(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = next((line for line in lines if _FAULT.search(line)), None)
    return found or (lines or ["the compiler failed without a word"])[-1]
