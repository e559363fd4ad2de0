"""numpy's functions of numbers and of bits by their names, as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ML_processing.compiled.nodes import mathematics as m
from ML_processing.compiled.nodes.tensors import Tensor
from MLTools.NanoML.errors import NanoMLError


def bits_and(x: Tensor, y: Tensor) -> Tensor:
    """The bits that both have; of integers, one must be a constant."""
    if x.kind == "b" and y.kind == "b":
        return x & y
    number, mask = (x, _integer(y)) if _integer(y) is not None else (y, _integer(x))
    if mask is None or mask < 0:
        raise NanoMLError("`&` of integers needs a constant on one side: `(bits & 4) != 0`.")
    found: Any = None
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            part = m.remainder(_shifted(number, bit), number.graph.constant(2)) * (1 << bit)
            found = part if found is None else found + part
    return number * 0 if found is None else found


def _shifted(x: Tensor, bits: int) -> Tensor:
    """X >> bits, rounded down for negative numbers too."""
    step = x.graph.constant(1 << bits)
    return x.graph.arithmetic("Div", x.to("i") - m.remainder(x.to("i"), step), step)


def _integer(x: Tensor) -> int | None:
    """The value of an integer constant."""
    found = x.value
    return int(found) if found is not None and found.ndim == 0 and x.kind == "i" else None


def right_shift(x: Tensor, y: Tensor) -> Tensor:
    """Shift to the right, for a constant y."""
    return _shifted(x, _constant(y, ">>"))


def left_shift(x: Tensor, y: Tensor) -> Tensor:
    """Shift to the left, for a constant y."""
    return x.to("i") * (1 << _constant(y, "<<"))


def _constant(y: Tensor, what: str) -> int:
    found = _integer(y)
    if found is None:
        raise NanoMLError(f"`{what}` needs a constant number of bits.")
    return found


def _booleans(what: str, function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def checked(x: Tensor, y: Tensor) -> Tensor:
        if x.kind != "b" or y.kind != "b":
            raise NanoMLError(f"`{what}` of integers has no counterpart in ONNX: use comparisons.")
        return function(x, y)

    return checked


def _invert(x: Tensor) -> Tensor:
    return ~x if x.kind == "b" else (-x) - 1


# those that `mathematics` has by their names
_SAME = (
    "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "copysign", "cos", "cosh",
    "exp", "expm1", "floor_divide", "fmax", "fmin", "hypot", "isfinite", "isnan", "log", "log1p",
    "maximum", "minimum", "negative", "power", "reciprocal", "remainder", "sign", "sinh", "sqrt",
    "square", "tanh",
)  # fmt: skip

UFUNCS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(m, name) for name in _SAME},
    "add": lambda x, y: x | y if x.kind == y.kind == "b" else x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x & y if x.kind == y.kind == "b" else x * y,
    "divide": lambda x, y: x / y,
    "positive": lambda x: x,
    "fabs": lambda x: m.absolute(x.to("d")),
    "float_power": lambda x, y: m.power(x.to("d"), y.to("d")),
    "cbrt": lambda x: m.sign(x.to("d")) * m.power(m.absolute(x.to("d")), x.graph.constant(1 / 3)),
    "fmod": lambda x, y: x.graph.arithmetic_of("Mod", x.to("d"), y.to("d"), fmod=1),
    "exp2": lambda x: m.power(x.graph.constant(2.0), x),
    "log2": lambda x: m.log(x) / math.log(2),
    "log10": lambda x: m.log(x) / math.log(10),
    "sin": lambda x: x.one("Sin"),
    "tan": lambda x: x.one("Sin") / m.cos(x),
    "degrees": lambda x: x.to("d") * (180 / math.pi),
    "radians": lambda x: x.to("d") * (math.pi / 180),
    "rad2deg": lambda x: x.to("d") * (180 / math.pi),
    "deg2rad": lambda x: x.to("d") * (math.pi / 180),
    "floor": lambda x: x.one("Floor"),
    "ceil": lambda x: x.one("Ceil"),
    "rint": lambda x: x.one("Round"),
    "trunc": lambda x: m.sign(x.to("d")) * m.absolute(x.to("d")).one("Floor"),
    "heaviside": lambda x, y: (x > 0).where(1.0, (x < 0).where(0.0, m.isnan(x).where(x.to("d"), y.to("d")))),
    "isinf": lambda x: m.absolute(x.to("d")).equals(math.inf),
    "signbit": lambda x: m.copysign(x.graph.constant(1.0), x) < 0.0,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "equal": lambda x, y: x.equals(y),
    "not_equal": lambda x, y: ~x.equals(y),
    "logical_and": lambda x, y: m.truth(x) & m.truth(y),
    "logical_or": lambda x, y: m.truth(x) | m.truth(y),
    "logical_xor": lambda x, y: m.truth(x) ^ m.truth(y),
    "logical_not": lambda x: ~m.truth(x),
    "invert": _invert,
    "bitwise_and": bits_and,
    "bitwise_or": _booleans("|", lambda x, y: x | y),
    "bitwise_xor": _booleans("^", lambda x, y: x ^ y),
    "left_shift": left_shift,
    "right_shift": right_shift,
}
"""numpy's functions by their names."""

for _alias, _name in {"mod": "remainder", "true_divide": "divide", "abs": "absolute", "conjugate": "positive"}.items():
    UFUNCS[_alias] = UFUNCS[_name]
assert all(hasattr(np, name) for name in UFUNCS)
