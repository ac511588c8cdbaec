"""Which backend runs an operator: the fastest that this machine has, or the one asked for.

The environment variable BINSEG_ISA, or `use` around a piece of code, names one of `CPU_BACKENDS`
for tensors on the CPU, or "reference" for all devices.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from binseg.errors import unknown_name
from binseg.kernels import reference
from binseg.kernels.build import BuildError

CPU_BACKENDS = ("reference", "portable", "avx2", "avx512", "neon")
ENVIRONMENT = "BINSEG_ISA"

_used: ContextVar[str | None] = ContextVar("used", default=None)
_warned: set[str] = set()


@contextmanager
def use(name: str | None) -> Iterator[None]:
    """Run the operators inside the `with` on the backend called `name`.

    None leaves the choice to the environment, or else to what the machine has.

    Raises:
        BinsegError: an unknown name.
    """
    if name is not None and name not in CPU_BACKENDS:
        raise unknown_name("backend", name, CPU_BACKENDS)
    token = _used.set(name)
    try:
        yield
    finally:
        _used.reset(token)


def asked() -> str | None:
    """The backend that `use` or the environment names, if any.

    Raises:
        BinsegError: the environment names an unknown one.
    """
    name = _used.get() or os.environ.get(ENVIRONMENT) or None
    if name is not None and name not in CPU_BACKENDS:
        raise unknown_name(f"backend in {ENVIRONMENT}", name, CPU_BACKENDS)
    return name


def backend_of(device: torch.device) -> Any:
    """What runs operators on `device`: a module or object with the functions of `reference`.

    Where kernels cannot be built, the reference with one warning that says why.

    Raises:
        BinsegError: the backend asked for by name does not run on this machine.
    """
    name = asked()
    if name == "reference" or device.type not in ("cpu", "cuda"):
        return reference
    try:
        if device.type == "cuda":
            from binseg.kernels import cuda

            return cuda.backend(device)
        from binseg.kernels import cpu

        return cpu.backend(name)
    except BuildError as error:
        if name is not None and device.type == "cpu":
            raise
        if device.type not in _warned:
            _warned.add(device.type)
            warnings.warn(
                f"the 1-bit kernels for {device.type} are not in use, the slow reference is: "
                f"{error} (binseg doctor says more)",
                RuntimeWarning,
                stacklevel=2,
            )
        return reference
