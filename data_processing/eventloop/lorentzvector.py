"""ROOT's TVector2, TVector3 and TLorentzVector, for where ROOT is not installed.

Names, conventions and the order of the arithmetic are ROOT's, so that results agree to the last bit; ROOT's
documentation describes the methods (https://root.cern/doc/master/classTLorentzVector.html). Energies are in GeV,
angles in radians. Components are plain Python numbers: objects of the package vector take 20 to 45 times as long
(bench/fourvectors.py).
"""
# ruff: noqa: D102, N802

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import add, neg, sub
from typing import Any, Callable, ClassVar

__all__ = ["TLorentzVector", "TVector2", "TVector3", "divide", "getter", "rapidity", "signed_root", "sinh"]

_TWO_PI = 2 * math.pi
_FAR = 10e10  # the pseudorapidity of a TVector3 along the beam


# arithmetic as in C++: where Python raises an error, the result is infinite or not a number


def divide(numerator: float, denominator: float) -> float:
    """A quotient; of zero it is infinite or NaN."""
    if denominator:
        return numerator / denominator
    if numerator == 0 or numerator != numerator:
        return math.nan
    return math.copysign(math.inf, numerator) * math.copysign(1.0, denominator)


def root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def signed_root(square: float) -> float:
    """The square root, negative for a negative number: ROOT's mass of a space-like vector."""
    return -math.sqrt(-square) if square < 0 else math.sqrt(square)


def rapidity(energy: float, z: float) -> float:
    """Rapidity of an energy and a momentum along the beam."""
    ratio = divide(energy + z, energy - z)
    if ratio > 0:
        return 0.5 * math.log(ratio)
    return -math.inf if ratio == 0 else math.nan


def sinh(value: float) -> float:
    """A hyperbolic sine, also where it is infinite."""
    try:
        return math.sinh(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def getter(index: int) -> Callable[[Any], float]:
    """A method that returns one of a vector's numbers."""

    def get(self: Any) -> float:
        return self._v[index]  # type: ignore[no-any-return]

    return get


def _setter(index: int) -> Callable[[Any, float], None]:
    def put(self: Any, value: float) -> None:
        self._v = (*self._v[:index], float(value), *self._v[index + 1 :])

    return put


class _Vector:
    """Components, and the arithmetic that all vectors share."""

    __slots__ = ("_v",)
    _v: tuple[float, ...]
    _class: ClassVar[type[_Vector]]  # of results: a sum of objects of a user's subclass is of ROOT's class

    def __init__(self, *components: Any) -> None:
        self._v = tuple(map(float, components))

    X, Y = Px, Py = getter(0), getter(1)
    SetX, SetY = _setter(0), _setter(1)

    def _made(self, components: Iterable[float]) -> Any:
        made = self._class.__new__(self._class)
        made._v = tuple(components)
        return made

    def _dot(self, other: Any) -> float:
        raise NotImplementedError

    def __iter__(self) -> Iterator[float]:
        return iter(self._v)

    def __getitem__(self, index: int) -> float:
        return self._v[index]

    def __add__(self, other: Any) -> Any:
        return self._made(map(add, self._v, other._v)) if isinstance(other, self._class) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self._made(map(sub, self._v, other._v)) if isinstance(other, self._class) else NotImplemented

    def __iadd__(self, other: Any) -> Any:
        if not isinstance(other, self._class):
            return NotImplemented
        self._v = tuple(map(add, self._v, other._v))
        return self

    def __isub__(self, other: Any) -> Any:
        if not isinstance(other, self._class):
            return NotImplemented
        self._v = tuple(map(sub, self._v, other._v))
        return self

    def __neg__(self) -> Any:
        return self._made(map(neg, self._v))

    def __mul__(self, other: Any) -> Any:
        return self._dot(other) if isinstance(other, self._class) else self._made(self._scaled(other))

    def __rmul__(self, other: float) -> Any:
        return self._made(self._scaled(other))

    def __imul__(self, other: float) -> Any:  # type: ignore[misc]
        self._v = self._scaled(other)
        return self

    def _scaled(self, factor: float) -> tuple[float, ...]:
        factor = float(factor)
        return tuple([component * factor for component in self._v])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self._class) and self._v == other._v

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{self._class.__name__}({', '.join(map(str, self._v))})"


class TVector2(_Vector):
    """A vector in the transverse plane, of its components or of another one."""

    __slots__ = ()

    def __init__(self, x: Any = 0.0, y: float = 0.0) -> None:
        self._v = x._v if isinstance(x, TVector2) else (float(x), float(y))

    Set = __init__

    @staticmethod
    def Phi_mpi_pi(x: float) -> float:
        """An angle, brought to -pi <= angle < pi."""
        if not math.isfinite(x):
            return x
        while x >= math.pi:
            x -= _TWO_PI
        while x < -math.pi:
            x += _TWO_PI
        return x

    @staticmethod
    def Phi_0_2pi(x: float) -> float:
        """An angle, brought to 0 <= angle < 2 pi."""
        if not math.isfinite(x):
            return x
        while x >= _TWO_PI:
            x -= _TWO_PI
        while x < 0.0:
            x += _TWO_PI
        return x

    def SetMagPhi(self, mag: float, phi: float) -> None:
        self._v = abs(mag) * math.cos(phi), abs(mag) * math.sin(phi)

    def _dot(self, other: TVector2) -> float:
        return self._v[0] * other._v[0] + self._v[1] * other._v[1]

    def Mod2(self) -> float:
        return self._dot(self)

    def Mod(self) -> float:
        return math.sqrt(self._dot(self))

    Mag = Mod

    def Phi(self) -> float:
        """Azimuth, from 0 to 2 pi."""
        x, y = self._v
        return math.pi + math.atan2(-y, -x)

    def DeltaPhi(self, v: TVector2) -> float:
        return self.Phi_mpi_pi(self.Phi() - v.Phi())

    def Unit(self) -> TVector2:
        return self / self.Mod() if self.Mod2() else TVector2()

    def Rotate(self, phi: float) -> TVector2:
        (x, y), cosine, sine = self._v, math.cos(phi), math.sin(phi)
        return TVector2(x * cosine - y * sine, x * sine + y * cosine)

    def __truediv__(self, other: float) -> TVector2:
        return TVector2(*(divide(component, other) for component in self._v))


class _Momentum(_Vector):
    """What three- and four-vectors share: the first three components, and what follows from them."""

    __slots__ = ()
    Z = Pz = getter(2)
    SetZ = _setter(2)

    def Perp2(self) -> float:
        x, y = self._v[0], self._v[1]
        return x * x + y * y

    def Perp(self) -> float:
        x, y = self._v[0], self._v[1]
        return math.sqrt(x * x + y * y)

    Pt = Perp

    def _length2(self) -> float:
        x, y, z = self._v[:3]
        return x * x + y * y + z * z

    def _length(self) -> float:
        return math.sqrt(self._length2())

    def Phi(self) -> float:
        """Azimuth, from -pi to pi."""
        x, y = self._v[0], self._v[1]
        return math.atan2(y, x) if x or y else 0.0

    def Theta(self) -> float:
        return math.atan2(self.Perp(), self._v[2]) if any(self._v[:3]) else 0.0

    def CosTheta(self) -> float:
        length = self._length()
        return self._v[2] / length if length else 1.0

    def PseudoRapidity(self) -> float:
        """Pseudorapidity; 1e11 along the beam."""
        cosine = self.CosTheta()
        if cosine * cosine < 1:
            return -0.5 * math.log((1.0 - cosine) / (1.0 + cosine))
        if self._v[2] == 0:
            return 0.0
        return _FAR if self._v[2] > 0 else -_FAR

    Eta = PseudoRapidity

    def DeltaPhi(self, v: _Momentum) -> float:
        return TVector2.Phi_mpi_pi(self.Phi() - v.Phi())

    def DeltaR(self, v: _Momentum) -> float:
        eta, phi = self.PseudoRapidity() - v.PseudoRapidity(), self.DeltaPhi(v)
        return math.sqrt(eta * eta + phi * phi)

    DrEtaPhi = DeltaR

    def Angle(self, q: TVector3) -> float:
        square = self._length2() * q._length2()
        if square <= 0:
            return 0.0
        (x, y, z), (qx, qy, qz) = self._v[:3], q._v
        return math.acos(max(-1.0, min(1.0, (x * qx + y * qy + z * qz) / math.sqrt(square))))


class TVector3(_Momentum):
    """A vector in space, of its components or of another one."""

    __slots__ = ()

    def __init__(self, x: Any = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        self._v = x._v if isinstance(x, TVector3) else (float(x), float(y), float(z))

    SetXYZ = __init__
    Mag2, Mag = _Momentum._length2, _Momentum._length

    def SetPtEtaPhi(self, pt: float, eta: float, phi: float) -> None:
        pt = abs(pt)
        z = divide(pt, math.tan(2.0 * math.atan(math.exp(-eta))))
        self._v = pt * math.cos(phi), pt * math.sin(phi), z

    def SetPtThetaPhi(self, pt: float, theta: float, phi: float) -> None:
        tangent = math.tan(theta)
        self._v = pt * math.cos(phi), pt * math.sin(phi), pt / tangent if tangent else 0.0

    def SetMagThetaPhi(self, mag: float, theta: float, phi: float) -> None:
        mag = abs(mag)
        x, y = mag * math.sin(theta) * math.cos(phi), mag * math.sin(theta) * math.sin(phi)
        self._v = x, y, mag * math.cos(theta)

    def _dot(self, other: TVector3) -> float:
        (x, y, z), (ox, oy, oz) = self._v, other._v
        return x * ox + y * oy + z * oz

    Dot = _dot

    def Cross(self, p: TVector3) -> TVector3:
        (x, y, z), (px, py, pz) = self._v, p._v
        return TVector3(y * pz - py * z, z * px - pz * x, x * py - px * y)

    def Unit(self) -> TVector3:
        square = self.Mag2()
        return self * (1.0 / math.sqrt(square) if square > 0 else 1.0)


class TLorentzVector(_Momentum):
    """A four-vector, of its components (x, y, z, t), of a TVector3 and the energy, or of another one."""

    __slots__ = ()

    def __init__(self, x: Any = 0.0, y: float = 0.0, z: float = 0.0, t: float = 0.0) -> None:
        if isinstance(x, TLorentzVector):
            self._v = x._v
        elif isinstance(x, TVector3):
            self._v = (*x._v, float(y))
        else:
            self._v = float(x), float(y), float(z), float(t)

    T = E = Energy = getter(3)
    SetPx, SetPy, SetPz = _Vector.SetX, _Vector.SetY, _Momentum.SetZ
    SetT = SetE = _setter(3)
    P = Rho = _Momentum._length

    def SetXYZT(self, x: float, y: float, z: float, t: float) -> None:
        self._v = float(x), float(y), float(z), float(t)

    SetPxPyPzE = SetXYZT

    def SetXYZM(self, x: float, y: float, z: float, m: float) -> None:
        """Set momentum and mass; a negative mass stands for a negative square of it."""
        square = x * x + y * y + z * z
        energy = math.sqrt(square + m * m if m >= 0 else max(square - m * m, 0.0))
        self._v = float(x), float(y), float(z), energy

    def SetPtEtaPhiM(self, pt: float, eta: float, phi: float, m: float) -> None:
        pt = abs(pt)
        self.SetXYZM(pt * math.cos(phi), pt * math.sin(phi), pt * sinh(eta), m)

    def SetPtEtaPhiE(self, pt: float, eta: float, phi: float, e: float) -> None:
        pt = abs(pt)
        self._v = pt * math.cos(phi), pt * math.sin(phi), pt * sinh(eta), float(e)

    def SetVectM(self, spatial: TVector3, mass: float) -> None:
        x, y, z = spatial._v
        self.SetXYZM(x, y, z, mass)

    def SetVect(self, p: TVector3) -> None:
        self._v = (*p._v, self._v[3])

    def SetPerp(self, r: float) -> None:
        now = self.Perp()
        if now:
            x, y, z, t = self._v
            self._v = x * (r / now), y * (r / now), z, t

    def Vect(self) -> TVector3:
        return TVector3(*self._v[:3])

    def M2(self) -> float:
        x, y, z, t = self._v
        return t * t - (x * x + y * y + z * z)

    def M(self) -> float:
        """Mass; negative if its square is."""
        x, y, z, t = self._v
        return signed_root(t * t - (x * x + y * y + z * z))

    Mag2, Mag = M2, M

    def Mt2(self) -> float:
        _, _, z, t = self._v
        return t * t - z * z

    def Mt(self) -> float:
        """Transverse mass; negative if its square is."""
        return signed_root(self.Mt2())

    def Et2(self) -> float:
        (_, _, z, t), pt2 = self._v, self.Perp2()
        return t * t * pt2 / (pt2 + z * z) if pt2 else 0.0

    def Et(self) -> float:
        return math.copysign(math.sqrt(self.Et2()), self._v[3])

    def Rapidity(self) -> float:
        return rapidity(self._v[3], self._v[2])

    def Beta(self) -> float:
        return divide(self._length(), self._v[3])

    def Gamma(self) -> float:
        beta = self.Beta()
        return divide(1.0, root(1 - beta * beta))

    def _dot(self, other: TLorentzVector) -> float:
        (x, y, z, t), (qx, qy, qz, qt) = self._v, other._v
        return t * qt - z * qz - y * qy - x * qx

    Dot = _dot

    def BoostVector(self) -> TVector3:
        x, y, z, t = self._v
        return TVector3(divide(x, t), divide(y, t), divide(z, t))

    def Boost(self, bx: Any, by: float = 0.0, bz: float = 0.0) -> None:
        """Boost by a velocity, given as a TVector3 or by its components."""
        if isinstance(bx, TVector3):
            bx, by, bz = bx._v
        x, y, z, t = self._v
        b2 = bx * bx + by * by + bz * bz
        gamma = divide(1.0, root(1.0 - b2))
        along = bx * x + by * y + bz * z
        gamma2 = (gamma - 1.0) / b2 if b2 > 0 else 0.0
        self._v = (
            x + gamma2 * along * bx + gamma * bx * t,
            y + gamma2 * along * by + gamma * by * t,
            z + gamma2 * along * bz + gamma * bz * t,
            gamma * (t + along),
        )


for _class in (TVector2, TVector3, TLorentzVector):
    _class._class = _class
