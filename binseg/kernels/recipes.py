"""What the shared libraries are made of: sources and flags for this machine."""

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from binseg.kernels import isa
from binseg.kernels.toolchain import BuildError

_SOURCES = Path(__file__).parent / "csrc"
# without contraction a·b + c is rounded twice everywhere, so that all backends agree; the stable C
# interface is that of torch 2.11, the oldest that binseg supports
_CXX_FLAGS = (
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
)
# functions of torch are found in the running process; without -z defs a function that no file
# has would come up only when the library is loaded
_LINK_FLAGS = (
    ("-undefined", "dynamic_lookup")
    if sys.platform == "darwin"
    else ("-Wl,-z,defs", "-ltorch_cpu", "-lc10")
)
_AVX512 = ("f", "bw", "dq", "vl", "vpopcntdq", "vnni")


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

    def key(self) -> str:
        """A hash of all that goes into the library but the compiler.

        Raises:
            BuildError: a source is missing.
        """
        glibc = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else platform.release()
        parts = [
            repr((dict(self.units), self.flags, self.link, self.nvcc)),
            f"{torch.__version__} {sys.platform} {platform.machine()} {glibc}",
        ]
        headers = {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.suffix in (".h", ".hpp", ".cuh", ".inc")
        }
        for name in (*self.units, *sorted(headers)):
            try:
                source = (self.folder / name).read_bytes()
            except FileNotFoundError as error:
                raise BuildError(
                    f"{self.folder / name}: missing from this installation; install binseg again"
                ) from error
            parts.append(f"{name} {hashlib.sha256(source).hexdigest()}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


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
        flags=(*_CXX_FLAGS, "-DUSE_CUDA"),
        nvcc=("-O3", "-std=c++20", "-fmad=false", *architectures),
        seconds=60,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"cpu": cpu_recipe, "cuda": cuda_recipe}
