"""Vectors of two, three and four components with the methods that ROOT's classes of these names have.

Angles are in radians. The arithmetic is done in the same order as in ROOT, so that results agree to the last bit.
"""
# ruff: noqa: N802

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, overload

from data_processing.eventloop.floats import divide, log, root, signed_root, sinh

__all__ = ["TLorentzVector", "TVector2", "TVector3"]

_FAR = 10e10  # the pseudorapidity of what goes along the beam
_TWO_PI = 2 * math.pi


class TVector2:
    """A vector in the transverse plane.

    Parameters
    ----------
    x, y
        Components, or another TVector2 as `x`.
    """

    __slots__ = ("_x", "_y")

    def __init__(self, x: Any = 0.0, y: float = 0.0) -> None:
        if isinstance(x, TVector2):
            x, y = x.X(), x.Y()
        self._x, self._y = float(x), float(y)

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

    def X(self) -> float:
        """First component."""
        return self._x

    def Y(self) -> float:
        """Second component."""
        return self._y

    Px, Py = X, Y

    def Set(self, x: float, y: float) -> None:
        """Set both components."""
        self._x, self._y = float(x), float(y)

    def SetX(self, x: float) -> None:
        """Set the first component."""
        self._x = float(x)

    def SetY(self, y: float) -> None:
        """Set the second component."""
        self._y = float(y)

    def SetMagPhi(self, mag: float, phi: float) -> None:
        """Set length and azimuth."""
        self._x, self._y = abs(mag) * math.cos(phi), abs(mag) * math.sin(phi)

    def Mod2(self) -> float:
        """Square of the length."""
        return self._x * self._x + self._y * self._y

    def Mod(self) -> float:
        """Length."""
        return math.sqrt(self.Mod2())

    Mag = Mod

    def Phi(self) -> float:
        """Azimuth, from 0 to 2 pi."""
        return math.pi + math.atan2(-self._y, -self._x)

    def DeltaPhi(self, v: TVector2) -> float:
        """Azimuth relative to another vector's."""
        return self.Phi_mpi_pi(self.Phi() - v.Phi())

    def Unit(self) -> TVector2:
        """The vector of length 1 in this direction."""
        return self / self.Mod() if self.Mod2() else TVector2()

    def Rotate(self, phi: float) -> TVector2:
        """The vector turned by an angle."""
        cosine, sine = math.cos(phi), math.sin(phi)
        return TVector2(self._x * cosine - self._y * sine, self._x * sine + self._y * cosine)

    def __iter__(self) -> Iterator[float]:
        return iter((self._x, self._y))

    def __add__(self, other: TVector2) -> TVector2:
        return TVector2(self._x + other.X(), self._y + other.Y())

    def __sub__(self, other: TVector2) -> TVector2:
        return TVector2(self._x - other.X(), self._y - other.Y())

    def __iadd__(self, other: TVector2) -> TVector2:
        self._x, self._y = self._x + other.X(), self._y + other.Y()
        return self

    def __isub__(self, other: TVector2) -> TVector2:
        self._x, self._y = self._x - other.X(), self._y - other.Y()
        return self

    def __neg__(self) -> TVector2:
        return TVector2(-self._x, -self._y)

    @overload
    def __mul__(self, other: TVector2) -> float: ...
    @overload
    def __mul__(self, other: float) -> TVector2: ...
    def __mul__(self, other: Any) -> Any:
        if isinstance(other, TVector2):
            return self._x * other._x + self._y * other._y
        return TVector2(self._x * other, self._y * other)

    def __rmul__(self, other: float) -> TVector2:
        return TVector2(other * self._x, other * self._y)

    def __truediv__(self, other: float) -> TVector2:
        return TVector2(divide(self._x, other), divide(self._y, other))

    def __repr__(self) -> str:
        return f"TVector2({self._x}, {self._y})"


class TVector3:
    """A vector in space.

    Parameters
    ----------
    x, y, z
        Components, or another TVector3 as `x`.
    """

    __slots__ = ("_x", "_y", "_z")

    def __init__(self, x: Any = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        if isinstance(x, TVector3):
            x, y, z = x.X(), x.Y(), x.Z()
        self._x, self._y, self._z = float(x), float(y), float(z)

    def X(self) -> float:
        """First component."""
        return self._x

    def Y(self) -> float:
        """Second component."""
        return self._y

    def Z(self) -> float:
        """Third component."""
        return self._z

    Px, Py, Pz = X, Y, Z

    def SetXYZ(self, x: float, y: float, z: float) -> None:
        """Set all components."""
        self._x, self._y, self._z = float(x), float(y), float(z)

    def SetX(self, x: float) -> None:
        """Set the first component."""
        self._x = float(x)

    def SetY(self, y: float) -> None:
        """Set the second component."""
        self._y = float(y)

    def SetZ(self, z: float) -> None:
        """Set the third component."""
        self._z = float(z)

    def SetPtEtaPhi(self, pt: float, eta: float, phi: float) -> None:
        """Set transverse length, pseudorapidity and azimuth."""
        pt = abs(pt)
        self._x, self._y = pt * math.cos(phi), pt * math.sin(phi)
        self._z = divide(pt, math.tan(2.0 * math.atan(math.exp(-eta))))

    def SetPtThetaPhi(self, pt: float, theta: float, phi: float) -> None:
        """Set transverse length, polar angle and azimuth."""
        tangent = math.tan(theta)
        self._x, self._y = pt * math.cos(phi), pt * math.sin(phi)
        self._z = pt / tangent if tangent else 0.0

    def SetMagThetaPhi(self, mag: float, theta: float, phi: float) -> None:
        """Set length, polar angle and azimuth."""
        mag = abs(mag)
        self._x = mag * math.sin(theta) * math.cos(phi)
        self._y = mag * math.sin(theta) * math.sin(phi)
        self._z = mag * math.cos(theta)

    def Perp2(self) -> float:
        """Square of the transverse length."""
        return self._x * self._x + self._y * self._y

    def Perp(self) -> float:
        """Transverse length."""
        return math.sqrt(self.Perp2())

    Pt = Perp

    def Mag2(self) -> float:
        """Square of the length."""
        return self._x * self._x + self._y * self._y + self._z * self._z

    def Mag(self) -> float:
        """Length."""
        return math.sqrt(self.Mag2())

    def Phi(self) -> float:
        """Azimuth, from -pi to pi."""
        return math.atan2(self._y, self._x) if self._x or self._y else 0.0

    def Theta(self) -> float:
        """Polar angle."""
        return math.atan2(self.Perp(), self._z) if self._x or self._y or self._z else 0.0

    def CosTheta(self) -> float:
        """Cosine of the polar angle."""
        length = self.Mag()
        return self._z / length if length else 1.0

    def PseudoRapidity(self) -> float:
        """Pseudorapidity; 1e11 along the beam."""
        cosine = self.CosTheta()
        if cosine * cosine < 1:
            return -0.5 * math.log((1.0 - cosine) / (1.0 + cosine))
        if self._z == 0:
            return 0.0
        return _FAR if self._z > 0 else -_FAR

    Eta = PseudoRapidity

    def DeltaPhi(self, v: TVector3) -> float:
        """Azimuth relative to another vector's."""
        return TVector2.Phi_mpi_pi(self.Phi() - v.Phi())

    def DrEtaPhi(self, v: TVector3) -> float:
        """Distance to another vector in pseudorapidity and azimuth."""
        eta, phi = self.Eta() - v.Eta(), self.DeltaPhi(v)
        return math.sqrt(eta * eta + phi * phi)

    DeltaR = DrEtaPhi

    def Dot(self, other: TVector3) -> float:
        """Scalar product."""
        return self._x * other.X() + self._y * other.Y() + self._z * other.Z()

    def Cross(self, p: TVector3) -> TVector3:
        """Vector product."""
        x, y, z = p.X(), p.Y(), p.Z()
        return TVector3(self._y * z - y * self._z, self._z * x - z * self._x, self._x * y - x * self._y)

    def Angle(self, q: TVector3) -> float:
        """Angle between two vectors."""
        square = self.Mag2() * q.Mag2()
        if square <= 0:
            return 0.0
        return math.acos(max(-1.0, min(1.0, self.Dot(q) / math.sqrt(square))))

    def Unit(self) -> TVector3:
        """The vector of length 1 in this direction."""
        square = self.Mag2()
        scale = 1.0 / math.sqrt(square) if square > 0 else 1.0
        return TVector3(self._x * scale, self._y * scale, self._z * scale)

    def __iter__(self) -> Iterator[float]:
        return iter((self._x, self._y, self._z))

    def __getitem__(self, index: int) -> float:
        return (self._x, self._y, self._z)[index]

    def __add__(self, other: TVector3) -> TVector3:
        return TVector3(self._x + other.X(), self._y + other.Y(), self._z + other.Z())

    def __sub__(self, other: TVector3) -> TVector3:
        return TVector3(self._x - other.X(), self._y - other.Y(), self._z - other.Z())

    def __iadd__(self, other: TVector3) -> TVector3:
        self._x, self._y, self._z = self._x + other.X(), self._y + other.Y(), self._z + other.Z()
        return self

    def __isub__(self, other: TVector3) -> TVector3:
        self._x, self._y, self._z = self._x - other.X(), self._y - other.Y(), self._z - other.Z()
        return self

    def __neg__(self) -> TVector3:
        return TVector3(-self._x, -self._y, -self._z)

    @overload
    def __mul__(self, other: TVector3) -> float: ...
    @overload
    def __mul__(self, other: float) -> TVector3: ...
    def __mul__(self, other: Any) -> Any:
        if isinstance(other, TVector3):
            return self.Dot(other)
        return TVector3(self._x * other, self._y * other, self._z * other)

    def __rmul__(self, other: float) -> TVector3:
        return TVector3(other * self._x, other * self._y, other * self._z)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TVector3) and tuple(self) == tuple(other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"TVector3({self._x}, {self._y}, {self._z})"


class TLorentzVector:
    """A four-vector: momentum [GeV] and energy [GeV].

    Parameters
    ----------
    x, y, z, t
        Components, or another TLorentzVector as `x`, or a TVector3 and the energy.
    """

    __slots__ = ("_t", "_x", "_y", "_z")

    def __init__(
        self,
        x: Any = 0.0,
        y: float = 0.0,
        z: float = 0.0,
        t: float = 0.0,
    ) -> None:
        if isinstance(x, TLorentzVector):
            x, y, z, t = x.X(), x.Y(), x.Z(), x.T()
        elif isinstance(x, TVector3):
            x, y, z, t = x.X(), x.Y(), x.Z(), y
        self._x, self._y, self._z, self._t = float(x), float(y), float(z), float(t)

    # components

    def X(self) -> float:
        """Momentum along x."""
        return self._x

    def Y(self) -> float:
        """Momentum along y."""
        return self._y

    def Z(self) -> float:
        """Momentum along the beam."""
        return self._z

    def T(self) -> float:
        """Energy."""
        return self._t

    Px, Py, Pz, E, Energy = X, Y, Z, T, T

    def SetXYZT(self, x: float, y: float, z: float, t: float) -> None:
        """Set momentum and energy."""
        self._x, self._y, self._z, self._t = float(x), float(y), float(z), float(t)

    SetPxPyPzE = SetXYZT

    def SetXYZM(self, x: float, y: float, z: float, m: float) -> None:
        """Set momentum and mass; a negative mass stands for a negative square of it."""
        square = x * x + y * y + z * z
        self._x, self._y, self._z = float(x), float(y), float(z)
        self._t = math.sqrt(square + m * m if m >= 0 else max(square - m * m, 0.0))

    def SetPtEtaPhiM(self, pt: float, eta: float, phi: float, m: float) -> None:
        """Set transverse momentum, pseudorapidity, azimuth and mass."""
        pt = abs(pt)
        self.SetXYZM(pt * math.cos(phi), pt * math.sin(phi), pt * sinh(eta), m)

    def SetPtEtaPhiE(self, pt: float, eta: float, phi: float, e: float) -> None:
        """Set transverse momentum, pseudorapidity, azimuth and energy."""
        pt = abs(pt)
        self.SetXYZT(pt * math.cos(phi), pt * math.sin(phi), pt * sinh(eta), e)

    def SetVectM(self, spatial: TVector3, mass: float) -> None:
        """Set momentum and mass."""
        self.SetXYZM(spatial.X(), spatial.Y(), spatial.Z(), mass)

    def SetVect(self, p: TVector3) -> None:
        """Set the momentum alone."""
        self._x, self._y, self._z = p.X(), p.Y(), p.Z()

    def SetX(self, x: float) -> None:
        """Set the momentum along x."""
        self._x = float(x)

    def SetY(self, y: float) -> None:
        """Set the momentum along y."""
        self._y = float(y)

    def SetZ(self, z: float) -> None:
        """Set the momentum along the beam."""
        self._z = float(z)

    def SetT(self, t: float) -> None:
        """Set the energy."""
        self._t = float(t)

    SetPx, SetPy, SetPz, SetE = SetX, SetY, SetZ, SetT

    def SetPerp(self, r: float) -> None:
        """Scale the transverse momentum to a value."""
        now = self.Pt()
        if now:
            self._x, self._y = self._x * (r / now), self._y * (r / now)

    def Vect(self) -> TVector3:
        """The momentum."""
        return TVector3(self._x, self._y, self._z)

    # quantities

    def Perp2(self) -> float:
        """Square of the transverse momentum."""
        return self._x * self._x + self._y * self._y

    def Pt(self) -> float:
        """Transverse momentum."""
        return math.sqrt(self._x * self._x + self._y * self._y)

    Perp = Pt

    def P(self) -> float:
        """Momentum."""
        return math.sqrt(self._x * self._x + self._y * self._y + self._z * self._z)

    Rho = P

    def M2(self) -> float:
        """Square of the mass."""
        return self._t * self._t - (self._x * self._x + self._y * self._y + self._z * self._z)

    Mag2 = M2

    def M(self) -> float:
        """Mass; negative where its square is."""
        return signed_root(self.M2())

    Mag = M

    def Mt2(self) -> float:
        """Square of the transverse mass."""
        return self._t * self._t - self._z * self._z

    def Mt(self) -> float:
        """Transverse mass; negative where its square is."""
        return signed_root(self.Mt2())

    def Et2(self) -> float:
        """Square of the transverse energy."""
        pt2 = self.Perp2()
        return self._t * self._t * pt2 / (pt2 + self._z * self._z) if pt2 else 0.0

    def Et(self) -> float:
        """Transverse energy."""
        root = math.sqrt(self.Et2())
        return -root if self._t < 0 else root

    def Phi(self) -> float:
        """Azimuth, from -pi to pi."""
        return math.atan2(self._y, self._x) if self._x or self._y else 0.0

    def Theta(self) -> float:
        """Polar angle."""
        return self.Vect().Theta()

    def CosTheta(self) -> float:
        """Cosine of the polar angle."""
        return self.Vect().CosTheta()

    def PseudoRapidity(self) -> float:
        """Pseudorapidity; 1e11 along the beam."""
        return self.Vect().PseudoRapidity()

    Eta = PseudoRapidity

    def Rapidity(self) -> float:
        """Rapidity."""
        return 0.5 * log(divide(self._t + self._z, self._t - self._z))

    def Beta(self) -> float:
        """Velocity."""
        return divide(self.P(), self._t)

    def Gamma(self) -> float:
        """Energy over mass."""
        beta = self.Beta()
        return divide(1.0, root(1 - beta * beta))

    # relations

    def Dot(self, q: TLorentzVector) -> float:
        """Scalar product, with the metric (-, -, -, +)."""
        return self._t * q.T() - self._z * q.Z() - self._y * q.Y() - self._x * q.X()

    def DeltaPhi(self, v: TLorentzVector) -> float:
        """Azimuth relative to another vector's."""
        return TVector2.Phi_mpi_pi(self.Phi() - v.Phi())

    def DeltaR(self, v: TLorentzVector) -> float:
        """Distance to another vector in pseudorapidity and azimuth."""
        eta, phi = self.Eta() - v.Eta(), self.DeltaPhi(v)
        return math.sqrt(eta * eta + phi * phi)

    DrEtaPhi = DeltaR

    def Angle(self, v: TVector3) -> float:
        """Angle between the momentum and a vector in space."""
        return self.Vect().Angle(v)

    # boosts

    def BoostVector(self) -> TVector3:
        """Velocity of this system."""
        return TVector3(divide(self._x, self._t), divide(self._y, self._t), divide(self._z, self._t))

    def Boost(self, bx: Any, by: float = 0.0, bz: float = 0.0) -> None:
        """Boost by a velocity, given as a vector or by its components."""
        if isinstance(bx, TVector3):
            bx, by, bz = bx.X(), bx.Y(), bx.Z()
        b2 = bx * bx + by * by + bz * bz
        gamma = divide(1.0, root(1.0 - b2))
        along = bx * self._x + by * self._y + bz * self._z
        gamma2 = (gamma - 1.0) / b2 if b2 > 0 else 0.0
        x = self._x + gamma2 * along * bx + gamma * bx * self._t
        y = self._y + gamma2 * along * by + gamma * by * self._t
        z = self._z + gamma2 * along * bz + gamma * bz * self._t
        self._x, self._y, self._z, self._t = x, y, z, gamma * (self._t + along)

    # arithmetic

    def __iter__(self) -> Iterator[float]:
        return iter((self._x, self._y, self._z, self._t))

    def __getitem__(self, index: int) -> float:
        return (self._x, self._y, self._z, self._t)[index]

    def __add__(self, other: TLorentzVector) -> TLorentzVector:
        return TLorentzVector(
            self._x + other.X(), self._y + other.Y(), self._z + other.Z(), self._t + other.T()
        )

    def __sub__(self, other: TLorentzVector) -> TLorentzVector:
        return TLorentzVector(
            self._x - other.X(), self._y - other.Y(), self._z - other.Z(), self._t - other.T()
        )

    def __iadd__(self, other: TLorentzVector) -> TLorentzVector:
        self.SetXYZT(self._x + other.X(), self._y + other.Y(), self._z + other.Z(), self._t + other.T())
        return self

    def __isub__(self, other: TLorentzVector) -> TLorentzVector:
        self.SetXYZT(self._x - other.X(), self._y - other.Y(), self._z - other.Z(), self._t - other.T())
        return self

    def __neg__(self) -> TLorentzVector:
        return TLorentzVector(-self._x, -self._y, -self._z, -self._t)

    @overload
    def __mul__(self, other: TLorentzVector) -> float: ...
    @overload
    def __mul__(self, other: float) -> TLorentzVector: ...
    def __mul__(self, other: Any) -> Any:
        if isinstance(other, TLorentzVector):
            return self.Dot(other)
        return TLorentzVector(self._x * other, self._y * other, self._z * other, self._t * other)

    def __rmul__(self, other: float) -> TLorentzVector:
        return self * other

    def __imul__(self, other: float) -> TLorentzVector:  # type: ignore[misc]
        self.SetXYZT(self._x * other, self._y * other, self._z * other, self._t * other)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TLorentzVector) and tuple(self) == tuple(other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"TLorentzVector({self._x}, {self._y}, {self._z}, {self._t})"
