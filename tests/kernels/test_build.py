"""The kernels are compiled once, by one process, and every fault is one line that says what to do.

Most tests compile a few lines of plain C++ through a shell script that counts its calls.
"""

import ctypes
import dataclasses
import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

from binseg.kernels import build
from binseg.kernels.build import BuildError, Recipe

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")

SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then cat {folder}/version; exit; fi
echo "$@" >> {folder}/calls
if [ -e {folder}/slow ]; then sleep 1; fi
if [ -e {folder}/hangs ]; then echo $$ > {folder}/pid; exec sleep 60; fi
if [ -e {folder}/full ]; then echo "fatal error: x.o: No space left on device"; exit 1; fi
exec g++ "$@"
"""


class Compiler:
    """A compiler whose calls are counted and whose behaviour files in its folder change."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "version").write_text("fake 1.0\nmore\n")
        self.path = folder / "compiler"
        self.path.write_text(SCRIPT.format(folder=folder))
        self.path.chmod(0o755)

    def set(self, name, on=True):
        (self.folder / name).touch() if on else (self.folder / name).unlink()

    @property
    def calls(self) -> int:
        log = self.folder / "calls"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    compiler = Compiler(tmp_path / "compiler")
    monkeypatch.setenv("CXX", str(compiler.path))
    return compiler


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv(build.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(build.TIMEOUT, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "value.h").write_text("int value();\n")
    (folder / "answer.cpp").write_text(
        '#include "value.h"\nextern "C" __attribute__((visibility("default")))\n'
        "int answer() { return value(); }\n"
    )
    (folder / "value.cpp").write_text('#include "value.h"\nint value() { return SOME; }\n')
    units = {"answer.cpp": (), "value.cpp": ("-DSOME=42",)}
    flags = ("-O0", "-fPIC", "-fvisibility=hidden")
    link = ("-Wl,-z,defs",) if platform.system() == "Linux" else ()
    return Recipe("tiny", "a test", folder, units, flags=flags, link=link)


CALLS = 3  # two units and the linker


def answer(path: Path) -> int:
    return ctypes.CDLL(str(path)).answer()


def in_fork(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def test_a_second_build_is_silent_and_compiles_nothing(recipe, compiler, capfd):
    path = build.build(recipe)
    assert answer(path) == 42
    assert compiler.calls == CALLS
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "binseg: compiling the 1-bit kernels for a test (once, about 10 s) …"
    assert said[1].startswith("binseg: … done in ")
    assert len(said) == 2
    assert build.cached(recipe) == path
    assert build.build(recipe) == path
    assert compiler.calls == CALLS
    assert capfd.readouterr().err == ""


def test_the_cache_holds_nothing_but_the_library_its_note_and_the_lock(recipe, compiler, tmp_path):
    path = build.build(recipe)
    assert path.is_relative_to(tmp_path / "cache")
    names = {file.name for file in path.parent.iterdir()}
    assert names == {path.name, path.with_suffix(".json").name, "lock"}


def test_units_are_compiled_with_their_own_flags(recipe, compiler):
    build.build(recipe)
    lines = (compiler.folder / "calls").read_text().splitlines()
    with_flag = [line for line in lines if "-DSOME=42" in line]
    assert len(with_flag) == 1
    assert " value.cpp " in with_flag[0]


def change_source(recipe, compiler, monkeypatch):
    (recipe.folder / "answer.cpp").open("a").write("// changed\n")


def change_header(recipe, compiler, monkeypatch):
    (recipe.folder / "value.h").open("a").write("// changed\n")


def add_header(recipe, compiler, monkeypatch):
    (recipe.folder / "more.h").write_text("")


def change_flag(recipe, compiler, monkeypatch):
    return dataclasses.replace(recipe, flags=(*recipe.flags, "-g0"))


def change_flag_of_a_unit(recipe, compiler, monkeypatch):
    return dataclasses.replace(recipe, units={**recipe.units, "value.cpp": ("-DSOME=43",)})


def change_linker_flag(recipe, compiler, monkeypatch):
    return dataclasses.replace(recipe, link=(*recipe.link, "-lm"))


def change_compiler_version(recipe, compiler, monkeypatch):
    (compiler.folder / "version").write_text("fake 1.1\n")


def change_compiler(recipe, compiler, monkeypatch):
    other = compiler.folder / "other"
    shutil.copy(compiler.path, other)
    monkeypatch.setenv("CXX", str(other))


def change_torch(recipe, compiler, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.99.0")


@pytest.mark.parametrize(
    "change",
    [
        change_source,
        change_header,
        add_header,
        change_flag,
        change_flag_of_a_unit,
        change_linker_flag,
        change_compiler_version,
        change_compiler,
        change_torch,
    ],
)
def test_whatever_goes_in_makes_another_library(recipe, compiler, monkeypatch, change):
    before = build.build(recipe)
    changed = change(recipe, compiler, monkeypatch) or recipe
    after = build.build(changed)
    assert after != before
    assert compiler.calls == 2 * CALLS


def test_a_file_that_is_no_unit_and_no_header_changes_nothing(recipe, compiler):
    before = build.build(recipe)
    (recipe.folder / "neon.cpp").write_text("not for this machine\n")
    assert build.build(recipe) == before
    assert compiler.calls == CALLS


def test_two_processes_at_once_build_once(recipe, compiler):
    compiler.set("slow")
    first, second = in_fork(build.build, recipe), in_fork(build.build, recipe)
    first.join()
    second.join()
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert compiler.calls == CALLS


def test_threads_at_once_load_once(recipe, compiler, monkeypatch):
    monkeypatch.setattr(build, "_opened", {})
    monkeypatch.setitem(build.RECIPES, "cpu", lambda: recipe)
    opened = []
    real = build.open_library
    monkeypatch.setattr(build, "open_library", lambda recipe: opened.append(1) or real(recipe))
    threads = [threading.Thread(target=build.load, args=("cpu",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compiler.calls == CALLS
    assert len(opened) == 1


def test_a_killed_builder_leaves_no_lock_and_no_litter(recipe, compiler, monkeypatch):
    compiler.set("hangs")
    process = in_fork(build.build, recipe)
    pid = compiler.folder / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder,) = (recipe.folder.parent / "cache").iterdir()
    assert list(folder.glob(".build-*")), "the test should have killed it in the middle"
    compiler.set("hangs", on=False)
    monkeypatch.setenv(build.TIMEOUT, "20")
    try:
        # the compiler of the dead process still runs: it must not have inherited the lock
        assert answer(build.build(recipe)) == 42
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    assert not list(folder.glob(".build-*"))


def test_a_lock_that_stays_held_is_named_in_time(recipe, compiler, monkeypatch, capfd):
    monkeypatch.setenv(build.TIMEOUT, "0.3")
    folder = build._folders(recipe)[0]
    folder.mkdir(parents=True)
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BuildError, match=rf"{folder}/lock: .* 0\.3 s.*{build.TIMEOUT}"):
            build.build(recipe)
    assert compiler.calls == 0
    assert capfd.readouterr().err.count("waiting for another process") == 1


def test_a_wrong_time_limit_is_told(recipe, compiler, monkeypatch):
    monkeypatch.setenv(build.TIMEOUT, "soon")
    with pytest.raises(BuildError, match="must be a number of seconds, not 'soon'"):
        build.build(recipe)


def test_a_compiler_that_hangs_is_given_up(recipe, compiler, monkeypatch):
    compiler.set("hangs")
    monkeypatch.setenv(build.TIMEOUT, "0.5")
    with pytest.raises(BuildError, match=r"not compiled within 0\.5 s"):
        build.build(recipe)


def test_without_a_compiler_the_remedy_is_told(recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"no C\+\+ compiler .* `apt install g\+\+`, or set CXX"):
        build.build(recipe)


def test_without_a_compiler_a_cached_library_still_serves(recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    path = build.build(recipe)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.build(recipe) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing++", "CXX names 'nothing\\+\\+', which was not found"), ("false", "does not run")],
)
def test_a_wrong_cxx_is_told(recipe, monkeypatch, name, message):
    monkeypatch.setenv("CXX", name)
    with pytest.raises(BuildError, match=message):
        build.build(recipe)


def test_cxx_may_have_arguments(recipe, compiler, monkeypatch):
    monkeypatch.setenv("CXX", f"env SOMETHING=1 {compiler.path}")
    assert answer(build.build(recipe)) == 42


def test_the_compilers_first_error_is_told_with_its_line(recipe, compiler):
    (recipe.folder / "value.cpp").write_text("int fine;\n#error first fault\n#error second fault\n")
    with pytest.raises(BuildError) as caught:
        build.build(recipe)
    message = str(caught.value)
    assert "value.cpp cannot be compiled by fake 1.0: value.cpp:2:2: error: #error first" in message
    assert len(message.splitlines()) == 1
    assert "second fault" in caught.value.output
    assert build.cached(recipe) is None
    assert [file.name for file in build._folders(recipe)[0].iterdir()] == ["lock"]


@pytest.mark.skipif(platform.system() != "Linux", reason="-z defs is a Linux linker's")
def test_a_function_that_no_file_has_fails_in_linking(recipe, compiler):
    (recipe.folder / "value.cpp").write_text("")
    with pytest.raises(BuildError, match=r"undefined reference to `value\(\)'"):
        build.build(recipe)


def test_a_missing_source_is_named(recipe, compiler):
    (recipe.folder / "value.cpp").unlink()
    with pytest.raises(BuildError, match=r"value\.cpp: missing from this installation"):
        build.build(recipe)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def replace_by_another(path):
    path.write_text("no library at all")


def replace_with_its_digest(path):
    """Only loading it shows that it is wrong."""
    replace_by_another(path)
    note = path.with_suffix(".json")
    facts = json.loads(note.read_text())
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    note.write_text(json.dumps(facts))


def spoil_the_note(path):
    path.with_suffix(".json").write_text("[1, 2")


@pytest.mark.parametrize(
    "spoil", [cut, empty, replace_by_another, replace_with_its_digest, spoil_the_note, Path.unlink]
)
def test_a_spoilt_library_is_built_again(recipe, compiler, spoil):
    spoil(build.build(recipe))
    path = build.open_library(recipe)
    assert compiler.calls == 2 * CALLS
    assert answer(path) == 42


def test_a_library_that_never_loads_is_built_twice_and_no_more(recipe, compiler, monkeypatch):
    tries = []

    def refuse(path):
        tries.append(path)
        raise OSError("no")

    monkeypatch.setattr(torch.ops, "load_library", refuse)
    with pytest.raises(BuildError, match="cannot be loaded"):
        build.open_library(recipe)
    assert len(tries) == 2
    assert compiler.calls == 2 * CALLS


def test_what_failed_once_is_not_tried_again(recipe, compiler, monkeypatch):
    (recipe.folder / "value.cpp").write_text("#error no\n")
    monkeypatch.setattr(build, "_opened", {})
    monkeypatch.setitem(build.RECIPES, "cpu", lambda: recipe)
    for _ in range(3):
        with pytest.raises(BuildError, match="#error no"):
            build.load("cpu")
    assert compiler.calls == 2


def unwritable(tmp_path, monkeypatch):
    # permissions would not stop root
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(build.CACHE, str(tmp_path / "file" / "cache"))


def test_where_the_cache_cannot_be_written_a_temporary_folder_serves(
    recipe, compiler, tmp_path, monkeypatch, capfd
):
    unwritable(tmp_path, monkeypatch)
    path = build.build(recipe)
    fallback = tmp_path / f"binseg-{os.getuid()}"
    assert path.is_relative_to(fallback)
    assert fallback.stat().st_mode & 0o777 == 0o700
    said = capfd.readouterr().err.splitlines()
    assert len([line for line in said if "cannot be written, the kernels go to" in line]) == 1
    assert build.build(recipe) == path
    assert compiler.calls == CALLS
    assert capfd.readouterr().err == ""


def test_a_temporary_folder_that_others_can_write_to_is_not_used(
    recipe, compiler, tmp_path, monkeypatch
):
    unwritable(tmp_path, monkeypatch)
    path = build.build(recipe)
    (tmp_path / f"binseg-{os.getuid()}").chmod(0o777)
    assert path.exists()
    with pytest.raises(BuildError, match="Not a directory"):
        build.build(recipe)


def test_a_full_disk_is_one_line(recipe, compiler):
    compiler.set("full")
    with pytest.raises(BuildError, match=f"no space left for the kernels; .*{build.CACHE}"):
        build.build(recipe)


def test_a_full_disk_does_not_send_the_kernels_elsewhere(recipe, compiler, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    real = tempfile.TemporaryFile

    def full(dir):
        if dir.is_relative_to(cache):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dir))
        return real(dir=dir)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(BuildError, match=f"{cache}/.*: no space left for the kernels"):
        build.build(recipe)
    assert compiler.calls == 0


def test_drop_makes_the_next_build_compile(recipe, compiler):
    path = build.build(recipe)
    build.drop(recipe)
    assert build.cached(recipe) is None
    assert build.build(recipe) == path
    assert compiler.calls == 2 * CALLS


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(build.CACHE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.cache_folder() == tmp_path / "home/.cache/binseg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.cache_folder() == tmp_path / "xdg/binseg"
    monkeypatch.setenv(build.CACHE, str(tmp_path / "own"))
    assert build.cache_folder() == tmp_path / "own"


def test_operators_of_the_stable_interface_load_and_run(recipe, compiler):
    (recipe.folder / "operator.cpp").write_text(
        "#include <torch/csrc/stable/library.h>\n"
        "int64_t twice(int64_t x) { return 2 * x; }\n"
        'STABLE_TORCH_LIBRARY(binseg_test_build, m) { m.def("twice(int x) -> int"); }\n'
        "STABLE_TORCH_LIBRARY_IMPL(binseg_test_build, CompositeExplicitAutograd, m) "
        '{ m.impl("twice", TORCH_BOX(&twice)); }\n'
    )
    real = build.cpu_recipe()
    flags = ("-O0", *(flag for flag in real.flags if flag != "-O3"))
    units = {"operator.cpp": ()}
    build.open_library(dataclasses.replace(recipe, units=units, flags=flags, link=real.link))
    assert torch.ops.binseg_test_build.twice(21) == 42


@pytest.mark.parametrize(
    ("machine", "special"),
    [("x86_64", {"avx2.cpp", "avx512.cpp"}), ("aarch64", {"neon.cpp"}), ("riscv64", set())],
)
def test_each_kind_of_machine_has_its_units(monkeypatch, machine, special):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    units = build.cpu_recipe().units
    assert set(units) == {"binding.cpp", "portable.cpp"} | special
    assert not units["binding.cpp"]
    assert not units["portable.cpp"]


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("nm") is None, reason="x86 and nm needed"
)
@pytest.mark.parametrize("unit", ["avx2.cpp", "avx512.cpp"])
def test_a_unit_for_newer_processors_shares_no_function(tmp_path, unit):
    """The linker keeps one copy of an inline function, maybe the one that old processors lack."""
    recipe = build.cpu_recipe()
    target = tmp_path / "unit.o"
    subprocess.run(
        ["g++", *recipe.flags, *recipe.units[unit], "-c", unit, "-o", target],
        cwd=recipe.folder,
        check=True,
    )
    listed = subprocess.run(
        ["nm", "-C", "--defined-only", target], capture_output=True, text=True, check=True
    ).stdout
    assert listed
    assert [line for line in listed.splitlines() if line[17:18] in "VvWwu"] == []


def fake_toolkit(folder: Path, release: str, *, header=True, cudart=True) -> Path:
    (folder / "bin").mkdir(parents=True)
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")
    nvcc.chmod(0o755)
    (folder / "include").mkdir()
    (folder / "lib64").mkdir()
    if header:
        (folder / "include" / "cuda_runtime.h").touch()
    if cudart:
        (folder / "lib64" / "libcudart.so").touch()
    return folder


@pytest.fixture
def only_home(tmp_path, monkeypatch):
    """Makes one folder all that there is of CUDA."""
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(build, "_TORCH", tmp_path / "site" / "torch")

    def set_home(home: Path):
        monkeypatch.setattr(build, "_cuda_homes", lambda: iter([home]))

    return set_home


def test_a_whole_toolkit_is_taken(tmp_path, only_home):
    home = fake_toolkit(tmp_path / "cuda", "13.0")
    only_home(home)
    assert build.find_toolkit() == build.Toolkit(home, "13.0", home / "lib64/libcudart.so")


def test_a_toolkit_without_libraries_takes_the_one_beside_torch(tmp_path, only_home):
    home = fake_toolkit(tmp_path / "cuda", "13.0", cudart=False)
    only_home(home)
    wheel = tmp_path / "site/nvidia/cu13/lib/libcudart.so.13"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert build.find_toolkit().cudart == wheel


@pytest.mark.parametrize(
    ("release", "lacks", "message"),
    [
        ("12.4", {}, "cuda is CUDA 12.4"),
        ("13.0", {"header": False}, "has no include/cuda_runtime.h"),
        ("13.0", {"cudart": False}, "has no libcudart.so"),
    ],
)
def test_what_a_toolkit_lacks_is_told(tmp_path, only_home, release, lacks, message):
    only_home(fake_toolkit(tmp_path / "cuda", release, **lacks))
    with pytest.raises(BuildError, match=rf"no CUDA 13 toolkit \(found: .*{message}.*CUDA_HOME"):
        build.find_toolkit()


def test_no_nvcc_is_told(tmp_path, only_home):
    only_home(tmp_path)
    with pytest.raises(BuildError, match="no nvcc was found"):
        build.find_toolkit()


def test_an_nvcc_that_is_a_script_leads_to_its_toolkit(tmp_path, monkeypatch):
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho '#$ _HERE_=/somewhere/cuda/bin'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert next(build._cuda_homes()) == Path("/somewhere/cuda")


def test_cuda_code_is_for_the_gpus_there_are(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    recipe = build.cuda_recipe([(9, 0), (8, 6), (9, 0)])
    architectures = [flag for flag in recipe.nvcc if "arch" in flag]
    assert architectures == [
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_90a,code=sm_90a",
    ]


def test_without_a_gpu_there_is_no_cuda_recipe(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BuildError, match="sees no CUDA device"):
        build.cuda_recipe()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BuildError, match="built without CUDA"):
        build.cuda_recipe()


def cuda_is_missing() -> bool:
    try:
        build.find_toolkit()
    except BuildError:
        return True
    return torch.version.cuda is None or shutil.which("ninja") is None


@pytest.fixture
def cuda_recipe(recipe):
    (recipe.folder / "kernel.cu").write_text(
        "#include <cuda_runtime.h>\n__global__ void fill(int* x) { x[threadIdx.x] = 1; }\n"
        "void launch(int* x, void* stream) { fill<<<1, 32, 0, (cudaStream_t)stream>>>(x); }\n"
    )
    (recipe.folder / "binding.cpp").write_text(
        "#include <torch/csrc/stable/library.h>\n#include <torch/csrc/stable/tensor.h>\n"
        "void launch(int*, void*);\n"
        "void fill(torch::stable::Tensor t) {\n  void* stream = nullptr;\n"
        "  aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream);\n"
        "  launch((int*)t.data_ptr(), stream);\n}\n"
        'STABLE_TORCH_LIBRARY(binseg_test_cuda, m) { m.def("fill(Tensor(a!) t) -> ()"); }\n'
        "STABLE_TORCH_LIBRARY_IMPL(binseg_test_cuda, CUDA, m) "
        '{ m.impl("fill", TORCH_BOX(&fill)); }\n'
    )
    there = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    real = build.cuda_recipe(there or [(9, 0)])
    units = {"binding.cpp": (), "kernel.cu": ()}
    return dataclasses.replace(real, name="tinycuda", folder=recipe.folder, units=units)


@pytest.mark.slow
@pytest.mark.skipif(cuda_is_missing(), reason="needs a CUDA toolkit, torch with CUDA and ninja")
def test_cuda_code_builds_and_loads_even_without_a_gpu(cuda_recipe, capfd):
    path = build.open_library(cuda_recipe)
    assert "done in" in capfd.readouterr().err
    assert build.build(cuda_recipe) == path
    assert capfd.readouterr().err == ""
    if torch.cuda.is_available():
        tensor = torch.zeros(32, dtype=torch.int32, device="cuda")
        torch.ops.binseg_test_cuda.fill(tensor)
        assert tensor.sum() == 32
    else:
        assert torch.ops.binseg_test_cuda.fill


@pytest.mark.slow
@pytest.mark.skipif(cuda_is_missing(), reason="needs a CUDA toolkit, torch with CUDA and ninja")
def test_an_error_in_cuda_code_is_one_line(cuda_recipe):
    (cuda_recipe.folder / "kernel.cu").write_text("int x = nothing;\n")
    with pytest.raises(BuildError) as caught:
        build.build(cuda_recipe)
    assert 'error: identifier "nothing" is undefined' in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
