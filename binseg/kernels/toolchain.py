"""Finds the C++ compiler and the CUDA toolkit, and runs them."""

import errno
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from binseg.errors import BinsegError

TIMEOUT = "BINSEG_BUILD_TIMEOUT"
DEFAULT_TIMEOUT = 600.0

TORCH = Path(torch.__file__).parent
_FAULT = re.compile(r"\b(error|fatal)\s*:|undefined (reference|symbol)|cannot find", re.IGNORECASE)


class BuildError(BinsegError):
    """The kernels cannot be built or loaded on this machine.

    Attributes:
        output: everything the compiler said, if it was the compiler's fault.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can compile for the torch in use."""

    home: Path
    version: str
    cudart: Path


@dataclass(frozen=True)
class Tools:
    """The programs that build a library; another version of one of them means another library."""

    cxx: tuple[str, ...]
    version: str
    toolkit: Toolkit | None = None

    @property
    def key(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def find_compiler() -> tuple[tuple[str, ...], str]:
    """The C++ compiler's command, from CXX or the path, and the first line of its `--version`.

    Raises:
        BuildError: there is none, or it does not run.
    """
    named = shlex.split(os.environ.get("CXX") or "")
    for words in [named] if named else [["g++"], ["clang++"]]:
        if path := shutil.which(words[0]):
            command = (path, *words[1:])
            version = _output([*command, "--version"]).strip().partition("\n")[0].strip()
            if not version:
                raise BuildError(f"{path}: does not run; set CXX to a C++ compiler that does")
            return command, version
    if named:
        raise BuildError(f"CXX names '{named[0]}', which was not found; correct or unset it")
    raise BuildError(
        "no C++ compiler (g++ or clang++) was found; install one, for example `apt install g++`, "
        "or set CXX"
    )


def find_toolkit() -> Toolkit:
    """The first CUDA toolkit that has all that is needed, at torch's major version.

    Raises:
        BuildError: there is none; the message says what the ones found lack.
    """
    needed = str(torch.version.cuda).split(".")[0]
    found = []
    for home in _cuda_homes():
        nvcc = home / "bin" / "nvcc"
        if not nvcc.is_file():
            continue
        version = re.search(r"release ([\d.]+)", _output([str(nvcc), "--version"]))
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
        here = re.search(r"_HERE_=(.+)", _output([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull]))
        yield (Path(here[1].strip()) if here else Path(nvcc).resolve().parent).parent
    yield from TORCH.parent.glob("nvidia/cu*")
    for folder in ("/usr/local", "/opt"):
        yield from sorted(Path(folder).glob("cuda*"), reverse=True)


def _find_cudart(home: Path, major: str) -> Path | None:
    for name in ("libcudart.so", f"libcudart.so.{major}"):
        for pattern in ("lib64", "lib", "targets/*/lib", "lib/*-linux-gnu"):
            if paths := sorted(home.glob(f"{pattern}/{name}")):
                return paths[0]
    beside = (
        *TORCH.parent.glob(f"nvidia/*/lib/libcudart.so.{major}"),
        *TORCH.glob("lib/libcudart*"),
    )
    return next(iter(beside), None)


def time_limit() -> float:
    """Seconds that a compiler, or a wait for another process, may take.

    Raises:
        BuildError: the environment names no number.
    """
    text = os.environ.get(TIMEOUT) or str(DEFAULT_TIMEOUT)
    with suppress(ValueError):
        if (seconds := float(text)) >= 0:
            return seconds
    raise BuildError(f"{TIMEOUT} must be a number of seconds, not '{text}'")


def run(
    command: Sequence[str],
    *,
    what: str,
    tools: Tools,
    folder: Path,
    scratch: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a compiler.

    Args:
        command: the program and its arguments.
        what: is compiled, for the error.
        tools: what the command is made of, for the error.
        folder: to run in; a compiler names the sources that lie there briefly.
        scratch: for the compiler's own temporary files.
        environment: variables to set.

    Raises:
        BuildError: it fails, with its first error in one line, or takes longer than `time_limit`.
        OSError: the disk is full.
    """
    limit = time_limit()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "TMPDIR": str(scratch), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"{what}: not compiled within {limit:g} s; raise {TIMEOUT} to wait longer"
        ) from error
    if done.returncode == 0:
        return
    if (full := os.strerror(errno.ENOSPC)) in done.stdout:
        raise OSError(errno.ENOSPC, full, str(scratch))
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    first = next((line for line in lines if _FAULT.search(line)), None)
    first = first or (lines or [f"exit status {done.returncode}"])[-1]
    raise BuildError(f"{what} cannot be compiled by {tools.version}: {first}", done.stdout)


def _output(command: Sequence[str]) -> str:
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
