from __future__ import annotations

import array
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import vector

from data_processing.eventloop import lorentzvector
from data_processing.eventloop.lorentzvector import TLorentzVector, TVector2, TVector3

QUANTITIES = (
    *("Px", "Py", "Pz", "E", "P", "Pt", "Perp", "Perp2", "M", "M2", "Mag2", "Mt", "Mt2", "Et", "Et2"),
    *("Eta", "Phi", "Theta", "CosTheta", "Rapidity", "Beta", "Gamma", "X", "Y", "Z", "T"),
)


def single(value: float) -> float:
    return array.array("f", [value])[0]


def random_momenta(count: int) -> list[tuple[float, float, float, float]]:
    numbers = random.Random(1)
    masses = [0.0, 0.000511, 0.1057, 91.2, -0.01]
    return [
        (
            single(numbers.expovariate(1 / 50)),
            single(numbers.gauss(0, 2)),
            single(numbers.uniform(-3.15, 3.15)),
            single(numbers.choice(masses)),
        )
        for _ in range(count)
    ]


def polar(of: Any, *momentum: float) -> Any:
    made = of.TLorentzVector()
    made.SetPtEtaPhiM(*momentum)
    return made


def everything(of: Any, one: tuple[float, ...], two: tuple[float, ...]) -> dict[str, float]:
    """All that can be computed with the vectors of a library, from two momenta."""
    a, b = polar(of, *one), of.TLorentzVector()
    b.SetPtEtaPhiE(*two[:3], two[0] * math.cosh(two[1]) * 1.01)
    c = a + b
    found = {f"{name} {which}": getattr(v, name)() for name in QUANTITIES for which, v in enumerate((a, b, c))}
    moved = of.TLorentzVector(a)
    moved.Boost(-b.BoostVector())
    combined = -a * 2 + b - c
    combined *= 3
    total = of.TLorentzVector(0, 0, 0, 0)
    total += a
    total += b
    total -= c
    massive = of.TLorentzVector()
    massive.SetVectM(a.Vect(), 5.0)
    u, w = a.Vect(), b.Vect()
    angles = of.TVector3()
    angles.SetPtEtaPhi(*one[:3])
    steep = of.TVector3()
    steep.SetMagThetaPhi(one[0], abs(one[1]), one[2])
    flat, other = of.TVector2(one[0], one[1]), of.TVector2()
    other.SetMagPhi(two[0], two[2])
    found.update(
        {
            "DeltaPhi": a.DeltaPhi(b),
            "DeltaR": a.DeltaR(b),
            "Dot": a.Dot(b),
            "product": a * b,
            "Angle": a.Angle(b.Vect()),
            "moved": moved.Px(),
            "moved E": moved.E(),
            "combined": combined.M2(),
            "total": total.E(),
            "massive": massive.E(),
            "Cross": u.Cross(w).X(),
            "Unit": u.Unit().Z(),
            "Eta 3": (u + w - 0.5 * w).Eta(),
            "DeltaR 3": u.DeltaR(w),
            "u * w": u * w,
            "SetPtEtaPhi": angles.Z(),
            "SetMagThetaPhi": steep.X(),
            "Phi 2": flat.Phi(),
            "DeltaPhi 2": flat.DeltaPhi(other),
            "Mod": (flat + other).Mod(),
            "Rotate": flat.Rotate(one[2]).X(),
            "Unit 2": flat.Unit().X(),
            "flat * other": flat * other,
            "Phi_mpi_pi": of.TVector2.Phi_mpi_pi(one[0]),
            "Phi_0_2pi": of.TVector2.Phi_0_2pi(-one[0]),
        }
    )
    return found


@pytest.mark.root
def test_is_the_same_as_root_to_the_last_bit() -> None:
    root = pytest.importorskip("ROOT")
    momenta = random_momenta(400)
    for one, two in zip(momenta, momenta[1:]):
        ours, theirs = everything(lorentzvector, one, two), everything(root, one, two)
        different = {
            name: (value, theirs[name])
            for name, value in ours.items()
            if value != theirs[name] and not (math.isnan(value) and math.isnan(theirs[name]))
        }
        assert different == {}


def test_agrees_with_another_library() -> None:
    momenta = [one for one in random_momenta(60) if one[3] >= 0 and abs(one[1]) < 4]
    for one, two in zip(momenta, momenta[1:]):
        a, b = polar(lorentzvector, *one), polar(lorentzvector, *two)
        c, d = (vector.obj(pt=m[0], eta=m[1], phi=m[2], mass=m[3]) for m in (one, two))
        assert (a + b).M2() == pytest.approx((c + d).mass2, abs=1e-12 * (a.E() + b.E()) ** 2)
        assert (a + b).Pt() == pytest.approx((c + d).pt)
        assert (a + b).Eta() == pytest.approx((c + d).eta, abs=1e-9)
        assert a.DeltaR(b) == pytest.approx(c.deltaR(d), abs=1e-9)
        assert a.DeltaPhi(b) == pytest.approx(c.deltaphi(d), abs=1e-9)
        assert a.Dot(b) == pytest.approx(c.dot(d), abs=1e-12 * a.E() * b.E())
        assert a.Rapidity() == pytest.approx(c.rapidity, rel=1e-6, abs=1e-9)
        if two[3] > 50:
            system = polar(lorentzvector, *two)
            a.Boost(-system.BoostVector())
            assert a.E() == pytest.approx(c.boostCM_of(d).E, rel=1e-4)


def test_sums_change_only_what_they_shall() -> None:
    a = TLorentzVector(1, 2, 3, 10)
    kept, total = a, TLorentzVector(a)
    total += a
    assert (tuple(total), tuple(a), kept is a) == ((2, 4, 6, 20), (1, 2, 3, 10), True)
    assert tuple(total - a) == tuple(-1 * -a) == (1, 2, 3, 10)
    assert a == TLorentzVector(TVector3(1, 2, 3), 10)
    assert a != total
    assert (2 * a)[3] == 20
    assert repr(a) == "TLorentzVector(1.0, 2.0, 3.0, 10.0)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda: TLorentzVector().Eta(), 0.0),
        (lambda: TLorentzVector(0, 0, 2, 2).Eta(), 1e11),
        (lambda: TLorentzVector(0, 0, -2, 2).Rapidity(), -math.inf),
        (lambda: TLorentzVector(0, 0, 2, 2).Gamma(), math.inf),
        (lambda: TLorentzVector(1, 0, 0, 0).Beta(), math.inf),
        (lambda: TLorentzVector(1, 0, 0, 0).M(), -1.0),
        (lambda: TLorentzVector().Phi(), 0.0),
        (lambda: TVector2.Phi_mpi_pi(math.pi), -math.pi),
        (lambda: TVector2.Phi_mpi_pi(math.inf), math.inf),
        (lambda: TVector3().Unit().Mag(), 0.0),
        (lambda: TVector3().Angle(TVector3(1, 0, 0)), 0.0),
    ],
)
def test_limits_are_numbers_and_no_errors(value: Callable[[], float], expected: float) -> None:
    assert value() == expected


def test_what_is_no_number_is_none_and_no_error() -> None:
    assert math.isnan(TLorentzVector().Beta())
    assert math.isnan(TLorentzVector(3, 0, 0, 1).Gamma())
    steep = polar(lorentzvector, 1.0, 1e11, 0.0, 0.0)
    assert steep.Pz() == math.inf
