"""CUDA code is compiled once by the toolkit that was found, and its errors are one line."""

import fcntl
import shutil

import pytest

from binseg.program.cuda import build
from binseg.program.cuda.toolkit import BuildError, find_toolkit


def cuda_is_missing() -> bool:
    try:
        find_toolkit()
    except BuildError:
        return True
    return shutil.which("ninja") is None


pytestmark = pytest.mark.skipif(cuda_is_missing(), reason="no CUDA toolkit, torch for it, or ninja")
HOPPER = {(9, 0)}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """One small kernel, in a cache of its own."""
    monkeypatch.setenv("BINSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(build.TIMEOUT, raising=False)
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "kernel.cu").write_text(
        "__global__ void fill(int* x) { x[threadIdx.x] = 1; }\n"
        "void launch(int* x) { fill<<<1, 32>>>(x); }\n"
    )
    return folder


@pytest.mark.slow
def test_it_is_compiled_once_and_anew_when_a_source_changes(sources, capfd):
    path = build.build(HOPPER, sources=sources)
    assert path.stat().st_size > 0
    assert "compiling" in capfd.readouterr().err
    assert build.build(HOPPER, sources=sources) == path
    assert "compiling" not in capfd.readouterr().err
    assert sorted(each.name for each in path.parent.iterdir()) == ["binseg_cuda.so", "lock"]
    (sources / "kernel.cu").write_text("int x = nothing;\n")
    with pytest.raises(BuildError) as caught:
        build.build(HOPPER, sources=sources)
    assert 'error: identifier "nothing" is undefined' in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "ninja" in caught.value.output


def fake_compiler(monkeypatch):
    calls = []

    def compile_(sources, toolkit, nvcc, library):
        calls.append(nvcc)
        library.write_bytes(b"code")

    monkeypatch.setattr(build, "_compile", compile_)
    return calls


def test_each_kind_of_gpu_has_a_library_of_its_own(sources, monkeypatch):
    calls = fake_compiler(monkeypatch)
    first = build.build(HOPPER, sources=sources)
    second = build.build({(8, 0), (9, 0)}, sources=sources)
    assert first != second
    assert "-gencode=arch=compute_90a,code=sm_90a" in calls[0]
    assert "-gencode=arch=compute_80,code=sm_80" in calls[1]


def test_a_lock_that_another_process_holds_is_named(sources, monkeypatch):
    calls = fake_compiler(monkeypatch)
    path = build.build(HOPPER, sources=sources)
    path.unlink()
    monkeypatch.setenv(build.TIMEOUT, "0")
    with (path.parent / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BuildError, match="another process has held this lock for 0 s"):
            build.build(HOPPER, sources=sources)
    build.build(HOPPER, sources=sources)
    assert len(calls) == 2


def test_a_folder_that_others_can_write_is_refused(sources, monkeypatch):
    fake_compiler(monkeypatch)
    path = build.build(HOPPER, sources=sources)
    path.parent.chmod(0o777)
    with pytest.raises(BuildError, match="other users can write it"):
        build.build(HOPPER, sources=sources)


def test_a_place_that_cannot_be_written_is_named(sources, monkeypatch):
    fake_compiler(monkeypatch)
    monkeypatch.setenv("BINSEG_CACHE", "/dev/null/cache")
    with pytest.raises(BuildError, match=r"/dev/null/cache.*set BINSEG_CACHE"):
        build.build(HOPPER, sources=sources)


def test_a_limit_that_is_no_number(sources, monkeypatch):
    monkeypatch.setenv(build.TIMEOUT, "soon")
    with pytest.raises(BuildError, match="must be a number of seconds"):
        build.build(HOPPER, sources=sources)


def test_what_cannot_be_loaded_is_named(sources, monkeypatch):
    fake_compiler(monkeypatch)
    real = build.build
    monkeypatch.setattr(build, "build", lambda capabilities: real(capabilities, sources=sources))
    with pytest.raises(BuildError, match=r"binseg_cuda\.so: cannot be loaded"):
        build.load_for(HOPPER)
