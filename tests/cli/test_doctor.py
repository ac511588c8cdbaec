"""`binseg doctor` finds what is broken, and says what to do."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from binseg.cli import main
from binseg.program.cuda import build, devices
from binseg.program.cuda.toolkit import BuildError
from binseg.program.interpreter import Interpreter
from binseg.runtime import library
from binseg.runtime.library import LibraryError


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without a GPU."""
    monkeypatch.setenv("BINSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch):
    """One GPU whose kernels are in truth the reference."""
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    monkeypatch.setattr(build, "load", lambda: "kernels.so")
    monkeypatch.setattr(devices, "TorchExecutor", lambda program, device: Interpreter(program))


def run(capsys):
    status = main(["doctor"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return status, captured.out


def test_a_sound_machine_is_described(capsys, tmp_path):
    status, out = run(capsys)
    assert status == 0, out
    assert out.endswith("everything needed works\n")
    assert f"torch         {torch.__version__}" in out
    assert str(tmp_path / "cache") in out
    for name in library.isas():
        assert f"test {name:<8} libbinseg is equal to the reference" in out


def test_wrong_scores_are_found(capsys, monkeypatch):
    real = library.Network.scores

    def off_by_little(self, *arguments, **options):
        scores = real(self, *arguments, **options)
        scores[-1, -1, -1] = np.nextafter(scores[-1, -1, -1], np.float32(np.inf))
        return scores

    monkeypatch.setattr(library.Network, "scores", off_by_little)
    status, out = run(capsys)
    assert status == 1
    assert "FAULT: wrong scores on portable; set BINSEG_ISA" in out
    assert f"{len(library.isas())} fault" in out


def test_a_missing_library_is_a_fault_with_the_remedy(capsys, monkeypatch):
    def missing():
        raise LibraryError("no compiled library: install a C++ compiler")

    monkeypatch.setattr(library, "library", missing)
    status, out = run(capsys)
    assert status == 1
    assert "libbinseg     FAULT: no compiled library: install a C++ compiler" in out


def test_little_space_is_a_fault(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    status, out = run(capsys)
    assert status == 1
    assert "FAULT: little space; free some or set BINSEG_CACHE" in out


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_described_and_its_kernels_are_tested(capsys):
    status, out = run(capsys)
    assert status == 0, out
    assert "CUDA          Some GPU, sm_90" in out
    assert "CUDA kernels  kernels.so, ready in 0 s" in out
    assert "test CUDA     the kernels are equal to the reference" in out


@pytest.mark.usefixtures("gpu")
def test_wrong_kernels_are_a_fault(capsys, monkeypatch):
    class Wrong(Interpreter):
        def scores(self, image):
            return super().scores(image) + 1

    monkeypatch.setattr(devices, "TorchExecutor", lambda program, device: Wrong(program))
    status, out = run(capsys)
    assert status == 1
    assert "FAULT: wrong scores on CUDA; use --device cpu" in out


@pytest.mark.usefixtures("gpu")
def test_a_gpu_without_kernels_is_a_fault_with_the_compilers_words(capsys, monkeypatch):
    def fail():
        raise BuildError("the CUDA kernels: a.cu(1): error: no", "one\ntwo")

    monkeypatch.setattr(build, "load", fail)
    status, out = run(capsys)
    assert status == 1
    assert "CUDA kernels  FAULT: the CUDA kernels: a.cu(1): error: no\n    one\n    two\n" in out


def test_optional_packages_are_listed(capsys):
    out = run(capsys)[1]
    for name in ("onnxruntime", "gradio"):
        assert f"optional      {name}" in out
