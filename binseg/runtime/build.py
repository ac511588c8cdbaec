"""Builds libbinseg in a source checkout; users get it ready-made in the wheel.

    python -m binseg.runtime.build

builds it if it is missing or older than its sources, and prints where it is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binseg.errors import BinsegError

SOURCES = Path(__file__).parent / "csrc"
FOLDER = Path(__file__).parents[2] / "build" / "runtime"
"""Where a checkout's library is built."""
NAME = {"darwin": "libbinseg.dylib", "win32": "binseg.dll"}.get(sys.platform, "libbinseg.so")
_STAMP = "sources.sha256"
_SUFFIXES = {".h", ".cpp", ".txt"}


class BuildError(BinsegError):
    """The library cannot be built on this machine."""


def is_checkout() -> bool:
    """Whether this package lies in a source checkout, where it may be built."""
    return (SOURCES / "CMakeLists.txt").is_file() and (
        SOURCES.parents[2] / "pyproject.toml"
    ).is_file()


def build(folder: Path = FOLDER) -> Path:
    """The library of the sources as they are, built if it is not there yet.

    Processes that ask at the same time wait for the one that builds.

    Raises:
        BuildError: no compiler or no CMake, or the compiler failed; the message says what to do.
    """
    library, stamp, wanted = folder / NAME, folder / _STAMP, _digest()
    if _is_current(library, stamp, wanted):
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / "lock"):
        if not _is_current(library, stamp, wanted):
            _run_cmake(folder)
            stamp.write_text(wanted)
    return library


def _is_current(library: Path, stamp: Path, wanted: str) -> bool:
    return library.is_file() and stamp.is_file() and stamp.read_text() == wanted


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in _SUFFIXES:
            digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _run_cmake(folder: Path) -> None:
    cmake = _find("cmake")
    if cmake is None:
        raise BuildError("libbinseg needs CMake to be built: `pip install cmake`")
    configure = [cmake, "-S", str(SOURCES), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"]
    cache, ninja = folder / "CMakeCache.txt", _find("ninja")
    if ninja and (not cache.is_file() or "CMAKE_GENERATOR:INTERNAL=Ninja" in cache.read_text()):
        # also again: pip builds with a ninja that is gone afterwards
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    jobs = str(max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
    for command in (configure, [cmake, "--build", str(folder), "--parallel", jobs]):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            log = folder / "build.log"
            log.write_text(done.stdout)
            lines = [line for line in done.stdout.splitlines() if "rror" in line]
            first = lines[0].strip() if lines else f"exit code {done.returncode}"
            raise BuildError(
                f"libbinseg could not be built: {first} (all of it in {log}); a C++20 compiler is "
                "needed, for example `apt install g++`"
            )


def _find(program: str) -> str | None:
    """A program beside this Python (from pip), or on the path."""
    beside = Path(sys.executable).parent / program
    return str(beside) if beside.is_file() else shutil.which(program)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the system lets go when a process dies."""
    with path.open("a") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as error:
        sys.exit(str(error))
