"""CUDA code is compiled by the toolkit that was found, and its errors are one line."""

import dataclasses
import shutil

import pytest
import torch

from binseg.kernels import build, cache, toolchain
from binseg.kernels.build import BuildError
from binseg.kernels.recipes import cuda_recipe


def cuda_is_missing() -> bool:
    try:
        toolchain.find_toolkit()
    except BuildError:
        return True
    return torch.version.cuda is None or shutil.which("ninja") is None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(cuda_is_missing(), reason="needs a CUDA toolkit, torch with CUDA and ninja"),
]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(toolchain.TIMEOUT, raising=False)
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "kernel.cu").write_text(
        "#include <cuda_runtime.h>\n__global__ void fill(int* x) { x[threadIdx.x] = 1; }\n"
        "void launch(int* x, void* stream) { fill<<<1, 32, 0, (cudaStream_t)stream>>>(x); }\n"
    )
    (folder / "binding.cpp").write_text(
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
    real = cuda_recipe(there or [(9, 0)])
    units = {"binding.cpp": (), "kernel.cu": ()}
    return dataclasses.replace(real, name="tinycuda", folder=folder, units=units)


def test_cuda_code_builds_and_loads_even_without_a_gpu(recipe, capfd):
    path = build.open_library(recipe)
    assert "done in" in capfd.readouterr().err
    assert build.build(recipe) == path
    assert capfd.readouterr().err == ""
    if torch.cuda.is_available():
        tensor = torch.zeros(32, dtype=torch.int32, device="cuda")
        torch.ops.binseg_test_cuda.fill(tensor)
        assert tensor.sum() == 32
    else:
        assert torch.ops.binseg_test_cuda.fill


def test_an_error_in_cuda_code_is_one_line(recipe):
    (recipe.folder / "kernel.cu").write_text("int x = nothing;\n")
    with pytest.raises(BuildError) as caught:
        build.build(dataclasses.replace(recipe, units={"kernel.cu": ()}))
    assert 'error: identifier "nothing" is undefined' in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
