"""Compiles the kernels on first use, and keeps the result.

`load` is all that an operator needs. Libraries lie in the cache folder under

    NAME-(hash of sources, flags, torch and platform)/(hash of the compiler).so

with a .json beside each that holds its digest. Only a library whose digest agrees is loaded: a
truncated one would not fail to load but crash the process. Where no compiler is left on the
machine, the library of any compiler will do.
"""

import errno
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch

from binseg.errors import BinsegError
from binseg.kernels import isa

CACHE = "BINSEG_CACHE"
TIMEOUT = "BINSEG_BUILD_TIMEOUT"
DEFAULT_TIMEOUT = 600.0

_SOURCES = Path(__file__).parent / "csrc"
_TORCH = Path(torch.__file__).parent
# the stable C interface as of torch 2.11, the oldest that binseg supports
_STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"
# without contraction a·b + c is rounded twice everywhere, so that all backends agree
_CXX_FLAGS = ("-O3", "-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", _STABLE_ABI)
# functions of torch are found in the running process; without -z defs a function that no file
# has would come up only when the library is loaded
_LINK_FLAGS = (
    ("-undefined", "dynamic_lookup")
    if sys.platform == "darwin"
    else ("-Wl,-z,defs", "-ltorch_cpu", "-lc10")
)
_AVX512 = ("f", "bw", "dq", "vl", "vpopcntdq", "vnni")
_FAULT = re.compile(r"\b(error|fatal)\s*:|undefined (reference|symbol)|cannot find", re.IGNORECASE)

_opened: dict[str, "Path | BuildError"] = {}
_opening = threading.Lock()


class BuildError(BinsegError):
    """The kernels cannot be built or loaded on this machine.

    Attributes:
        output: everything the compiler said, if it was the compiler's fault.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Recipe:
    """What one shared library is made of.

    Attributes:
        name: of the library.
        title: what the library serves, for people.
        folder: holds the sources and their headers.
        units: file to compile → flags for this file alone.
        flags: for all files that the C++ compiler sees.
        link: flags of the linker.
        nvcc: flags for .cu files. If there are any, torch's own builder of CUDA extensions does
            the work, and flags for single files are not possible.
        seconds: about how long this takes on two cores.
    """

    name: str
    title: str
    folder: Path
    units: Mapping[str, tuple[str, ...]]
    flags: tuple[str, ...] = _CXX_FLAGS
    link: tuple[str, ...] = ()
    nvcc: tuple[str, ...] = ()
    seconds: int = 10


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can compile for the torch in use."""

    home: Path
    version: str
    cudart: Path


@dataclass(frozen=True)
class Tools:
    """The programs that build a recipe; another version of one of them means another library."""

    cxx: tuple[str, ...]
    version: str
    toolkit: Toolkit | None = field(default=None)

    @property
    def key(self) -> str:
        return _hash(json.dumps(asdict(self), default=str).encode())[:16]


def cpu_recipe() -> Recipe:
    """The CPU kernels: all instruction sets of this kind of machine, chosen from at run time."""
    machine = platform.machine().lower()
    units: dict[str, tuple[str, ...]] = {"binding.cpp": (), "portable.cpp": ()}
    if machine in isa.X86:
        units["avx2.cpp"] = ("-mavx2", "-mfma")
        units["avx512.cpp"] = tuple(f"-mavx512{part}" for part in _AVX512)
    elif machine in isa.ARM:
        units["neon.cpp"] = ()
    return Recipe("cpu", "the CPU", _SOURCES / "cpu", units, link=_LINK_FLAGS, seconds=15)


def cuda_recipe(capabilities: Sequence[tuple[int, int]] | None = None) -> Recipe:
    """The CUDA kernels.

    Args:
        capabilities: (major, minor) of the GPUs to compile for; None for those of this machine.

    Raises:
        BuildError: torch has no CUDA or sees no GPU.
    """
    if torch.version.cuda is None:
        raise BuildError("this torch is built without CUDA; install one that has it")
    if capabilities is None:
        count = torch.cuda.device_count()
        capabilities = [torch.cuda.get_device_capability(index) for index in range(count)]
    if not capabilities:
        raise BuildError("torch sees no CUDA device; check that nvidia-smi lists one")
    folder = _SOURCES / "cuda"
    units = ["binding.cpp", *sorted(path.name for path in folder.glob("*.cu"))]
    numbers = sorted({f"{major}{minor}" for major, minor in capabilities}, key=int)
    # the 1-bit wgmma instructions exist in sm_90a only
    names = ["90a" if number == "90" else number for number in numbers]
    architectures = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in names]
    return Recipe(
        "cuda",
        "CUDA",
        folder,
        dict.fromkeys(units, ()),
        # USE_CUDA shows torch's stream to the stable interface
        flags=(
            "-O3",
            "-std=c++20",
            "-fvisibility=hidden",
            "-ffp-contract=off",
            _STABLE_ABI,
            "-DUSE_CUDA",
        ),
        nvcc=("-O3", "-std=c++20", "-fmad=false", *architectures),
        seconds=60,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"cpu": cpu_recipe, "cuda": cuda_recipe}


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
    path = build(recipe)
    try:
        torch.ops.load_library(str(path))
    except OSError:
        path = build(recipe, again=True)
        try:
            torch.ops.load_library(str(path))
        except OSError as error:
            raise BuildError(
                f"{path}: cannot be loaded ({error.__cause__ or error}); set {CACHE} to a folder "
                "that programs may run from"
            ) from error
    return path


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
        path = None if again else cached(recipe)
        if path is None:
            tools = find_tools(recipe)
            folder = _writable_folder(recipe)
            with _locked(folder / "lock"):
                # another process may have built it while this one waited
                path = None if again else _first_whole([folder], tools)
                path = path or _compile(recipe, tools, folder)
    except OSError as error:
        raise _explained(error) from error
    return path


def cached(recipe: Recipe) -> Path | None:
    """The library that `build` returns without compiling; None if there is none.

    Raises:
        BuildError: a source is missing, or there is no place for a cache.
    """
    try:
        tools = find_tools(recipe)
    except BuildError:
        tools = None
    return _first_whole(_folders(recipe), tools)


def drop(recipe: Recipe) -> None:
    """Remove the libraries of a recipe from the cache, by whatever compiler.

    Raises:
        BuildError: they cannot be removed, or another process is building them.
    """
    try:
        for folder in _folders(recipe):
            if folder.is_dir():
                with _locked(folder / "lock"):
                    # the lock file stays: a second process may be waiting for this very file
                    for path in (*folder.glob("*.json"), *folder.glob("*.so")):
                        path.unlink()
    except OSError as error:
        raise _explained(error) from error


def cache_folder() -> Path:
    """$BINSEG_CACHE, or $XDG_CACHE_HOME/binseg, or ~/.cache/binseg.

    Raises:
        BuildError: none of them is set, and the user has no home.
    """
    if named := os.environ.get(CACHE):
        return Path(named).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "binseg"
    except RuntimeError as error:
        raise BuildError(f"this user has no home to keep the kernels in; set {CACHE}") from error


def _fallback_folder(*, make: bool = False) -> Path | None:
    """For a cache that cannot be written: a folder that is this user's alone, if there is one."""
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"binseg-{os.getuid()}"
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        # anybody could have put a folder or a link, and libraries to load, in this place
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            return None if status.st_mode & 0o022 else folder
    return None


def _folders(recipe: Recipe) -> list[Path]:
    """Where libraries of a recipe can be found, best first."""
    if sys.platform == "win32":
        raise BuildError("the kernels are built on Linux and macOS; on Windows use WSL")
    name = f"{recipe.name}-{_recipe_key(recipe)}"
    fallback = _fallback_folder()
    return [cache_folder() / name, *([fallback / name] if fallback else [])]


def _recipe_key(recipe: Recipe) -> str:
    glibc = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else platform.release()
    parts = [
        json.dumps([recipe.name, dict(recipe.units), recipe.flags, recipe.link, recipe.nvcc]),
        f"{torch.__version__} {sys.platform} {platform.machine()} {glibc}",
    ]
    headers = {
        path.relative_to(recipe.folder).as_posix()
        for path in recipe.folder.rglob("*")
        if path.suffix in (".h", ".hpp", ".cuh", ".inc")
    }
    for name in (*recipe.units, *sorted(headers)):
        try:
            parts.append(f"{name} {_hash((recipe.folder / name).read_bytes())}")
        except FileNotFoundError as error:
            raise BuildError(
                f"{recipe.folder / name}: missing from this installation; install binseg again"
            ) from error
    return _hash("\n".join(parts).encode())[:16]


def _first_whole(folders: Sequence[Path], tools: Tools | None) -> Path | None:
    for folder in folders:
        notes = [folder / f"{tools.key}.json"] if tools else sorted(folder.glob("*.json"))
        for note in notes:
            library = note.with_suffix(".so")
            with suppress(OSError, ValueError, KeyError, TypeError):
                if json.loads(note.read_text())["sha256"] == _hash(library.read_bytes()):
                    return library
    return None


def _writable_folder(recipe: Recipe) -> Path:
    """Where a library of a recipe can be put."""
    folder = _folders(recipe)[0]
    try:
        _try_to_write(folder)
    except OSError as error:
        fallback = _fallback_folder(make=True)
        if fallback is None or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(f"{error.filename or folder}: cannot be written, the kernels go to {fallback}")
        folder = fallback / folder.name
        _try_to_write(folder)
    return folder


def _try_to_write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder), (folder / "lock").open("a"):
        pass


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when this process ends, however it ends."""
    import fcntl

    limit = _timeout()
    deadline = time.monotonic() + limit
    with path.open("a") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if time.monotonic() >= deadline:
                raise BuildError(
                    f"{path}: another process has held this lock for {limit:g} s; wait for it or "
                    f"end it, then run again ({TIMEOUT} sets the limit in seconds)"
                )
            if not waiting:
                waiting = True
                _say("waiting for another process that compiles the 1-bit kernels …")
            time.sleep(0.1)
        yield


def _timeout() -> float:
    text = os.environ.get(TIMEOUT) or str(DEFAULT_TIMEOUT)
    with suppress(ValueError):
        if (seconds := float(text)) >= 0:
            return seconds
    raise BuildError(f"{TIMEOUT} must be a number of seconds, not '{text}'")


def _compile(recipe: Recipe, tools: Tools, folder: Path) -> Path:
    """Build under the lock; the library appears in `folder` whole or not at all."""
    for left in folder.glob(".build-*"):  # by a builder that was killed
        shutil.rmtree(left, ignore_errors=True)
    began = time.monotonic()
    _say(f"compiling the 1-bit kernels for {recipe.title} (once, about {recipe.seconds} s) …")
    place = Path(tempfile.mkdtemp(prefix=".build-", dir=folder))
    try:
        made = (_with_nvcc if recipe.nvcc else _with_cxx)(recipe, tools, place)
        seconds = time.monotonic() - began
        note = place / "note.json"
        facts = {"sha256": _hash(made.read_bytes()), "compiler": tools.version, "seconds": seconds}
        note.write_text(json.dumps(facts))
        library = folder / f"{tools.key}.so"
        # the note goes last: whoever reads in between finds that the two do not agree
        for file, target in ((made, library), (note, library.with_suffix(".json"))):
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.replace(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    _say(f"… done in {seconds:.0f} s")
    return library


def _with_cxx(recipe: Recipe, tools: Tools, place: Path) -> Path:
    include = [f"-I{_TORCH / 'include'}", f"-I{_TORCH / 'include/torch/csrc/api/include'}"]

    def compile_unit(unit: str) -> str:
        target = f"{place / unit}.o"
        flags = (*recipe.flags, *include, *recipe.units[unit])
        _run((*tools.cxx, *flags, "-c", unit, "-o", target), unit, tools, recipe.folder, place)
        return target

    with ThreadPoolExecutor(isa.cores()) as pool:
        objects = list(pool.map(compile_unit, recipe.units))
    library = place / f"binseg_{recipe.name}.so"
    command = (
        *tools.cxx,
        "-shared",
        *objects,
        "-o",
        str(library),
        f"-L{_TORCH / 'lib'}",
        *recipe.link,
    )
    _run(command, library.name, tools, recipe.folder, place)
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
    command = (sys.executable, "-c", script, json.dumps(arguments))
    more = {"PATH": path, "CUDA_HOME": str(tools.toolkit.home), "CXX": shlex.join(tools.cxx)}
    _run(command, "the CUDA code", tools, place, place, more)
    return place / f"binseg_{recipe.name}.so"


def _run(
    command: Sequence[str],
    what: str,
    tools: Tools,
    folder: Path,
    place: Path,
    more: Mapping[str, str] | None = None,
) -> None:
    """Run a compiler in `folder`, so that it names its sources briefly, and in English."""
    limit = _timeout()
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(place), **(more or {})}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
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
    if os.strerror(errno.ENOSPC) in done.stdout:
        raise BuildError(_no_space(place.parent), done.stdout)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    first = next((line for line in lines if _FAULT.search(line)), None)
    first = first or (lines or [f"exit status {done.returncode}"])[-1]
    raise BuildError(f"{what} cannot be compiled by {tools.version}: {first}", done.stdout)


def find_tools(recipe: Recipe) -> Tools:
    """The compilers for a recipe.

    Raises:
        BuildError: there are none.
    """
    cxx, version = find_compiler()
    return Tools(cxx, version, find_toolkit() if recipe.nvcc else None)


def find_compiler() -> tuple[tuple[str, ...], str]:
    """The C++ compiler's command, from CXX or the path, and the first line of its `--version`.

    Raises:
        BuildError: there is none, or it does not run.
    """
    named = shlex.split(os.environ.get("CXX") or "")
    for words in [named] if named else [["g++"], ["clang++"]]:
        if path := shutil.which(words[0]):
            command = (path, *words[1:])
            version = _first_line([*command, "--version"])
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


def _first_line(command: Sequence[str]) -> str:
    return _output(command).strip().partition("\n")[0].strip()


def _output(command: Sequence[str]) -> str:
    """What a program prints, empty if it fails."""
    environment = {**os.environ, "LC_ALL": "C"}
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        ).stdout
    return ""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _explained(error: OSError) -> BuildError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(_no_space(error.filename or cache_folder()))
    return BuildError(f"{error.filename or 'the kernels'}: {error.strerror or error}")


def _no_space(path: str | Path) -> str:
    return f"{path}: no space left for the kernels; free some or set {CACHE} to another folder"


def _say(text: str) -> None:
    print(f"binseg: {text}", file=sys.stderr, flush=True)
