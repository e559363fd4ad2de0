from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.corrections import jets, missing_momentum, xy
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Events, Flat
from services import invented, real
from services.real import DATA_V6, V9, V15, check_refusals, era, events_of, nanoaod, plain, pog

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
    names = ("RawPuppiMET", "PuppiMET")
    raw, stored = (missing_momentum.components(events[f"{it}_pt"], events[f"{it}_phi"]) for it in names)
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
    shifted = invented.category("syst", {key: corrected_values(scale) for key, scale in name.items()})
    shifts = dict.fromkeys(("Hpara", "Hperp"), shifted)
    made = []
    for kind, given, values in (("Rescaling", inputs, data), ("Uncertainty", {**inputs, "syst": "string"}, shifts)):
        orders = invented.category("order", {"NLO": invented.category("var", values)})
        made.append(invented.correction(f"Recoil_correction_{kind}", given, orders))
    invented.write(path, *made)


def test_the_recoil_is_corrected_along_and_across_the_boson(tmp_path: Path) -> None:
    path, kinds = tmp_path / "recoil.json", {"recoil": "Rescaling", "recoil_uncertainty": "Uncertainty"}
    write_recoil(path)
    named = {key: {"file": path.name, "name": f"Recoil_correction_{kind}"} for key, kind in kinds.items()}
    text = json.dumps({key: {**each, "inputs": {"order": "NLO"}} for key, each in named.items()})
    entries, one = era(tmp_path, text), plain(path)
    rescaled, error = (one[f"Recoil_correction_{name}"] for name in ("Rescaling", "Uncertainty"))
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
        ways = (("para", along), ("perp", across))
        u = sum(way * rescaled.evaluate("NLO", count, pt, f"U{name}", u @ way) for name, way in ways)
        after = u - seen + full
        assert np.allclose(parts(found[0][n], found[1][n]), after, rtol=1e-7)
        h = -after - seen
        h = sum(way * error.evaluate("NLO", count, pt, f"H{name}", h @ way, "RespUp") for name, way in ways)
        assert np.allclose(parts(up[0][n], up[1][n]), -h - seen, rtol=1e-7)
    with pytest.raises(NanoMLError, match="Recoil_correction_Uncertainty has no RespU"):
        missing_momentum.recoil_shifted(entries.recoil_uncertainty, found, boson, visible, jets, "RespU")


def read(folder: Path, text: str) -> xy.XYCorrections:
    found: xy.XYCorrections = era(folder, f"met_xy: {{{text}}}").met_xy
    return found


def events_with(file: str, missing: str, *more: str) -> Events:
    """Events of a file; without one, invented ones of 2018."""
    if file:
        return real.events_of(nanoaod(file), [*xy.branches(missing), *more], 100)
    random = np.random.default_rng(3)
    columns = {name: random.uniform(-3.1, 3.1, 50) for name in (*xy.branches(missing), *more)}
    columns |= {name: 80 + 25 * values for name, values in columns.items() if "_pt" in name}
    columns |= {name: random.integers(1, 90, 50) for name in ("PV_npvs", "PV_npvsGood")}
    return Events({**columns, "run": random.integers(315252, 325273, 50)}, {})


def write_run2(path: Path) -> None:
    """In the layout of JME's met.json of Run 2, with invented numbers: bins of runs, outside of which nothing changes."""
    inputs, made = dict.fromkeys(("met_pt", "met_phi", "npvs", "run"), "real"), []
    x, y = "(x*cos(y)-({0}*z+{1}))", "(x*sin(y)-({2}*z+{3}))"
    vector = (f"sqrt({x}^2+{y}^2)", f"atan2({y},{x})")
    for kind, sample in ((kind, sample) for kind in ("pfmet", "puppimet") for sample in ("data", "mc")):
        numbers = [(0.26, -1.9, 0.04, -0.1), (0.43, -1.4, 0.06 * len(kind), 0.3 * len(sample))]
        for quantity, plain_one, expression in zip(("pt", "phi"), ("met_pt", "met_phi"), vector):
            here = [invented.formula(expression.format(*four), "met_pt", "met_phi", "npvs") for four in numbers]
            bins = [invented.formula("x", plain_one), *here]
            data = invented.binning("run", (0.0, 315252.0, 320000.0, 325274.0), bins, "error")
            made.append(invented.correction(f"{quantity}_metphicorr_{kind}_{sample}", inputs, data))
    invented.write(path, *made)


def rows(events: Events, missing: str, *counts: str) -> list[tuple[float, ...]]:
    names = (f"{missing}_pt", f"{missing}_phi", *counts)
    return [tuple(map(float, row)) for row in zip(*(np.asarray(events[name]) for name in names))]


@pytest.mark.parametrize(
    ("year", "file", "missing", "is_data"),
    [
        ("2017_UL", V9, "MET", False), ("2018_UL", DATA_V6, "MET", True), ("2018_UL", DATA_V6, "PuppiMET", True),
        ("", "", "MET", False), ("", "", "MET", True), ("", "", "PuppiMET", True),
    ],
)  # fmt: skip
def test_files_of_run_2_event_by_event(year: str, file: str, missing: str, is_data: bool, tmp_path: Path) -> None:
    path = pog(f"JME/{year}/met.json.gz") if year else tmp_path / "met.json"
    if not year:
        write_run2(path)
    entry, events = read(tmp_path, f"file: {path}, missing_momentum: {missing}"), events_with(file, missing)
    kind = "puppimet" if missing == "PuppiMET" else "pfmet"
    found = xy.corrected(events, entry, is_data)
    for quantity in ("pt", "phi"):
        one = plain(path)[f"{quantity}_metphicorr_{kind}_{'data' if is_data else 'mc'}"]
        expected = [one.evaluate(*row) for row in rows(events, missing, "PV_npvs", "run")]
        assert np.allclose(found[f"{missing}_{quantity}"], expected, rtol=1e-7)
    assert not np.allclose(found[f"{missing}_pt"], events[f"{missing}_pt"])


def test_data_of_another_era_are_an_error(tmp_path: Path) -> None:
    write_run2(tmp_path / "met.json")
    entry = read(tmp_path, "file: met.json")
    for run, said in ((299000, "has nothing for run 299000. Correct"), (359571, "run is 359571")):
        columns = {"MET_pt": [50.0, 60.0], "MET_phi": [1.0, 2.0], "run": [315300, run]}
        columns |= {name: [30, 20] for name in ("PV_npvs", "PV_npvsGood")}
        events = Events({name: np.array(values) for name, values in columns.items()}, {})
        with pytest.raises(NanoMLError, match=f"met.json: pt_metphicorr_pfmet_data:? {said}"):
            xy.corrected(events, entry, is_data=True)["MET_pt"]


def write_run3(path: Path) -> None:
    """In the layout of JME's met_xyCorrections of Run 3, of which no copy is here."""
    texts = ("pt_phi", "met_type", "epoch", "dtmc", "variation")
    inputs = {**dict.fromkeys(texts, "string"), **dict.fromkeys(("met_pt", "met_phi", "npvGood"), "real")}
    names_of_numbers = ("met_pt", "met_phi", "npvGood")

    shifts = {"nom": 0.1, "stat_xup": 0.2, "stat_xdn": 0.05, "pu_up": 0.3, "pu_dn": 0.02}
    choices = {"pt_phi": ["pt", "phi"], "met_type": ["MET", "PuppiMET"], "epoch": ["2022EE"], "dtmc": ["DATA", "MC"]}

    def nested(order: tuple[str, ...], chosen: dict[str, Any]) -> Any:
        if order:
            names = choices.get(order[0], [*shifts][: 5 if chosen.get("dtmc") == "MC" else 3])
            below = {name: nested(order[1:], {**chosen, order[0]: name}) for name in names}
            return invented.category(order[0], below)
        shift = shifts[chosen["variation"]] + (chosen["dtmc"] == "DATA") + 2 * (chosen["met_type"] == "MET")
        text = {"pt": f"x+{shift}*z", "phi": f"y+0.001*{shift}*z"}[chosen["pt_phi"]]
        return invented.formula(text, *names_of_numbers)

    data = nested(texts, {})
    invented.write(path, invented.correction("met_xy_corrections", inputs, data))


ENTRY = "file: met.json, missing_momentum: PuppiMET, inputs: {epoch: 2022EE}, sources: [stat_x, pu]"


def test_files_of_run_3_event_by_event_and_what_they_cannot_do(tmp_path: Path) -> None:
    write_run3(tmp_path / "met.json")
    one = plain(tmp_path / "met.json")["met_xy_corrections"]
    entry, events = read(tmp_path, ENTRY), events_with("", "PuppiMET")
    nominal = xy.corrected(events, entry, is_data=False)
    cases = [("MC", "nom", nominal), ("DATA", "nom", xy.corrected(events, entry, is_data=True))]
    cases += [
        ("MC", key, xy.shifted(nominal, entry, *name.split()))
        for key, name in (("stat_xup", "met_stat_x up"), ("stat_xdn", "met_stat_x down"), ("pu_dn", "met_pu down"))
    ]
    for sample, key, found in cases:
        for quantity in ("pt", "phi"):
            fixed = (quantity, "PuppiMET", "2022EE", sample, key)
            expected = [one.evaluate(*fixed, *row) for row in rows(events, "PuppiMET", "PV_npvsGood")]
            assert np.allclose(found[f"PuppiMET_{quantity}"], expected, rtol=1e-7)
    # entries and shifts that cannot be
    with pytest.raises(ConfigError, match="has no correction of pt of DeepMET for data"):
        read(tmp_path, "file: met.json, missing_momentum: DeepMET")
    with pytest.raises(ConfigError, match="sources: met_xy_corrections does not have stat_z, up and down"):
        read(tmp_path, ENTRY.replace("stat_x", "stat_z"))
    said = "the missing momentum. Known are met_stat_x, met_pu"
    check_refusals(lambda *shift: xy.shifted(events, entry, *shift), "met_pu", "met_stat_y", said)


def test_the_shift_of_unclustered_energy_is_still_that_of_the_file(tmp_path: Path) -> None:
    write_run3(tmp_path / "met.json")
    more = missing_momentum.unclustered_branches("PuppiMET")
    events = events_with("", "PuppiMET", *more)
    twice = xy.corrected(xy.corrected(events, read(tmp_path, ENTRY), False), read(tmp_path, ENTRY), False)

    def vector(of: Events, end: str = "") -> Any:
        return np.asarray(of[f"PuppiMET_pt{end}"]) * np.exp(1j * np.asarray(of[f"PuppiMET_phi{end}"]))

    pt, phi = missing_momentum.unclustered(twice, "up", "PuppiMET")
    assert np.allclose(pt * np.exp(1j * phi) - vector(twice), vector(events, "UnclusteredUp") - vector(events))
