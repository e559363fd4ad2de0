"""Arithmetic as in C++: where Python raises an error, the result is infinite or not a number; and methods made of formulas."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Callable, TypeVar

T = TypeVar("T")


def divide(numerator: float, denominator: float) -> float:
    """A quotient; of zero it is infinite or NaN."""
    if denominator:
        return numerator / denominator
    if numerator == 0 or numerator != numerator:
        return math.nan
    return math.copysign(math.inf, numerator) * math.copysign(1.0, denominator)


def root(value: float) -> float:
    """A square root; NaN for a negative number."""
    return math.sqrt(value) if value >= 0 else math.nan


def signed_root(square: float) -> float:
    """The square root, negative for a negative number: ROOT's mass of a space-like vector."""
    return -math.sqrt(-square) if square < 0 else math.sqrt(square)


def hyperbolic(function: Callable[[float], float], value: float) -> float:
    """`math.sinh` or `math.cosh` of a number, also where it is infinite."""
    try:
        return function(value)
    except OverflowError:
        return math.copysign(math.inf, function(math.copysign(1.0, value)))


def rapidity(energy: float, z: float) -> float:
    """Rapidity of an energy and a momentum along the beam."""
    ratio = divide(energy + z, energy - z)
    if ratio > 0:
        return 0.5 * math.log(ratio)
    return -math.inf if ratio == 0 else math.nan


def formulas(numbers: str, table: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Add methods to a class: each has one or more names and returns what a formula makes of `numbers`.

    They are compiled, because a method that calls a function takes twice as long as one with the formula in it.
    """

    def add_to(kind: type[T]) -> type[T]:
        known = {**vars(math), **globals(), **vars(sys.modules[kind.__module__])}
        for names, formula in table.items():
            exec(f"def method(self):\n    {numbers}\n    return {formula}", known)
            for name in names.split():
                setattr(kind, name, known["method"])
        return kind

    return add_to
