"""Builds the WebAssembly modules that the package ships: `python tools/build_wasm.py`.

binseg.wasm runs in every browser of today and computes fused multiply-adds step by step; the others
have the machine do it, binseg-x86.wasm with kernels for its shuffles. `Binseg.module()` says which
of them is for a machine.

Needs Debian's clang-19, lld-19, wasi-libc, libc++-19-dev-wasm32, libc++abi-19-dev-wasm32 and
libclang-rt-19-dev-wasm32. A test builds them again where they are, and compares what they compute.
"""

import argparse
import gzip
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from binseg.export.page import MODULES, WEB
from binseg.runtime.build import SOURCES

COMPILER, LINKER = "clang++-19", "wasm-ld-19"
_TARGET = ["--target=wasm32-wasi", "-stdlib=libc++", "-fno-exceptions", "-Oz", "-flto"]
_FLAGS = [
    *("-std=c++20", "-Wall", "-Wextra", "-msimd128", "-mbulk-memory", "-fno-rtti"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"),
    # the standard library's checks would print
    *("-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_NONE", "-fno-threadsafe-statics"),
    *("-Xclang", "-fmerge-functions", "-DBINSEG_NO_PORTABLE"),
]
_RELAXED = ["-mrelaxed-simd", "-Os"]  # no steps of the multiply-add: there is room for speed
_KERNELS: dict[str, tuple[str, list[str]]] = {
    "binseg.wasm": ("wasm", []),
    "binseg-relaxed.wasm": ("wasm", _RELAXED),
    "binseg-x86.wasm": ("wasm_x86", _RELAXED),
}
"""The source of a module's kernels, and how it is compiled."""
_NOT_HERE = ("command", "pool")  # no files, no threads
_EXPORTS = ("malloc", "free", "_initialize")
_OURS = ("open", "error", "segment", "on_white")


def missing() -> str | None:
    """What this machine lacks to build the module, or None."""
    for program in (COMPILER, LINKER):
        if which(program) is None:
            return f"{program} is not installed"
    for name in ("include", "lib"):
        if not Path(f"/usr/{name}/wasm32-wasi").is_dir():
            return "wasi-libc is not installed"
    return None


def build(out: Path, module: str) -> None:
    """Compile and link one of the `MODULES` into `out`."""
    instructions, flags = _KERNELS[module]
    sources = [path for path in sorted(SOURCES.glob("*.cpp")) if path.stem not in _NOT_HERE]
    sources += [SOURCES / "kernels" / f"{name}.cpp" for name in ("layer", "select", instructions)]
    with TemporaryDirectory(prefix="binseg-wasm-") as folder:

        def compiled(source: Path) -> str:
            target = str(Path(folder) / f"{source.stem}.o")
            own = flags if source.stem == instructions else []
            _run(COMPILER, *_TARGET, *_FLAGS, *own, "-c", str(source), "-o", target)
            return target

        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compiled, sources))
        exports = [*_EXPORTS, *(f"binseg_{name}" for name in _OURS)]
        linked = [
            "-mexec-model=reactor",
            "-Wl,--strip-all",
            "-Wl,--compress-relocations",
            "-Wl,-O3",
        ]
        linked += [f"-Wl,--export={name}" for name in exports]
        _run(COMPILER, *_TARGET, *linked, *objects, "-o", str(out))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEB, help="folder")
    folder = parser.parse_args().out
    if (why := missing()) is not None:
        sys.exit(why)
    for name in MODULES:
        build(out := folder / name, name)
        size = out.stat().st_size, len(gzip.compress(out.read_bytes(), 9))
        print(f"{out}: {size[0]:,} bytes, {size[1]:,} gzipped")


if __name__ == "__main__":
    main()
