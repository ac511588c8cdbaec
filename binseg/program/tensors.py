"""How tensors of a program are stored: bits eight to a byte, bfloat16 in 16 bits."""

import numpy as np


def pack_bits(signs: np.ndarray) -> np.ndarray:
    """Signs as a program's U8 tensor: 1 for +1, the first in the lowest bit.

    Args:
        signs: any shape, in natural order; bool, or numbers of which those ≥ 0 are +1.

    Returns:
        uint8 (⌈n / 8⌉,); unused bits are 0.
    """
    positive = signs if signs.dtype == np.bool_ else signs >= 0
    return np.packbits(positive.reshape(-1), bitorder="little")


def unpack_bits(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack_bits`: bool of `shape`."""
    count = int(np.prod(shape))
    return np.unpackbits(packed, count=count, bitorder="little").reshape(shape).astype(np.bool_)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 → bfloat16 as uint16, rounded to the nearest, ties to even; nan stays nan."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_bfloat16(stored: np.ndarray) -> np.ndarray:
    """bfloat16 as uint16 → float32, exactly."""
    return (stored.astype(np.uint32) << 16).view(np.float32)
