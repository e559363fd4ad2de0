"""Arithmetic as in C++: where Python raises an error, the result is infinite or not a number."""

from __future__ import annotations

import math

__all__ = ["cosh", "divide", "log", "root", "signed_root", "sinh"]


def divide(numerator: float, denominator: float) -> float:
    """A quotient; of zero it is infinite or NaN."""
    if denominator:
        return numerator / denominator
    if numerator == 0 or numerator != numerator:
        return math.nan
    return math.copysign(math.inf, numerator) * math.copysign(1.0, denominator)


def root(value: float) -> float:
    """A square root; NaN of a negative number."""
    return math.sqrt(value) if value >= 0 else math.nan


def signed_root(square: float) -> float:
    """The square root, negative for a negative number."""
    return -math.sqrt(-square) if square < 0 else math.sqrt(square)


def log(value: float) -> float:
    """A natural logarithm; NaN of a negative number."""
    if value > 0:
        return math.log(value)
    return -math.inf if value == 0 else math.nan


def sinh(value: float) -> float:
    """A hyperbolic sine, also where it is infinite."""
    try:
        return math.sinh(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def cosh(value: float) -> float:
    """A hyperbolic cosine, also where it is infinite."""
    try:
        return math.cosh(value)
    except OverflowError:
        return math.inf
