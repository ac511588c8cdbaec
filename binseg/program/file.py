"""Packed networks as files: docs/program.md, part 1."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from binseg.errors import BinsegError
from binseg.model_file import read_model_file, write_model_file
from binseg.program.check import check
from binseg.program.program import Program

OtherLayers = Literal["fp32", "bf16", "int8"]
"""Arithmetic of the layers that are not binary."""


def write_program(
    path: str | Path,
    program: Program,
    *,
    labels: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    other_layers: OtherLayers,
    training: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write a packed network, whole or not at all.

    Args:
        path: ends in .safetensors.
        program: of the network.
        labels: `LabelTable.to_dict()`, with a name for each class of the program.
        preprocessing: `Preprocessing.to_dict()`.
        other_layers: for people who ask what is in the file.
        training: figures and settings of the run, JSON values.
        card: Markdown about the network, for people.

    Raises:
        ProgramError: the program breaks the definition.
        BinsegError: the label table does not fit, or the file cannot be written.
    """
    header = {
        "kind": "packed",
        "program": program.to_json(),
        "labels": labels,
        "preprocessing": preprocessing,
        "other_layers": other_layers,
        "training": training or {},
        **({} if card is None else {"card": card}),
    }
    _check(path, program, header)
    write_model_file(path, header, program.tensors, program.bfloat16)


def read_program(path: str | Path) -> tuple[Program, dict[str, Any]]:
    """The program of a packed network, checked, and the whole header of its file.

    Args:
        path: of the file, or the name of a shipped model.

    Raises:
        BinsegError: missing, damaged, foreign or newer file, or one of another kind; a program that
            breaks the definition. The message names the file.
    """
    file = read_model_file(path)
    header = file.header
    if header["kind"] == "classifier":
        raise BinsegError(f"{path}: a classifier, no segmentation network")
    if header["kind"] == "float":
        raise BinsegError(
            f"{path}: a network that is not packed; pack it: binseg pack {path} --out "
            "packed.safetensors"
        )
    if header["format"] < 2:
        raise BinsegError(
            f"{path}: packed in format {header['format']}, which holds no program; pack the "
            "trained network again: binseg pack FLOAT_FILE --out FILE"
        )
    try:
        program = Program.from_json(header.get("program"), file.tensors, file.bfloat16)
        _check(path, program, header)
    except BinsegError as error:
        message = str(error)
        raise type(error)(
            message if message.startswith(f"{path}: ") else f"{path}: {message}"
        ) from error
    return program, header


def _check(path: str | Path, program: Program, header: Mapping[str, Any]) -> None:
    classes = check(program)[program.output].channels
    labels = header.get("labels")
    names = labels.get("names") if isinstance(labels, Mapping) else None
    if not isinstance(names, list) or len(names) != classes:
        count = len(names) if isinstance(names, list) else "no"
        raise BinsegError(
            f"{path}: the network has {classes} classes, its label table {count} names"
        )
