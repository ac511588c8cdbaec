"""Segmentation networks from files and to files, trained or packed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from binseg.compiler.packed import PackedSegmenter
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.model_file import read_header, read_model_file
from binseg.nn.float_file import create_from_file, damaged_header, save_float
from binseg.nn.segmenter import Segmenter
from binseg.program.file import read_program, write_program

__all__ = ["LoadedModel", "load", "read_header", "save"]


@dataclass
class LoadedModel:
    """What a model file holds.

    Attributes:
        model: in eval mode; normalised float32 (N, 3, H, W) → logits (N, C, H, W). A
            `PackedSegmenter` from a file of kind "packed".
        labels: names and colours of the C classes.
        preprocessing: how images become the model's input.
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
            "packed".
        labels: must have as many classes as the model.
        preprocessing: how images become the model's input; a packed network was packed with this
            mean and deviation.
        training: figures and settings of the run, JSON values.
        dtype: in a float file, of the tensors with two dimensions or more; bfloat16 halves the
            file and keeps every sign.

    Raises:
        BinsegError: the label table or the preprocessing does not fit, or the file cannot be
            written.
    """
    if labels.num_classes != model.num_classes:
        raise BinsegError(
            f"{path}: the network has {model.num_classes} classes, the label table "
            f"'{labels.name}' {labels.num_classes}"
        )
    if not isinstance(model, PackedSegmenter):
        save_float(path, model, labels, preprocessing, training=training, dtype=dtype)
        return
    own = model.preprocessing
    if (own.mean, own.std) != (preprocessing.mean, preprocessing.std):
        raise BinsegError(
            f"{path}: the network was packed for images normalised with mean {own.mean} and "
            f"deviation {own.std}, not {preprocessing.mean} and {preprocessing.std}; give "
            "`preprocessing` to binseg.pack"
        )
    about = dict(training or {})
    if model.architecture:
        about["architecture"] = model.architecture
    write_program(
        path,
        model.program,
        labels=labels.to_dict(),
        preprocessing=preprocessing.to_dict(),
        other_layers=model.other_layers,
        training=about,
    )


def load(path: str | Path) -> LoadedModel:
    """Open a model file of any kind.

    Args:
        path: of the file, or the name of a model inside the package (see `binseg.shipped`).

    Raises:
        BinsegError: missing, truncated, tampered or foreign file, or one written by a newer
            binseg; weights that do not fit the architecture (naming the tensors that differ).
    """
    path = Path(path)
    header = read_header(path)
    if header["kind"] == "classifier":
        raise BinsegError(
            f"{path}: a classifier from `binseg pretrain`, no segmentation network; it starts one "
            f"with `binseg train --model.backbone_weights {path}`"
        )
    with damaged_header(path):
        preprocessing = Preprocessing.from_dict(header["preprocessing"])
        labels = LabelTable.from_dict(header["labels"])
        if header["kind"] == "packed":
            program, _ = read_program(path)
            training = header.get("training") or {}
            model: Segmenter = PackedSegmenter(
                program,
                preprocessing,
                other_layers=header.get("other_layers", "fp32"),
                architecture=training.get("architecture"),
            )
        else:
            model = create_from_file(read_model_file(path), path)
    if labels.num_classes != model.num_classes:
        raise BinsegError(
            f"{path}: the header is damaged ({labels.num_classes} labels for "
            f"{model.num_classes} classes); get the file again"
        )
    return LoadedModel(model.eval(), labels, preprocessing, header)
