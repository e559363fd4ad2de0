"""Four-vectors (and those of two and three dimensions) in a graph: the formulas of the package vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import mathematics as m
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Value, aligned, elementwise

_NAMES = {
    "rho": ("pt", "rho"),
    "phi": ("phi",),
    "eta": ("eta",),
    "theta": ("theta",),
    "x": ("px", "x"),
    "y": ("py", "y"),
    "z": ("pz", "z"),
    "t": ("E", "e", "energy", "t"),
    "tau": ("mass", "m", "M", "tau"),
}
"""Fields by which a coordinate may be known."""

_COORDINATE = {name: coordinate for coordinate, names in _NAMES.items() for name in names}


def _given(vector: Value, coordinate: str) -> Optional[Value]:
    fields = vector.fields or {}
    return next((fields[name].if_valid(vector.valid) for name in _NAMES[coordinate] if name in fields), None)


def _of(function: Callable[..., Tensor], vector: Value, *coordinates: str) -> Value:
    return elementwise(
        lambda *tensors: function(*(each.to("d") for each in tensors)), *(component(vector, c) for c in coordinates)
    )


def _pz(rho: Tensor, eta: Tensor) -> Tensor:
    """Rho sinh(eta); an error of 1e-16 rho near eta = 0 does no harm here."""
    growth = m.exp(eta)
    return rho * ((growth - growth.graph.constant(1.0) / growth) * 0.5)


def _positive(x: Tensor) -> Tensor:
    """x, or 0 below."""
    return x.graph.arithmetic("Max", x, 0.0)


_FROM: dict[str, tuple[tuple[tuple[str, ...], Callable[..., Tensor]], ...]] = {
    "x": ((("rho", "phi"), lambda rho, phi: rho * m.cos(phi)),),
    "y": ((("rho", "phi"), lambda rho, phi: rho * phi.one("Sin")),),
    "rho": ((("x", "y"), lambda x, y: m.sqrt(x * x + y * y)),),
    "phi": ((("x", "y"), lambda x, y: m.arctan2(y, x)),),
    "z": ((("rho", "eta"), _pz), (("rho", "theta"), lambda rho, theta: rho * m.cos(theta) / theta.one("Sin"))),
    "eta": (
        (("theta",), lambda theta: -m.log((theta * 0.5).one("Sin") / m.cos(theta * 0.5))),
        (("rho", "z"), lambda rho, z: m.arcsinh(z / rho)),
    ),
    "t": ((("mag2", "tau"), lambda mag2, tau: m.sqrt(_positive(tau * m.absolute(tau) + mag2))),),
    "tau": ((("tau2",), lambda tau2: m.sign(tau2) * m.sqrt(m.absolute(tau2))),),
    "mag2": ((("x", "y", "z"), lambda x, y, z: x * x + y * y + z * z),),
    "tau2": ((("tau",), lambda tau: tau * m.absolute(tau)), (("t", "mag2"), lambda t, mag2: t * t - mag2)),
    "mag": ((("mag2",), m.sqrt),),
    "rho2": ((("rho",), lambda rho: rho * rho),),
    "theta": ((("rho", "z"), m.arctan2),),
    "costheta": ((("z", "mag"), lambda z, mag: z / mag),),
    "rapidity": ((("t", "z"), lambda t, z: m.log((t + z) / (t - z)) * 0.5),),
    "Et": ((("t", "rho", "mag"), lambda t, rho, mag: t * rho / mag),),
    "Mt": ((("t", "z"), lambda t, z: m.sqrt(_positive(t * t - z * z))),),
    "beta": ((("t", "mag"), lambda t, mag: mag / t),),
    "gamma": ((("t", "tau"), lambda t, tau: t / tau),),
}
"""Coordinates from others, the first way that is possible."""

COMPONENTS = {
    **_COORDINATE,
    "p": "mag",
    "p2": "mag2",
    "pt2": "rho2",
    **dict.fromkeys(("mass2", "m2", "M2"), "tau2"),
    "pseudorapidity": "eta",
    **dict.fromkeys(("et", "transverse_energy"), "Et"),
    **dict.fromkeys(("mt", "transverse_mass"), "Mt"),
    **{name: name for name in _FROM},
}
"""The names that a user may have for them."""


def _can(vector: Value, coordinate: str, seen: frozenset[str] = frozenset()) -> bool:
    if coordinate in _NAMES and _given(vector, coordinate) is not None:
        return True
    if coordinate in seen:
        return False
    ways = _FROM.get(coordinate, ())
    return any(all(_can(vector, each, seen | {coordinate}) for each in needed) for needed, _ in ways)


def component(vector: Value, coordinate: str) -> Value:
    """A coordinate, or what follows from them, as float64."""
    if coordinate in _NAMES:
        found = _given(vector, coordinate)
        if found is not None:
            return found
    for needed, function in _FROM.get(coordinate, ()):
        if all(_can(vector, each, frozenset({coordinate})) for each in needed):
            return _of(function, vector, *needed)
    raise NanoMLError(f"these vectors have no {coordinate}: their fields are {', '.join(vector.fields or {})}.")


def deltaphi(one: Value, other: Value) -> Value:
    """The angle from one to the other, from -pi to pi."""

    def angle(first: Tensor, second: Tensor) -> Tensor:
        difference = first.to("d") - second
        return difference - ((difference + math.pi) / (2 * math.pi)).one("Floor") * (2 * math.pi)

    return elementwise(angle, component(one, "phi"), component(other, "phi"))


def deltaeta(one: Value, other: Value) -> Value:
    """The difference of the pseudorapidities."""
    return elementwise(lambda first, second: first.to("d") - second, component(one, "eta"), component(other, "eta"))


def _squares(phi: Tensor, eta: Tensor) -> Tensor:
    return phi * phi + eta * eta


def _dot(one: Value, other: Value) -> Value:
    parts = [
        elementwise(lambda a, b: a * b, component(one, c), component(other, c))
        for c in ("t", "x", "y", "z")
        if _can(one, c)
    ]
    if not _can(one, "t"):
        return reduce(lambda a, b: elementwise(Tensor.__add__, a, b), parts)
    time, *space = parts
    return reduce(lambda a, b: elementwise(Tensor.__sub__, a, b), space, time)


METHODS: dict[str, Callable[[Value, Value], Value]] = {
    "deltaphi": deltaphi,
    "deltaeta": deltaeta,
    "deltaR2": lambda one, other: elementwise(_squares, deltaphi(one, other), deltaeta(one, other)),
    "deltaR": lambda one, other: elementwise(
        lambda p, e: m.sqrt(_squares(p, e)), deltaphi(one, other), deltaeta(one, other)
    ),
    "delta_phi": deltaphi,
    "delta_r": lambda one, other: METHODS["deltaR"](one, other),
    "dot": _dot,
    "add": lambda one, other: added(one, other, Tensor.__add__),
    "subtract": lambda one, other: added(one, other, Tensor.__sub__),
}
"""Methods with another vector."""

_CARTESIAN = ("x", "y", "z", "t")


def _cartesian(vector: Value) -> dict[str, Value]:
    return {each: component(vector, each) for each in _CARTESIAN if _can(vector, each)}


def _record(fields: dict[str, Value], name: str) -> Value:
    first = next(iter(fields.values()))
    return Value(first.graph, first.axes, fields=fields, name=name)


def added(one: Value, other: Value, function: Callable[[Tensor, Tensor], Tensor]) -> Value:
    """The sum or difference of two vectors, by their cartesian coordinates."""
    first, second = (_cartesian(each) for each in aligned([one, other]))
    parts = {name: elementwise(function, first[name], second[name]) for name in first if name in second}
    made = _record(parts, one.name)
    if "t" not in parts or not (_by_mass(one) or _by_mass(other)):
        return made
    parts["tau"] = component(made, "tau")
    if function is Tensor.__sub__:  # by its mass a vector has no negative energy
        del parts["t"]
    return _record(parts, one.name)


def _by_mass(vector: Value) -> bool:
    """Whether the package vector keeps the mass of these, not the energy."""
    return _given(vector, "tau") is not None


def _scaled(vector: Value, function: Callable[[Value], Value]) -> Value:
    """Vectors times a number, whose sign the mass does not get."""
    parts = {name: function(each) for name, each in _cartesian(vector).items()}
    if _by_mass(vector):
        del parts["t"]
        tau = component(vector, "tau")
        sign, size = (elementwise(each, tau) for each in (m.sign, m.absolute))
        parts["tau"] = elementwise(Tensor.__mul__, sign, elementwise(m.absolute, function(size)))
    return _record(parts, vector.name)


def vector_ufunc(name: str, values: Sequence[Value]) -> Value:
    """Operators of vectors: sums, differences, products with numbers, absolute values."""
    if name in ("add", "subtract") and all(each.fields is not None for each in values):
        return added(values[0], values[1], Tensor.__add__ if name == "add" else Tensor.__sub__)
    if name in ("absolute", "negative"):
        vector = values[0]
        if name == "absolute":
            return component(vector, "tau" if _can(vector, "tau") else "mag" if _can(vector, "mag") else "rho")
        return _scaled(vector, lambda each: elementwise(Tensor.__neg__, each))
    if name in ("multiply", "divide") and len({each.fields is None for each in values}) == 2:
        vector, factor = values if values[0].fields is not None else values[::-1]
        if name == "multiply" or vector is values[0]:
            function = Tensor.__mul__ if name == "multiply" else Tensor.__truediv__
            return _scaled(vector, lambda each: elementwise(function, each, factor))
    raise NanoMLError(f"np.{name} of records cannot be compiled: take their fields, as in `.pt`.")
