"""The kernels are compiled once, by one process, and every fault is one line that says what to do.

Most tests compile a few lines of plain C++ through a shell script that counts its calls.
"""

import ctypes
import hashlib
import multiprocessing
import os
import platform
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from binseg.kernels import build, cache, recipes, toolchain
from binseg.kernels.build import BuildError
from binseg.kernels.recipes import Recipe

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")

SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then cat {folder}/version; exit; fi
echo "$@" >> {folder}/calls
if [ -e {folder}/slow ]; then sleep 0.3; fi
if [ -e {folder}/hangs ]; then echo $$ > {folder}/pid; exec sleep 60; fi
if [ -e {folder}/full ]; then echo "fatal error: x.o: No space left on device"; exit 1; fi
exec g++ "$@"
"""
CALLS = 3  # two units and the linker


class Compiler:
    """A compiler whose calls are counted and whose behaviour files in its folder change."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.version("fake 1.0")
        self.path = folder / "compiler"
        self.path.write_text(SCRIPT.format(folder=folder))
        self.path.chmod(0o755)

    def version(self, text):
        (self.folder / "version").write_text(f"{text}\nmore\n")

    def set(self, name, on=True):
        (self.folder / name).touch() if on else (self.folder / name).unlink()

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    compiler = Compiler(tmp_path / "compiler")
    monkeypatch.setenv("CXX", str(compiler.path))
    return compiler


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(toolchain.TIMEOUT, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(build, "_opened", {})
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
    recipe = Recipe("tiny", "a test", folder, units, flags=flags, link=link)
    monkeypatch.setitem(recipes.RECIPES, "cpu", lambda: recipe)
    return recipe


def answer(path: Path) -> int:
    return ctypes.CDLL(str(path)).answer()


def in_fork(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def test_a_second_build_is_silent_and_compiles_nothing(recipe, compiler, capfd, tmp_path):
    path = build.build(recipe)
    assert answer(path) == 42
    assert len(compiler.calls) == CALLS
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "binseg: compiling the 1-bit kernels for a test (once, about 10 s) …"
    assert said[1].startswith("binseg: … done in ")
    assert len(said) == 2
    assert build.cached(recipe) == path
    assert build.build(recipe) == path
    assert len(compiler.calls) == CALLS
    assert capfd.readouterr().err == ""
    names = {file.name for file in (tmp_path / "cache").iterdir()}
    assert names == {path.name, path.with_suffix(".sha256").name, "tiny.lock"}


def test_units_are_compiled_with_their_own_flags(recipe, compiler):
    build.build(recipe)
    (with_flag,) = [call for call in compiler.calls if "-DSOME=42" in call]
    assert " value.cpp " in with_flag


def test_another_source_or_compiler_makes_another_library(recipe, compiler):
    paths = [build.build(recipe)]
    (recipe.folder / "value.h").open("a").write("// changed\n")
    paths.append(build.build(recipe))
    compiler.version("fake 1.1")
    paths.append(build.build(recipe))
    assert len(set(paths)) == 3
    assert len(compiler.calls) == 3 * CALLS
    assert all(path.exists() for path in paths)


def test_a_build_removes_libraries_that_nobody_used_for_long(recipe, compiler):
    old = build.build(recipe)
    os.utime(old, (0, 0))
    (recipe.folder / "value.h").open("a").write("// changed\n")
    new = build.build(recipe)
    assert {path.name for path in new.parent.glob("tiny-*.so")} == {new.name}


def test_two_processes_at_once_build_once(recipe, compiler):
    compiler.set("slow")
    first, second = in_fork(build.build, recipe), in_fork(build.build, recipe)
    first.join()
    second.join()
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert len(compiler.calls) == CALLS


def test_threads_at_once_load_once(recipe, compiler, monkeypatch):
    opened = []
    real = build.open_library
    monkeypatch.setattr(build, "open_library", lambda recipe: opened.append(1) or real(recipe))
    threads = [threading.Thread(target=build.load, args=("cpu",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiler.calls) == CALLS
    assert len(opened) == 1


def test_a_killed_builder_leaves_no_lock_and_no_litter(recipe, compiler, monkeypatch, tmp_path):
    compiler.set("hangs")
    process = in_fork(build.build, recipe)
    pid = compiler.folder / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = tmp_path / "cache"
    assert list(folder.glob(".tiny-*")), "the test should have killed it in the middle"
    compiler.set("hangs", on=False)
    monkeypatch.setenv(toolchain.TIMEOUT, "20")
    try:
        # the compiler of the dead process still runs: it must not have inherited the lock
        assert answer(build.build(recipe)) == 42
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    assert not list(folder.glob(".tiny-*"))


def test_a_compiler_that_hangs_is_given_up(recipe, compiler, monkeypatch):
    compiler.set("hangs")
    monkeypatch.setenv(toolchain.TIMEOUT, "0.3")
    with pytest.raises(BuildError, match=r"not compiled within 0\.3 s"):
        build.build(recipe)


def test_without_a_compiler_only_a_cached_library_serves(recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    path = build.build(recipe)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.build(recipe) == path
    path.unlink()
    with pytest.raises(BuildError, match=r"no C\+\+ compiler"):
        build.build(recipe)


def test_the_compilers_first_error_is_told_with_its_line(recipe, compiler, tmp_path):
    (recipe.folder / "value.cpp").write_text("int fine;\n#error first fault\n#error second fault\n")
    with pytest.raises(BuildError) as caught:
        build.build(recipe)
    message = str(caught.value)
    assert "value.cpp cannot be compiled by fake 1.0: value.cpp:2:2: error: #error first" in message
    assert len(message.splitlines()) == 1
    assert "second fault" in caught.value.output
    assert build.cached(recipe) is None
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["tiny.lock"]


@pytest.mark.skipif(platform.system() != "Linux", reason="-z defs is a Linux linker's")
def test_a_function_that_no_file_has_fails_in_linking(recipe, compiler):
    (recipe.folder / "value.cpp").write_text("")
    with pytest.raises(BuildError, match=r"undefined reference to `value\(\)'"):
        build.build(recipe)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def replace_with_its_digest(path):
    """Only loading it shows that it is wrong."""
    path.write_text("no library at all")
    path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("spoil", [cut, replace_with_its_digest])
def test_a_spoilt_library_is_built_again(recipe, compiler, spoil):
    spoil(build.build(recipe))
    path = build.open_library(recipe)
    assert len(compiler.calls) == 2 * CALLS
    assert answer(path) == 42


def test_a_library_that_never_loads_is_built_once_and_remembered(recipe, compiler, monkeypatch):
    def refuse(path):
        raise OSError("no")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(torch.ops, "load_library", refuse)
            with pytest.raises(BuildError, match="cannot be loaded"):
                build.open_library(recipe)
    assert len(compiler.calls) == CALLS
    # once what hindered it is gone, it serves
    assert answer(build.open_library(recipe)) == 42
    assert len(compiler.calls) == CALLS


def test_a_cache_that_programs_may_not_run_from_is_seen_before_compiling(
    recipe, compiler, monkeypatch, tmp_path
):
    real = os.statvfs

    def statvfs(path):
        fields = list(real(path))
        fields[8] |= os.ST_NOEXEC
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(BuildError, match=f"programs may not run from it; set {cache.CACHE}"):
        build.open_library(recipe)
    assert compiler.calls == []


def test_what_failed_once_is_not_tried_again(recipe, compiler):
    (recipe.folder / "value.cpp").write_text("#error no\n")
    for _ in range(3):
        with pytest.raises(BuildError, match="#error no"):
            build.load("cpu")
    assert len(compiler.calls) == 2


def test_a_full_disk_is_one_line(recipe, compiler):
    compiler.set("full")
    with pytest.raises(BuildError, match=f"no space left for the kernels; .*{cache.CACHE}"):
        build.build(recipe)


def test_a_place_that_cannot_be_written_is_one_line(recipe, compiler, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="file/cache: Not a directory"):
        build.build(recipe)
