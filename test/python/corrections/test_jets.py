from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest

from conftest import DATA, ROOT
from MLTools.NanoML.corrections import Corrections, jets
from MLTools.NanoML.corrections.entries import JetCorrections
from MLTools.NanoML.corrections.inputs import normal_numbers
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Events, Flat, Selection
from services import invented
from services.jets import ERAS, Event, OneByOne, collections, joined, write_era
from services.real import DATA_V13, V9, V15, events_of, nanoaod, plain, pog
from services.real import era as era_of

INVENTED = ROOT / "examples" / "corrections"
RATIO = "Invented2018_JRV1_MC_ScaleFactor_AK4PF"
RANDOM = np.random.default_rng(3)
COUNTS = np.array([3, 0, 2, 4])
ETA, PHI, PT = RANDOM.uniform(-4.5, 4.5, 9), RANDOM.uniform(-3.1, 3.1, 9), RANDOM.uniform(20, 300, 9)
RHO, AREA = np.repeat([10.0, 20.0, 30.0, 40.0], COUNTS), np.full(9, 0.5)


@pytest.fixture(scope="module")
def era() -> JetCorrections:
    found: JetCorrections = Corrections.read(INVENTED / "2018.yaml").jets
    return found


def test_ragged_jets_have_the_values_of_flat_ones(era: JetCorrections) -> None:
    def lists(values: np.ndarray) -> ak.Array:
        return ak.unflatten(values, COUNTS)

    flat = jets.energy_scale(era, PT, ETA, AREA, RHO)
    assert ak.flatten(jets.energy_scale(era, lists(PT), lists(ETA), lists(AREA), lists(RHO))).tolist() == flat.tolist()
    normal, none = RANDOM.normal(size=9), np.zeros(9)
    smeared = jets.smearing(era, PT, ETA, RHO, none, normal)
    ragged = jets.smearing(era, lists(PT), lists(ETA), lists(RHO), lists(none), lists(normal))
    assert ak.flatten(ragged["up"]).tolist() == smeared["up"].tolist()


def test_each_run_of_data_has_its_own_scale(era: JetCorrections) -> None:
    run = np.array([1, 316995, 316996] * 3)
    found = jets.energy_scale(era, PT, ETA, AREA, RHO, run)
    for place in range(9):
        kind = "RunA" if run[place] < 316996 else "RunB"
        correction = era.file[f"Invented2018_V1_{kind}_DATA_L1L2L3Res_AK4PF"]
        assert found[place] == correction(AREA[place], ETA[place], PT[place], RHO[place])
    message = r"2018.yaml:9: jets: jec.data, of .*2018/jets.json, has no range with run 1000000. It has: 1-316995"
    with pytest.raises(NanoMLError, match=message):
        jets.energy_scale(era, PT, ETA, AREA, RHO, np.where(run == 1, 1_000_000, run))


def test_the_uncertainty_of_the_resolution_must_be_in_the_file(tmp_path: Path) -> None:
    path = write_era("2018 June", tmp_path, DATA, ROOT / "examples")
    file = tmp_path / "jets.json"
    file.write_text(file.read_text().replace("_SFUncertainty_", "_Other_"))
    said = "era.yaml:1: jets: .* no correction Invented2018_JRV1_MC_SFUncertainty_AK4PF"
    with pytest.raises(ConfigError, match=said):
        Corrections.read(path)


def test_a_generated_jet_matches_within_three_times_the_resolution_of_the_jet(era: JetCorrections) -> None:
    pt, eta, rho = np.full(4, 100.0), np.full(4, 0.1), np.full(4, 20.0)
    away = np.array([-2.9, 2.9, -3.1, 3.1]) * era.resolution(0.1, 100.0, 20.0)
    found = jets.smearing(era, pt, eta, rho, pt * (1 + away), np.zeros(4))
    ratio = era.resolution_ratio(0.1, 100.0).nominal
    assert found.nominal.tolist() == pytest.approx([*(1 - (ratio - 1) * away[:2]), 1, 1], rel=1e-12)
    assert abs(ratio - 1) > 0.01


def test_a_generated_jet_is_one_of_the_same_event() -> None:
    """The index of one that NanoAOD leaves out may point into the next event."""
    generated = Flat({"pt": np.array([50.0, 60.0]), "eta": np.zeros(2), "phi": np.zeros(2)}, np.array([0, 1, 2]))
    jet = Flat({"genJetIdx": np.array([0, 1, 0, -1]), "eta": np.zeros(4), "phi": np.zeros(4)}, np.array([0, 2, 4]))
    events: Any = SimpleNamespace(flat=lambda name: generated)
    assert jets.generated_pt(events, jet).tolist() == [50, 0, 60, 0]


def test_no_jet_loses_all_of_its_energy(era: JetCorrections) -> None:
    one = np.ones(1)
    assert jets.smearing(era, 50 * one, 0.1 * one, 20 * one, 0 * one, -99 * one).nominal == 0.01


def test_smeared_jets_have_the_resolution_of_data(era: JetCorrections) -> None:
    """The width grows by the ratio of the resolutions, whether there is a generated jet or not."""
    number, true = 100_000, 100.0
    eta, rho = np.full(number, 0.7), np.full(number, 20.0)
    sigma = era.resolution(0.7, true, 20.0)
    measured = true * (1 + sigma * RANDOM.normal(size=number))
    normal = normal_numbers(np.ones(number), np.ones(number), np.arange(number), np.zeros(number))
    ratio = era.file[RATIO](0.7, "nom")
    for generated in (np.full(number, true), np.zeros(number)):
        smeared = measured * jets.smearing(era, measured, eta, rho, generated, normal).nominal
        assert abs(smeared.std() / measured.std() / ratio - 1) < 0.02


def test_regions_of_the_map_are_vetoed() -> None:
    veto = Corrections.read(INVENTED / "2018.yaml").jet_veto
    eta, phi = ak.Array([[-2.0, -2.0], [], [2.0, -5.5]]), ak.Array([[-1.0, 1.0], [], [-1.0, 3.14159]])
    assert jets.is_in_veto_region(veto, eta, phi).tolist() == [[True, False], [], [False, False]]


def test_the_region_without_endcap_loses_energy() -> None:
    eta, phi = np.array([-2.0, -2.8, -2.0, 2.0]), np.array([-1.0, -1.0, 1.0, -1.0])
    assert jets.hem_scale(eta, phi)["down"].tolist() == [0.8, 0.65, 1.0, 1.0]


PLAIN = (*jets.branches("MET"), *jets.SIMULATED)
CASES = {
    "invented": ("2018", "sample", jets.branches("MET")),
    "layout of June 2026, sample": ("2018 June", "sample", jets.branches("MET")),
    "2018 UL, v9": ("2018 UL", V9, jets.branches("MET", with_unclustered=True)),
    "2022, v15": ("2022", V15, jets.branches("PuppiMET", with_unclustered=True)),
}
"""The era, the file, and what is read of it."""


class Read(Selection):
    branches = jets.branches()
    optional = jets.SIMPLIFIED


def with_optional(arrays: dict[str, Any]) -> Events:
    """Events, with what simplified simulation lacks."""
    made = Read().with_optional(arrays, collections(arrays), len(arrays["run"]))
    return Events(*made)


@pytest.mark.parametrize("case", CASES)
def test_jets_are_those_of_one_jet_after_the_other_under_every_shift(case: str, tmp_path: Path, sample: Path) -> None:
    name, file, names = CASES[case]
    names = (*names, *jets.SIMULATED, *jets.OPTIONAL)
    one = OneByOne(write_era(name, tmp_path, DATA, ROOT / "examples"))
    path = sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root" if file == "sample" else nanoaod(file)
    with RootFile(path) as opened:
        found = {name: versions.resolve(name, list(opened.branches)) for name in names}
        lost = {name for name, actual in found.items() if actual is None}
        assert lost <= {*jets.OPTIONAL, *(jets.SIMPLIFIED if file == "sample" else ())}
        found = {name: actual for name, actual in found.items() if actual}
        arrays = opened.read(list(found.values()), 0, 15)
    events = {name: arrays[actual].tolist() for name, actual in found.items()}
    rows = range(len(events["run"]))
    nominal = [one.nominal(events, row) for row in rows]
    whole = with_optional({name: arrays[actual] for name, actual in found.items()})
    corrected = jets.corrected(whole, one.era, False)

    def check(events: Events, expected: list[Event]) -> None:
        pt, mass, missing = joined(expected)
        jet = events.flat("Jet")
        assert np.allclose(jet.pt, pt, rtol=1e-12)
        assert np.allclose(jet.mass, mass, rtol=1e-12)
        vector = events[f"{one.missing}_pt"] * np.exp(1j * np.asarray(events[f"{one.missing}_phi"]))
        assert np.allclose(vector, missing, rtol=1e-10, atol=1e-10)

    check(corrected, nominal)
    sources = one.sources[::8]
    assert len(one.sources) >= {"2018": 4, "2018 June": 4, "2018 UL": 50, "2022": 40}[name]
    shifts = ["jes", *(f"jes{source}" for source in sources), "jer", "hem"]
    shifts += ["unclustered"] if any("ncl" in name for name in names) else []
    changed = 0
    for shift in shifts:
        for direction in ("down",) if shift == "hem" else ("up", "down"):
            expected = [one.shifted(events, row, shift, direction, nominal[row]) for row in rows]
            check(jets.shifted(corrected, one.era, shift, direction), expected)
            changed += not np.array_equal(joined(expected)[2], joined(nominal)[2])
    assert changed > len(shifts)
    # of some of the events, as after a cut
    part = np.arange(len(corrected)) % 3 == 1
    some = jets.corrected(whole, one.era, False)[part]
    check(some, [event for event, is_in in zip(nominal, part) if is_in])
    expected = [one.shifted(events, row, "jer", "up", nominal[row]) for row in np.flatnonzero(part)]
    check(jets.shifted(some, one.era, "jer", "up"), expected)


def test_jets_of_data_have_the_scale_of_their_run(tmp_path: Path) -> None:
    path = write_era("2022", tmp_path, DATA, ROOT / "examples")
    campaign = "Summer22_22Sep2023_RunCD_V2_DATA"
    path.write_text(path.read_text().replace("_V2_MC}", f"_V2_MC, data: {{359571-359571: {campaign}}}}}"))
    era = Corrections.read(path).jets
    names = jets.branches("PuppiMET")
    events = events_of(nanoaod(DATA_V13), names)
    corrected = jets.corrected(events, era, is_data=True)
    before, after = events.flat("Jet"), corrected.flat("Jet")
    levels = plain(era.file.path).compound[f"{campaign}_L1L2L3Res_AK4PFPuppi"]
    rho = np.asarray(events.fixedGridRhoFastjetAll)[before.event]
    for place in range(len(before.pt)):
        raw = before.pt[place] * (1 - before.rawFactor[place])
        eta = max(-5.19, min(before.eta[place], 5.19))
        expected = raw * levels.evaluate(before.area[place], eta, raw, rho[place])
        assert np.isclose(after.pt[place], expected, rtol=1e-12)
    assert len(before.pt) > 100
    one, listed = OneByOne(path, campaign), {name: events[name].tolist() for name in names}
    missing = [one.type1(listed, row, after.pt[after.event == row]) for row in range(len(events))]
    vector = corrected.PuppiMET.pt * np.exp(1j * np.asarray(corrected.PuppiMET.phi))
    assert np.allclose(vector, missing, rtol=1e-10, atol=1e-10)


def test_a_shift_that_cannot_be_and_branches_that_are_not_read_are_errors(era: JetCorrections) -> None:
    events = Events({name: ak.Array([[1.0]]) for name in PLAIN}, collections(PLAIN))
    for name, direction, message in (
        ("jes", "sideways", 'the direction "sideways"'),
        ("jr", "up", 'no shift "jr" of jets. Known are jes,'),
        ("jer", "up", "call `corrected` in `prepare`"),
    ):
        with pytest.raises(NanoMLError, match=message):
            jets.shifted(events, era, name, direction)
    with pytest.raises(NanoMLError, match="has no correction Invented2018_V1_MC_FlavorQC_AK4PF. Did you mean"):
        _ = jets.shifted(events, era, "jesFlavorQC", "up").Jet.pt
    with pytest.raises(NanoMLError, match=r'UnclustEnUpDeltaX, .*: not read. Add `\*jets.branches\("MET", with_unclus'):
        jets.shifted(events, era, "unclustered", "up")
    few = Events({name: events[name] for name in PLAIN if "Raw" not in name}, collections(PLAIN))
    with pytest.raises(NanoMLError, match=r'^RawMET_pt, RawMET_phi: not read. Add `\*jets.branches\("MET"\)'):
        jets.corrected(few, era, is_data=False)


def test_a_correction_may_depend_on_azimuth_and_run(tmp_path: Path) -> None:
    """As those of the end of 2023."""
    inputs = {"JetPt": "real", "JetPhi": "real", "run": "real"}
    regions = invented.binning("JetPhi", (-3.1416, 0.0, 3.1416), [0.9, 1.1], "error")
    runs = invented.binning("run", (0.0, 10.0, 20.0), [regions, 1.0], "error")
    simulation = invented.correction("A_MC_L1L2L3Res_AK4", {"JetPt": "real"}, 1.5)
    invented.write(tmp_path / "jets.json", invented.correction("A_DATA_L1L2L3Res_AK4", inputs, runs), simulation)
    entry = "{file: jets.json, algorithm: AK4, jec: {simulation: A_MC, data: {1-19: A_DATA}}, sources: [L1L2L3Res]}"
    era = era_of(tmp_path, f"jets: {entry}").jets
    run = np.array([5, 5, 15] * 3)
    found = jets.energy_scale(era, PT, ETA, AREA, RHO, run, PHI)
    assert found.tolist() == np.where(run > 10, 1.0, np.where(PHI > 0, 1.1, 0.9)).tolist()
    assert jets.energy_scale(era, PT, ETA, AREA, RHO, phi=PHI).tolist() == [1.5] * 9
    with pytest.raises(NanoMLError, match="needs JetPt, JetPhi, run"):
        jets.energy_scale(era, PT, ETA, AREA, RHO, run)


def test_unmatched_jets_of_a_region_may_stay_as_they_are(tmp_path: Path) -> None:
    text = (INVENTED / "2018.yaml").read_text().replace("file: 2018", f"file: {INVENTED}/2018")
    era = era_of(tmp_path, text + "  matched_only: 2.5-3.0\n").jets
    eta, normal = np.array([2.4, 2.6, -2.9, 3.1, 2.6]), np.ones(5)
    pt, generated = np.full(5, 50.0), np.array([0, 0, 0, 0, 48.0])
    changed = jets.smearing(era, pt, eta, np.full(5, 20.0), generated, normal)
    for values in (changed.nominal, changed["up"], changed["down"]):
        assert (values != 1).tolist() == [True, False, False, True, True]


LEVELS = ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")


def test_the_residual_correction_is_frozen_for_soft_jets_of_a_region(tmp_path: Path) -> None:
    """As JME asks for 2024; the numbers are those of 2022."""
    campaign, path = "Summer22_22Sep2023_RunCD_V2_DATA", pog("JME/2022_Summer22/jet_jerc.json.gz")
    text = f"jets: {{file: {path}, algorithm: AK4PFPuppi, jec: {{simulation: Summer22_22Sep2023_V2_MC, data: {{1-999999: {campaign}}}}}"
    jet_branches = (f"Jet_{name}" for name in ("pt", "eta", "phi", "rawFactor", "area"))
    events = events_of(nanoaod(DATA_V13), [*jet_branches, "fixedGridRhoFastjetAll", "run"])
    jet = events.flat("Jet")
    raw, run = jet.pt * (1 - jet.rawFactor), np.asarray(events.run)[jet.event]
    rho = np.asarray(events.fixedGridRhoFastjetAll)[jet.event]
    whole, changed = plain(path), 0
    for abseta in ("2.0-2.5", "0-5"):
        entry = era_of(tmp_path, f"{text}, frozen_residual: {{abseta: {abseta}, pt: 0-30}}}}").jets
        made = jets.energy_scale(entry, raw, jet.eta, jet.area, rho, run, jet.phi)
        low, high = map(float, abseta.split("-"))
        for place in range(len(raw)):
            eta, pt = max(-5.19, min(5.19, float(jet.eta[place]))), float(raw[place])
            for level in LEVELS:
                correction = whole[f"{campaign}_{level}_AK4PFPuppi"]
                is_frozen = level == LEVELS[-1] and low <= abs(eta) < high and pt < 30
                changed += is_frozen
                known = {"JetA": float(jet.area[place]), "JetEta": eta, "JetPt": pt, "Rho": float(rho[place])}
                known |= {"JetPt": 30.0} if is_frozen else {}
                pt *= correction.evaluate(*(known[axis.name] for axis in correction.inputs))
            assert np.isclose(made[place] * raw[place], pt, rtol=1e-7)
    assert changed > 20


def test_a_shift_may_change_the_jets_of_a_region_alone(tmp_path: Path) -> None:
    regions = "{barrel: {abseta: 0-1.93}, soft: {abseta: 1.93-5.2, pt: 0-50}, hard: {abseta: 1.93-5.2, pt: 50-9999}}"
    text = ERAS["2018 UL"].replace("POG/JME", str(pog("JME"))).replace("}}", f"}}, regions: {regions}}}")
    entry = era_of(tmp_path, text).jets
    events = events_of(nanoaod(V9), PLAIN, 100)
    nominal = jets.corrected(events, entry, is_data=False)
    jet = nominal.flat("Jet")
    soft, barrel = jet.pt < 50, abs(jet.eta) < 1.93
    masks = {"barrel": barrel, "soft": ~barrel & soft, "hard": ~barrel & ~soft}
    for name in ("jer", "jesFlavorQCD"):
        whole, missing = jets.shifted(nominal, entry, name, "up"), 0j
        for region, mask in masks.items():
            found = jets.shifted(nominal, entry, f"{name}_{region}", "up")
            assert found.flat("Jet").pt.tolist() == np.where(mask, whole.flat("Jet").pt, jet.pt).tolist()
            assert mask.sum() > 3 or region == "hard"
            missing += np.asarray(found.MET.pt) * np.exp(1j * np.asarray(found.MET.phi))
            missing -= np.asarray(nominal.MET.pt) * np.exp(1j * np.asarray(nominal.MET.phi))
        change = np.asarray(whole.MET.pt) * np.exp(1j * np.asarray(whole.MET.phi))
        change -= np.asarray(nominal.MET.pt) * np.exp(1j * np.asarray(nominal.MET.phi))
        assert np.allclose(missing, change)  # the regions add up, also for the jets that are too soft for Jet
    with pytest.raises(NanoMLError, match='no shift "jer_sof" of jets'):
        jets.shifted(nominal, entry, "jer_sof", "up")
