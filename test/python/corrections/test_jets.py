from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import correctionlib
import numpy as np
import pytest
from conftest import DATA, ROOT

from MLTools.NanoML.corrections import Corrections, jets
from MLTools.NanoML.corrections.entries import JetCorrections
from MLTools.NanoML.corrections.random_numbers import normal_numbers
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, DatasetInfo, Events, Flat, Selection
from MLTools.NanoML.selection.tryout import on_file
from services import invented
from services.jets import Event, OneByOne, collections, joined, read, write_era
from services.nanoaodtools import loop

INVENTED = ROOT / "examples" / "corrections"
RATIO = "Invented2018_JRV1_MC_ScaleFactor_AK4PF"
RANDOM = np.random.default_rng(3)
COUNTS = np.array([3, 0, 2, 4])
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)])
ETA, PHI, PT = RANDOM.uniform(-4.5, 4.5, 9), RANDOM.uniform(-3.1, 3.1, 9), RANDOM.uniform(20, 300, 9)
RHO, AREA = np.repeat([10.0, 20.0, 30.0, 40.0], COUNTS), np.full(9, 0.5)


@pytest.fixture(scope="module")
def era() -> JetCorrections:
    found: JetCorrections = Corrections.read(ROOT / "examples" / "corrections" / "2018.yaml").jets
    return found


def test_the_scale_is_the_product_of_its_levels(era: JetCorrections) -> None:
    found = jets.energy_scale(era, PT, ETA, AREA, RHO)
    for eta, pt, rho, factor in zip(ETA, PT, RHO, found):
        total = 1.0
        for level in ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual"):
            inputs = {"JetA": 0.5, "JetEta": eta, "JetPt": pt * total, "Rho": rho}
            correction = era.file[f"Invented2018_V1_MC_{level}_AK4PF"]
            total *= correction(**{name: inputs[name] for name in correction.inputs})
        assert np.isclose(factor, total, rtol=1e-14)


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
    with pytest.raises(NanoMLError, match="jec.data has no range with run 1000000"):
        jets.energy_scale(era, PT, ETA, AREA, RHO, np.where(run == 1, 1_000_000, run))


def test_every_source_has_its_uncertainty(era: JetCorrections) -> None:
    for source in era.entry.sources:
        expected = [era.uncertainty(source)(eta, pt) for eta, pt in zip(ETA, PT)]
        assert jets.energy_uncertainty(era, source, ETA, PT).tolist() == expected
    assert jets.energy_uncertainty(era, "Total", np.array([5.3]), np.array([20.0])) > 0


def test_a_matched_jet_is_scaled_and_another_one_smeared(era: JetCorrections) -> None:
    normal = RANDOM.normal(size=9)
    generated = np.where(np.arange(9) % 2, PT * 0.95, 0.0)
    found = jets.smearing(era, PT, ETA, RHO, generated, normal)
    for name, key in (("nominal", "nom"), ("up", "up"), ("down", "down")):
        for place in range(9):
            ratio = era.file[RATIO](ETA[place], key)
            sigma = era.resolution(ETA[place], PT[place], RHO[place])
            if place % 2:
                expected = 1 + (ratio - 1) * (PT[place] - generated[place]) / PT[place]
            else:
                expected = 1 + normal[place] * sigma * np.sqrt(max(ratio**2 - 1, 0))
            assert np.isclose(found[name][place], max(expected, 0.01), rtol=1e-14)


def test_the_uncertainty_of_the_resolution_must_be_in_the_file(tmp_path: Path) -> None:
    path = write_era("2018 June", tmp_path, DATA, ROOT / "examples")
    file = tmp_path / "jets.json"
    file.write_text(file.read_text().replace("_SFUncertainty_", "_Other_"))
    with pytest.raises(
        ConfigError, match="era.yaml:1: jets: .* no correction Invented2018_JRV1_MC_SFUncertainty_AK4PF"
    ):
        Corrections.read(path)


def test_a_generated_jet_far_away_in_pt_does_not_match(era: JetCorrections) -> None:
    one = np.ones(1)
    found = jets.smearing(era, 50 * one, 0.1 * one, 20 * one, 500 * one, 0 * one)
    assert found.nominal == 1


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
    number, true = 400_000, 100.0
    eta, rho = np.full(number, 0.7), np.full(number, 20.0)
    sigma = era.resolution(0.7, true, 20.0)
    measured = true * (1 + sigma * RANDOM.normal(size=number))
    normal = normal_numbers(np.ones(number), np.ones(number), np.arange(number), np.zeros(number))
    ratio = era.file[RATIO](0.7, "nom")
    for generated in (np.full(number, true), np.zeros(number)):
        smeared = measured * jets.smearing(era, measured, eta, rho, generated, normal).nominal
        assert abs(smeared.std() / measured.std() / ratio - 1) < 0.01


def test_regions_of_the_map_are_vetoed() -> None:
    veto = Corrections.read(ROOT / "examples" / "corrections" / "2018.yaml").jet_veto
    eta, phi = ak.Array([[-2.0, -2.0], [], [2.0, -5.5]]), ak.Array([[-1.0, 1.0], [], [-1.0, 3.14159]])
    assert jets.is_in_veto_region(veto, eta, phi).tolist() == [[True, False], [], [False, False]]


def test_the_region_without_endcap_loses_energy() -> None:
    eta, phi = np.array([-2.0, -2.8, -2.0, 2.0]), np.array([-1.0, -1.0, 1.0, -1.0])
    assert jets.hem_scale(eta, phi)["down"].tolist() == [0.8, 0.65, 1.0, 1.0]


PLAIN = (*jets.branches("MET"), *jets.SIMULATED)
CASES = {
    "invented": ("2018", "sample", jets.branches("MET")),
    "layout of June 2026, sample": ("2018 June", "sample", jets.branches("MET")),
    "2018 UL, sample": ("2018 UL", "sample", jets.branches("MET")),
    "2017 UL, real": ("2017 UL", "nano_v9_mc_ul17_dy", jets.branches("MET", with_unclustered=True)),
    "2022, real v13": ("2022", "nano_v13_mc_ggh", jets.branches("PuppiMET", with_unclustered=True)),
    "2022, real v15": ("2022", "nano_v15_mc_ttbar", jets.branches("PuppiMET", with_unclustered=True)),
}
"""The era, the file, and what is read of it."""


class Read(Selection):
    """What corrected jets need."""

    branches = jets.branches()
    optional = jets.SIMPLIFIED


def events_of(arrays: dict[str, Any]) -> Events:
    """Events, with what simplified simulation lacks."""
    made = Read().with_optional(arrays, collections(arrays), len(arrays["run"]))
    return Events(*made)


def file_of(name: str, sample: Path) -> Path:
    path = sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root" if name == "sample" else DATA / "real" / f"{name}.root"
    if not path.is_file():
        pytest.skip(f"no NanoAOD file {path}: name the directory of real files by NANOML_TEST_DATA")
    return path


@pytest.mark.parametrize("case", CASES)
def test_jets_are_those_of_one_jet_after_the_other_under_every_shift(case: str, tmp_path: Path, sample: Path) -> None:
    name, file, names = CASES[case]
    names = (*names, *jets.SIMULATED, *jets.OPTIONAL)
    one = OneByOne(write_era(name, tmp_path, DATA, ROOT / "examples"))
    with RootFile(file_of(file, sample)) as opened:
        found = {name: versions.resolve(name, list(opened.branches)) for name in names}
        lost = {name for name, actual in found.items() if actual is None}
        assert lost <= {*jets.OPTIONAL, *(jets.SIMPLIFIED if file == "sample" else ())}
        found = {name: actual for name, actual in found.items() if actual}
        arrays = opened.read(list(found.values()), 0, 40)
    events = {name: arrays[actual].tolist() for name, actual in found.items()}
    rows = range(len(events["run"]))
    nominal = [one.nominal(events, row) for row in rows]
    corrected = jets.corrected(events_of({name: arrays[actual] for name, actual in found.items()}), one.era, False)

    def check(events: Events, expected: list[Event]) -> None:
        pt, mass, missing = joined(expected)
        jet = events.flat("Jet")
        assert np.allclose(jet.pt, pt, rtol=1e-12)
        assert np.allclose(jet.mass, mass, rtol=1e-12)
        vector = events[f"{one.missing}_pt"] * np.exp(1j * np.asarray(events[f"{one.missing}_phi"]))
        assert np.allclose(vector, missing, rtol=1e-10, atol=1e-10)

    check(corrected, nominal)
    sources = one.sources
    assert len(sources) >= {"2018": 4, "2018 June": 4, "2018 UL": 50, "2017 UL": 50, "2022": 40}[name]
    shifts = ["jes", *(f"jes{source}" for source in sources), "jer", "hem"]
    shifts += ["unclustered"] if any("ncl" in name for name in names) else []
    changed = 0
    for shift in shifts:
        for direction in ("down",) if shift == "hem" else ("up", "down"):
            expected = [one.shifted(events, row, shift, direction, nominal[row]) for row in rows]
            check(jets.shifted(corrected, one.era, shift, direction), expected)
            changed += not np.array_equal(joined(expected)[2], joined(nominal)[2])
    assert changed > len(shifts)


def test_jets_of_data_have_the_scale_of_their_run(tmp_path: Path, sample: Path) -> None:
    path = write_era("2022", tmp_path, DATA, ROOT / "examples")
    campaign = "Summer22_22Sep2023_RunCD_V2_DATA"
    path.write_text(path.read_text().replace("_V2_MC}", f"_V2_MC, data: {{359571-359571: {campaign}}}}}"))
    era = Corrections.read(path).jets
    names = jets.branches("PuppiMET")
    with RootFile(file_of("nano_v13_data_egamma2022E_run359571", sample)) as opened:
        found = {name: str(versions.resolve(name, list(opened.branches))) for name in names}
        arrays = opened.read(found.values())
    events = Events({name: arrays[actual] for name, actual in found.items()}, collections(names))
    corrected = jets.corrected(events, era, is_data=True)
    before, after = events.flat("Jet"), corrected.flat("Jet")
    plain = correctionlib.CorrectionSet.from_file(str(era.file.path)).compound[f"{campaign}_L1L2L3Res_AK4PFPuppi"]
    rho = np.asarray(events.fixedGridRhoFastjetAll)[before.event]
    for place in range(len(before.pt)):
        raw = before.pt[place] * (1 - before.rawFactor[place])
        eta = max(-5.19, min(before.eta[place], 5.19))
        expected = raw * plain.evaluate(before.area[place], eta, raw, rho[place])
        assert np.isclose(after.pt[place], expected, rtol=1e-12)
    assert len(before.pt) > 100
    one, listed = OneByOne(path, campaign), {name: arrays[actual].tolist() for name, actual in found.items()}
    missing = [one.type1(listed, row, after.pt[after.event == row]) for row in range(len(events))]
    vector = corrected.PuppiMET.pt * np.exp(1j * np.asarray(corrected.PuppiMET.phi))
    assert np.allclose(vector, missing, rtol=1e-10, atol=1e-10)


class Corrected(Selection):
    """Events with a muon and a corrected jet above 50 GeV."""

    branches = (*jets.branches("MET"), "Muon_pt")
    simulated = jets.SIMULATED
    optional = jets.SIMPLIFIED
    shifts = {"jes": UP_DOWN, "jesFlavorQCD": ("up",), "jer": UP_DOWN}
    columns = {
        "Jet1_pt": Column("f8", "transverse momentum of the first jet [GeV]"),
        "Jet1_mass": Column("f8", "its mass [GeV]"),
        "met": Column("f8", "missing momentum [GeV]"),
        "met_phi": Column("f8", "its azimuth"),
    }

    def prepare(self, events: Events) -> Events:
        return jets.corrected(events, self.dataset.corrections.jets, self.dataset.is_data)

    def shift(self, events: Events, name: str, direction: str) -> Events:
        return jets.shifted(events, self.dataset.corrections.jets, name, direction)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("a muon", ak.num(events.Muon.pt) > 0, events)
        events = cutflow.cut("a jet", ak.any(events.Jet.pt > 50, axis=1), events)
        jet = events.flat("Jet")
        first = jet.at(jet.largest(-jet.place))
        return events, {"Jet1_pt": first.pt, "Jet1_mass": first.mass, "met": events.MET.pt, "met_phi": events.MET.phi}


@pytest.mark.parametrize("era", ["2018", "2018 UL"])
def test_a_selection_has_them_under_its_shifts(era: str, tmp_path: Path, sample: Path) -> None:
    path = write_era(era, tmp_path, DATA, ROOT / "examples")
    source = file_of("sample", sample)
    found = on_file(Corrected().of_dataset(DatasetInfo("WZ", corrections_file=str(path))), source, 400)
    names = [name for name in (*PLAIN, "Muon_pt") if name not in jets.SIMPLIFIED]
    events = {name: values.tolist() for name, values in read(source, names, 400).items()}
    one = OneByOne(path)
    with_muon = [row for row in range(400) if events["Muon_pt"][row]]
    nominal = {row: one.nominal(events, row) for row in with_muon}
    passed = np.zeros(400, bool)
    for shift, direction in [
        ("", ""),
        ("jes", "up"),
        ("jes", "down"),
        ("jesFlavorQCD", "up"),
        ("jer", "up"),
        ("jer", "down"),
    ]:
        expected = nominal
        if shift:
            expected = {row: one.shifted(events, row, shift, direction, nominal[row]) for row in with_muon}
        kept = [row for row in with_muon if (expected[row].pt > 50).any()]
        passed[kept] = True
        suffix = f"_{shift}{direction.capitalize()}" if shift else ""
        flags = found.columns[f"selected{suffix}"]
        assert found.rows[flags].tolist() == kept
        values = [
            (event.pt[0], event.mass[0], abs(event.missing), np.angle(event.missing))
            for event in map(expected.get, kept)
        ]
        for name, column in zip(Corrected.columns, zip(*values)):
            assert np.allclose(found.columns[f"{name}{suffix}"][flags], column, rtol=1e-9), name + suffix
    assert found.rows.tolist() == np.flatnonzero(passed).tolist()
    assert len(found.rows) > 50


def test_a_shift_that_cannot_be_is_an_error(era: JetCorrections) -> None:
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


def test_it_says_which_branches_are_not_read(era: JetCorrections) -> None:
    events = Events({name: ak.Array([[1.0]]) for name in PLAIN}, collections(PLAIN))
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
    content = {"schema_version": 2, "corrections": [invented.correction("A_DATA_L1L2L3Res_AK4", inputs, runs)]}
    content["corrections"].append(invented.correction("A_MC_L1L2L3Res_AK4", {"JetPt": "real"}, 1.5))
    (tmp_path / "jets.json").write_text(json.dumps(content))
    entry = (
        "jets: {file: jets.json, algorithm: AK4, jec: {simulation: A_MC, data: {1-19: A_DATA}}, sources: [L1L2L3Res]}"
    )
    (tmp_path / "era.yaml").write_text(entry)
    era = Corrections.read(tmp_path / "era.yaml").jets
    run = np.array([5, 5, 15] * 3)
    found = jets.energy_scale(era, PT, ETA, AREA, RHO, run, PHI)
    assert found.tolist() == np.where(run > 10, 1.0, np.where(PHI > 0, 1.1, 0.9)).tolist()
    assert jets.energy_scale(era, PT, ETA, AREA, RHO, phi=PHI).tolist() == [1.5] * 9
    with pytest.raises(NanoMLError, match="needs JetPt, JetPhi, run"):
        jets.energy_scale(era, PT, ETA, AREA, RHO, run)


def test_unmatched_jets_of_a_region_may_stay_as_they_are(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "corrections" / "2018.yaml").read_text().replace("file: 2018", f"file: {INVENTED}/2018")
    (tmp_path / "era.yaml").write_text(text + "  matched_only: 2.5-3.0\n")
    era = Corrections.read(tmp_path / "era.yaml").jets
    eta, normal = np.array([2.4, 2.6, -2.9, 3.1, 2.6]), np.ones(5)
    pt, generated = np.full(5, 50.0), np.array([0, 0, 0, 0, 48.0])
    changed = jets.smearing(era, pt, eta, np.full(5, 20.0), generated, normal)
    for values in (changed.nominal, changed["up"], changed["down"]):
        assert (values != 1).tolist() == [True, False, False, True, True]


@pytest.mark.parametrize("era", ["2018", "2018 UL"])
def test_an_event_loop_has_the_same_jets_under_its_shifts(era: str, tmp_path: Path, sample: Path) -> None:
    path = write_era(era, tmp_path, DATA, ROOT / "examples")
    selection = Corrected().of_dataset(DatasetInfo("WZ", corrections_file=str(path)))
    source = file_of("sample", sample)
    whole = on_file(selection, source)
    found = loop([PostprocModule(selection, 171)], source)
    assert [entry for entry, _ in found] == whole.rows.tolist()
    nominal = selection.made.nominal
    assert len(nominal) == 20
    for name in selection.made.described:
        values = whole.columns[name] if name in whole.columns else whole.columns[nominal[name]]
        assert [row[name] for _, row in found] == values.tolist()


LEVELS = ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")


def test_the_residual_correction_is_frozen_for_soft_jets_of_a_region(
    tmp_path: Path, real_files: dict[str, Path]
) -> None:
    """As JME asks for 2024; the numbers are those of 2022."""
    campaign, path = (
        "Summer22_22Sep2023_RunCD_V2_DATA",
        DATA / "corrections" / "POG" / "JME" / "2022_Summer22" / "jet_jerc.json.gz",
    )
    if not path.is_file():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    text = f"jets: {{file: {path}, algorithm: AK4PFPuppi, jec: {{simulation: Summer22_22Sep2023_V2_MC, data: {{1-999999: {campaign}}}}}"
    names = ("Jet_pt", "Jet_eta", "Jet_phi", "Jet_rawFactor", "Jet_area", "fixedGridRhoFastjetAll", "run")
    with RootFile(real_files["nano_v13_data_egamma2022E_run359571"]) as opened:
        found = {name: versions.resolve(name, list(opened.branches)) for name in names}
        read_ = opened.read([actual for actual in found.values() if actual is not None])
    arrays = {name: read_[actual] for name, actual in found.items() if actual is not None}
    events = Events(arrays, collections(arrays))
    jet = events.flat("Jet")
    raw, rho, run = (
        jet.pt * (1 - jet.rawFactor),
        np.asarray(events.fixedGridRhoFastjetAll)[jet.event],
        np.asarray(events.run)[jet.event],
    )
    whole, changed = correctionlib.CorrectionSet.from_file(str(path)), 0
    for abseta in ("2.0-2.5", "0-5"):
        (tmp_path / "era.yaml").write_text(f"{text}, frozen_residual: {{abseta: {abseta}, pt: 0-30}}}}")
        entry = Corrections.read(tmp_path / "era.yaml").jets
        made = jets.energy_scale(entry, raw, jet.eta, jet.area, rho, run, jet.phi)
        low, high = map(float, abseta.split("-"))
        for place in range(len(raw)):
            eta, pt = max(-5.19, min(5.19, float(jet.eta[place]))), float(raw[place])
            for level in LEVELS:
                correction = whole[f"{campaign}_{level}_AK4PFPuppi"]
                is_frozen = level == LEVELS[-1] and low <= abs(eta) < high and pt < 30
                changed += is_frozen
                known = {
                    "JetA": float(jet.area[place]),
                    "JetEta": eta,
                    "JetPt": 30.0 if is_frozen else pt,
                    "Rho": float(rho[place]),
                }
                pt *= correction.evaluate(*(known[axis.name] for axis in correction.inputs))
            assert np.isclose(made[place] * raw[place], pt, rtol=1e-7)
    assert changed > 20


def test_a_shift_may_change_the_jets_of_a_region_alone(tmp_path: Path, real_files: dict[str, Path]) -> None:
    path = DATA / "corrections" / "POG" / "JME" / "2018_UL" / "jet_jerc.json.gz"
    if not path.is_file():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    regions = "{barrel: {abseta: 0-1.93}, soft: {abseta: 1.93-5.2, pt: 0-50}, hard: {abseta: 1.93-5.2, pt: 50-9999}}"
    (tmp_path / "era.yaml").write_text(
        f"jets: {{file: {path}, algorithm: AK4PFchs, jer: Summer19UL18_JRV2_MC, jec: {{simulation: Summer19UL18_V5_MC}}, "
        f"regions: {regions}}}"
    )
    entry = Corrections.read(tmp_path / "era.yaml").jets
    arrays = dict(read(real_files["nano_v9_mc_ul17_dy"], PLAIN, 100))
    events = Events(arrays, collections(arrays))
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
