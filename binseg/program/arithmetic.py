"""The arithmetic of programs, docs/program.md, part 3, in numpy."""

import numpy as np

from binseg.program.tensors import from_bfloat16, to_bfloat16

TANH_LIMIT = np.float32(7.90531110763549805)
"""Beyond it float32 tanh is ±1."""

TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
TANH_Q = (
    1.19825839466702e-06,
    1.18534705686654e-04,
    2.26843463243900e-03,
    4.89352518554385e-03,
)
"""Coefficients of the quotient that is tanh, highest power first, rounded to float32 (Eigen's)."""

_DROPPED = np.int64(0x1FFFFFFF)
_HALF = np.int64(0x10000000)
"""The bits of a float64 that a float32 drops, and what they are halfway between two float32."""
_SMALLEST = float(np.finfo(np.float32).smallest_normal)

Real = np.ndarray | np.float32


def fma(a: Real, b: Real, c: Real) -> np.ndarray:
    """a·b + c, rounded once to float32. All are float32, and are broadcast."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.multiply(a, b, dtype=np.float64)  # exact
        return round_sum(product, c, product + c)


def round_sum(product: Real, addend: Real, total: Real) -> np.ndarray:
    """The exact sum of two float64, rounded once to float32.

    A sum that is first rounded to float64 may come to lie halfway between two float32, and is then
    rounded to the wrong one. Where that can be, the float64 is rounded to odd instead.

    Args:
        product, addend: float64, or float32 taken as such, which are broadcast.
        total: their sum in float64.
    """
    result = np.asarray(total).astype(np.float32)
    bits = np.asarray(total).view(np.int64)
    doubtful = (bits & _DROPPED) == _HALF
    magnitude = np.abs(total)
    small = magnitude < _SMALLEST  # subnormal float32 drop more bits
    if small.any():
        doubtful |= small & (magnitude > 0)
    if doubtful.any():
        pick = np.nonzero(doubtful)
        p = np.broadcast_to(product, result.shape)[pick].astype(np.float64)
        c = np.broadcast_to(addend, result.shape)[pick].astype(np.float64)
        result[pick] = _sum_to_odd(p, c).astype(np.float32)
    return result


def _sum_to_odd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b: exact, or of its two neighbours in float64 the one with an odd last bit."""
    total = a + b
    other = total - a
    error = (a - (total - other)) + (b - other)  # Knuth's two-sum: exact
    even = total.view(np.int64) & 1 == 0
    neighbour = np.nextafter(total, np.copysign(np.inf, error))
    return np.where((error != 0) & even, neighbour, total)


def round_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest bfloat16, ties to even; as float32."""
    return from_bfloat16(to_bfloat16(values))


def tanh(x: np.ndarray) -> np.ndarray:
    """float32, to a few units in the last place."""
    v = np.clip(x, -TANH_LIMIT, TANH_LIMIT)
    square = v * v
    return (v * _horner(square, TANH_P)) / _horner(square, TANH_Q)


def _horner(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    first, *rest = np.array(coefficients, np.float32)
    value = np.full_like(x, first)
    for coefficient in rest:
        value = fma(x, value, coefficient)
    return value


def sigmoid(x: np.ndarray) -> np.ndarray:
    """½·tanh(½·x) + ½, float32."""
    half = np.float32(0.5)
    return fma(half, tanh(half * x), half)


def bilinear_axis(
    size: int, result: int, *, align_corners: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the pixels of a resized axis lie.

    Args:
        size, result: pixels before and after.

    Returns:
        index of the pixel before, of the one after, and the weight of the latter, float32.
    """
    if align_corners:
        scale = np.float32(size - 1) / np.float32(result - 1) if result > 1 else np.float32(0)
        at = np.arange(result, dtype=np.float32) * scale
    else:
        scale = np.float32(size) / np.float32(result)
        half = np.float32(0.5)
        at = np.maximum((np.arange(result, dtype=np.float32) + half) * scale - half, np.float32(0))
    first = np.minimum(np.floor(at), np.float32(size - 1))
    weight = np.clip(at - first, np.float32(0), np.float32(1))
    index = first.astype(np.int64)
    return index, np.minimum(index + 1, size - 1), weight


def bilinear(x: np.ndarray, height: int, width: int, *, align_corners: bool = False) -> np.ndarray:
    """float32 (H, W, C) → (height, width, C)."""
    upper, lower, weight = bilinear_axis(x.shape[0], height, align_corners=align_corners)
    weight = weight[:, None, None]
    rows = (1 - weight) * x[upper] + weight * x[lower]
    left, right, weight = bilinear_axis(x.shape[1], width, align_corners=align_corners)
    weight = weight[:, None]
    return (1 - weight) * rows[:, left] + weight * rows[:, right]


def nearest(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, C) → (height, width, C) by the pixel whose area the result's corner lies in."""
    rows, columns = _nearest_axis(x.shape[0], height), _nearest_axis(x.shape[1], width)
    return x[rows[:, None], columns]


def _nearest_axis(size: int, result: int) -> np.ndarray:
    at = np.arange(result, dtype=np.float32) * (np.float32(size) / np.float32(result))
    return np.minimum(at.astype(np.int64), size - 1)


def upsample_argmax(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """The class map of scores: the largest of their bilinear values; of equal ones the lowest id.

    Args:
        scores: float32 (H, W, C), C ≤ 255, without nan.
        height, width: of the result, in pixels.

    Returns:
        uint8 (height, width).
    """
    upper, lower, down = bilinear_axis(scores.shape[0], height)
    left, right, weight = bilinear_axis(scores.shape[1], width)
    down, weight = down[:, None, None], weight[:, None]
    result = np.empty((height, width), np.uint8)
    step = max(1, (1 << 18) // (width * scores.shape[2]))  # of a MB, so that it stays in the cache
    for start in range(0, height, step):
        part = slice(start, start + step)
        rows = (1 - down[part]) * scores[upper[part]] + down[part] * scores[lower[part]]
        values = (1 - weight) * rows[:, left] + weight * rows[:, right]
        result[part] = values.argmax(axis=2)
    return result
