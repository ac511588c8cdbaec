"""Model files: safetensors with a JSON header and a checksum, without torch.

The metadata key "binseg" holds a JSON object: the format's version, the kind of the tensors, and
what belongs to that kind. "crc32" is the CRC-32 of the whole file with its own eight digits taken
as zeros. Nothing in a file is ever run. The format is described in docs/program.md.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as serialize

from binseg.atomic import atomic_path
from binseg.errors import BinsegError
from binseg.shipped import BEST, resolve

FORMAT_VERSION = 2
KINDS = ("float", "packed", "classifier")

_KEY = "binseg"
_SUM = b'"crc32":"'
_NO_SUM = "00000000"
_DEEPEST = 32
"""Levels of lists and objects inside each other in a header."""
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    Attributes:
        header: the JSON object; "format" is an integer and "kind" one of `KINDS`.
        tensors: name → array; bfloat16 as uint16.
        bfloat16: names of the tensors that hold bfloat16.
    """

    header: dict[str, Any]
    tensors: dict[str, np.ndarray]
    bfloat16: frozenset[str] = frozenset()


def write_model_file(
    path: str | Path,
    header: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    bfloat16: frozenset[str] = frozenset(),
) -> None:
    """Write a model file, whole or not at all; the same content gives the same bytes.

    Args:
        path: ends in .safetensors.
        header: JSON values, "kind" among them; "format" is added. Numbers that are nan or infinite
            become null.
        tensors: name → array; bfloat16 as uint16.
        bfloat16: names of the tensors that hold bfloat16.

    Raises:
        BinsegError: the file cannot be written.
    """
    # into memory first: safetensors' own writer hides why the disk refused
    try:
        content = model_file_bytes(header, tensors, bfloat16)
    except BinsegError as error:
        raise BinsegError(f"{path}: {error}") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def model_file_bytes(
    header: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    bfloat16: frozenset[str] = frozenset(),
) -> bytes | bytearray:
    """What `write_model_file` writes.

    Raises:
        BinsegError: the header cannot be written.
    """
    text = json.dumps(
        _without_nan({"format": None} | dict(header) | {"format": FORMAT_VERSION}),
        allow_nan=False,
        separators=(",", ":"),
    )
    try:
        _strict(text)
    except ValueError as error:
        raise BinsegError(f"the header cannot be written ({error})") from error
    arrays = {
        name: array if array.flags.c_contiguous else array.copy() for name, array in tensors.items()
    }
    return _with_sum(serialize(arrays), {_KEY: text, "crc32": _NO_SUM}, bfloat16)


def read_model_file(path: str | Path) -> ModelFile:
    """Header and tensors of a model file, or a shipped model by name, all of it checked.

    Raises:
        BinsegError: missing, truncated, tampered or foreign file, or one written by a newer
            binseg.
    """
    path = resolve(path)
    content, entries = _content(path)
    header = _header(path, content)
    tensors, bfloat16 = {}, set()
    for name, stored in entries:
        if stored["dtype"] not in _DTYPES:
            raise BinsegError(
                f"{path}: tensor {name!r} is of dtype {stored['dtype']}, which binseg does not use"
            )
        flat = np.frombuffer(stored["data"], np.dtype(_DTYPES[stored["dtype"]]).newbyteorder("<"))
        tensors[name] = flat.reshape(stored["shape"])
        if stored["dtype"] == "BF16":
            bfloat16.add(name)
    return ModelFile(header, tensors, frozenset(bfloat16))


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a model file, or a shipped model by name.

    Raises:
        BinsegError: see `read_model_file`; tensors are not looked at, but the checksum is.
    """
    path = resolve(path)
    return _header(path, _content(path)[0])


# Writing


def _with_sum(
    content: bytes, metadata: dict[str, str], bfloat16: frozenset[str]
) -> bytes | bytearray:
    """safetensors' bytes with metadata in this order, bfloat16 named so, and the checksum."""
    length = int.from_bytes(content[:8], "little")
    outer = json.loads(content[8 : 8 + length])
    for name in bfloat16:
        if outer[name]["dtype"] != "U16":
            raise ValueError(f"{name} is {outer[name]['dtype']}, no bfloat16 as uint16")
        outer[name]["dtype"] = "BF16"
    text = json.dumps({"__metadata__": metadata, **outer}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    result = bytearray(len(text).to_bytes(8, "little") + text + content[8 + length :])
    at = _sum_at(result)
    assert at is not None
    result[at : at + 8] = f"{zlib.crc32(result):08x}".encode()
    return result


def _without_nan(value: Any) -> Any:
    """JSON has no nan: a figure of a run that does not exist is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


# Reading


def _content(path: Path) -> tuple[bytes, list[tuple[str, dict[str, Any]]]]:
    """A whole file, and its tensors as safetensors found them: name, and dtype, shape and data."""
    if path.is_dir():
        raise BinsegError(
            f"{path}: a folder without {BEST}; give a model file, or the folder of a run that has "
            "validated once"
        )
    if not path.is_file():
        raise BinsegError(f"{path}: there is no such model file")
    try:
        content = path.read_bytes()
        return content, deserialize(content)
    except (SafetensorError, OSError) as error:
        if _is_checkpoint(path):
            best = path.with_name(BEST)
            raise BinsegError(
                f"{path}: a checkpoint (written by torch.save), not a model file; "
                + (f"the run's network is {best}" if best.exists() else "give a .safetensors file")
            ) from error
        raise BinsegError(
            f"{path}: not a readable safetensors file, perhaps truncated ({error}); "
            "get the file again"
        ) from error


def _is_checkpoint(path: Path) -> bool:
    """Whether a file begins as torch.save writes it: as a zip archive."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _header(path: Path, content: bytes) -> dict[str, Any]:
    """The header of a good safetensors file, after the checksum has been found right."""
    length = int.from_bytes(content[:8], "little")
    try:
        metadata = _strict(content[8 : 8 + length].decode()).get("__metadata__", {})
        if _KEY not in metadata:
            raise BinsegError(
                f"{path}: a safetensors file, but not one of binseg's (it has no 'binseg' header)"
            )
        # the first format let figures be nan
        header = json.loads(metadata[_KEY])
        version, kind = header["format"], header["kind"]
        if type(version) is not int or version < 1 or not isinstance(kind, str):
            raise TypeError(f"format {version!r:.60}, kind {kind!r:.60}")
        if version > FORMAT_VERSION:
            raise BinsegError(
                f"{path}: written in format {version} by a newer binseg; this one reads up to "
                f"{FORMAT_VERSION}: upgrade it"
            )
        if version > 1:
            header = _strict(metadata[_KEY])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BinsegError(f"{path}: the header is damaged ({error}); get the file again") from error
    if (version > 1 or "crc32" in metadata) and not _is_whole(content):
        raise BinsegError(
            f"{path}: damaged, its checksum does not fit its content; get the file again"
        )
    if kind not in KINDS:
        raise BinsegError(f"{path}: tensors of kind {kind!r:.60} are unknown to this binseg")
    return header


def _is_whole(content: bytes) -> bool:
    at = _sum_at(content)
    if at is None:
        return False
    view = memoryview(content)
    found = zlib.crc32(view[at + 8 :], zlib.crc32(_NO_SUM.encode(), zlib.crc32(view[:at])))
    return content[at : at + 8] == f"{found:08x}".encode()


def _sum_at(content: bytes | bytearray) -> int | None:
    """Where the digits of the checksum are: behind the one key of this name.

    Inside a JSON string the quotes would stand behind backslashes, so that a text cannot pass for
    the key.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    at = content.find(_SUM, 8, end)
    if at < 0 or content.find(_SUM, at + 1, end) >= 0:
        return None
    return at + len(_SUM)


def _strict(text: str) -> dict[str, Any]:
    """A JSON object without nan, keys given twice, lone surrogates and nesting beyond 32 levels."""
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise TypeError("no JSON object")
    _refuse_depth(value)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    if any(isinstance(item, dict | list) for item in level):
        raise ValueError(f"lists and objects deeper than {_DEEPEST}")
