from __future__ import annotations

import math
import random
from typing import Any

import pytest

from data_processing.eventloop import genvector
from data_processing.eventloop.lorentzvector import TLorentzVector

QUANTITIES = ["Px", "Py", "Pz", "E", "Pt", "P", "Eta", "Phi", "M", "M2", "Mt"]


def momenta(count: int) -> list[tuple[float, float, float, float]]:
    numbers = random.Random(2)
    return [
        (numbers.expovariate(1 / 50), numbers.gauss(0, 2), numbers.uniform(-4, 4), numbers.choice([0, 0.1057, 91.2]))
        for _ in range(count)
    ]


def everything(of: Any, one: tuple[float, ...], two: tuple[float, ...]) -> dict[str, float]:
    a, b = of.PtEtaPhiMVector(*one), of.PtEtaPhiMVector(*two)
    cartesian = of.PxPyPzEVector(a.Px(), a.Py(), a.Pz(), a.E())
    massive = of.PxPyPzMVector(*one[:3], two[0])
    energetic = of.PtEtaPhiEVector(*one[:3], one[0] * math.cosh(one[1]) * 1.1)
    total = of.PtEtaPhiMVector(*one)
    total += b
    vectors = [a, b, cartesian, massive, energetic, a + b, cartesian + b, energetic + massive, total, total - a]
    found = {f"{name} {which}": getattr(v, name)() for name in QUANTITIES for which, v in enumerate(vectors)}
    functions = of.VectorUtil
    found["DeltaPhi"], found["DeltaR"] = functions.DeltaPhi(a, b), functions.DeltaR(a, b)
    found["InvariantMass"], found["Dot"] = functions.InvariantMass(a, massive), a.Dot(b)
    found["pt"], found["mass"] = a.pt(), cartesian.mass()
    return found


@pytest.mark.root
def test_is_the_same_as_root_to_the_last_bit() -> None:
    root = pytest.importorskip("ROOT")
    values = momenta(300)
    for one, two in zip(values, values[1:]):
        assert everything(genvector, one, two) == everything(root.Math, one, two)


def test_agrees_with_tlorentzvector() -> None:
    values = momenta(60)
    for one, two in zip(values, values[1:]):
        a, b = TLorentzVector(), TLorentzVector()
        a.SetPtEtaPhiM(*one)
        b.SetPtEtaPhiM(*two)
        c, d = genvector.PtEtaPhiMVector(*one), genvector.PtEtaPhiMVector(*two)
        for mine, other in ((a, c), (a + b, c + d)):
            assert other.Pt() == pytest.approx(mine.Pt())
            assert other.Eta() == pytest.approx(mine.Eta(), abs=1e-9)
            assert math.cos(other.Phi() - mine.Phi()) == pytest.approx(1)
            assert other.E() == pytest.approx(mine.E())
            assert other.M() == pytest.approx(mine.M(), rel=1e-4, abs=1e-3)
        assert genvector.VectorUtil.DeltaR(c, d) == pytest.approx(a.DeltaR(b), abs=1e-9)
        assert genvector.VectorUtil.InvariantMass(c, d) == pytest.approx((a + b).M(), rel=1e-4, abs=1e-3)


def test_along_the_beam_the_pseudorapidity_is_large() -> None:
    assert genvector.PxPyPzEVector(0, 0, 3, 3).Eta() > 20000
    assert genvector.PxPyPzEVector(0, 0, -3, 3).Eta() < -20000
    assert genvector.PxPyPzEVector(0, 0, 0, 3).Eta() == 0
    assert genvector.PxPyPzEVector(1e-6, 0, 1e6, 1e6).Eta() == pytest.approx(math.asinh(1e12))
