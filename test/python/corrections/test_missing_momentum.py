from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.corrections import jets, missing_momentum
from MLTools.NanoML.corrections.survey.propose import propose
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Events, Flat
from services import invented
from services.real import V9, V15, era, events_of, nanoaod, plain

RANDOM = np.random.default_rng(3)
COUNTS = np.array([3, 0, 2, 4])
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)])
PHI, PT = RANDOM.uniform(-3.1, 3.1, 9), RANDOM.uniform(20, 300, 9)


def test_missing_momentum_balances_the_change() -> None:
    flat = Flat({"phi": PHI}, OFFSETS)
    missing, phi = np.array([30.0, 40.0, 50.0, 60.0]), np.array([0.1, -2.0, 3.0, 1.0])
    new = PT * RANDOM.uniform(0.9, 1.1, 9)
    found, angle = missing_momentum.propagated(missing, phi, flat, PT, new)
    for event in range(4):
        mine = slice(OFFSETS[event], OFFSETS[event + 1])
        before = missing[event] * np.exp(1j * phi[event]) + (PT[mine] * np.exp(1j * PHI[mine])).sum()
        after = found[event] * np.exp(1j * angle[event]) + (new[mine] * np.exp(1j * PHI[mine])).sum()
        assert np.isclose(before, after)


def test_type_1_takes_the_jets_above_15_gev_without_their_muons() -> None:
    raw, muons = np.array([100.0, 20.0, 100.0, 100.0]), np.array([0.0, 0.5, 0.0, 0.2])
    jets = Flat({"phi": np.zeros(4), "muonSubtrFactor": muons}, np.array([0, 4]))
    em, level1 = np.array([0.1, 0.1, 0.95, 0.1]), np.full(4, 0.9)
    found = missing_momentum.Type1Jets.of(jets, raw, em, level1).correct((np.array([50.0]), np.zeros(1)), 1.1)
    assert np.allclose(found, [[50 - (100 * 0.2 + 80 * 0.2)], [0]])
    turned = jets.with_columns(muonSubtrDeltaPhi=np.array([0, 0, 0, np.pi / 2]))
    found = missing_momentum.Type1Jets.of(turned, raw, em, level1).correct((np.array([50.0]), np.zeros(1)), 1.1)
    assert np.allclose(found, [[50 - 100 * 0.2], [-80 * 0.2]])


def test_the_factors_of_the_file_give_its_missing_momentum() -> None:
    """But for a jet so near to a limit that the precision of NanoAOD decides on which side it is."""
    names = (*jets.branches("PuppiMET"), *jets.OPTIONAL)
    events = events_of(nanoaod(V15), [name for name in names if "CorrT1" not in name])
    jet = events.flat("Jet")
    em, scale = jet.neEmEF + jet.chEmEF, 1 / (1 - jet.rawFactor)
    taken = missing_momentum.Type1Jets.of(jet, jet.pt / scale, em, 1.0)
    raw, stored = (
        missing_momentum.components(events[f"{start}PuppiMET_pt"], events[f"{start}PuppiMET_phi"])
        for start in ("Raw", "")
    )
    found = taken.correct(raw, scale)
    apart = np.hypot(found[0] - stored[0], found[1] - stored[1])
    assert np.median(apart) < 0.1
    assert np.quantile(apart, 0.9) < 0.2
    is_near = (abs(taken.raw * scale - 15) < 0.02) | (abs(em - 0.9) < 0.004)
    assert set(np.flatnonzero(apart > 0.5)) <= set(jet.event[is_near])
    assert np.median(np.hypot(*np.subtract(raw, stored))) > 1


def test_events_must_pass_all_filters() -> None:
    arrays = {name: ak.Array([True, True, False]) for name in missing_momentum.FILTERS["Run3"]}
    arrays["Flag_hfNoisyHitsFilter"] = ak.Array([True, False, True])
    passed = missing_momentum.passes_filters(Events(arrays, {}), missing_momentum.FILTERS["Run3"])
    assert passed.tolist() == [True, False, False]


@pytest.mark.parametrize(("file", "missing"), [(V9, "MET"), (V9, "PuppiMET"), (V15, "PFMET")])
def test_unclustered_energy_moves_the_missing_momentum_as_nanoaod_says(file: str, missing: str) -> None:
    names = [f"{missing}_pt", f"{missing}_phi", *missing_momentum.unclustered_branches(missing)]
    arrays = events_of(nanoaod(file), names, 100)
    vectors = {}
    for direction in ("up", "down"):
        pt, phi = missing_momentum.unclustered(arrays, direction, missing)
        vectors[direction] = pt * np.exp(1j * phi)
        if missing != "MET":
            way = f"Unclustered{direction.capitalize()}"
            there = arrays[f"{missing}_pt{way}"] * np.exp(1j * arrays[f"{missing}_phi{way}"])
            assert np.allclose(vectors[direction], ak.to_numpy(there), rtol=1e-5, atol=1e-4)
    here = ak.to_numpy(arrays[f"{missing}_pt"] * np.exp(1j * arrays[f"{missing}_phi"]))
    # up and down are opposite; NanoAOD rounds small changes of a large momentum
    assert np.allclose(vectors["up"] - here, here - vectors["down"], atol=0.5)
    assert 1 < np.median(abs(vectors["up"] - here)) < 15 or missing == "PuppiMET"


def write_recoil(path: Path) -> None:
    """In the layout of the group for H to tau tau, of which no copy is here."""
    inputs = {"order": "string", "njet": "real", "ptll": "real", "var": "string", "val": "real"}

    def corrected_values(scale: float) -> dict[str, Any]:
        rows = [invented.formula(f"{scale + 0.01 * n}*x+{n}", "val") for n in range(2)]
        return invented.binning("njet", (-0.5, 0.5, 20.0), [invented.binning("ptll", (0.0, 30.0, 1000.0), rows)] * 2)

    data = {f"U{end}": corrected_values(scale) for end, scale in (("para", 0.9), ("perp", 1.1))}
    name = {"RespUp": 1.05, "RespDown": 0.95, "ResoUp": 1.02, "ResoDown": 0.98}
    shifts = {
        f"H{end}": invented.category("syst", {key: corrected_values(scale) for key, scale in name.items()})
        for end in ("para", "perp")
    }
    made = []
    for kind, given, values in (("Rescaling", inputs, data), ("Uncertainty", {**inputs, "syst": "string"}, shifts)):
        orders = invented.category("order", {"NLO": invented.category("var", values)})
        made.append(invented.correction(f"Recoil_correction_{kind}", given, orders))
    invented.write(path, *made)


def test_the_recoil_is_corrected_along_and_across_the_boson(tmp_path: Path) -> None:
    path = tmp_path / "HLepRare" / "2030_X" / "recoil.json"
    write_recoil(path)
    entries, one = era(tmp_path, propose(tmp_path, "2030", tmp_path).text), plain(path)
    random = np.random.default_rng(2)
    missing, boson, visible = ((random.uniform(5, 80, 50), random.uniform(-3.1, 3.1, 50)) for _ in range(3))
    jets = random.integers(0, 4, 50)
    found = missing_momentum.recoil(entries.recoil, missing, boson, visible, jets)
    up = missing_momentum.recoil_shifted(entries.recoil_uncertainty, found, boson, visible, jets, "RespUp")

    def parts(pt: float, phi: float) -> Any:
        return np.array([pt * np.cos(phi), pt * np.sin(phi)])

    for n in range(50):
        full, seen, before = (parts(*(float(each[n]) for each in of)) for of in (boson, visible, missing))
        along, pt, count = full / np.hypot(*full), float(boson[0][n]), float(jets[n])
        across = np.array([-along[1], along[0]])
        u = before + seen - full
        u = sum(
            way * one["Recoil_correction_Rescaling"].evaluate("NLO", count, pt, name, u @ way)
            for way, name in ((along, "Upara"), (across, "Uperp"))
        )
        after = u - seen + full
        assert np.allclose(parts(found[0][n], found[1][n]), after, rtol=1e-7)
        h = -after - seen
        h = sum(
            way * one["Recoil_correction_Uncertainty"].evaluate("NLO", count, pt, name, h @ way, "RespUp")
            for way, name in ((along, "Hpara"), (across, "Hperp"))
        )
        assert np.allclose(parts(up[0][n], up[1][n]), -h - seen, rtol=1e-7)
    with pytest.raises(NanoMLError, match="Recoil_correction_Uncertainty has no RespU"):
        missing_momentum.recoil_shifted(entries.recoil_uncertainty, found, boson, visible, jets, "RespU")
