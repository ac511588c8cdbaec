"""Trained networks as files: latent real weights and BatchNorm statistics, kind "float".

The header holds the arguments that build the network again, the label table, the preprocessing and
the training figures.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.model_file import ModelFile, read_model_file, write_model_file
from binseg.nn.backbones import list_backbones
from binseg.nn.segmenter import Segmenter, create_model
from binseg.nn.smp_grids import OWN_ENCODER


class MisfitError(BinsegError):
    """Tensors that do not fit the network; the message names the file."""


def save_float(
    path: str | Path,
    model: Segmenter,
    labels: LabelTable,
    preprocessing: Preprocessing,
    *,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a trained network, whole or not at all.

    Args:
        path: ends in .safetensors.
        model: its `architecture` and all its tensors are written.
        labels: must have as many classes as the model.
        preprocessing: how images become the model's input.
        training: figures and settings of the run, JSON values.
        dtype: of the tensors with two dimensions or more; bfloat16 halves the file and keeps every
            sign.

    Raises:
        BinsegError: the file cannot be written.
    """
    header = {
        "kind": "float",
        "architecture": model.architecture,
        "labels": labels.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "training": training or {},
    }
    write_tensors(path, header, model.state_dict(), dtype=dtype)


def stored_dtype(path: Path) -> torch.dtype:
    """In what a float file holds the tensors with two dimensions or more.

    Raises:
        BinsegError: the file cannot be read.
    """
    return torch.bfloat16 if read_model_file(path).bfloat16 else torch.float32


@contextmanager
def damaged_header(path: Path) -> Iterator[None]:
    """Name the file in what is found wrong with its header.

    Raises:
        BinsegError: in place of what is raised inside.
    """
    try:
        yield
    except BinsegError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise BinsegError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error


def create_from_file(file: ModelFile, path: Path) -> Segmenter:
    """The trained network that a file holds.

    Raises:
        BinsegError: an unknown network, or weights that do not fit it (naming the tensors that
            differ).
        KeyError, TypeError, ValueError, OverflowError: the header is damaged.
    """
    architecture = dict(file.header["architecture"])
    encoder = str(architecture.get("encoder", ""))
    if architecture["name"] in list_backbones() or encoder.startswith(OWN_ENCODER):
        # before a tampered header's width takes the machine's memory
        with outlines():
            outline = create_model(**architecture)
        _refuse_misfits(_shapes(file), outline, source=path)
    model = create_model(**architecture)
    load_tensors(model, read_tensors(file), source=path)
    return model


def load_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], *, source: Path, assign: bool = False
) -> None:
    """Copy `tensors` into `model`, all of them or none.

    Args:
        model: whose dtypes the tensors take.
        tensors: as many as its state dict has.
        source: file that a message names.
        assign: give `model` the tensors themselves, which one from `outlines` needs.

    Raises:
        MisfitError: names or shapes differ; the message names the first few.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _refuse_misfits(shapes, model, source=source)
    model.load_state_dict(dict(tensors), assign=assign)


def write_tensors(
    path: str | Path,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write tensors, those with two dimensions or more in `dtype`; see `write_model_file`."""
    arrays, bfloat16 = {}, set()
    for name, tensor in tensors.items():
        if tensor.ndim >= 2 and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        tensor = tensor.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:
            bfloat16.add(name)
            arrays[name] = tensor.view(torch.int16).numpy().view(np.uint16)
        else:
            arrays[name] = tensor.numpy()
    write_model_file(path, header, arrays, frozenset(bfloat16))


def read_tensors(file: ModelFile) -> dict[str, Tensor]:
    """The tensors of a file."""
    found = {}
    for name, array in file.tensors.items():
        if name in file.bfloat16:
            found[name] = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        else:
            found[name] = torch.from_numpy(array.copy())
    return found


class _WithoutValues(TorchFunctionMode):
    """Leaves normally distributed tensors as they are: their values do not matter, and on the meta
    device torch would load its compiler for them, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func is torch.Tensor.normal_ else func(*args, **(kwargs or {}))


@contextmanager
def outlines() -> Iterator[None]:
    """Networks built inside have layers and sizes, but no memory for their values."""
    with torch.device("meta"), _WithoutValues():
        yield


def _shapes(file: ModelFile) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in file.tensors.items()}


def _refuse_misfits(
    shapes: Mapping[str, tuple[int, ...]], model: nn.Module, *, source: Path
) -> None:
    """Dtypes are the writer's choice."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    faults = [f"{name} is missing" for name in expected if name not in shapes]
    faults += [f"{name} is unknown" for name in shapes if name not in expected]
    faults += [
        f"{name} is {shapes[name]}, not {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise MisfitError(
            f"{source}: the tensors do not fit the network: {'; '.join(faults[:3])}{more}"
        )
