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

from data_processing.eventloop.arithmetic import divide, formulas, hyperbolic, root

_TWO_PI = 2 * math.pi
_FAR = 10e10  # the pseudorapidity of a TVector3 along the beam


def _pseudorapidity(x: float, y: float, z: float) -> float:
    length = math.sqrt(x * x + y * y + z * z)
    cosine = z / length if length else 1.0
    if cosine * cosine < 1:
        return -0.5 * math.log((1.0 - cosine) / (1.0 + cosine))
    if z == 0:
        return 0.0
    return _FAR if z > 0 else -_FAR


def _angle(low: float) -> staticmethod[[float], float]:
    """A function that brings an angle to low <= angle < low + 2 pi."""
    high = low + _TWO_PI

    def brought(x: float) -> float:
        if not math.isfinite(x):
            return x
        while x >= high:
            x -= _TWO_PI
        while x < low:
            x += _TWO_PI
        return x

    return staticmethod(brought)


def _setter(index: int) -> Callable[[Any, float], None]:
    def put(self: Any, value: float) -> None:
        self._v = (*self._v[:index], float(value), *self._v[index + 1 :])

    return put


def _by_component(operation: Callable[[float, float], float]) -> tuple[Any, Any]:
    """The methods that combine two vectors by component: one for a new vector, and one that changes the first."""

    def combined(self: Any, other: Any) -> Any:
        return self._made(map(operation, self._v, other._v)) if isinstance(other, self._class) else NotImplemented

    def in_place(self: Any, other: Any) -> Any:
        if not isinstance(other, self._class):
            return NotImplemented
        self._v = tuple(map(operation, self._v, other._v))
        return self

    return combined, in_place


class _Vector:
    """Components, and the arithmetic that all vectors share."""

    __slots__ = ("_v",)
    _v: tuple[float, ...]
    _class: ClassVar[type[_Vector]]  # what a sum is: one of ROOT's classes, also if a user's subclass is added

    SetX, SetY = _setter(0), _setter(1)
    __add__, __iadd__ = _by_component(add)
    __sub__, __isub__ = _by_component(sub)

    def _made(self, components: Iterable[float]) -> Any:
        made = self._class.__new__(self._class)
        made._v = tuple(components)
        return made

    def _dot(self, other: Any) -> float:
        raise NotImplementedError

    def DeltaPhi(self: Any, v: Any) -> float:
        return TVector2.Phi_mpi_pi(self.Phi() - v.Phi())

    def __iter__(self) -> Iterator[float]:
        return iter(self._v)

    def __getitem__(self, index: int) -> float:
        return self._v[index]

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


@formulas(
    "x, y = self._v",
    {
        "X Px": "x",
        "Y Py": "y",
        "Mod2": "x * x + y * y",
        "Mod Mag": "sqrt(x * x + y * y)",
        "Phi": "pi + atan2(-y, -x)",  # from 0 to 2 pi
    },
)
class TVector2(_Vector):
    """A vector in the transverse plane, of its components or of another one."""

    __slots__ = ()

    def __init__(self, x: Any = 0.0, y: float = 0.0) -> None:
        self._v = x._v if isinstance(x, TVector2) else (float(x), float(y))

    Set = __init__

    Phi_mpi_pi = _angle(-math.pi)
    Phi_0_2pi = _angle(0.0)

    def SetMagPhi(self, mag: float, phi: float) -> None:
        self._v = abs(mag) * math.cos(phi), abs(mag) * math.sin(phi)

    def _dot(self, other: TVector2) -> float:
        return self._v[0] * other._v[0] + self._v[1] * other._v[1]

    def Unit(self: Any) -> TVector2:
        return self / self.Mod() if self.Mod2() else TVector2()

    def Rotate(self, phi: float) -> TVector2:
        (x, y), cosine, sine = self._v, math.cos(phi), math.sin(phi)
        return TVector2(x * cosine - y * sine, x * sine + y * cosine)

    def __truediv__(self, other: float) -> TVector2:
        return TVector2(*(divide(component, other) for component in self._v))


_IN_SPACE = {
    "X Px": "x",
    "Y Py": "y",
    "Z Pz": "z",
    "Perp2": "x * x + y * y",
    "Perp Pt": "sqrt(x * x + y * y)",
    "Phi": "atan2(y, x) if x or y else 0.0",  # from -pi to pi
    "Theta": "atan2(sqrt(x * x + y * y), z) if x or y or z else 0.0",
    "CosTheta": "z / length if (length := sqrt(x * x + y * y + z * z)) else 1.0",
    "PseudoRapidity Eta": "_pseudorapidity(x, y, z)",  # 1e11 along the beam
}


class _Momentum(_Vector):
    """What three- and four-vectors share."""

    __slots__ = ()
    SetZ = _setter(2)

    def DeltaR(self: Any, v: Any) -> float:
        eta, phi = self.PseudoRapidity() - v.PseudoRapidity(), self.DeltaPhi(v)
        return math.sqrt(eta * eta + phi * phi)

    DrEtaPhi = DeltaR

    def Angle(self: Any, q: Any) -> float:
        (x, y, z), (qx, qy, qz) = self._v[:3], q._v
        square = (x * x + y * y + z * z) * (qx * qx + qy * qy + qz * qz)
        if square <= 0:
            return 0.0
        return math.acos(max(-1.0, min(1.0, (x * qx + y * qy + z * qz) / math.sqrt(square))))


@formulas("x, y, z = self._v", {**_IN_SPACE, "Mag2": "x * x + y * y + z * z", "Mag": "sqrt(x * x + y * y + z * z)"})
class TVector3(_Momentum):
    """A vector in space, of its components or of another one."""

    __slots__ = ()

    def __init__(self, x: Any = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        self._v = x._v if isinstance(x, TVector3) else (float(x), float(y), float(z))

    SetXYZ = __init__

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
        square = self._dot(self)
        return self * (1.0 / math.sqrt(square) if square > 0 else 1.0)


@formulas(
    "x, y, z, t = self._v",
    {
        **_IN_SPACE,
        "T E Energy": "t",
        "P Rho": "sqrt(x * x + y * y + z * z)",
        "M2 Mag2": "t * t - (x * x + y * y + z * z)",
        "M Mag": "signed_root(t * t - (x * x + y * y + z * z))",
        "Mt2": "t * t - z * z",
        "Mt": "signed_root(t * t - z * z)",
        "Et2": "t * t * pt2 / (pt2 + z * z) if (pt2 := x * x + y * y) else 0.0",
        "Et": "copysign(sqrt(self.Et2()), t)",
        "Rapidity": "rapidity(t, z)",
        "Beta": "divide(sqrt(x * x + y * y + z * z), t)",
        "Gamma": "divide(1.0, root(1 - (beta := self.Beta()) * beta))",
        "Vect": "TVector3(x, y, z)",
        "BoostVector": "TVector3(divide(x, t), divide(y, t), divide(z, t))",
    },
)
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

    SetPx, SetPy, SetPz = _Vector.SetX, _Vector.SetY, _Momentum.SetZ
    SetT = SetE = _setter(3)

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
        self.SetXYZM(pt * math.cos(phi), pt * math.sin(phi), pt * hyperbolic(math.sinh, eta), m)

    def SetPtEtaPhiE(self, pt: float, eta: float, phi: float, e: float) -> None:
        pt = abs(pt)
        self._v = pt * math.cos(phi), pt * math.sin(phi), pt * hyperbolic(math.sinh, eta), float(e)

    def SetVectM(self, spatial: TVector3, mass: float) -> None:
        x, y, z = spatial._v
        self.SetXYZM(x, y, z, mass)

    def SetVect(self, p: TVector3) -> None:
        self._v = (*p._v, self._v[3])

    def SetPerp(self, r: float) -> None:
        x, y, z, t = self._v
        now = math.sqrt(x * x + y * y)
        if now:
            self._v = x * (r / now), y * (r / now), z, t

    def _dot(self, other: TLorentzVector) -> float:
        (x, y, z, t), (qx, qy, qz, qt) = self._v, other._v
        return t * qt - z * qz - y * qy - x * qx

    Dot = _dot

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
