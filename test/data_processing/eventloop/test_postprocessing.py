from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from data_processing.eventloop import postprocessing as tools
from data_processing.eventloop.loading import standing_in
from MLTools.NanoML.errors import NanoMLError


@dataclass(frozen=True)
class Thing:
    eta: float
    phi: float
    pt: float = 10.0


def test_angles_of_objects_are_those_of_their_numbers() -> None:
    one, two = Thing(1.0, 3.0), Thing(-0.5, -3.0)
    assert tools.deltaPhi(3.0, -3.0) == pytest.approx(6 - 2 * math.pi)
    assert tools.deltaPhi(one, two) == tools.deltaPhi(3.0, two) == tools.deltaPhi(3.0, -3.0)
    assert tools.deltaPhi(-3, 3) == -tools.deltaPhi(3, -3)
    assert tools.deltaR(one, two) == tools.deltaR(1.0, 3.0, -0.5, -3.0) == math.hypot(1.5, 6 - 2 * math.pi)


def test_the_nearest_that_fulfils_the_condition() -> None:
    here, near, far = Thing(0, 0), Thing(0.1, 0), Thing(0.3, 0, pt=50)
    assert tools.closest(here, [far, near]) == (near, 0.1)
    assert tools.closest(here, [far, near], presel=lambda x, y: y.pt > x.pt) == (far, 0.3)
    assert tools.closest(here, []) == (None, 999)


def test_matching() -> None:
    one, two, three = Thing(0, 0), Thing(1, 1), Thing(0.3, 0)
    assert tools.matchObjectCollection([one, two], [three]) == {one: three, two: None}
    assert tools.matchObjectCollection([one], [three], dRmax=0.2) == {one: None}
    assert tools.matchObjectCollection([one], []) == {one: None}
    assert tools.matchObjectCollection([], [one]) == {}
    several = tools.matchObjectCollectionMultiple([one, two], [one, three], presel=lambda x, y: y is not x)
    assert several == {one: [three], two: []}
    assert tools.matchObjectCollectionMultiple([one], []) == {one: None}


def test_bits() -> None:
    assert [tools.hasbit(0b101, bit) for bit in range(4)] == [True, False, True, False]


def test_files_of_histograms_need_root() -> None:
    with standing_in(always=True), pytest.raises(NanoMLError, match=r"no such file|ROOT\.TFile needs ROOT"):
        tools.extractTH1("nowhere.root", "h")
    with standing_in(always=True), pytest.raises(NanoMLError, match=r"ROOT\.TFile needs ROOT"):
        tools.ensureTFile(__file__)
