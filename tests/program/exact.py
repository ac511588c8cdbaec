"""float32 arithmetic by fractions: slow, and rounded by nobody but this file."""

from fractions import Fraction

import numpy as np


def round_to_float32(exact: Fraction) -> float:
    """The nearest float32, ties to even, with subnormals and overflow; 0 is +0."""
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(size / step) * step  # Fraction's round goes to even
    if rounded >= Fraction(2) ** 128:
        return float("inf") if exact > 0 else -float("inf")
    return float(rounded if exact > 0 else -rounded)


def fma(a: float, b: float, c: float) -> float:
    """a·b + c, rounded once."""
    return round_to_float32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


fma_array = np.vectorize(fma, otypes=[np.float32])
