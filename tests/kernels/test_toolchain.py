"""Compilers and toolkits are found, and what is missing is told in one line with its remedy."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from binseg.kernels import toolchain
from binseg.kernels.toolchain import BuildError, Toolkit, Tools, find_compiler, find_toolkit


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_without_a_compiler_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"no C\+\+ compiler .* `apt install g\+\+`, or set CXX"):
        find_compiler()


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing++", "CXX names 'nothing\\+\\+', which was not found"), ("false", "does not run")],
)
def test_a_wrong_cxx_is_told(monkeypatch, name, message):
    monkeypatch.setenv("CXX", name)
    with pytest.raises(BuildError, match=message):
        find_compiler()


def test_cxx_may_have_arguments(tmp_path, monkeypatch):
    compiler = program(tmp_path / "my c++", "echo fake 1.0; echo more")
    monkeypatch.setenv("CXX", f"env SOMETHING=1 '{compiler}'")
    expected = (shutil.which("env"), "SOMETHING=1", str(compiler))
    assert find_compiler() == (expected, "fake 1.0")


def test_every_part_of_the_tools_is_in_their_key():
    toolkit = Toolkit(Path("/cuda"), "13.0", Path("/cuda/lib64/libcudart.so"))
    tools = [
        Tools(("g++",), "1.0"),
        Tools(("g++",), "1.1"),
        Tools(("g++", "-m64"), "1.0"),
        Tools(("g++",), "1.0", toolkit),
    ]
    assert len({each.key for each in tools}) == len(tools)
    assert tools[0].key == Tools(("g++",), "1.0").key


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_a_wrong_time_limit_is_told(monkeypatch, text):
    monkeypatch.setenv(toolchain.TIMEOUT, text)
    with pytest.raises(BuildError, match=f"must be a number of seconds, not '{text}'"):
        toolchain.time_limit()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo In file a; echo 'b.h:1:2: error: first'; echo 'b.h:2:2: error: second'", "first"),
        ("echo 'ld: cannot find -lc10'; echo 'collect2: ld returned 1'", "cannot find -lc10"),
        ("echo something; echo the last line", "the last line"),
        ("true", "exit status 3"),
    ],
)
def test_the_first_error_is_told(tmp_path, script, message):
    command = [str(program(tmp_path / "compiler", f"{script}; exit 3"))]
    tools = Tools(("c",), "fake 1.0")
    with pytest.raises(BuildError, match=rf"^a\.cpp cannot be compiled by fake 1\.0: .*{message}$"):
        toolchain.run(command, what="a.cpp", tools=tools, folder=tmp_path, scratch=tmp_path)


def fake_toolkit(home: Path, release: str, *, header=True, cudart=True) -> Path:
    program(home / "bin/nvcc", f"echo 'Cuda compilation tools, release {release}, V{release}.88'")
    (home / "include").mkdir()
    (home / "lib64").mkdir()
    if header:
        (home / "include/cuda_runtime.h").touch()
    if cudart:
        (home / "lib64/libcudart.so").touch()
    return home


@pytest.fixture
def only_home(tmp_path, monkeypatch):
    """Makes one folder all that there is of CUDA."""
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(toolchain, "TORCH", tmp_path / "site" / "torch")

    def set_home(home: Path):
        monkeypatch.setattr(toolchain, "_cuda_homes", lambda: iter([home]))

    return set_home


def test_a_whole_toolkit_is_taken(tmp_path, only_home):
    home = fake_toolkit(tmp_path / "cuda", "13.0")
    only_home(home)
    assert find_toolkit() == Toolkit(home, "13.0", home / "lib64/libcudart.so")


def test_a_toolkit_without_libraries_takes_the_one_beside_torch(tmp_path, only_home):
    only_home(fake_toolkit(tmp_path / "cuda", "13.0", cudart=False))
    wheel = tmp_path / "site/nvidia/cu13/lib/libcudart.so.13"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert find_toolkit().cudart == wheel


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
        find_toolkit()


def test_no_nvcc_is_told(tmp_path, only_home):
    only_home(tmp_path)
    with pytest.raises(BuildError, match="no nvcc was found"):
        find_toolkit()


def test_an_nvcc_that_is_a_script_leads_to_its_toolkit(tmp_path, monkeypatch):
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    program(tmp_path / "nvcc", "echo '#$ _HERE_=/somewhere/cuda/bin'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert next(toolchain._cuda_homes()) == Path("/somewhere/cuda")
