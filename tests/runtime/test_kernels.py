"""The convolution kernels of every instruction set that can run here, natively, under qemu-user or
in node, against plain loops at random odd shapes (kernels_test.cpp)."""

import shutil
import subprocess
from pathlib import Path

import pytest
from node_flags import node_flags

_SOURCES = Path(__file__).parents[2] / "binseg" / "runtime" / "csrc"
_TEST = Path(__file__).parent / "kernels_test.cpp"
# without contraction a·b + c is rounded twice everywhere, so that all instruction sets agree
_FLAGS = ("-std=c++20", "-O1", "-ffp-contract=off", "-Wno-psabi")
_AVX512 = (*(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vpopcntdq", "vnni")), "-mfma")
_ISA_FLAGS = {
    "amx": (*_AVX512, "-mamx-tile", "-mamx-int8"),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": _AVX512,
    "wasm_x86": ("-mrelaxed-simd",),
}
_CASES, _SEED = "40", "1"
_NO_SUCH_ISA = 77
_RUN_WASM = """
import { WASI } from 'node:wasi';
import { readFileSync } from 'node:fs';
const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: [file, ...args], returnOnExit: true });
const module = await WebAssembly.compile(readFileSync(file));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
"""


def _build(compiler: list[str], isas: list[str], out: Path) -> Path:
    """Compile each file that is not yet with flags of its own, as the library does, and link the
    test program."""
    sources = [_SOURCES / "kernels" / f"{name}.cpp" for name in (*isas, "layer", "select")]
    objects = []
    for source in (*sources, _TEST):
        objects.append(out.parent / f"{source.stem}.o")
        if not objects[-1].exists():
            flags = (*_FLAGS, *_ISA_FLAGS.get(source.stem, ()), f"-I{_SOURCES}")
            _run([*compiler, *flags, "-c", str(source), "-o", str(objects[-1])])
    _run([*compiler, *map(str, objects), "-o", str(out)])
    return out


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, _NO_SUCH_ISA), done.stdout + done.stderr
    return done


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    _need("g++")
    machine = _run(["g++", "-dumpmachine"]).stdout
    if machine.startswith("x86_64"):
        isas = ["amx", "avx512", "avx2", "portable"]
    elif machine.startswith("aarch64"):
        isas = ["neon", "portable"]
    else:
        isas = ["portable"]
    return _build(["g++"], isas, tmp_path_factory.mktemp("native") / "kernels_test"), isas


@pytest.mark.parametrize("isa", ["amx", "avx512", "avx2", "neon", "portable"])
def test_native(native: tuple[Path, list[str]], isa: str) -> None:
    program, isas = native
    if isa not in isas:
        pytest.skip("for another processor")
    done = _run([str(program), isa, _CASES, _SEED])
    if done.returncode == _NO_SUCH_ISA:
        pytest.skip(done.stdout)
    assert f"{isa}: {_CASES} cases agree" in done.stdout


def test_aarch64_emulated(tmp_path: Path) -> None:
    _need("aarch64-linux-gnu-g++", "qemu-aarch64")
    compiler = ["aarch64-linux-gnu-g++", "-static"]
    program = _build(compiler, ["neon", "portable"], tmp_path / "kernels_test")
    assert "cases agree" in _run(["qemu-aarch64", str(program), "neon", "15", _SEED]).stdout


@pytest.fixture(scope="module")
def for_the_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both programs for WebAssembly are compiled, which share most of their objects."""
    return tmp_path_factory.mktemp("web")


@pytest.mark.parametrize("kernels", ["wasm", "wasm_x86"])
def test_web_assembly(for_the_web: Path, kernels: str) -> None:
    _need("clang++-19", "wasm-ld-19", "node")
    if not Path("/usr/lib/wasm32-wasi").is_dir() or not Path("/usr/include/wasm32-wasi").is_dir():
        pytest.skip("wasi-libc is not installed")
    compiler = ["clang++-19", "--target=wasm32-wasi", "-stdlib=libc++", "-msimd128"]
    compiler.append("-fno-exceptions")
    program = _build(compiler, [kernels, "portable"], for_the_web / f"{kernels}.wasm")
    (for_the_web / "run.mjs").write_text(_RUN_WASM)
    node = ["node", *node_flags(), str(for_the_web / "run.mjs")]
    done = _run([*node, str(program), "wasm", _CASES, _SEED])
    assert "cases agree" in done.stdout


def test_a_wrong_kernel_fails(native: tuple[Path, list[str]], tmp_path: Path) -> None:
    """The test program can fail: with the start of the portable counts off by one it does."""
    source = (_SOURCES / "kernels" / "portable.cpp").read_text()
    assert "set(a.start)" in source
    broken = tmp_path / "portable.cpp"
    broken.write_text(source.replace("set(a.start)", "set(a.start + 1)"))
    include = f"-I{_SOURCES / 'kernels'}"
    _run(["g++", *_FLAGS, include, "-c", str(broken), "-o", str(tmp_path / "portable.o")])
    objects = [str(p) for p in native[0].parent.glob("*.o") if p.name != "portable.o"]
    _run(["g++", *objects, str(tmp_path / "portable.o"), "-o", str(tmp_path / "kernels_test")])
    done = subprocess.run(
        [str(tmp_path / "kernels_test"), "portable", "3", _SEED],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "not" in done.stdout
