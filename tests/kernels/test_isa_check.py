"""Instruction sets without torch: compiled by hand, compared with a loop over taps and channels."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import binseg
from binseg.kernels import isa

SOURCES = Path(binseg.__file__).parent / "kernels" / "csrc" / "cpu"
CHECK = Path(__file__).with_name("isa_check.cpp")
FLAGS = ["-std=c++20", "-Og", "-ffp-contract=off", "-w", f"-I{SOURCES}"]
ADDRESS = "-fsanitize=address"
ARM = "aarch64-linux-gnu-g++"


def build_and_run(folder, compiler, unit, table, *flags, runner=()):
    program = folder / "check"
    subprocess.run(
        [*compiler, *FLAGS, *flags, f"-DCHECKED={table}", SOURCES / unit, CHECK, "-o", program],
        check=True,
    )
    run = subprocess.run([*runner, program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 faults" in run.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_portable_under_both_sanitizers(tmp_path):
    # the only one under both: the headers are the same, and intrinsics take a minute to compile so
    build_and_run(tmp_path, ["g++"], "portable.cpp", "kPortable", f"{ADDRESS},undefined")


@pytest.mark.skipif("avx512" not in isa.supported(), reason="this processor has no AVX-512")
def test_avx512_under_address_sanitizer(tmp_path):
    flags = ["f", "bw", "dq", "vl", "vpopcntdq", "vnni"]
    build_and_run(
        tmp_path,
        ["g++"],
        "avx512.cpp",
        "kAvx512",
        *(f"-mavx512{flag}" for flag in flags),
        ADDRESS,
    )


@pytest.mark.skipif("avx2" not in isa.supported(), reason="this processor has no AVX2")
def test_avx2_under_address_sanitizer(tmp_path):
    build_and_run(tmp_path, ["g++"], "avx2.cpp", "kAvx2", "-mavx2", "-mfma", ADDRESS)


@pytest.mark.skipif(
    platform.machine() == "aarch64" or not (shutil.which(ARM) and shutil.which("qemu-aarch64")),
    reason="needs Debian's g++-aarch64-linux-gnu and qemu-user",
)
def test_neon_under_emulation(tmp_path):
    build_and_run(tmp_path, [ARM], "neon.cpp", "kNeon", "-static", runner=["qemu-aarch64"])
