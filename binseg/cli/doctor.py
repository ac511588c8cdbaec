"""`binseg doctor`: what this machine has, whether libbinseg and the kernels work, what to do."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
import warnings
from pathlib import Path
from typing import Literal

from binseg.cli.missing import install_command
from binseg.errors import BinsegError

_OPTIONAL = {
    "onnx": "exports networks",
    "onnxruntime": "runs exported networks",
    "cityscapesScripts": "the official Cityscapes scores",
    "gradio": "the demo in a browser",
    "torch": "trains, scores and packs networks",
}
_LEAST_SPACE = 200 * 2**20
_SHOWN_LINES = 30


def doctor(rebuild: bool = False) -> int:
    """Say what this machine has, and test libbinseg and the kernels against the reference.

    Args:
        rebuild: compile the kernels again.

    Returns:
        Exit status: 0 if all that this machine needs works, 1 if not; each fault has its remedy.
    """
    report = _Report()
    _versions(report)
    _library(report)
    if importlib.util.find_spec("torch") is not None:
        _processor(report)
        _compiler(report)
        _cpu(report, rebuild)
        _cuda(report, rebuild)
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
    import torch

    from binseg.kernels import isa

    cores, threads = isa.cores(), torch.get_num_threads()
    report.line("processor", isa.processor())
    report.line("cores", f"{cores}; torch uses {threads} thread{'s' if threads > 1 else ''}")
    report.line("instructions", ", ".join(isa.supported()))


def _compiler(report: _Report) -> None:
    from binseg.kernels import cache, toolchain

    try:
        command, version = toolchain.find_compiler()
        report.line("compiler", f"{' '.join(command)}: {version}")
    except toolchain.BuildError as error:
        # a fault only if the kernels are not there already, which comes out below
        report.line("compiler", str(error))
    try:
        folder = cache.cache_folder()
        free = shutil.disk_usage(_existing(folder)).free
    except (BinsegError, OSError) as error:
        report.fault("cache", BinsegError(str(error)))
        return
    report.line("cache", f"{folder}, {free / 2**30:.1f} GiB free")
    if free < _LEAST_SPACE:
        report.fault("cache", f"little space; free some or set {cache.CACHE} to another folder")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _cpu(report: _Report, rebuild: bool) -> None:
    from binseg.kernels import dispatch, isa

    if not _built(report, "cpu", rebuild):
        return
    for name in isa.supported():
        _self_test(report, name, "cpu")
    try:
        used = _name_in_use("cpu")
        reason = (
            f"because {dispatch.ENVIRONMENT} names it"
            if os.environ.get(dispatch.ENVIRONMENT)
            else "the fastest here"
        )
        report.line("in use", f"{used}, {reason}")
    except BinsegError as error:
        report.fault("in use", f"{error}; correct or unset {dispatch.ENVIRONMENT}")


def _cuda(report: _Report, rebuild: bool) -> None:
    import torch

    from binseg.kernels import toolchain

    if torch.version.cuda is None:
        report.line("CUDA", "not used: this torch is built without it")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    try:
        toolkit = toolchain.find_toolkit()
        report.line("CUDA toolkit", f"{toolkit.version} in {toolkit.home}, {toolkit.cudart}")
    except toolchain.BuildError as error:
        report.line("CUDA toolkit", str(error))
    if not available:
        # torch warns of a driver that is too old, for example
        why = " ".join(str(warning.message) for warning in caught).split(" (Triggered")[0]
        report.line("CUDA", f"not used: torch sees no device{f' ({why})' if why else ''}")
        return
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        report.line("CUDA", f"{torch.cuda.get_device_name(index)}, sm_{major}{minor}")
    if _built(report, "cuda", rebuild):
        _self_test(report, None, "cuda")
        try:
            report.line("in use", f"{_name_in_use('cuda')} for CUDA tensors")
        except BinsegError as error:
            report.fault("in use", error)


def _built(report: _Report, name: Literal["cpu", "cuda"], rebuild: bool) -> bool:
    """Whether the kernels are compiled and loaded; compiles them if they are not."""
    from binseg.kernels import build, recipes

    title = f"{name} kernels"
    try:
        recipe = recipes.RECIPES[name]()
        before = None if rebuild else build.cached(recipe)
        began = time.monotonic()
        if rebuild:
            build.build(recipe, again=True)
        build.load(name)
        after = build.cached(recipe)
        seconds = time.monotonic() - began
        how = "cached" if after == before else f"compiled in {seconds:.0f} s"
        report.line(title, f"{how}: {after}")
    except BinsegError as error:
        report.fault(title, error)
        return False
    return True


def _self_test(report: _Report, name: str | None, device: str) -> None:
    """Compare a backend with the reference, at sizes that are no multiple of anything."""
    import torch

    from binseg.kernels import ops
    from binseg.kernels.dispatch import use
    from binseg.kernels.layout import pack_bits, pack_weight
    from binseg.kernels.shape import ConvShape

    title = f"test {name or device}"
    generator = torch.Generator().manual_seed(0)

    def coins(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator) < 0.5

    shapes = (
        ConvShape(70, 67, (3, 3), 1, (1, 2), -1),
        ConvShape(37, 130, (3, 3), 2, (1,), 0),
        ConvShape(129, 5, (1, 1), 1, (1, 1, 1), 1),
    )
    try:
        for shape in shapes:
            bits = pack_bits(coins(2, 13, 19, shape.bases, shape.in_channels))
            rows = shape.bases * shape.out_channels
            weight = pack_weight(coins(rows, shape.in_channels, *shape.kernel), shape.bases)
            with use("reference"):
                expected = ops.conv_sum(bits, weight, shape)
            with use(name):
                found = ops.conv_sum(bits.to(device), weight.to(device), shape).cpu()
            if not torch.equal(expected, found):
                report.fault(
                    title, f"wrong sums at {shape}; set BINSEG_ISA=reference and report this"
                )
                return
    except (BinsegError, RuntimeError) as error:
        report.fault(title, BinsegError(f"{error}; set BINSEG_ISA=reference to do without"))
        return
    report.line(title, "equal to the reference")


def _name_in_use(device: str) -> str:
    import torch

    from binseg.kernels.dispatch import backend_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(getattr(backend_of(torch.device(device)), "NAME", "kernels"))


def _optional(report: _Report) -> None:
    for package, use in _OPTIONAL.items():
        try:
            report.line("optional", f"{package} {importlib.metadata.version(package)} ({use})")
        except importlib.metadata.PackageNotFoundError:
            report.line("optional", f"{package} is missing ({use}): {install_command(package)}")
