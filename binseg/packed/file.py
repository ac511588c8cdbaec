"""The one file format: safetensors with a JSON header.

The header (metadata key "binseg") holds the format's version, the kind of the tensors, the
architecture's arguments, the label table, the preprocessing and the training figures. A file of
kind "float" holds latent real weights and BatchNorm statistics. Nothing in a file is ever run.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from binseg.atomic import atomic_path
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.segmenter import Segmenter, create_model

FORMAT_VERSION = 1
_KEY = "binseg"


@dataclass
class LoadedModel:
    """What a model file holds.

    Attributes:
        model: in eval mode; normalised float32 (N, 3, H, W) → logits (N, C, H, W).
        labels: names and colours of the C classes.
        preprocessing: how pictures become the model's input.
        header: the whole JSON header; "training" holds the figures of the run.
    """

    model: Segmenter
    labels: LabelTable
    preprocessing: Preprocessing
    header: dict[str, Any] = field(default_factory=dict)


def save(
    path: str | Path,
    model: Segmenter,
    labels: LabelTable,
    preprocessing: Preprocessing,
    *,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a file of kind "float" whole or not at all.

    Args:
        path: ends in .safetensors.
        model: its `architecture` and all its tensors are written.
        labels: must have as many classes as the model.
        preprocessing: how pictures become the model's input.
        training: figures and settings of the run, JSON values.
        dtype: of the tensors with two dimensions or more; bfloat16 halves the file and keeps
            every sign.

    Raises:
        BinsegError: the label table does not fit, or the file cannot be written.
    """
    if labels.num_classes != model.num_classes:
        raise BinsegError(
            f"{path}: the network has {model.num_classes} classes, the label table "
            f"'{labels.name}' {labels.num_classes}"
        )
    header = {
        "format": FORMAT_VERSION,
        "kind": "float",
        "architecture": model.architecture,
        "labels": labels.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "training": training or {},
    }
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.ndim >= 2 else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    # into memory first: safetensors' own writer hides why the disk refused
    content = serialize(tensors, metadata={_KEY: json.dumps(header)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a model file, without its tensors.

    Raises:
        BinsegError: missing, truncated or foreign file, or one written by a newer binseg.
    """
    return _read(Path(path), tensors=False)[0]


def load(path: str | Path) -> LoadedModel:
    """Open a model file of any kind.

    Raises:
        BinsegError: missing, truncated, tampered or foreign file, or one written by a newer
            binseg; weights that do not fit the architecture (naming the tensors that differ).
    """
    path = Path(path)
    header, tensors = _read(path, tensors=True)
    try:
        arguments = dict(header["architecture"])
        model = create_model(**arguments)
        labels = LabelTable.from_dict(header["labels"])
        preprocessing = Preprocessing.from_dict(header["preprocessing"])
    except BinsegError as error:
        raise BinsegError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error
    if labels.num_classes != model.num_classes:
        raise BinsegError(
            f"{path}: the header is damaged ({labels.num_classes} labels for "
            f"{model.num_classes} classes); get the file again"
        )
    load_tensors(model, tensors, source=path)
    return LoadedModel(model.eval(), labels, preprocessing, header)


def load_tensors(model: torch.nn.Module, tensors: dict[str, Tensor], *, source: Path) -> None:
    """Copy `tensors` into `model`, all of them or none.

    Raises:
        BinsegError: names or shapes differ; the message names the first few.
    """
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in own]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BinsegError(
            f"{source}: the tensors do not fit the network: {'; '.join(faults[:3])}{more}"
        )
    model.load_state_dict(tensors)


def _read(path: Path, *, tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if path.is_dir():
        raise BinsegError(f"{path}: a folder; a run's network is {path / 'best.safetensors'}")
    if not path.is_file():
        raise BinsegError(f"{path}: there is no such model file")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            values = {k: opened.get_tensor(k) for k in opened.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BinsegError(
            f"{path}: not a readable safetensors file, perhaps truncated ({error}); "
            "get the file again"
        ) from error
    if _KEY not in metadata:
        raise BinsegError(
            f"{path}: a safetensors file, but not one of binseg's (it has no 'binseg' header)"
        )
    try:
        header = json.loads(metadata[_KEY])
        version = int(header["format"])
        kind = str(header["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error
    if version > FORMAT_VERSION:
        raise BinsegError(
            f"{path}: written in format {version} by a newer binseg; this one reads up to "
            f"{FORMAT_VERSION}: upgrade it"
        )
    if kind != "float":
        raise BinsegError(f"{path}: tensors of kind '{kind}' are unknown to this binseg")
    return header, values
