"""Muons and taus, each by correctionlib itself; and the random numbers by which objects are smeared."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from MLTools.NanoML.corrections import Corrections, muons, taus
from MLTools.NanoML.corrections.inputs import ELECTRON, MUON, normal_numbers
from MLTools.NanoML.corrections.muons import MuonCorrections
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.selection import Events
from services import invented
from services.real import POG, V5, V15, check_refusals, each_object, era, events_of, nanoaod, plain, pog

INVENTED = ROOT / "examples" / "corrections" / "2022" / "muon_scalesmearing.json"
REAL = sorted((POG / "MUO").glob("*/muon_scalesmearing.json.gz"))
COUNTS = [2, 0, 1, 30, 7]
RANDOM = np.random.default_rng(5)


def made() -> Events:
    """Events with muons, of which some have too little or too much momentum."""
    number = sum(COUNTS)
    columns: dict[str, Any] = {"pt": np.concatenate([[20.0, 250.0], RANDOM.uniform(27, 190, number - 2)])}
    columns |= {"eta": RANDOM.uniform(-2.4, 2.4, number), "phi": RANDOM.uniform(-3.1, 3.1, number)}
    columns["charge"] = RANDOM.choice([-1, 1], number).astype(np.int32)
    columns["nTrackerLayers"] = RANDOM.integers(6, 18, number).astype(np.uint8)
    lists = {f"Muon_{name}": ak.unflatten(values, COUNTS) for name, values in columns.items()}
    numbers = {"run": np.ones(5, np.uint32), "luminosityBlock": np.arange(1, 6, dtype=np.uint32)}
    return Events({**lists, **numbers, "event": np.arange(11, 16, dtype=np.uint64)}, dict.fromkeys(lists, "Muon"))


def each_muon(events: Events) -> list[dict[str, float]]:
    return each_object(events, "Muon", ("pt", "eta", "phi", "charge", "nTrackerLayers"), MUON)


class OneByOne:
    """The momenta of muons by correctionlib itself."""

    def __init__(self, path: Path) -> None:
        self._set = plain(path)

    def scaled(self, mu: dict[str, float], kind: str) -> float:
        if not 26 <= mu["pt"] <= 200:
            return mu["pt"]
        m, a = (self._set[f"{name}_{kind}"].evaluate(mu["eta"], mu["phi"], "nom") for name in "ma")
        return float(1 / (m / mu["pt"] + mu["charge"] * a))

    def smeared(self, mu: dict[str, float], sign: int = 0) -> float:
        pt, place = self.scaled(mu, "mc"), (abs(mu["eta"]), mu["nTrackerLayers"])
        zero, one, two = (self._set["poly_params"].evaluate(*place, number) for number in range(3))
        data, mc = (self._set[f"k_{kind}"].evaluate(place[0], "nom") for kind in ("data", "mc"))
        if mc >= data or not 26 <= pt <= 200:
            return pt
        factor = math.sqrt(data**2 - mc**2)
        mean, sigma, power, edge = (self._set["cb_params"].evaluate(*place, number) for number in range(4))
        drawn = mean + sigma * quantile(NormalDist().cdf(mu["normal"]), power, edge) if power > 1 and edge > 0 else 0.0
        changed = 1 + factor * max(0, zero + one * pt + two * pt**2) * drawn
        if sign:  # as MUO's script varies what it has smeared
            changed = 1 + (mc + sign * self._set["k_mc"].evaluate(place[0], "stat")) * (changed - 1) / mc
        return float(pt * changed) if 0.1 < changed < 2 else pt

    def rescaled(self, mu: dict[str, float], sign: int) -> float:
        pt = self.smeared(mu)
        if not 26 <= pt <= 200:
            return pt
        m, a = (self._set[f"{name}_mc"].evaluate(mu["eta"], mu["phi"], "stat") for name in "ma")
        try:
            rho = self._set["m_mc"].evaluate(mu["eta"], mu["phi"], "rho_stat")
        except Exception:  # an older file
            rho = 0.0
        error = pt**2 * math.sqrt((m / pt) ** 2 + a**2 + 2 * mu["charge"] * rho * m / pt * a)
        return pt + sign * error


def quantile(share: float, power: float, edge: float) -> float:
    """By halving an interval, of the integral of the density."""
    start = (power / edge) ** power * math.exp(-(edge**2) / 2)
    reach = power / edge - edge

    def below(t: float) -> float:
        """The integral up to t, which is negative or 0."""
        tail = start * (reach + max(-t, edge)) ** (1 - power) / (power - 1)
        normal = NormalDist()
        return tail + (math.sqrt(2 * math.pi) * (normal.cdf(t) - normal.cdf(-edge)) if t > -edge else 0.0)

    low, high, side = -1e6, 0.0, min(share, 1 - share)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) / (2 * below(0)) < side else (low, middle)
    return low if share < 0.5 else -low


@pytest.fixture(scope="module")
def corrections() -> MuonCorrections:
    found: MuonCorrections = Corrections.read(ROOT / "examples" / "corrections" / "2022.yaml").muons
    return found


@pytest.mark.parametrize(("path", "file"), [(INVENTED, ""), *((path, V15) for path in [INVENTED, *REAL])])
def test_muons_are_those_of_one_after_the_other_under_every_shift(path: Path, file: str, tmp_path: Path) -> None:
    corrections = era(tmp_path, f"muons: {{file: {path}}}").muons
    events = events_of(nanoaod(file), muons.BRANCHES, 200) if file else made()
    one, listed = OneByOne(path), each_muon(events)
    assert len(listed) > 15
    in_data = muons.corrected(events, corrections, is_data=True).flat("Muon").pt
    assert np.allclose(in_data, [one.scaled(mu, "data") for mu in listed], rtol=1e-12)
    nominal = muons.corrected(events, corrections, is_data=False)
    assert np.allclose(nominal.flat("Muon").pt, [one.smeared(mu) for mu in listed], rtol=1e-10)
    for direction, sign in (("up", 1), ("down", -1)):
        scaled = muons.shifted(nominal, corrections, "muonScale", direction).flat("Muon").pt
        assert np.allclose(scaled, [one.rescaled(mu, sign) for mu in listed], rtol=1e-10)
        smeared = muons.shifted(nominal, corrections, "muonSmearing", direction).flat("Muon").pt
        assert np.allclose(smeared, [one.smeared(mu, sign) for mu in listed], rtol=1e-10)
        # of some of the events, as after a cut
        some = muons.corrected(events, corrections, is_data=False)[np.arange(len(events)) % 2 == 1]
        left = muons.shifted(some, corrections, "muonScale", direction).flat("Muon").pt
        assert left.tolist() == scaled[events.flat("Muon").event % 2 == 1].tolist()


def test_the_numbers_have_the_density_of_the_file(corrections: MuonCorrections) -> None:
    """A Gaussian with tails, whose integral is 1, by the trapezoidal rule."""
    number, eta, layers = 1001, 1.2, 12.0
    place = {"abseta": eta, "nTrackerLayers": layers}
    mean, sigma, power, edge = (corrections.value("cb_params", **place, parameter=p) for p in range(4))
    x = np.linspace(-40, 40, 400_001)
    t = abs(x)
    tail = (power / edge) ** power * np.exp(-(edge**2) / 2) * (power / edge - edge + np.maximum(t, edge)) ** -power
    density = np.where(t < edge, np.exp(-(t**2) / 2), tail)
    integral = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share = np.linspace(0.01, 0.99, number)
    found = muons.crystal_ball(corrections, np.full(number, eta), np.full(number, layers), share)
    expected = mean + sigma * np.interp(share, integral / integral[-1], x)
    assert np.allclose(found, expected, atol=1e-3)
    assert (np.diff(found) > 0).all()


def test_what_cannot_be_is_an_error(corrections: MuonCorrections, tmp_path: Path) -> None:
    said = "muons. Known are muonScale, muonSmearing"
    check_refusals(lambda *shift: muons.shifted(made(), corrections, *shift), "muonScale", "muonScal", said)
    with pytest.raises(ConfigError, match=r"era.yaml:1: muons: .*has no correction m_data"):
        era(tmp_path, f"muons: {{file: {INVENTED.parent}/muon.json}}")


SHIFTS = {"tauScale": (5, None), "tauElectronScale": (13, None), "tauMuonScale": (24, None), "tauScaleDM10": (5, 10)}


@pytest.mark.parametrize("file", [V5, V15])
def test_taus_are_those_of_one_after_the_other_under_every_shift(file: str, tmp_path: Path) -> None:
    path = pog("TAU/2018_UL/tau.json.gz")
    entry = era(tmp_path, f"taus: {{file: {path}, inputs: {{id: DeepTau2017v2p1}}}}").taus
    one = plain(path)["tau_energy_scale"]
    events = events_of(nanoaod(file), [*taus.BRANCHES, *taus.SIMULATED], 200)
    tau = events.flat("Tau")
    rows = list(zip(tau.pt.tolist(), tau.eta.tolist(), tau.decayMode.tolist(), tau.genPartFlav.tolist()))

    def scale(row: Any, key: str) -> float:
        pt, eta, mode, kind = row
        return float(one.evaluate(pt, eta, mode, kind, "DeepTau2017v2p1", key)) if mode in (0, 1, 2, 10, 11) else 1.0

    nominal = taus.corrected(events, entry)
    expected = np.array([scale(row, "nom") for row in rows])
    assert np.allclose(nominal.flat("Tau").pt, tau.pt * expected, rtol=1e-7)
    assert np.allclose(nominal.flat("Tau").mass, tau.mass * expected, rtol=1e-7)
    assert np.unique(expected).size > 1 or not set(tau.genPartFlav) & {1, 2, 3, 4, 5}
    for name, (kinds, mode) in SHIFTS.items():
        for way in ("up", "down"):
            keys = [way if str(row[3]) in str(kinds) and mode in (None, row[2]) else "nom" for row in rows]
            found = taus.shifted(nominal, entry, name, way).flat("Tau").pt
            assert np.allclose(found, tau.pt * [scale(row, key) for row, key in zip(rows, keys)], rtol=1e-7)


def test_files_of_run_3_have_working_points(tmp_path: Path) -> None:
    """In the layout of 2022, of which no copy is here: inputs wp and wp_VSe, no decay mode 2."""
    texts = ("id", "wp", "wp_VSe", "syst")
    inputs = {"pt": "real", "eta": "real", "dm": "int", "genmatch": "int", **dict.fromkeys(texts, "string")}
    keys = invented.category("syst", {"nom": 1.01, "up": 1.02, "down": 1.0})
    modes = invented.category("dm", dict.fromkeys((0, 1, 10, 11), keys))
    points = invented.category("wp", {"Medium": invented.category("wp_VSe", {"Tight": modes})})
    data = invented.category("id", {"DeepTau2018v2p5": points})
    invented.write(tmp_path / "tau.json", invented.correction("tau_energy_scale", inputs, data))
    entry = era(tmp_path, "taus: {file: tau.json, inputs: {id: DeepTau2018v2p5, wp: Medium, wp_VSe: Tight}}").taus
    columns = {"pt": [40.0, 50.0], "mass": [1.0, 1.0], "eta": [1.0, 1.0], "decayMode": [10, 2], "genPartFlav": [5, 5]}
    arrays: dict[str, Any] = {f"Tau_{name}": ak.Array([values]) for name, values in columns.items()}
    events = Events(arrays, dict.fromkeys(arrays, "Tau"))
    nominal = taus.corrected(events, entry)
    assert nominal.flat("Tau").pt.tolist() == [40.0 * 1.01, 50.0]
    assert np.allclose(taus.shifted(nominal, entry, "tauScale", "up").flat("Tau").pt, [40.0 * 1.02, 50.0])
    said = "taus. Known are tauScale, tauElectronScale"
    check_refusals(lambda *shift: taus.shifted(events, entry, *shift), "tauScale", "tauScal", said)


def test_random_numbers_are_normal_and_independent() -> None:
    events, places = np.repeat(np.arange(50_000), 4), np.tile(np.arange(4), 50_000)
    numbers = normal_numbers(np.ones(200_000), np.ones(200_000), events, places)
    assert abs(numbers.mean()) < 5 / 200_000**0.5
    assert abs(numbers.std() - 1) < 0.01
    assert abs((abs(numbers) > 2).mean() - 0.0455) < 0.003
    table = numbers.reshape(-1, 4)
    for other in (1, 2, 3):
        assert abs(np.corrcoef(table[:, 0], table[:, other])[0, 1]) < 0.03
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.03


@given(st.integers(1, 2**31), st.integers(1, 2**31), st.integers(0, 2**63), st.integers(0, 100))
def test_a_random_number_depends_on_nothing_else(run: int, section: int, event: int, index: int) -> None:
    def number(kind: type) -> float:
        columns = [np.array([value], kind) for value in (run, section, event, index)]
        return float(normal_numbers(*columns)[0])

    alone = number(np.uint64)
    assert np.isfinite(alone)
    many = [np.full(7, value, np.uint64) for value in (run, section, event, index)]
    assert (normal_numbers(*many) == alone).all()
    assert normal_numbers(many[0], many[1], many[2], many[3] + np.uint64(1))[0] != alone


def test_the_random_numbers_stay_what_they_are() -> None:
    found = normal_numbers(np.array([1, 315267]), np.array([1, 205]), np.array([1, 123456789]), np.array([0, 3]))
    assert np.allclose(found, [0.7955296902259495, 0.7491486129535961], rtol=1e-12, atol=0)


def test_an_electron_has_another_number_than_the_jet_in_its_place() -> None:
    columns = np.ones(100_000), np.ones(100_000), np.arange(100_000), np.zeros(100_000)
    jets, electrons = normal_numbers(*columns), normal_numbers(*columns, ELECTRON)
    assert abs(np.corrcoef(jets, electrons)[0, 1]) < 0.02
