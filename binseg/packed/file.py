"""The one file format: safetensors with a JSON header.

The header (metadata key "binseg") holds the format's version, the kind of the tensors, the
architecture's arguments, the label table, the preprocessing and the training figures. A file of
kind "float" holds latent real weights and BatchNorm statistics; one of kind "packed" holds the
tensors of a `PackedSegmenter`: bits, eight to a byte, thresholds and folded constants (see `give`
of its layers), and its header says "rest"; those of kind "classifier" are `backbone_file`'s.
Nothing in a file is ever run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor
from torch.overrides import TorchFunctionMode

from binseg.atomic import atomic_path
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError, unknown_name
from binseg.nn.backbones import list_backbones
from binseg.nn.segmenter import BackboneSegmenter, Segmenter, SmpSegmenter, create_model
from binseg.nn.smp_grids import OWN_ENCODER
from binseg.packed.folding import Folding, Rest
from binseg.packed.modules import PackedSegmenter
from binseg.packed.stored import Expected, stored_layers
from binseg.shipped import resolve

FORMAT_VERSION = 1
_KEY = "binseg"
_KINDS = ("float", "packed", "classifier")


@dataclass
class LoadedModel:
    """What a model file holds.

    Attributes:
        model: in eval mode; normalised float32 (N, 3, H, W) → logits (N, C, H, W). A
            `PackedSegmenter` from a file of kind "packed".
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
    """Write a model file, whole or not at all.

    Args:
        path: ends in .safetensors.
        model: a trained network makes a file of kind "float", a `PackedSegmenter` one of kind
            "packed"; its `architecture` and all its tensors are written.
        labels: must have as many classes as the model.
        preprocessing: how pictures become the model's input.
        training: figures and settings of the run, JSON values.
        dtype: in a float file, of the tensors with two dimensions or more; bfloat16 halves the
            file and keeps every sign.

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
    if isinstance(model, PackedSegmenter):
        header |= {"kind": "packed", "rest": model.rest}
        tensors = {
            f"{prefix}{name}": tensor
            for prefix, layer in stored_layers(model)
            for name, tensor in layer.give().items()
        } | {name: tensor.cpu().contiguous() for name, tensor in _plain_tensors(model).items()}
    else:
        tensors = {
            name: tensor.detach()
            .to("cpu", dtype if tensor.ndim >= 2 else tensor.dtype)
            .contiguous()
            for name, tensor in model.state_dict().items()
        }
    write(path, header, tensors)


def write(path: str | Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a header and tensors, whole or not at all.

    Raises:
        BinsegError: the file cannot be written.
    """
    # into memory first: safetensors' own writer hides why the disk refused
    content = serialize(tensors, metadata={_KEY: json.dumps(header)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a model file, without its tensors.

    Raises:
        BinsegError: missing, truncated or foreign file, or one written by a newer binseg.
    """
    return read(Path(path), tensors=False)[0]


def load(path: str | Path) -> LoadedModel:
    """Open a model file of any kind.

    Args:
        path: of the file, or the name of a model inside the package (see `binseg.shipped`).

    Raises:
        BinsegError: missing, truncated, tampered or foreign file, or one written by a newer
            binseg; weights that do not fit the architecture (naming the tensors that differ).
    """
    path = Path(path)
    header, tensors = read(path)
    if header["kind"] == "classifier":
        raise BinsegError(
            f"{path}: a classifier from `binseg pretrain`, no segmentation network; it starts one "
            f"with `binseg train --model.backbone_weights {path}`"
        )
    try:
        arguments = dict(header["architecture"])
        if header["kind"] == "packed":
            model: Segmenter = _unfilled(arguments, header["rest"])
        else:
            if _is_own(arguments):
                # before a tampered header's width takes the machine's memory
                _refuse_misfits(tensors, _expected(_outline(arguments)), source=path, dtypes=False)
            model = create_model(**arguments)
        labels = LabelTable.from_dict(header["labels"])
        preprocessing = Preprocessing.from_dict(header["preprocessing"])
    except _MisfitError:
        raise
    except BinsegError as error:
        raise BinsegError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error
    if labels.num_classes != model.num_classes:
        raise BinsegError(
            f"{path}: the header is damaged ({labels.num_classes} labels for "
            f"{model.num_classes} classes); get the file again"
        )
    if isinstance(model, PackedSegmenter):
        _take_tensors(model, tensors, source=path)
    else:
        load_tensors(model, tensors, source=path)
    return LoadedModel(model.eval(), labels, preprocessing, header)


def load_tensors(
    model: torch.nn.Module, tensors: dict[str, Tensor], *, source: Path, assign: bool = False
) -> None:
    """Copy `tensors` into `model`, all of them or none.

    Args:
        source: file that a message names.
        assign: give `model` the tensors themselves, which one from `outlines` needs.

    Raises:
        BinsegError: names or shapes differ; the message names the first few.
    """
    # a float file's dtypes are the writer's choice
    _refuse_misfits(tensors, _expected(model), source=source, dtypes=False)
    model.load_state_dict(tensors, assign=assign)


class _MisfitError(BinsegError):
    """Tensors that do not fit the network; the message names the file."""


def _expected(model: torch.nn.Module) -> dict[str, Expected]:
    """The tensors of a float file."""
    return {
        name: Expected(tuple(tensor.shape), (tensor.dtype,))
        for name, tensor in model.state_dict().items()
    }


def _refuse_misfits(
    tensors: dict[str, Tensor],
    expected: dict[str, Expected],
    *,
    source: Path,
    dtypes: bool = True,
) -> None:
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in expected]
    for name, (shape, kinds) in expected.items():
        if name not in tensors:
            continue
        if tuple(tensors[name].shape) != shape:
            faults.append(f"{name} is {tuple(tensors[name].shape)}, not {shape}")
        elif dtypes and tensors[name].dtype not in kinds:
            faults.append(f"{name} is {tensors[name].dtype}, not {kinds[0]}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise _MisfitError(
            f"{source}: the tensors do not fit the network: {'; '.join(faults[:3])}{more}"
        )


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


def _unfilled(architecture: dict[str, Any], rest: Rest) -> PackedSegmenter:
    """A packed network without values; no memory is taken for the trained one."""
    if rest not in get_args(Rest):
        raise unknown_name("rest", str(rest), get_args(Rest))
    if not _is_own(architecture):
        raise unknown_name("model", str(architecture["name"]), list_backbones())
    return PackedSegmenter(_outline(architecture), Folding(rest))


def _is_own(architecture: dict[str, Any]) -> bool:
    """Whether the backbone is one of ours."""
    encoder = str(architecture.get("encoder", ""))
    return architecture["name"] in list_backbones() or encoder.startswith(OWN_ENCODER)


def _outline(architecture: dict[str, Any]) -> BackboneSegmenter | SmpSegmenter:
    with outlines():
        network = create_model(**architecture)
    assert isinstance(network, BackboneSegmenter | SmpSegmenter)
    return network


def _plain_tensors(model: PackedSegmenter) -> dict[str, Tensor]:
    """The tensors of layers that are not packed, by name."""
    packed = tuple(prefix for prefix, _ in stored_layers(model))
    return {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith(packed)
    }


def _take_tensors(model: PackedSegmenter, tensors: dict[str, Tensor], *, source: Path) -> None:
    """Give a packed network its values.

    Raises:
        BinsegError: names, shapes or dtypes differ, or a value is out of range.
    """
    layers = dict(stored_layers(model))
    expected = {
        f"{prefix}{name}": what
        for prefix, layer in layers.items()
        for name, what in layer.expected().items()
    }
    plain = _plain_tensors(model)
    expected |= {
        name: Expected(tuple(tensor.shape), (tensor.dtype,)) for name, tensor in plain.items()
    }
    _refuse_misfits(tensors, expected, source=source)
    model.load_state_dict({name: tensors[name] for name in plain}, strict=False, assign=True)
    for prefix, layer in layers.items():
        try:
            layer.take({name: tensors[f"{prefix}{name}"] for name in layer.expected()})
        except BinsegError as error:
            raise BinsegError(f"{source}: {prefix.rstrip('.')}: {error}") from error


def read(path: Path, *, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a model file or a shipped model, without looking into either.

    Raises:
        BinsegError: see `read_header`.
    """
    path = resolve(path)
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
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error
    if version > FORMAT_VERSION:
        raise BinsegError(
            f"{path}: written in format {version} by a newer binseg; this one reads up to "
            f"{FORMAT_VERSION}: upgrade it"
        )
    if kind not in _KINDS:
        raise BinsegError(f"{path}: tensors of kind '{kind}' are unknown to this binseg")
    return header, values
