"""Damaged model files whose checksums fit again, so that they get past the door."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from model_files import with_checksum

_NUMBERS = (
    0, 1, 2, 3, 7, 8, 9, -1, -2, 63, 64, 65, 255, 256, 4095, 4096, 4097, 65535, 65536, 65537,
    2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**31), 1e18, 1e300, 0.5, 1e-300, -0.0,
)  # fmt: skip
_WORDS = (
    "relu",
    "prelu",
    "tanh",
    "hardswish",
    "bf16",
    "f32",
    "nearest",
    "bilinear",
    "valid",
    "kernel",
)
_VALUES = (None, True, False, "", "relu", "bf16", "conv", [], {}, [1, 1], [0, 0, 0, 0])


def mutations(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` files, each made of one of `files`.

    In turn they have bytes changed anywhere, characters of the header, values in the header's
    JSON, attributes of operators (such files often open), and bytes of tensors (these always do).
    Mostly one change a file.
    """
    rng = np.random.default_rng(seed)
    for i in range(count):
        file = files[int(rng.integers(len(files)))]
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            file = _CHANGES[i % len(_CHANGES)](file, rng)
        yield with_checksum(file)


def _change_bytes(file: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(file)
    at = int(rng.integers(len(changed))) if changed else 0
    match int(rng.integers(4)):
        case 0:
            changed[at : at + 1] = bytes([int(rng.integers(256))])
        case 1:
            del changed[at : at + int(rng.integers(1, 40))]
        case 2:
            changed[at:at] = rng.bytes(int(rng.integers(1, 40)))
        case _:
            del changed[at:]
    return bytes(changed)


def _split(file: bytes) -> tuple[bytes, bytes]:
    """Header and data, of a file whose length may be wrong already."""
    length = struct.unpack("<Q", file[:8].ljust(8, b"\0"))[0] if len(file) >= 8 else 0
    length = min(length, max(0, len(file) - 8))
    return file[8 : 8 + length], file[8 + length :]


def _joined(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _change_header(file: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(file)
    changed = bytearray(header)
    if not changed:
        return file
    at = int(rng.integers(len(changed)))
    match int(rng.integers(4)):
        case 0:
            changed[at] = rng.choice(list(b'{}[]",:0123456789-eE.\\u tfn'))
        case 1:
            del changed[at : at + int(rng.integers(1, 6))]
        case 2:
            piece = changed[at : at + int(rng.integers(1, 60))]
            changed[at:at] = piece * int(rng.integers(1, 4))
        case _:
            changed[at:at] = rng.choice([b"[" * 40, b"{", b"-", b"9" * 30, b"1e999", b"\\ud800"])
    return _joined(bytes(changed), data)


def _change_values(file: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(file)
    try:
        outer = json.loads(header)
        inner = json.loads(outer["__metadata__"]["binseg"])
    except (ValueError, KeyError, TypeError):
        return file
    target = outer if rng.random() < 0.15 else inner.get("program", inner)
    places = list(_places(target))
    if places:
        holder, key = places[int(rng.integers(len(places)))]
        _change_value(holder, key, places, rng)
    outer["__metadata__"]["binseg"] = json.dumps(inner)
    return _joined(json.dumps(outer, separators=(",", ":")).encode(), data)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a JSON value: the object or list, and the key or index."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if key == "__metadata__":
            continue
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _change_value(holder: Any, key: Any, places: list, rng: np.random.Generator) -> None:
    old = holder[key]
    match int(rng.integers(6)):
        case 0:
            del holder[key]
        case 1:
            holder[key] = _VALUES[int(rng.integers(len(_VALUES)))]
        case 2:
            other, where = places[int(rng.integers(len(places)))]
            try:
                holder[key] = json.loads(json.dumps(other[where]))
            except (KeyError, IndexError):
                holder[key] = 0
        case _ if isinstance(old, int | float) and not isinstance(old, bool):
            near = old + int(rng.integers(-2, 3))
            holder[key] = near if rng.random() < 0.6 else _NUMBERS[int(rng.integers(len(_NUMBERS)))]
        case 3 if isinstance(old, str):
            words = sorted({item[place] for item, place in places if isinstance(item[place], str)})
            holder[key] = words[int(rng.integers(len(words)))]
        case _:
            holder[key] = _NUMBERS[int(rng.integers(len(_NUMBERS)))]


def _change_attributes(file: bytes, rng: np.random.Generator) -> bytes:
    """Another number of a size that may be, or another word, in one operator."""
    header, data = _split(file)
    try:
        outer = json.loads(header)
        inner = json.loads(outer["__metadata__"]["binseg"])
        operators = inner["program"]["operators"]
        operator = operators[int(rng.integers(len(operators)))]
        attributes = {
            key: operator[key] for key in operator.keys() - {"op", "in", "out", "tensors"}
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return file
    places = [place for place in _places(attributes) if not isinstance(place[0][place[1]], dict)]
    if not places:
        return file
    holder, key = places[int(rng.integers(len(places)))]
    old = holder[key]
    if isinstance(old, bool):
        holder[key] = not old
    elif isinstance(old, str):
        holder[key] = _WORDS[int(rng.integers(len(_WORDS)))]
    elif isinstance(old, int):
        holder[key] = int(rng.choice([-1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 64, 70, 255]))
    elif isinstance(old, float):
        holder[key] = float(old * 10.0 ** rng.integers(-38, 39))
    operator |= attributes
    outer["__metadata__"]["binseg"] = json.dumps(inner)
    return _joined(json.dumps(outer, separators=(",", ":")).encode(), data)


def _change_data(file: bytes, rng: np.random.Generator) -> bytes:
    header, data = _split(file)
    if not data:
        return file
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    return _joined(header, bytes(changed))


_CHANGES = (_change_bytes, _change_header, _change_values, _change_attributes, _change_data)
