"""Classifier files, and backbones out of files of either kind.

A file of kind "classifier" is as one of kind "float", with "classes" in place of the label table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.model_file import read_model_file
from binseg.nn.adapt import adapt_tensors
from binseg.nn.backbones import Backbone
from binseg.nn.classifier import Classifier, create_classifier
from binseg.nn.float_file import load_tensors, outlines, read_tensors, write_tensors
from binseg.nn.segmenter import create_model


@dataclass
class LoadedClassifier:
    """What a classifier file holds.

    Attributes:
        model: in eval mode; normalised float32 (N, 3, size, size) → logits (N, C).
        classes: names of the C classes.
        preprocessing: how images become the model's input; `short_side` is the size.
        header: the whole JSON header; "training" holds the figures of the run.
    """

    model: Classifier
    classes: list[str]
    preprocessing: Preprocessing
    header: dict[str, Any]


def save_classifier(
    path: str | Path,
    model: Classifier,
    classes: list[str],
    preprocessing: Preprocessing,
    *,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a classifier file, whole or not at all; see `binseg.save`.

    Raises:
        BinsegError: the file cannot be written.
    """
    header = {
        "kind": "classifier",
        "architecture": model.architecture,
        "classes": classes,
        "preprocessing": preprocessing.to_dict(),
        "training": training or {},
    }
    write_tensors(path, header, model.state_dict())


def load_classifier(path: str | Path) -> LoadedClassifier:
    """Open a classifier file.

    Raises:
        BinsegError: missing, damaged or foreign file, or one of a segmentation network.
    """
    path = Path(path)
    file = read_model_file(path)
    header = file.header
    if header["kind"] != "classifier":
        raise BinsegError(f"{path}: no classifier; give a file that `binseg pretrain` wrote")
    outline = _outline(header, path)
    load_tensors(outline, read_tensors(file), source=path, assign=True)
    assert isinstance(outline, Classifier)
    classes = [str(name) for name in header.get("classes", [])]
    return LoadedClassifier(outline.eval(), classes, _preprocessing(header, path), header)


def start_backbone(network: nn.Module, path: str | Path, ours: Preprocessing, *, seed: int) -> None:
    """Put the backbone of a classifier file, or of a float segmentation file, into `network`.

    Bases, gates, merge, dilations and output stride may differ, and a full-precision network starts
    its binary twin, see `binseg.nn.adapt`.

    Args:
        network: a classifier or a segmentation network with one of our backbones.
        path: of the file.
        ours: what the network's images are normalised with.
        seed: of the noise that parts the copies of a base.

    Raises:
        BinsegError: another architecture (naming the tensors that differ), other means or
            deviations of the images, a packed file, a network without a backbone of ours.
    """
    path = Path(path)
    file = read_model_file(path)
    header = file.header
    if header["kind"] == "packed":
        raise BinsegError(
            f"{path}: a packed file holds bits and no weights to train; give the float file that "
            "it was packed from"
        )
    theirs = _preprocessing(header, path)
    if (ours.mean, ours.std) != (theirs.mean, theirs.std):
        raise BinsegError(
            f"{path}: trained on images normalised with mean {theirs.mean} and deviation "
            f"{theirs.std}, these are with {ours.mean} and {ours.std}; pretrain with the same "
            "--data.mean and --data.std"
        )
    name, source = _backbone(_outline(header, path), str(path))
    _, target = _backbone(network, "model.backbone_weights")
    own = {
        key.removeprefix(f"{name}."): tensor
        for key, tensor in read_tensors(file).items()
        if key.startswith(f"{name}.")
    }
    load_tensors(target, adapt_tensors(source, own, target, seed=seed), source=path)


def _outline(header: dict[str, Any], path: Path) -> nn.Module:
    """The network that a header describes, without its values."""
    build = create_classifier if header["kind"] == "classifier" else create_model
    try:
        with outlines():
            return build(**dict(header["architecture"]))
    except BinsegError as error:
        raise BinsegError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error


def _preprocessing(header: dict[str, Any], path: Path) -> Preprocessing:
    try:
        return Preprocessing.from_dict(header.get("preprocessing"))
    except BinsegError as error:
        raise BinsegError(f"{path}: {error}") from error


def _backbone(network: nn.Module, source: str) -> tuple[str, Backbone]:
    """Name and module of a network's backbone."""
    for name, module in network.named_modules():
        if isinstance(module, Backbone):
            return name, module
    raise BinsegError(f"{source}: the network has none of binseg's backbones to start from a file")
