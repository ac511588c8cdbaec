"""`binseg doctor`: what this machine has, whether packed networks run as they must, what to do."""

import importlib.metadata
import importlib.util
import platform
import shutil
import time
import warnings
from pathlib import Path

from binseg.cli.missing import install_command
from binseg.errors import BinsegError

_OPTIONAL = {
    "onnx": "exports networks",
    "onnxruntime": "runs exported networks",
    "cityscapesScripts": "the official Cityscapes scores",
    "gradio": "the demo in a browser",
    "torch": "trains, scores and packs networks",
}
_MIN_SPACE = 200 * 2**20
_SHOWN_LINES = 30


def doctor() -> int:
    """Say what this machine has, and test libbinseg and the CUDA kernels against the reference.

    Returns:
        Exit status: 0 if all that this machine needs works, 1 if not; each fault has its remedy.
    """
    report = _Report()
    _versions(report)
    _library(report)
    _processor(report)
    _cache(report)
    if importlib.util.find_spec("torch") is not None:
        _cuda(report)
    _optional(report)
    print()
    count = report.faults
    print("everything needed works" if not count else f"{count} fault{'s' if count > 1 else ''}")
    return 1 if count else 0


class _Report:
    """Prints `name  text` lines as they become known and counts the faults."""

    def __init__(self) -> None:
        self.faults = 0

    def line(self, name: str, text: str) -> None:
        print(f"{name:<13} {text}", flush=True)

    def fault(self, name: str, error: BinsegError | str) -> None:
        self.faults += 1
        self.line(name, f"FAULT: {error}")
        said = str(getattr(error, "output", "")).splitlines()
        for text in said[:_SHOWN_LINES]:
            print(f"    {text}")
        if len(said) > _SHOWN_LINES:
            print(f"    … and {len(said) - _SHOWN_LINES} more lines")


def _versions(report: _Report) -> None:
    report.line("binseg", importlib.metadata.version("binseg"))
    report.line(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    if importlib.util.find_spec("torch") is not None:
        import torch

        report.line("torch", torch.__version__)


def _library(report: _Report) -> None:
    """What runs packed networks on the CPU."""
    from binseg.inference.self_test import check_library
    from binseg.runtime.library import LibraryError, isas, library

    try:
        report.line("libbinseg", f"{library()._name}")
    except LibraryError as error:
        report.fault("libbinseg", f"{error}; until then packed networks run, very slowly")
        return
    for isa in isas():
        try:
            check_library(isa)
        except (BinsegError, ValueError) as error:
            report.fault(f"test {isa}", str(error))
        else:
            report.line(f"test {isa}", "libbinseg is equal to the reference")


def _processor(report: _Report) -> None:
    from binseg import machine

    threads = ""
    if importlib.util.find_spec("torch") is not None:
        import torch

        count = torch.get_num_threads()
        threads = f"; torch uses {count} thread{'s' if count > 1 else ''}"
    report.line("processor", machine.processor())
    report.line("cores", f"{machine.cores()}{threads}")


def _cache(report: _Report) -> None:
    """Where the CUDA kernels are kept."""
    from binseg.machine import CACHE, cache_folder

    try:
        folder = cache_folder()
        free = shutil.disk_usage(_existing(folder)).free
    except (BinsegError, OSError) as error:
        report.fault("cache", BinsegError(str(error)))
        return
    report.line("cache", f"{folder}, {free / 2**30:.1f} GiB free")
    if free < _MIN_SPACE:
        report.fault("cache", f"little space; free some or set {CACHE} to another folder")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _cuda(report: _Report) -> None:
    import torch

    if torch.version.cuda is None:
        report.line("CUDA", "not used: this torch is built without it")
        return
    from binseg.program.cuda.toolkit import find_toolkit

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    try:
        toolkit = find_toolkit()
        report.line("CUDA toolkit", f"{toolkit.version} in {toolkit.home}, {toolkit.cudart}")
    except BinsegError as error:
        report.line("CUDA toolkit", str(error))
    if not available:
        # torch warns of a driver that is too old, for example
        why = " ".join(str(warning.message) for warning in caught).split(" (Triggered")[0]
        report.line("CUDA", f"not used: torch sees no device{f' ({why})' if why else ''}")
        return
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        report.line("CUDA", f"{torch.cuda.get_device_name(index)}, sm_{major}{minor}")
    _cuda_kernels(report)


def _cuda_kernels(report: _Report) -> None:
    """Whether they can be compiled, and give the reference's scores."""
    from binseg.inference.self_test import check_executor
    from binseg.program.cuda.build import load
    from binseg.program.cuda.devices import TorchExecutor

    try:
        began = time.monotonic()
        report.line("CUDA kernels", f"{load()}, ready in {time.monotonic() - began:.0f} s")
    except BinsegError as error:
        report.fault("CUDA kernels", error)
        return
    try:
        check_executor(lambda program: TorchExecutor(program, "cuda"), "CUDA", "use --device cpu")
    except (BinsegError, RuntimeError, ValueError) as error:
        report.fault("test CUDA", str(error))
    else:
        report.line("test CUDA", "the kernels are equal to the reference")


def _optional(report: _Report) -> None:
    for package, use in _OPTIONAL.items():
        try:
            report.line("optional", f"{package} {importlib.metadata.version(package)} ({use})")
        except importlib.metadata.PackageNotFoundError:
            report.line("optional", f"{package} is missing ({use}): {install_command(package)}")
