from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import awkward as ak
import correctionlib
import numpy as np
import pytest
from conftest import DATA, ROOT

from MLTools.NanoML.corrections import Corrections, muons
from MLTools.NanoML.corrections.muons import MuonCorrections
from MLTools.NanoML.corrections.random_numbers import MUON, normal_numbers
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, DatasetInfo, Events, Selection
from MLTools.NanoML.selection.tryout import on_events
from services.jets import read

INVENTED = ROOT / "examples" / "corrections" / "2022" / "muon_scalesmearing.json"
REAL = sorted((DATA / "corrections" / "POG" / "MUO").glob("*/muon_scalesmearing.json.gz"))
COUNTS = [2, 0, 1, 30, 7]
RANDOM = np.random.default_rng(5)


def made() -> dict[str, Any]:
    """Events with muons, of which some have too little or too much momentum."""
    number = sum(COUNTS)
    columns = {
        "pt": np.concatenate([[20.0, 250.0], RANDOM.uniform(27, 190, number - 2)]),
        "eta": RANDOM.uniform(-2.4, 2.4, number),
        "phi": RANDOM.uniform(-3.1, 3.1, number),
        "charge": RANDOM.choice([-1, 1], number).astype(np.int32),
        "nTrackerLayers": RANDOM.integers(6, 18, number).astype(np.uint8),
    }
    events = {f"Muon_{name}": ak.unflatten(values, COUNTS) for name, values in columns.items()}
    events.update(run=np.ones(5, np.uint32), luminosityBlock=np.arange(1, 6, dtype=np.uint32))
    events["event"] = np.arange(11, 16, dtype=np.uint64)
    return events


def of(events: Mapping[str, Any]) -> Events:
    return Events(dict(events), {name: "Muon" for name in events if name.startswith("Muon_")})


def each_muon(events: Mapping[str, Any]) -> list[dict[str, float]]:
    """The muons one after the other."""
    found = []
    for row, count in enumerate(ak.num(events["Muon_pt"]).tolist()):
        for place in range(count):
            columns = {
                name[5:]: float(values[row][place]) for name, values in events.items() if name.startswith("Muon_")
            }
            identifiers = [np.array([events[name][row]]) for name in ("run", "luminosityBlock", "event")]
            normal = float(normal_numbers(*identifiers, np.array([place]), MUON)[0])
            found.append({**columns, "share": NormalDist().cdf(normal)})
    return found


class OneByOne:
    """The momenta of muons by correctionlib itself."""

    def __init__(self, path: Path) -> None:
        self._set = correctionlib.CorrectionSet.from_file(str(path))

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
        drawn = mean + sigma * quantile(mu["share"], power, edge) if power > 1 and edge > 0 else 0.0
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


@pytest.mark.parametrize("path", [INVENTED, *REAL], ids=lambda path: path.parent.name)
@pytest.mark.parametrize("file", ["made", "nano_v13_mc_ggh", "nano_v15_mc_ttbar"])
def test_muons_are_those_of_one_after_the_other_under_every_shift(path: Path, file: str, tmp_path: Path) -> None:
    source = DATA / "real" / f"{file}.root"
    if file != "made" and not source.is_file():
        pytest.skip(f"no NanoAOD file {source}: name the directory of real files by NANOML_TEST_DATA")
    (tmp_path / "era.yaml").write_text(f"muons: {{file: {path}}}")
    corrections = Corrections.read(tmp_path / "era.yaml").muons
    events = made() if file == "made" else dict(read(source, muons.BRANCHES, 200))
    one, listed = OneByOne(path), each_muon(events)
    assert len(listed) > 15
    in_data = muons.corrected(of(events), corrections, is_data=True).flat("Muon").pt
    assert np.allclose(in_data, [one.scaled(mu, "data") for mu in listed], rtol=1e-12)
    nominal = muons.corrected(of(events), corrections, is_data=False)
    assert np.allclose(nominal.flat("Muon").pt, [one.smeared(mu) for mu in listed], rtol=1e-10)
    for direction, sign in (("up", 1), ("down", -1)):
        scaled = muons.shifted(nominal, corrections, "muonScale", direction).flat("Muon").pt
        assert np.allclose(scaled, [one.rescaled(mu, sign) for mu in listed], rtol=1e-10)
        smeared = muons.shifted(nominal, corrections, "muonSmearing", direction).flat("Muon").pt
        assert np.allclose(smeared, [one.smeared(mu, sign) for mu in listed], rtol=1e-10)


def test_the_numbers_have_the_density_of_the_file(corrections: MuonCorrections) -> None:
    """A Gaussian with tails, whose integral is 1, by the trapezoidal rule."""
    number, eta, layers = 100_001, 1.2, 12.0
    mean, sigma, power, edge = (
        corrections.value("cb_params", abseta=eta, nTrackerLayers=layers, parameter=p) for p in range(4)
    )
    x = np.linspace(-40, 40, 2_000_001)
    t = abs(x)
    tail = (power / edge) ** power * np.exp(-(edge**2) / 2) * (power / edge - edge + np.maximum(t, edge)) ** -power
    density = np.where(t < edge, np.exp(-(t**2) / 2), tail)
    integral = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share = np.linspace(0.01, 0.99, number)
    found = muons.crystal_ball(corrections, np.full(number, eta), np.full(number, layers), share)
    expected = mean + sigma * np.interp(share, integral / integral[-1], x)
    assert np.allclose(found, expected, atol=1e-3)
    assert (np.diff(found) > 0).all()


def test_shifts_are_small_and_on_both_sides(corrections: MuonCorrections) -> None:
    nominal = muons.corrected(of(made()), corrections, is_data=False)
    pt = nominal.flat("Muon").pt
    covered = (pt > 27) & (pt < 190)
    for shift in ("muonScale", "muonSmearing"):
        up, down = (muons.shifted(nominal, corrections, shift, way).flat("Muon").pt for way in ("up", "down"))
        assert np.allclose(up + down, 2 * pt, rtol=1e-9)
        assert (up[covered] != pt[covered]).all()
        assert np.max(abs(up / pt - 1)) < 0.02


class AMuon(Selection):
    """A muon above 40 GeV."""

    branches = muons.BRANCHES
    shifts = {"muonScale": UP_DOWN, "muonSmearing": UP_DOWN}
    columns = {"pt": Column("f8", "transverse momentum of the hardest muon [GeV]")}

    def prepare(self, events: Events) -> Events:
        return muons.corrected(events, self.dataset.corrections.muons, self.dataset.is_data)

    def shift(self, events: Events, name: str, direction: str) -> Events:
        return muons.shifted(events, self.dataset.corrections.muons, name, direction)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("a muon", ak.any(events.Muon.pt > 40, axis=1), events)
        return events, {"pt": ak.max(events.Muon.pt, axis=1)}


def test_a_selection_has_them_under_its_shifts(corrections: MuonCorrections) -> None:
    events = made()
    info = DatasetInfo("signal", "2022", corrections_file=str(ROOT / "examples" / "corrections" / "2022.yaml"))
    found = on_events(AMuon().of_dataset(info), events)
    nominal = muons.corrected(of(events), corrections, is_data=False)
    assert found.columns["pt"].tolist() == ak.max(nominal.Muon.pt, axis=1)[found.rows].tolist()
    up = muons.shifted(nominal, corrections, "muonSmearing", "up").Muon.pt
    assert found.columns["pt_muonSmearingUp"].tolist() == ak.max(up, axis=1)[found.rows].tolist()


def test_what_cannot_be_is_an_error(corrections: MuonCorrections, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match='no shift "muonScal" up of muons. Known are muonScale, muonSmearing'):
        muons.shifted(of(made()), corrections, "muonScal", "up")
    with pytest.raises(NanoMLError, match="call `corrected` in `prepare`"):
        muons.shifted(of(made()), corrections, "muonScale", "up")
    (tmp_path / "era.yaml").write_text(f"muons: {{file: {INVENTED.parent}/muon.json}}")
    with pytest.raises(ConfigError, match=r"era.yaml:1: muons: .*has no correction m_data"):
        Corrections.read(tmp_path / "era.yaml")
