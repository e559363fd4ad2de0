"""numpy's functions of numbers and of bits as ONNX nodes, in float64.

ONNX Runtime has Sin and Exp for this type, but not Cos, Atan and others: they are made of those that it has. The sign of zero may be
lost: its Where does not keep it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor


def exp(x: Tensor) -> Tensor:
    """The exponential function."""
    return x.one("Exp")


def sqrt(x: Tensor) -> Tensor:
    """The square root."""
    return x.one("Sqrt")


def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return x.one("Log")


def log1p(x: Tensor) -> Tensor:
    """log(1 + x) as x log(u) / (u - 1) with u = 1 + x as it is rounded (Higham, Accuracy and stability, 1.14.1)."""
    x = x.to("d")
    u = x + 1.0
    less = u - 1.0
    is_lost = less.equals(0.0)
    return (is_lost | u.equals(math.inf)).where(is_lost.where(x, u), log(u) / is_lost.where(1.0, less) * x)


def reciprocal(x: Tensor) -> Tensor:
    """1 / x."""
    return x.graph.constant(1.0) / x


def absolute(x: Tensor) -> Tensor:
    """The absolute value; that of integers is one."""
    return x.graph.add("Abs", [x], x.kind, x.rank) if x.kind != "b" else x


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return x.graph.add("Sign", [x], x.kind, x.rank)


def power(x: Tensor, y: Tensor) -> Tensor:
    """The power."""
    if x.kind == "i" and y.kind == "i":
        return x.graph.arithmetic("Pow", x.to("d"), y).to("i")
    return x.graph.arithmetic("Pow", x.to("d"), y.to("d"))


def remainder(x: Tensor, y: Tensor) -> Tensor:
    """The rest of the division, with the sign of y."""
    if x.kind != "d" and y.kind != "d":
        x, y = x.to("i"), y.to("i")
        if y.value is not None and (y.value > 0).all():
            return x.graph.arithmetic_of("Mod", x, y, fmod=0)
        # numpy gives 0 for these divisors, of which ONNX Runtime makes errors
        is_zero = y.equals(0) | y.equals(-1)
        return x.graph.arithmetic_of("Mod", x, is_zero.where(1, y), fmod=0)
    rest = x.graph.arithmetic_of("Mod", x.to("d"), y.to("d"), fmod=1)
    return ((rest < 0.0) ^ (y.to("d") < 0.0) & ~rest.equals(0.0)).where(rest + y, rest)


def floor_divide(x: Tensor, y: Tensor) -> Tensor:
    """The largest whole number below x / y; of integers 0 if y is."""
    if "d" not in (x.kind, y.kind):
        x, y = x.to("i"), y.to("i")
        is_zero = y.equals(0)
        return is_zero.where(0, x.graph.arithmetic("Div", x - remainder(x, y), is_zero.where(1, y)))
    x, y = x.to("d"), y.to("d")
    rest = x.graph.arithmetic_of("Mod", x, y, fmod=1)
    whole = (x - rest) / y
    whole = (((rest < 0.0) ^ (y < 0.0)) & ~rest.equals(0.0)).where(whole - 1.0, whole)
    floor = whole.one("Floor")
    return y.equals(0.0).where(x / y, (whole - floor > 0.5).where(floor + 1.0, floor))


def hypot(x: Tensor, y: Tensor) -> Tensor:
    """sqrt(x^2 + y^2), where the squares may be too large or too small for a number."""
    x, y = absolute(x.to("d")), absolute(y.to("d"))
    larger, smaller = maximum(x, y), minimum(x, y)
    ratio = smaller / larger.equals(0.0).where(1.0, larger)
    return (x.equals(math.inf) | y.equals(math.inf)).where(math.inf, larger * sqrt(ratio * ratio + 1.0))


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller number, NaN if one is."""
    return ((x <= y) | isnan(x)).where(x, y)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger number, NaN if one is."""
    return ((x >= y) | isnan(x)).where(x, y)


def copysign(x: Tensor, y: Tensor) -> Tensor:
    """The size of x with the sign of y."""
    size, y = absolute(x.to("d")), y.to("d")
    return ((y < 0.0) | (y.equals(0.0) & (reciprocal(y) < 0.0))).where(-size, size)


def isnan(x: Tensor) -> Tensor:
    """Whether it is NaN."""
    return ~x.equals(x)


def truth(x: Tensor) -> Tensor:
    """Whether it is not 0."""
    return x if x.kind == "b" else ~x.equals(0)


def cos(x: Tensor) -> Tensor:
    """sin(x + pi / 2), to |x| 1e-16."""
    return (x.to("d") + math.pi / 2).one("Sin")


def sinh(x: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / 2; near zero its series, since the difference would lose digits there."""
    x = x.to("d")
    square = x * x
    series = x * (((((square / 110 + 1) * square / 72 + 1) * square / 42 + 1) * square / 20 + 1) * square / 6 + 1)
    return (x.one("Abs") < 0.3).where(series, (exp(x) - exp(-x)) * 0.5)


def cosh(x: Tensor) -> Tensor:
    """(exp(x) + exp(-x)) / 2."""
    return (exp(x) + exp(-x)) * 0.5


def tanh(x: Tensor) -> Tensor:
    """Sinh / cosh, and its limits where these are infinite."""
    x = x.to("d")
    return (x.one("Abs") > 20.0).where(sign(x), sinh(x) / cosh(x))


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1 = 2 exp(x / 2) sinh(x / 2), where that is neither -1 nor very large."""
    x = x.to("d")
    half = x * 0.5
    return (x.one("Abs") > 40.0).where(exp(x) - 1.0, exp(half) * sinh(half) * 2.0)


def arcsinh(x: Tensor) -> Tensor:
    """log(|x| + sqrt(x^2 + 1)) with the sign of x; of large numbers log(2 |x|)."""
    x = x.to("d")
    size = absolute(x)
    near = log1p(size + size * size / (sqrt(size * size + 1.0) + 1.0))
    return sign(x) * (size > 1e9).where(log(size) + math.log(2), near)


def arccosh(x: Tensor) -> Tensor:
    """log(x + sqrt(x^2 - 1)); of large numbers log(2 x)."""
    x = x.to("d")
    above = x - 1.0
    return (x > 1e9).where(log(x) + math.log(2), log1p(above + sqrt(above) * sqrt(x + 1.0)))


def arctanh(x: Tensor) -> Tensor:
    """log((1 + x) / (1 - x)) / 2."""
    x = x.to("d")
    return log1p(x * 2.0 / ((-x) + 1.0)) * 0.5


def arctan2(y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y): first in float32, then the rest, which is so small that its sine is the angle."""
    y, x = y.to("d"), x.to("d")
    near = _angle(y, x)
    sine, cosine = near.one("Sin"), cos(near)
    rest = (y * cosine - x * sine) / (x * cosine + y * sine)
    # infinities have no rest, and of the smallest numbers the digits are too few for one
    return near + (absolute(rest) < 1e-6).where(rest - rest * rest * rest / 3.0, 0.0)


def _angle(y: Tensor, x: Tensor) -> Tensor:
    """The angle to the accuracy of float32."""
    size_y, size_x = absolute(y), absolute(x)
    is_steep = size_y > size_x
    smaller, larger = is_steep.where(size_x, size_y), is_steep.where(size_y, size_x)
    is_zero = larger.equals(0.0)
    ratio = (smaller.equals(larger) & ~is_zero).where(1.0, smaller / is_zero.where(1.0, larger)).to("f")
    angle = ratio.graph.add("Atan", [ratio], "f", ratio.rank).to("d")
    angle = is_steep.where((-angle) + math.pi / 2, angle)
    # 1 / x tells -0.0 from 0.0
    is_left = (x < 0.0) | (x.equals(0.0) & (reciprocal(x) < 0.0))
    is_below = (y < 0.0) | (y.equals(0.0) & (reciprocal(y) < 0.0))
    angle = is_left.where((-angle) + math.pi, angle)
    return is_below.where(-angle, angle)


def arcsin(x: Tensor) -> Tensor:
    """The angle whose sine is x."""
    x = x.to("d")
    return arctan2(x, sqrt((x + 1.0) * ((-x) + 1.0)))


def arccos(x: Tensor) -> Tensor:
    """The angle whose cosine is x."""
    x = x.to("d")
    return arctan2(sqrt((x + 1.0) * ((-x) + 1.0)), x)


def bits_and(x: Tensor, y: Tensor) -> Tensor:
    """The bits that both have; of integers, one must be a constant."""
    if x.kind == "b" and y.kind == "b":
        return x & y
    number, mask = (x, _integer(y)) if _integer(y) is not None else (y, _integer(x))
    if mask is None or mask < 0:
        raise NanoMLError("`&`, `|` and `^` of integers need a constant on one side, not below 0: `(bits & 4) != 0`.")
    found: Any = None
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            part = remainder(_shifted(number, bit), number.graph.constant(2)) * (1 << bit)
            found = part if found is None else found + part
    return number * 0 if found is None else found


def _shifted(x: Tensor, bits: int) -> Tensor:
    """X >> bits, rounded down for negative numbers too."""
    step = x.graph.constant(1 << bits)
    return x.graph.arithmetic("Div", x.to("i") - remainder(x.to("i"), step), step)


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


_NAMED = (
    absolute, arccos, arccosh, arcsin, arcsinh, arctan2, arctanh, copysign, cos, cosh, exp, expm1, floor_divide,
    hypot, isnan, left_shift, log, log1p, maximum, minimum, power, reciprocal, remainder,
    right_shift, sign, sinh, sqrt, tanh,
)  # fmt: skip

UFUNCS: dict[str, Callable[..., Tensor]] = {
    **{each.__name__: each for each in _NAMED},
    "arctan": lambda x: arctan2(x, x.graph.constant(1.0)),
    "fmax": lambda x, y: ((x >= y) | isnan(y)).where(x, y),
    "fmin": lambda x, y: ((x <= y) | isnan(y)).where(x, y),
    "isfinite": lambda x: absolute(x.to("d")) < math.inf,
    "negative": lambda x: -x,
    "square": lambda x: x * x,
    "add": lambda x, y: x | y if x.kind == y.kind == "b" else x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x & y if x.kind == y.kind == "b" else x * y,
    "divide": lambda x, y: x / y,
    "positive": lambda x: x,
    "fabs": lambda x: absolute(x.to("d")),
    "float_power": lambda x, y: power(x.to("d"), y.to("d")),
    "cbrt": lambda x: sign(x.to("d")) * power(absolute(x.to("d")), x.graph.constant(1 / 3)),
    "fmod": lambda x, y: x.graph.arithmetic_of("Mod", x.to("d"), y.to("d"), fmod=1),
    "exp2": lambda x: power(x.graph.constant(2.0), x),
    "log2": lambda x: log(x) / math.log(2),
    "log10": lambda x: log(x) / math.log(10),
    "sin": lambda x: x.one("Sin"),
    "tan": lambda x: x.one("Sin") / cos(x),
    "degrees": lambda x: x.to("d") * (180 / math.pi),
    "radians": lambda x: x.to("d") * (math.pi / 180),
    "rad2deg": lambda x: x.to("d") * (180 / math.pi),
    "deg2rad": lambda x: x.to("d") * (math.pi / 180),
    "floor": lambda x: x.one("Floor"),
    "ceil": lambda x: x.one("Ceil"),
    "rint": lambda x: x.one("Round"),
    "trunc": lambda x: sign(x.to("d")) * absolute(x.to("d")).one("Floor"),
    "heaviside": lambda x, y: (x > 0).where(1.0, (x < 0).where(0.0, isnan(x).where(x.to("d"), y.to("d")))),
    "isinf": lambda x: absolute(x.to("d")).equals(math.inf),
    "signbit": lambda x: copysign(x.graph.constant(1.0), x) < 0.0,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "equal": lambda x, y: x.equals(y),
    "not_equal": lambda x, y: ~x.equals(y),
    "logical_and": lambda x, y: truth(x) & truth(y),
    "logical_or": lambda x, y: truth(x) | truth(y),
    "logical_xor": lambda x, y: truth(x) ^ truth(y),
    "logical_not": lambda x: ~truth(x),
    "invert": lambda x: ~x if x.kind == "b" else (-x) - 1,
    "bitwise_and": bits_and,
    "bitwise_or": lambda x, y: x | y if x.kind == y.kind == "b" else x + y - bits_and(x, y),
    "bitwise_xor": lambda x, y: x ^ y if x.kind == y.kind == "b" else x + y - bits_and(x, y) * 2,
}
"""numpy's functions by their names."""

for _alias, _name in {"mod": "remainder", "true_divide": "divide", "abs": "absolute", "conjugate": "positive"}.items():
    UFUNCS[_alias] = UFUNCS[_name]
assert all(hasattr(np, name) for name in UFUNCS)
