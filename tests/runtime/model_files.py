"""Model files as bytes, written by hand from docs/program.md, part 1."""

import json
import struct
import zlib
from typing import Any

import numpy as np
from random_programs import random_program

from binseg.program.builder import ProgramBuilder
from binseg.program.check import check
from binseg.program.program import Operator, Program

_DTYPES = {"float32": "F32", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"}
PREPROCESSING = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "short_side": None}


def model_file(program: Program, short_side: int | None = None) -> bytes:
    """The file of a program."""
    header = {
        "format": 2,
        "kind": "packed",
        "program": program.to_json(),
        "preprocessing": {**PREPROCESSING, "short_side": short_side},
    }
    tensors = {
        name: (array, "BF16" if name in program.bfloat16 else _DTYPES[array.dtype.name])
        for name, array in program.tensors.items()
    }
    return file_of(header, tensors)


def ancestors(program: Program, value: int) -> Program:
    """The part of a program that makes a value, which becomes the output."""
    needed, operators = {value}, []
    for operator in reversed(program.operators):
        if needed & set(operator.outputs.values()):
            operators.append(operator)
            needed |= set(operator.inputs)
    read = {value}.union(*(operator.inputs for operator in operators))
    kept = tuple(_without_unread(operator, read) for operator in reversed(operators))
    names = {name for operator in kept for name in operator.tensors.values()}
    tensors = {name: array for name, array in program.tensors.items() if name in names}
    return Program(kept, value, tensors, program.bfloat16 & names)


def _without_unread(operator: Operator, read: set[int]) -> Operator:
    outputs = {role: value for role, value in operator.outputs.items() if value in read}
    attributes, tensors = dict(operator.attributes), dict(operator.tensors)
    if "bits" in operator.outputs and "bits" not in outputs:
        attributes.pop("bit_bases", None)
        tensors.pop("threshold", None)
    if "bytes" not in outputs:
        attributes.pop("bytes", None)
    if not outputs.keys() & {"real", "branches", "merged"}:
        attributes.pop("dtype", None)
    return Operator(operator.kind, operator.inputs, outputs, tensors, attributes)


def small_file(
    pads: tuple[int, int, int, int] = (1, 1, 1, 1), short_side: int | None = None
) -> bytes:
    """A 3×3 convolution of two classes after a normalization."""
    builder = ProgramBuilder()
    (x,) = builder.add(
        "normalize",
        [builder.image],
        ["real"],
        tensors={
            "scale": builder.tensor("scale", np.full(3, 0.01, np.float32)),
            "shift": builder.tensor("shift", np.zeros(3, np.float32)),
        },
    )
    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    (y,) = builder.add(
        "conv",
        [x],
        ["real"],
        tensors={"weight": builder.tensor("weight", weight)},
        kernel=[3, 3],
        stride=[1, 1],
        pads=list(pads),
    )
    return model_file(builder.build(y), short_side)


def small_programs(seed: int, most: int = 12) -> list[Program]:
    """Programs of few operators that together have every kind: parts of a random one."""
    program, _ = random_program(seed)
    types, found = check(program), {}
    for operator in program.operators:
        for value in operator.outputs.values():
            if types[value].kind == "real" and types[value].channels <= 255:
                part = ancestors(program, value)
                if len(part.operators) <= most:
                    found.setdefault(operator.kind, part)
    return list(found.values())


def file_of(header: Any, tensors: dict[str, tuple[np.ndarray, str]]) -> bytes:
    """A safetensors file with a checksum that fits."""
    outer: dict[str, Any] = {"__metadata__": {"binseg": json.dumps(header), "crc32": "0" * 8}}
    data = b""
    for name, (array, dtype) in tensors.items():
        body = np.ascontiguousarray(array).tobytes()
        outer[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(body)],
        }
        data += body
    text = json.dumps(outer, separators=(",", ":")).encode()
    return with_checksum(struct.pack("<Q", len(text)) + text + data)


def with_checksum(file: bytes) -> bytes:
    """The file with its checksum set right, if it has a place for one."""
    key = b'"crc32":"'
    at = file.find(key) + len(key)
    if at < len(key) or at + 8 > len(file):
        return file
    zeroed = file[:at] + b"0" * 8 + file[at + 8 :]
    return file[:at] + f"{zlib.crc32(zeroed):08x}".encode() + file[at + 8 :]
