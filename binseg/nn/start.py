"""Networks that begin at a trained one: its weights, and new outputs for new classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.model_file import read_model_file
from binseg.nn.float_file import create_from_file, damaged_header, outlines
from binseg.nn.segmenter import Segmenter, create_model
from binseg.shipped import trainable


@dataclass(frozen=True)
class StartModel:
    """A trained network that others begin at.

    Attributes:
        source: as it was named.
        model: float weights, in eval mode.
        labels, preprocessing: its file's.
    """

    source: str
    model: Segmenter
    labels: LabelTable
    preprocessing: Preprocessing


def open_start(source: str | Path) -> StartModel:
    """Open the model that a training is to begin at.

    Args:
        source: a float model file, `hf:user/name`, or the name of a shipped network whose float
            weights are on this machine, see `binseg.shipped.trainable`.

    Raises:
        BinsegError: no such file, one without weights that can be trained, or a faulty one.
    """
    path = trainable(source)
    file = read_model_file(path)
    if file.header["kind"] == "packed":
        raise BinsegError(
            f"{path}: a packed network, whose weights are bits, cannot be trained; give "
            "model.start the float file that it was packed from (best.safetensors in its run's "
            "folder)"
        )
    if file.header["kind"] == "classifier":
        raise BinsegError(
            f"{path}: a classifier from `binseg pretrain`, no segmentation network; it starts a "
            f"backbone with --model.backbone_weights {path}"
        )
    with damaged_header(path):
        preprocessing = Preprocessing.from_dict(file.header["preprocessing"])
        labels = LabelTable.from_dict(file.header["labels"])
        model = create_from_file(file, path).eval()
    return StartModel(str(source), model, labels, preprocessing)


def begin_at(start: StartModel, classes: Sequence[str]) -> Segmenter:
    """A network of the start's architecture and weights for these classes.

    Outputs of classes that the start has by the same name are taken from there, others are new.

    Args:
        start: where it begins.
        classes: their names, in the order of the outputs.

    Raises:
        BinsegError: a number of classes that no network has.
    """
    architecture = {**start.model.architecture, "num_classes": len(classes)}
    network = create_model(**architecture)
    trained = start.model.state_dict()
    places = [
        (new, start.labels.names.index(name))
        for new, name in enumerate(classes)
        if name in start.labels.names
    ]
    axes = _class_axes(architecture)
    state = {
        name: _with_rows(fresh, trained[name], axes.get(name, []), places)
        for name, fresh in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network


def _with_rows(
    fresh: Tensor, trained: Tensor, axes: Sequence[int], places: Sequence[tuple[int, int]]
) -> Tensor:
    """`fresh` with the trained values of the classes at `places`, (new, old) along each axis."""
    if not axes:
        return trained
    if not places:
        return fresh
    new, old = zip(*places, strict=True)
    into, out_of = [], []
    for axis, size in enumerate(fresh.shape):
        shape = [-1 if axis == each else 1 for each in range(fresh.ndim)]
        everything = tuple(range(size))
        into.append(torch.tensor(new if axis in axes else everything).view(shape))
        out_of.append(torch.tensor(old if axis in axes else everything).view(shape))
    result = fresh.clone()
    result[tuple(into)] = trained[tuple(out_of)].to(fresh.dtype)
    return result


def _class_axes(architecture: Mapping[str, Any]) -> dict[str, list[int]]:
    """Tensor → its axes along which the classes lie: those that grow with their number."""
    with outlines():
        few, more = (
            create_model(**{**architecture, "num_classes": number}).state_dict()
            for number in (2, 3)
        )
    found = {
        name: [axis for axis, size in enumerate(few[name].shape) if more[name].shape[axis] != size]
        for name in few
    }
    return {name: axes for name, axes in found.items() if axes}
