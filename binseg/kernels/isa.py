"""Which of the kernels' instruction sets this processor, under this system, can run."""

import functools
import os
import platform
from pathlib import Path

NEEDED = {
    "avx2": ("avx2", "fma"),
    "avx512": (
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512_vpopcntdq",
        "avx512_vnni",
    ),
}
"""Flags as Linux spells them; it lists one only if the system saves the registers that go with it,
which the bare CPUID instruction does not say."""

X86 = frozenset({"x86_64", "amd64"})
ARM = frozenset({"aarch64", "arm64"})


@functools.cache
def supported() -> tuple[str, ...]:
    """Names among portable, avx2, avx512 and neon, the fastest last; portable is always there."""
    return choose(platform.machine(), _flags(_cpuinfo()) or _flags_from_torch())


def choose(machine: str, flags: frozenset[str]) -> tuple[str, ...]:
    """What a processor runs.

    Args:
        machine: as `platform.machine()` has it.
        flags: what the processor is known to have; an unknown one counts as absent.
    """
    if machine.lower() in ARM:  # every 64-bit ARM processor has NEON
        return ("portable", "neon")
    if machine.lower() not in X86:
        return ("portable",)
    return ("portable", *(name for name, needed in NEEDED.items() if flags.issuperset(needed)))


def processor() -> str:
    """The processor's name, for people."""
    return _field("model name", _cpuinfo()) or platform.processor() or platform.machine()


def cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _flags(cpuinfo: str) -> frozenset[str]:
    return frozenset(_field("flags", cpuinfo).split())


def _field(name: str, cpuinfo: str) -> str:
    """The value of the first line `name : value`; empty if there is none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _flags_from_torch() -> frozenset[str]:
    """Where there is no /proc, torch knows whether AVX2 is there, but not all of AVX-512."""
    import torch

    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        return frozenset(NEEDED["avx2"])
    return frozenset()
