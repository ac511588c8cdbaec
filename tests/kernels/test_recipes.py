"""Recipes fit the machine, and whatever goes into a library is in their keys."""

import dataclasses
import platform
import shutil
import subprocess

import pytest
import torch

from binseg.kernels.recipes import Recipe, cpu_recipe, cuda_recipe
from binseg.kernels.toolchain import BuildError


@pytest.fixture
def recipe(tmp_path):
    for name in ("a.cpp", "b.cpp", "a.h"):
        (tmp_path / name).write_text("int a;\n")
    return Recipe("tiny", "a test", tmp_path, {"a.cpp": (), "b.cpp": ("-DB",)}, flags=("-O0",))


@pytest.mark.parametrize("name", ["a.cpp", "a.h", "new.cuh"])
def test_every_source_is_in_the_key(recipe, name):
    before = recipe.key()
    (recipe.folder / name).write_text("int b;\n")
    assert recipe.key() != before


@pytest.mark.parametrize(
    "change",
    [
        {"units": {"a.cpp": (), "b.cpp": ("-DC",)}},
        {"units": {"a.cpp": ()}},
        {"flags": ("-O1",)},
        {"link": ("-lm",)},
        {"nvcc": ("-O3",)},
    ],
)
def test_every_flag_is_in_the_key(recipe, change):
    assert dataclasses.replace(recipe, **change).key() != recipe.key()


def test_torch_is_in_the_key(recipe, monkeypatch):
    before = recipe.key()
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert recipe.key() != before


def test_a_file_that_is_no_unit_and_no_header_changes_nothing(recipe):
    before = recipe.key()
    (recipe.folder / "neon.cpp").write_text("not for this machine\n")
    assert recipe.key() == before


def test_a_missing_source_is_named(recipe):
    (recipe.folder / "b.cpp").unlink()
    with pytest.raises(BuildError, match=r"b\.cpp: missing from this installation"):
        recipe.key()


@pytest.mark.parametrize(
    ("machine", "special"),
    [("x86_64", {"avx2.cpp", "avx512.cpp"}), ("aarch64", {"neon.cpp"}), ("riscv64", set())],
)
def test_each_kind_of_machine_has_its_units(monkeypatch, machine, special):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    units = cpu_recipe().units
    assert set(units) == {"binding.cpp", "portable.cpp"} | special
    assert not units["binding.cpp"]
    assert not units["portable.cpp"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86")
@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="needs g++ and nm")
@pytest.mark.parametrize("unit", ["avx2.cpp", "avx512.cpp"])
def test_a_unit_for_newer_processors_shares_no_function(tmp_path, unit):
    """The linker keeps one copy of an inline function, maybe the one that old processors lack."""
    recipe = cpu_recipe()
    target = tmp_path / "unit.o"
    # without optimization, which is quicker, and no such function vanishes into its callers
    flags = (*recipe.flags, "-O0", *recipe.units[unit])
    subprocess.run(["g++", *flags, "-c", unit, "-o", target], cwd=recipe.folder, check=True)
    command = ["nm", "-C", "--defined-only", target]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert listed
    assert [line for line in listed.splitlines() if line[17:18] in "VvWwu"] == []


def test_cuda_code_is_for_the_gpus_there_are(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    recipe = cuda_recipe([(9, 0), (8, 6), (9, 0)])
    architectures = [flag for flag in recipe.nvcc if "arch" in flag]
    assert architectures == [
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_90a,code=sm_90a",
    ]


def test_without_a_gpu_there_is_no_cuda_recipe(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BuildError, match="sees no CUDA device"):
        cuda_recipe()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BuildError, match="built without CUDA"):
        cuda_recipe()
