"""`binseg doctor` finds what is broken, and says what to do."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from binseg.cli import main
from binseg.kernels import build, cache, cpu, dispatch, isa, recipes, reference, toolchain

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A machine without a GPU whose kernels are one tiny file and, in truth, the reference."""
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(dispatch.ENVIRONMENT, raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(build, "_opened", {})
    monkeypatch.setattr(dispatch, "_warned", set())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    source = tmp_path / "tiny.cpp"
    source.write_text("int nothing;\n")
    recipe = recipes.Recipe("tiny", "a test", tmp_path, {source.name: ()}, flags=("-fPIC",))
    monkeypatch.setitem(recipes.RECIPES, "cpu", lambda: recipe)
    set_backend(monkeypatch)
    return source


def set_backend(monkeypatch, **functions):
    """Kernels that are the reference but for some functions."""

    def backend(name=None):
        build.load("cpu")
        own = {**vars(reference), **functions, "NAME": name or isa.supported()[-1]}
        return SimpleNamespace(**own)

    monkeypatch.setattr(cpu, "backend", backend)


def run(capsys, *arguments):
    status = main(["doctor", *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return status, captured.out


def forget(monkeypatch):
    """What a new process knows."""
    monkeypatch.setattr(build, "_opened", {})


def test_a_sound_machine_is_described(capsys, source, tmp_path):
    status, out = run(capsys)
    assert status == 0
    assert out.endswith("everything needed works\n")
    assert f"torch         {torch.__version__}" in out
    assert f"instructions  {', '.join(isa.supported())}" in out
    assert f"in use        {isa.supported()[-1]}, the fastest here" in out
    assert str(tmp_path / "cache") in out
    for name in isa.supported():
        assert f"test {name:<8} equal to the reference" in out


def test_it_says_whether_it_compiled(capsys, source, monkeypatch):
    for arguments, expected in (
        ((), "compiled in"),
        ((), "cached"),
        (("--rebuild",), "compiled in"),
    ):
        forget(monkeypatch)
        status, out = run(capsys, *arguments)
        assert status == 0
        assert f"cpu kernels   {expected}" in out


def test_wrong_sums_are_found(capsys, source, monkeypatch):
    def off_by_one_at_the_end(*arguments):
        sums = reference.conv_sum(*arguments)
        sums[-1, -1, -1, -1, -1] += 1
        return sums

    set_backend(monkeypatch, conv_sum=off_by_one_at_the_end)
    status, out = run(capsys)
    assert status == 1
    assert "FAULT: wrong sums at ConvShape" in out
    assert f"{len(isa.supported())} fault" in out


def test_an_error_in_a_kernel_is_a_fault(capsys, source, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("bad kernel")

    set_backend(monkeypatch, conv_sum=fail)
    status, out = run(capsys)
    assert status == 1
    assert "FAULT: bad kernel; set BINSEG_ISA=reference" in out


def test_a_compiler_error_is_shown_whole(capsys, source):
    source.write_text("#error one\n#error two\n")
    status, out = run(capsys)
    assert status == 1
    assert "cpu kernels   FAULT: tiny.cpp cannot be compiled by g++" in out
    assert "    tiny.cpp:2:2: error: #error two" in out
    assert out.endswith("1 fault\n")


def test_a_missing_compiler_is_told_with_the_remedy(capsys, source, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    status, out = run(capsys)
    assert status == 1
    assert "cpu kernels   FAULT: no C++ compiler" in out
    assert "apt install g++" in out


def test_a_missing_compiler_is_no_fault_where_the_kernels_are_cached(
    capsys, source, tmp_path, monkeypatch
):
    assert run(capsys)[0] == 0
    forget(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    status, out = run(capsys)
    assert status == 0
    assert "compiler      no C++ compiler" in out


@pytest.mark.parametrize(
    ("asked", "expected", "text"),
    [
        ("portable", 0, "in use        portable, because BINSEG_ISA names it"),
        ("reference", 0, "in use        reference, because BINSEG_ISA names it"),
        ("portabel", 1, "did you mean 'portable'?"),
    ],
)
def test_the_environment_is_respected(capsys, source, monkeypatch, asked, expected, text):
    monkeypatch.setenv(dispatch.ENVIRONMENT, asked)
    status, out = run(capsys)
    assert status == expected
    assert text in out


def test_little_space_is_a_fault(capsys, source, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    status, out = run(capsys)
    assert status == 1
    assert f"FAULT: little space; free some or set {cache.CACHE}" in out


def test_a_gpu_without_kernels_is_a_fault(capsys, source, monkeypatch):
    def no_toolkit():
        raise toolchain.BuildError("no CUDA 13 toolkit")

    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    monkeypatch.setattr(toolchain, "find_toolkit", no_toolkit)
    monkeypatch.setitem(recipes.RECIPES, "cuda", no_toolkit)
    status, out = run(capsys)
    assert status == 1
    assert "CUDA          Some GPU, sm_90" in out
    assert "cuda kernels  FAULT: no CUDA 13 toolkit" in out


def test_optional_packages_are_listed(capsys, source):
    out = run(capsys)[1]
    for name in ("onnxruntime", "gradio"):
        assert f"optional      {name}" in out


@pytest.mark.slow
def test_the_real_kernels_are_sound(capsys, monkeypatch):
    """With the user's own cache: compiled here if nobody has yet."""
    monkeypatch.delenv(dispatch.ENVIRONMENT, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, out = run(capsys)
    assert status == 0, out
