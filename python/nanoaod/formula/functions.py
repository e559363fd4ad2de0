"""Operators and functions of cuts, with ROOT's own answers where mathematics has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARITY", "FUNCTIONS", "OPERATORS", "REDUCTIONS", "Floats"]

Floats = NDArray[np.float64]


def _modulo(left: Floats, right: Floats) -> Floats:
    return np.fmod(left.astype(np.int64), right.astype(np.int64)).astype(np.float64)


def _bits(operation: Callable[..., Any]) -> Callable[[Floats, Floats], Floats]:
    def apply(left: Floats, right: Floats) -> Floats:
        integers = (operand.astype(np.int64).view(np.uint64) for operand in (left, right))
        return operation(*integers).astype(np.float64)

    return apply


def _positive(function: Callable[..., Any]) -> Callable[[Floats], Floats]:
    return lambda x: np.where(x > 0, function(np.where(x > 0, x, 1)), 0)


def _truth(operation: Callable[..., Any]) -> Callable[..., Floats]:
    return lambda *operands: operation(*operands).astype(np.float64)


OPERATORS: dict[str, Callable[..., Any]] = {
    "<": _truth(np.less),
    ">": _truth(np.greater),
    "<=": _truth(np.less_equal),
    ">=": _truth(np.greater_equal),
    "==": _truth(np.equal),
    "!=": _truth(np.not_equal),
    "!": _truth(lambda x: x == 0),
    "negative": np.negative,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": lambda x, y: np.where(y == 0, 0, x / np.where(y == 0, 1, y)),
    "%": _modulo,
    "^": np.power,
    "**": np.power,
    "&": _bits(np.bitwise_and),
    "|": _bits(np.bitwise_or),
    "<<": _bits(np.left_shift),
    ">>": _bits(np.right_shift),
}
"""What operators do."""

# ROOT has answers of its own where there is none; TMath has those of C
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "fabs": (1, np.abs),
    "sqrt": (1, lambda x: np.sqrt(np.abs(x))),
    "pow": (2, np.power),
    "sq": (1, np.square),
    "min": (2, lambda x, y: np.where(y < x, y, x)),
    "max": (2, lambda x, y: np.where(x < y, y, x)),
    "exp": (1, lambda x: np.where(x < -700, 0, np.exp(np.minimum(x, 700)))),
    "log": (1, _positive(np.log)),
    "log10": (1, _positive(np.log10)),
    "cos": (1, np.cos),
    "sin": (1, np.sin),
    "cosh": (1, np.cosh),
    "sinh": (1, np.sinh),
    "tanh": (1, np.tanh),
    "atan2": (2, np.arctan2),
    "int": (1, np.trunc),
    "floor": (1, np.floor),
    "ceil": (1, np.ceil),
    "TMath::Abs": (1, np.abs),
    "TMath::Sqrt": (1, np.sqrt),
    "TMath::Power": (2, np.power),
    "TMath::Min": (2, lambda x, y: np.where(x <= y, x, y)),
    "TMath::Max": (2, lambda x, y: np.where(x >= y, x, y)),
    "TMath::Exp": (1, np.exp),
    "TMath::Log": (1, np.log),
    "TMath::Log10": (1, np.log10),
    "TMath::Cos": (1, np.cos),
    "TMath::Sin": (1, np.sin),
    "TMath::CosH": (1, np.cosh),
    "TMath::SinH": (1, np.sinh),
    "TMath::TanH": (1, np.tanh),
    "TMath::ATan2": (2, np.arctan2),
}
"""Number of arguments of functions, and what they do."""

REDUCTIONS = ("Sum$", "Max$", "Min$", "Length$")
"""What makes one number of all elements of an event."""
ARITY = {
    **{name: arity for name, (arity, _) in FUNCTIONS.items()},
    **dict.fromkeys(REDUCTIONS, 1),
    "Alt$": 2,
}
"""Number of arguments of whatever is written with parentheses."""
