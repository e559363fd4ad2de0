"""ROOT.Math's four-vectors and VectorUtil, for where ROOT is not installed.

A vector keeps the four numbers that its class is named after, as ROOT's does; sums are made of momentum and energy.
Names, conventions and the order of the arithmetic are ROOT's, as in `lorentzvector`.
"""
# ruff: noqa: D102, N802

from __future__ import annotations

import math
import sys
from operator import add, sub
from typing import Any, Callable

from data_processing.eventloop.lorentzvector import getter, rapidity, signed_root, sinh

__all__ = ["PtEtaPhiEVector", "PtEtaPhiMVector", "PxPyPzEVector", "PxPyPzMVector", "VectorUtil"]

_ETA_MAX = 22756.0  # what ROOT adds along the beam, where the pseudorapidity is infinite
_LARGE = sys.float_info.epsilon**-0.25
_TWO_PI = 2 * math.pi


def _cosh(value: float) -> float:
    try:
        return math.cosh(value)
    except OverflowError:
        return math.inf


def _same_as(name: str) -> Callable[[Any], float]:
    """A method under a second name; the class of the object decides which it is."""

    def same(self: Any) -> float:
        return getattr(self, name)()  # type: ignore[no-any-return]

    return same


def _eta(rho: float, z: float) -> float:
    """Pseudorapidity; along the beam it is z and 22756 more."""
    if rho > 0:
        slope = z / rho
        if abs(slope) < _LARGE:
            return math.log(slope + math.sqrt(slope * slope + 1.0))
        return math.log(2.0 * slope + 0.5 / slope) if z > 0 else -math.log(-2.0 * slope)
    return z + math.copysign(_ETA_MAX, z) if z else 0.0


class _FourVector:
    """Four numbers; unless a class has them already, quantities are computed from momentum and energy."""

    __slots__ = ("_v",)

    def __init__(self, a: float = 0.0, b: float = 0.0, c: float = 0.0, d: float = 0.0) -> None:
        self._v = float(a), float(b), float(c), float(d)

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _FourVector:
        """The vector of this class with a momentum and an energy."""
        raise NotImplementedError

    Px, Py, Pz, E = (getter(index) for index in range(4))
    X, Y, Z, T = map(_same_as, ("Px", "Py", "Pz", "E"))
    pt, eta, phi, mass, energy = map(_same_as, ("Pt", "Eta", "Phi", "M", "E"))

    def Pt(self) -> float:
        x, y = self.Px(), self.Py()
        return math.sqrt(x * x + y * y)

    def P2(self) -> float:
        x, y, z = self.Px(), self.Py(), self.Pz()
        return x * x + y * y + z * z

    def P(self) -> float:
        return math.sqrt(self.P2())

    def Eta(self) -> float:
        return _eta(self.Pt(), self.Pz())

    def Phi(self) -> float:
        """Azimuth, from -pi to pi."""
        return math.atan2(self.Py(), self.Px())

    def M2(self) -> float:
        x, y, z, t = self._xyzt()
        return t * t - x * x - y * y - z * z

    def M(self) -> float:
        """Mass; negative if its square is."""
        return signed_root(self.M2())

    def Mt2(self) -> float:
        z, t = self.Pz(), self.E()
        return t * t - z * z

    def Mt(self) -> float:
        """Transverse mass; negative if its square is."""
        return signed_root(self.Mt2())

    def Rapidity(self) -> float:
        return rapidity(self.E(), self.Pz())

    def _xyzt(self) -> tuple[float, float, float, float]:
        return self.Px(), self.Py(), self.Pz(), self.E()

    def Dot(self, other: _FourVector) -> float:
        (x, y, z, t), (ox, oy, oz, ot) = self._xyzt(), other._xyzt()
        return t * ot - x * ox - y * oy - z * oz

    def __add__(self, other: _FourVector) -> _FourVector:
        return self._of(*map(add, self._xyzt(), other._xyzt()))

    def __sub__(self, other: _FourVector) -> _FourVector:
        return self._of(*map(sub, self._xyzt(), other._xyzt()))

    def __iadd__(self, other: _FourVector) -> _FourVector:
        self._v = (self + other)._v
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self._v))})"


class PxPyPzEVector(_FourVector):
    """Momentum along x, y and z, and energy."""

    __slots__ = ()
    SetPxPyPzE = _FourVector.__init__

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _FourVector:
        return cls(x, y, z, t)


class _Massive(_FourVector):
    """The fourth number is the mass."""

    __slots__ = ()
    M = getter(3)

    def M2(self) -> float:
        mass = self._v[3]
        return mass * mass if mass >= 0 else -mass * mass

    def E(self) -> float:
        return math.sqrt(max(self.P2() + self.M2(), 0.0))


class PxPyPzMVector(_Massive):
    """Momentum along x, y and z, and mass."""

    __slots__ = ()

    def Mt2(self) -> float:
        return max(self.P2() + self.M2(), 0.0) - self._v[2] * self._v[2]

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _FourVector:
        return cls(x, y, z, signed_root(t * t - x * x - y * y - z * z))


class _Cylindrical(_FourVector):
    """The first three numbers are transverse momentum, pseudorapidity and azimuth."""

    __slots__ = ()

    def __init__(self, pt: float = 0.0, eta: float = 0.0, phi: float = 0.0, last: float = 0.0) -> None:
        phi = float(phi)
        if not -math.pi < phi <= math.pi:
            phi -= math.floor(phi / _TWO_PI + 0.5) * 2 * math.pi
        self._v = float(pt), float(eta), phi, float(last)

    Pt, Eta, Phi = (getter(index) for index in range(3))

    def Px(self) -> float:
        pt, _, phi, _ = self._v
        return pt * math.cos(phi)

    def Py(self) -> float:
        pt, _, phi, _ = self._v
        return pt * math.sin(phi)

    def Pz(self) -> float:
        pt, eta, _, _ = self._v
        if pt > 0:
            return pt * sinh(eta)
        return eta - math.copysign(_ETA_MAX, eta) if eta else 0.0

    def P(self) -> float:
        pt, eta, _, _ = self._v
        return pt * _cosh(eta) if pt > 0 else abs(self.Pz())

    def P2(self) -> float:
        momentum = self.P()
        return momentum * momentum


class PtEtaPhiEVector(_Cylindrical):
    """Transverse momentum, pseudorapidity, azimuth and energy."""

    __slots__ = ()

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _FourVector:
        rho = math.sqrt(x * x + y * y)
        return cls(rho, _eta(rho, z), math.atan2(y, x), t)

    def M2(self) -> float:
        return self._v[3] * self._v[3] - self.P2()


class PtEtaPhiMVector(_Cylindrical, _Massive):
    """Transverse momentum, pseudorapidity, azimuth and mass."""

    __slots__ = ()

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _FourVector:
        rho = math.sqrt(x * x + y * y)
        return cls(rho, _eta(rho, z), math.atan2(y, x), signed_root(t * t - x * x - y * y - z * z))

    def Mt2(self) -> float:
        return self.M2() + self._v[0] * self._v[0]


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
        return phi * phi + eta * eta  # type: ignore[no-any-return]

    @staticmethod
    def DeltaR(first: Any, second: Any) -> float:
        return math.sqrt(VectorUtil.DeltaR2(first, second))

    @staticmethod
    def InvariantMass(first: Any, second: Any) -> float:
        """Mass of two vectors together; negative if its square is."""
        x, y, z = first.Px() + second.Px(), first.Py() + second.Py(), first.Pz() + second.Pz()
        energy = first.E() + second.E()
        return signed_root(energy * energy - x * x - y * y - z * z)
