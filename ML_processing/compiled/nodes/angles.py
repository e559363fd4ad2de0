"""Trigonometric and hyperbolic functions and their inverses, in float64.

ONNX Runtime has Sin and Exp for this type, but not Cos, Atan and others: they are made of those that it has.
"""

from __future__ import annotations

import math

from ML_processing.compiled.nodes.mathematics import absolute, exp, log, log1p, reciprocal, sign, sqrt
from ML_processing.compiled.nodes.tensors import Tensor


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


def arctan(x: Tensor) -> Tensor:
    """The angle of (1, x)."""
    return arctan2(x, x.graph.constant(1.0))


def arcsin(x: Tensor) -> Tensor:
    """The angle whose sine is x."""
    x = x.to("d")
    return arctan2(x, sqrt((x + 1.0) * ((-x) + 1.0)))


def arccos(x: Tensor) -> Tensor:
    """The angle whose cosine is x."""
    x = x.to("d")
    return arctan2(sqrt((x + 1.0) * ((-x) + 1.0)), x)
