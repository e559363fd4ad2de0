"""Four-vectors with the methods that ROOT.Math's have, and the functions of its VectorUtil.

A vector keeps the four numbers that its class is named after, as ROOT's does: sums are made of momentum and energy.
"""
# ruff: noqa: N802

from __future__ import annotations

import math
import sys

from data_processing.eventloop.floats import cosh, divide, log, signed_root, sinh

__all__ = ["PtEtaPhiEVector", "PtEtaPhiMVector", "PxPyPzEVector", "PxPyPzMVector", "VectorUtil"]

_LARGE = sys.float_info.epsilon**-0.25
_ETA_MAX = 22756.0  # what ROOT adds along the beam, where the pseudorapidity is infinite


def _eta(rho: float, z: float) -> float:
    if rho > 0:
        slope = z / rho
        if abs(slope) < _LARGE:
            return math.log(slope + math.sqrt(slope * slope + 1.0))
        return math.log(2.0 * slope + 0.5 / slope) if z > 0 else -math.log(-2.0 * slope)
    if z == 0:
        return 0.0
    return z + _ETA_MAX if z > 0 else z - _ETA_MAX


def _restricted(phi: float) -> float:
    if -math.pi < phi <= math.pi:
        return phi
    return phi - math.floor(phi / (2 * math.pi) + 0.5) * 2 * math.pi


class _Vector:
    """What all coordinate systems share, computed from momentum and energy."""

    def __init__(self, a: float = 0.0, b: float = 0.0, c: float = 0.0, d: float = 0.0) -> None:
        self._a, self._b, self._c, self._d = float(a), float(b), float(c), float(d)

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _Vector:
        """The vector of this class with a momentum and an energy."""
        raise NotImplementedError

    def Px(self) -> float:
        """Momentum along x."""
        return self._a

    def Py(self) -> float:
        """Momentum along y."""
        return self._b

    def Pz(self) -> float:
        """Momentum along the beam."""
        return self._c

    def E(self) -> float:
        """Energy."""
        return self._d

    def Pt(self) -> float:
        """Transverse momentum."""
        return math.sqrt(self.Px() * self.Px() + self.Py() * self.Py())

    def P2(self) -> float:
        """Square of the momentum."""
        return self.Px() * self.Px() + self.Py() * self.Py() + self.Pz() * self.Pz()

    def P(self) -> float:
        """Momentum."""
        return math.sqrt(self.P2())

    def Eta(self) -> float:
        """Pseudorapidity."""
        return _eta(self.Pt(), self.Pz())

    def Phi(self) -> float:
        """Azimuth, from -pi to pi."""
        return math.atan2(self.Py(), self.Px())

    def M2(self) -> float:
        """Square of the mass."""
        return self.E() * self.E() - self.Px() * self.Px() - self.Py() * self.Py() - self.Pz() * self.Pz()

    def M(self) -> float:
        """Mass; negative where its square is."""
        return signed_root(self.M2())

    def Mt2(self) -> float:
        """Square of the transverse mass."""
        return self.E() * self.E() - self.Pz() * self.Pz()

    def Mt(self) -> float:
        """Transverse mass; negative where its square is."""
        return signed_root(self.Mt2())

    def Rapidity(self) -> float:
        """Rapidity."""
        return 0.5 * log(divide(self.E() + self.Pz(), self.E() - self.Pz()))

    # lower case and short names of the same
    def X(self) -> float:
        """Momentum along x."""
        return self.Px()

    def Y(self) -> float:
        """Momentum along y."""
        return self.Py()

    def Z(self) -> float:
        """Momentum along the beam."""
        return self.Pz()

    def T(self) -> float:
        """Energy."""
        return self.E()

    def pt(self) -> float:
        """Transverse momentum."""
        return self.Pt()

    def eta(self) -> float:
        """Pseudorapidity."""
        return self.Eta()

    def phi(self) -> float:
        """Azimuth."""
        return self.Phi()

    def mass(self) -> float:
        """Mass."""
        return self.M()

    def energy(self) -> float:
        """Energy."""
        return self.E()

    def Dot(self, other: _Vector) -> float:
        """Scalar product, with the metric (-, -, -, +)."""
        return self.E() * other.E() - self.Px() * other.Px() - self.Py() * other.Py() - self.Pz() * other.Pz()

    def __add__(self, other: _Vector) -> _Vector:
        return self._of(
            self.Px() + other.Px(), self.Py() + other.Py(), self.Pz() + other.Pz(), self.E() + other.E()
        )

    def __sub__(self, other: _Vector) -> _Vector:
        return self._of(
            self.Px() - other.Px(), self.Py() - other.Py(), self.Pz() - other.Pz(), self.E() - other.E()
        )

    def __iadd__(self, other: _Vector) -> _Vector:
        total = self + other
        self._a, self._b, self._c, self._d = total._a, total._b, total._c, total._d
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._a}, {self._b}, {self._c}, {self._d})"


class PxPyPzEVector(_Vector):
    """Momentum along x, y and z, and energy."""

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _Vector:
        return cls(x, y, z, t)

    def SetPxPyPzE(self, px: float, py: float, pz: float, e: float) -> None:
        """Set momentum and energy."""
        self._a, self._b, self._c, self._d = float(px), float(py), float(pz), float(e)


class PxPyPzMVector(_Vector):
    """Momentum along x, y and z, and mass."""

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _Vector:
        return cls(x, y, z, PxPyPzEVector(x, y, z, t).M())

    def M(self) -> float:
        """Mass."""
        return self._d

    def M2(self) -> float:
        """Square of the mass."""
        return self._d * self._d if self._d >= 0 else -self._d * self._d

    def Mt2(self) -> float:
        """Square of the transverse mass."""
        return max(self.P2() + self.M2(), 0.0) - self._c * self._c

    def E(self) -> float:
        """Energy."""
        return math.sqrt(max(self.P2() + self.M2(), 0.0))


class _Cylindrical(_Vector):
    def __init__(self, pt: float = 0.0, eta: float = 0.0, phi: float = 0.0, last: float = 0.0) -> None:
        super().__init__(pt, eta, _restricted(float(phi)), last)

    def Pt(self) -> float:
        """Transverse momentum."""
        return self._a

    def Eta(self) -> float:
        """Pseudorapidity."""
        return self._b

    def Phi(self) -> float:
        """Azimuth, from -pi to pi."""
        return self._c

    def Px(self) -> float:
        """Momentum along x."""
        return self._a * math.cos(self._c)

    def Py(self) -> float:
        """Momentum along y."""
        return self._a * math.sin(self._c)

    def Pz(self) -> float:
        """Momentum along the beam."""
        if self._a > 0:
            return self._a * sinh(self._b)
        return 0.0 if self._b == 0 else self._b - _ETA_MAX if self._b > 0 else self._b + _ETA_MAX

    def P(self) -> float:
        """Momentum."""
        return self._a * cosh(self._b) if self._a > 0 else abs(self.Pz())

    def P2(self) -> float:
        """Square of the momentum."""
        return self.P() * self.P()


class PtEtaPhiEVector(_Cylindrical):
    """Transverse momentum, pseudorapidity, azimuth and energy."""

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _Vector:
        plain = PxPyPzEVector(x, y, z, t)
        return cls(plain.Pt(), plain.Eta(), plain.Phi(), t)

    def M2(self) -> float:
        """Square of the mass."""
        return self._d * self._d - self.P() * self.P()


class PtEtaPhiMVector(_Cylindrical):
    """Transverse momentum, pseudorapidity, azimuth and mass."""

    @classmethod
    def _of(cls, x: float, y: float, z: float, t: float) -> _Vector:
        plain = PxPyPzEVector(x, y, z, t)
        return cls(plain.Pt(), plain.Eta(), plain.Phi(), plain.M())

    def M(self) -> float:
        """Mass."""
        return self._d

    def M2(self) -> float:
        """Square of the mass."""
        return self._d * self._d if self._d >= 0 else -self._d * self._d

    def Mt2(self) -> float:
        """Square of the transverse mass."""
        return self.M2() + self._a * self._a

    def E(self) -> float:
        """Energy."""
        return math.sqrt(max(self.P2() + self.M2(), 0.0))


class VectorUtil:
    """Relations between two vectors."""

    @staticmethod
    def DeltaPhi(first: _Vector, second: _Vector) -> float:
        """Azimuth of the second vector relative to the first's, from -pi to pi."""
        phi = second.Phi() - first.Phi()
        if phi > math.pi:
            return phi - 2 * math.pi
        return phi + 2 * math.pi if phi <= -math.pi else phi

    @staticmethod
    def DeltaR2(first: _Vector, second: _Vector) -> float:
        """Square of the distance in pseudorapidity and azimuth."""
        phi, eta = VectorUtil.DeltaPhi(first, second), second.Eta() - first.Eta()
        return phi * phi + eta * eta

    @staticmethod
    def DeltaR(first: _Vector, second: _Vector) -> float:
        """Distance in pseudorapidity and azimuth."""
        return math.sqrt(VectorUtil.DeltaR2(first, second))

    @staticmethod
    def InvariantMass(first: _Vector, second: _Vector) -> float:
        """Mass of two vectors together; negative where its square is."""
        x, y, z = first.Px() + second.Px(), first.Py() + second.Py(), first.Pz() + second.Pz()
        energy = first.E() + second.E()
        return signed_root(energy * energy - x * x - y * y - z * z)
