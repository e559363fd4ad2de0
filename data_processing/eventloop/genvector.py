"""ROOT.Math's four-vectors and VectorUtil, for where ROOT is not installed.

A vector keeps the four numbers that its class is named after, as ROOT's does; sums are made of momentum and energy.
Names, conventions and the order of the arithmetic are ROOT's, as in `lorentzvector`.
"""
# ruff: noqa: D102, N802

from __future__ import annotations

import math
import sys
from operator import add, sub
from typing import Any

from data_processing.eventloop.arithmetic import formulas, signed_root

_ETA_MAX = 22756.0  # what ROOT adds along the beam, where the pseudorapidity is infinite
_LARGE = sys.float_info.epsilon**-0.25
_TWO_PI = 2 * math.pi


def _eta(rho: float, z: float) -> float:
    if rho > 0:
        slope = z / rho
        if abs(slope) < _LARGE:
            return math.log(slope + math.sqrt(slope * slope + 1.0))
        return math.log(2.0 * slope + 0.5 / slope) if z > 0 else -math.log(-2.0 * slope)
    return z + math.copysign(_ETA_MAX, z) if z else 0.0


def _polar(x: float, y: float, z: float) -> tuple[float, float, float]:
    rho = math.sqrt(x * x + y * y)
    return rho, _eta(rho, z), math.atan2(y, x)


def _mass(x: float, y: float, z: float, t: float) -> float:
    return signed_root(t * t - x * x - y * y - z * z)


_COMMON = {
    "_xyzt": "self.Px(), self.Py(), self.Pz(), self.E()",
    "Mt": "signed_root(self.Mt2())",
    "Rapidity": "rapidity(self.E(), self.Pz())",
}
_CARTESIAN = {
    "Px X": "x",
    "Py Y": "y",
    "Pz Z": "z",
    "Pt pt": "sqrt(x * x + y * y)",
    "P2": "x * x + y * y + z * z",
    "P": "sqrt(x * x + y * y + z * z)",
    "Eta eta": "_eta(sqrt(x * x + y * y), z)",
    "Phi phi": "atan2(y, x)",
}
_CYLINDRICAL = {
    "Px X": "pt * cos(phi)",
    "Py Y": "pt * sin(phi)",
    "Pz Z": "pt * hyperbolic(sinh, eta) if pt > 0 else eta - copysign(_ETA_MAX, eta) if eta else 0.0",
    "Pt pt": "pt",
    "P2": "(p := self.P()) * p",
    "P": "pt * hyperbolic(cosh, eta) if pt > 0 else abs(self.Pz())",
    "Eta eta": "eta",
    "Phi phi": "phi",
}
_WITH_ENERGY = {"E T energy": "last", "M mass": "signed_root(self.M2())"}
_WITH_MASS = {
    "E T energy": "sqrt(max(self.P2() + self.M2(), 0.0))",
    "M mass": "last",
    "M2": "last * last if last >= 0 else -last * last",
}


class _FourVector:
    """Four numbers, and the arithmetic with momentum and energy that all vectors share."""

    __slots__ = ("_v",)

    def __init__(self, a: float = 0.0, b: float = 0.0, c: float = 0.0, d: float = 0.0) -> None:
        self._v = float(a), float(b), float(c), float(d)

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> Any:
        """The vector of this class with a momentum and an energy."""
        raise NotImplementedError

    def Dot(self: Any, other: Any) -> float:
        (x, y, z, t), (ox, oy, oz, ot) = self._xyzt(), other._xyzt()
        return t * ot - x * ox - y * oy - z * oz

    def __add__(self: Any, other: Any) -> Any:
        return self._of(*map(add, self._xyzt(), other._xyzt()))

    def __sub__(self: Any, other: Any) -> Any:
        return self._of(*map(sub, self._xyzt(), other._xyzt()))

    def __iadd__(self, other: Any) -> Any:
        self._v = (self + other)._v
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self._v))})"


class _Cylindrical(_FourVector):
    """The first three numbers are transverse momentum, pseudorapidity and azimuth."""

    __slots__ = ()

    def __init__(self, pt: float = 0.0, eta: float = 0.0, phi: float = 0.0, last: float = 0.0) -> None:
        phi = float(phi)
        if not -math.pi < phi <= math.pi:
            phi -= math.floor(phi / _TWO_PI + 0.5) * 2 * math.pi
        self._v = float(pt), float(eta), phi, float(last)


@formulas(
    "x, y, z, last = self._v",
    {
        **_COMMON,
        **_CARTESIAN,
        **_WITH_ENERGY,
        "M2": "last * last - x * x - y * y - z * z",
        "Mt2": "last * last - z * z",
    },
)
class PxPyPzEVector(_FourVector):
    """Momentum along x, y and z, and energy."""

    __slots__ = ()
    SetPxPyPzE = _FourVector.__init__

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> Any:
        return cls(x, y, z, t)


@formulas(
    "x, y, z, last = self._v", {**_COMMON, **_CARTESIAN, **_WITH_MASS, "Mt2": "max(self.P2() + self.M2(), 0.0) - z * z"}
)
class PxPyPzMVector(_FourVector):
    """Momentum along x, y and z, and mass."""

    __slots__ = ()

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> Any:
        return cls(x, y, z, _mass(x, y, z, t))


@formulas(
    "pt, eta, phi, last = self._v",
    {
        **_COMMON,
        **_CYLINDRICAL,
        **_WITH_ENERGY,
        "M2": "last * last - self.P2()",
        "Mt2": "last * last - (z := self.Pz()) * z",
    },
)
class PtEtaPhiEVector(_Cylindrical):
    """Transverse momentum, pseudorapidity, azimuth and energy."""

    __slots__ = ()

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> Any:
        return cls(*_polar(x, y, z), t)


@formulas("pt, eta, phi, last = self._v", {**_COMMON, **_CYLINDRICAL, **_WITH_MASS, "Mt2": "self.M2() + pt * pt"})
class PtEtaPhiMVector(_Cylindrical):
    """Transverse momentum, pseudorapidity, azimuth and mass."""

    __slots__ = ()

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> Any:
        return cls(*_polar(x, y, z), _mass(x, y, z, t))


class VectorUtil:
    """Relations between two vectors."""

    @staticmethod
    def DeltaPhi(first: Any, second: Any) -> float:
        """Azimuth of the second vector relative to the first's, from -pi to pi."""
        phi: float = second.Phi() - first.Phi()
        if phi > math.pi:
            return phi - _TWO_PI
        return phi + _TWO_PI if phi <= -math.pi else phi

    @staticmethod
    def DeltaR2(first: Any, second: Any) -> float:
        phi, eta = VectorUtil.DeltaPhi(first, second), second.Eta() - first.Eta()
        return phi * phi + eta * eta

    @staticmethod
    def DeltaR(first: Any, second: Any) -> float:
        return math.sqrt(VectorUtil.DeltaR2(first, second))

    @staticmethod
    def InvariantMass(first: Any, second: Any) -> float:
        """Mass of two vectors together; negative if its square is."""
        x, y, z = first.Px() + second.Px(), first.Py() + second.Py(), first.Pz() + second.Pz()
        return _mass(x, y, z, first.E() + second.E())
