from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from conftest import DATA, ROOT
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.corrections import Corrections, jets
from MLTools.NanoML.corrections.era import JetCorrections
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaodtools import PostprocModule
from MLTools.NanoML.selection import Column, Cutflow, DatasetInfo, Events, Flat, Selection
from MLTools.NanoML.selection.tryout import on_file
from services.nanoaodtools import loop

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
            ratio = era.resolution_ratio(ETA[place], key)
            sigma = era.resolution(ETA[place], PT[place], RHO[place])
            if place % 2:
                expected = 1 + (ratio - 1) * (PT[place] - generated[place]) / PT[place]
            else:
                expected = 1 + normal[place] * sigma * np.sqrt(max(ratio**2 - 1, 0))
            assert np.isclose(found[name][place], max(expected, 0.01), rtol=1e-14)


def test_a_generated_jet_far_away_in_pt_does_not_match(era: JetCorrections) -> None:
    one = np.ones(1)
    found = jets.smearing(era, 50 * one, 0.1 * one, 20 * one, 500 * one, 0 * one)
    assert found.nominal == 1


def test_no_jet_loses_all_of_its_energy(era: JetCorrections) -> None:
    one = np.ones(1)
    assert jets.smearing(era, 50 * one, 0.1 * one, 20 * one, 0 * one, -99 * one).nominal == 0.01


def test_smeared_jets_have_the_resolution_of_data(era: JetCorrections) -> None:
    """The width grows by the ratio of the resolutions, whether there is a generated jet or not."""
    number, true = 400_000, 100.0
    eta, rho = np.full(number, 0.7), np.full(number, 20.0)
    sigma = era.resolution(0.7, true, 20.0)
    measured = true * (1 + sigma * RANDOM.normal(size=number))
    normal = jets.normal_numbers(np.ones(number), np.ones(number), np.arange(number), np.zeros(number))
    ratio = era.resolution_ratio(0.7, "nom")
    for generated in (np.full(number, true), np.zeros(number)):
        smeared = measured * jets.smearing(era, measured, eta, rho, generated, normal).nominal
        assert abs(smeared.std() / measured.std() / ratio - 1) < 0.01


def test_random_numbers_are_normal_and_independent() -> None:
    events, places = np.repeat(np.arange(50_000), 4), np.tile(np.arange(4), 50_000)
    numbers = jets.normal_numbers(np.ones(200_000), np.ones(200_000), events, places)
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
        return float(jets.normal_numbers(*columns)[0])

    alone = number(np.uint64)
    assert np.isfinite(alone)
    many = [np.full(7, value, np.uint64) for value in (run, section, event, index)]
    assert (jets.normal_numbers(*many) == alone).all()
    assert jets.normal_numbers(many[0], many[1], many[2], many[3] + np.uint64(1))[0] != alone


def test_the_random_numbers_stay_what_they_are() -> None:
    found = jets.normal_numbers(np.array([1, 315267]), np.array([1, 205]), np.array([1, 123456789]), np.array([0, 3]))
    assert np.allclose(found, [0.7955296902259495, 0.7491486129535961], rtol=1e-12, atol=0)


def test_missing_momentum_balances_the_change() -> None:
    flat = Flat({"phi": PHI}, OFFSETS)
    missing, phi = np.array([30.0, 40.0, 50.0, 60.0]), np.array([0.1, -2.0, 3.0, 1.0])
    new = PT * RANDOM.uniform(0.9, 1.1, 9)
    found, angle = jets.propagated(missing, phi, flat, PT, new)
    for event in range(4):
        mine = slice(OFFSETS[event], OFFSETS[event + 1])
        before = missing[event] * np.exp(1j * phi[event]) + (PT[mine] * np.exp(1j * PHI[mine])).sum()
        after = found[event] * np.exp(1j * angle[event]) + (new[mine] * np.exp(1j * PHI[mine])).sum()
        assert np.isclose(before, after)


def test_type_1_takes_the_jets_above_15_gev_without_their_muons() -> None:
    flat = Flat({"phi": np.zeros(4)}, np.array([0, 4]))
    raw, muons, em = (
        np.array([100.0, 20.0, 100.0, 100.0]),
        np.array([0.0, 0.5, 0.0, 0.2]),
        np.array([0.1, 0.1, 0.95, 0.1]),
    )
    scale, level1 = np.full(4, 1.1), np.full(4, 0.9)
    found, angle = jets.type1_momentum(np.array([50.0]), np.array([0.0]), flat, raw, muons, em, scale, level1)
    assert np.isclose(found[0] * np.cos(angle[0]), 50 - (100 * 0.2 + 80 * 0.2))


def test_regions_of_the_map_are_vetoed() -> None:
    veto = Corrections.read(ROOT / "examples" / "corrections" / "2018.yaml").jet_veto
    eta, phi = ak.Array([[-2.0, -2.0], [], [2.0, -5.5]]), ak.Array([[-1.0, 1.0], [], [-1.0, 3.14159]])
    assert jets.is_in_veto_region(veto, eta, phi).tolist() == [[True, False], [], [False, False]]


def test_events_must_pass_all_filters() -> None:
    arrays = {name: ak.Array([True, True, False]) for name in jets.FILTERS["Run3"]}
    arrays["Flag_hfNoisyHitsFilter"] = ak.Array([True, False, True])
    assert jets.passes_filters(Events(arrays, {}), jets.FILTERS["Run3"]).tolist() == [True, False, False]


def test_the_region_without_endcap_loses_energy() -> None:
    eta, phi = np.array([-2.0, -2.8, -2.0, 2.0]), np.array([-1.0, -1.0, 1.0, -1.0])
    assert jets.hem_scale(eta, phi)["down"].tolist() == [0.8, 0.65, 1.0, 1.0]


class Corrected(Selection):
    """Events with a corrected jet above 50 GeV."""

    branches = (*jets.BRANCHES, "Muon_pt")
    simulated = jets.SIMULATED
    columns = {
        "Jet1_pt": Column("f8", "transverse momentum of the first jet [GeV]"),
        "Jet1_mass": Column("f8", "its mass [GeV]"),
        "met": Column("f8", "missing momentum [GeV]"),
        "met_phi": Column("f8", "its azimuth"),
    }

    def prepare(self, events: Events) -> Events:
        return jets.corrected(events, self.dataset.corrections.jets, self.dataset.is_data)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("a muon", ak.num(events.Muon.pt) > 0, events)
        events = cutflow.cut("a jet", ak.any(events.Jet.pt > 50, axis=1), events)
        jet = events.flat("Jet")
        first = jet.at(jet.largest(-jet.place))
        return events, {"Jet1_pt": first.pt, "Jet1_mass": first.mass, "met": events.MET.pt, "met_phi": events.MET.phi}


def of_era(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetInfo:
    path = ROOT / "examples" / "corrections" / "2018.yaml"
    if name == "real":
        real = DATA / "corrections"
        if not real.is_dir():
            pytest.skip(f"no correction files in {real}: name their directory by NANOML_TEST_DATA")
        monkeypatch.setenv("NANOML_CORRECTIONS", str(real))
        path = folder / "real.yaml"
        path.write_text(
            "jets: {file: POG/JME/2018_UL/jet_jerc.json.gz, algorithm: AK4PFchs, jer: Summer19UL18_JRV2_MC, "
            "jec: {simulation: Summer19UL18_V5_MC}, sources: [Total]}"
        )
    return DatasetInfo("WZ", "2018", corrections_file=str(path))


@pytest.mark.parametrize("files", ["invented", "real"])
def test_corrected_jets_are_those_of_one_jet_after_the_other(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Path
) -> None:
    info = of_era(files, tmp_path, monkeypatch)
    source = sorted((sample / "WZTo3LNu_Pt100").glob("*.root"))[0]
    found = on_file(Corrected().of_dataset(info), source, 400)
    era = info.corrections.jets
    scale, sigma, ratio = era.scale(False), era.resolution, era.resolution_ratio
    with uproot.open(source) as file:
        events = file["Events"].arrays([*jets.BRANCHES, *jets.SIMULATED, "Muon_pt"], entry_stop=400)
    passed, columns = [], []
    for row, event in enumerate(events):
        if not len(event.Muon_pt):
            continue
        missing = event.MET_pt * np.exp(1j * float(event.MET_phi))
        new = []
        for place in range(len(event.Jet_pt)):
            old, eta, phi = (float(event[f"Jet_{name}"][place]) for name in ("pt", "eta", "phi"))
            raw, rho, inside = (
                1 - float(event.Jet_rawFactor[place]),
                float(event.fixedGridRhoFastjetAll),
                max(-5.19, min(eta, 5.19)),
            )
            factor = raw * scale(float(event.Jet_area[place]), inside, old * raw, rho)
            pt = old * factor
            width, times = sigma(inside, pt, rho), ratio(inside, "nom")
            index, smeared = int(event.Jet_genJetIdx[place]), None
            if 0 <= index < len(event.GenJet_pt):
                near = (
                    np.hypot(eta - event.GenJet_eta[index], np.angle(np.exp(1j * (phi - event.GenJet_phi[index]))))
                    < 0.2
                )
                if near and abs(pt - event.GenJet_pt[index]) < 3 * width * pt:
                    smeared = 1 + (times - 1) * (pt - event.GenJet_pt[index]) / pt
            if smeared is None:
                numbers = [np.array([value]) for value in (event.run, event.luminosityBlock, event.event, place)]
                smeared = 1 + float(jets.normal_numbers(*numbers)[0]) * width * np.sqrt(max(times**2 - 1, 0))
            factor *= max(smeared, 0.01)
            new.append((old * factor, float(event.Jet_mass[place]) * factor))
            if max(old, old * factor) > 15:
                missing -= (old * factor - old) * np.exp(1j * phi)
        if any(pt > 50 for pt, _ in new):
            passed.append(row)
            columns.append((*new[0], abs(missing), np.angle(missing)))
    assert len(passed) > 50
    assert found.rows.tolist() == passed
    for name, values in zip(Corrected.columns, zip(*columns)):
        assert np.allclose(found.columns[name], values, rtol=1e-9), name


def test_an_event_loop_has_the_same_corrected_jets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Path
) -> None:
    selection = Corrected().of_dataset(of_era("invented", tmp_path, monkeypatch))
    source = sorted((sample / "WZTo3LNu_Pt100").glob("*.root"))[0]
    whole = on_file(selection, source)
    found = loop([PostprocModule(selection, 171)], source)
    assert [entry for entry, _ in found] == whole.rows.tolist()
    assert [row["Jet1_pt"] for _, row in found] == whole.columns["Jet1_pt"].tolist()
