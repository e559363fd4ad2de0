from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.corrections import fat_jets, jet_id
from MLTools.NanoML.corrections.entries import JetCorrections
from MLTools.NanoML.corrections.inputs import FAT_JET, SOFT_DROP, normal_numbers
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Events, Flat
from services import invented
from services.real import DATA_V13, POG, V5, V13, V15, check_refusals, era, events_of, nanoaod, plain, pog

MASS = "mass_scale: {nominal: 0.98, up: 0.99, down: 0.97}, mass_resolution: {nominal: 1.1, up: 1.2, down: 0.9}, mass_width: 0.12"
ERAS = {
    "2018": "file: {}/JME/2018_UL/fatJet_jerc.json.gz, algorithm: AK8PFPuppi, jer: Summer19UL18_JRV2_MC, "
    "jec: {{simulation: Summer19UL18_V5_MC, data: {{1-999999: Summer19UL18_RunA_V5_DATA}}}}",
    "2022": "file: {}/JME/2022_Summer22/fatJet_jerc.json.gz, algorithm: AK8PFPuppi, jer: Summer22_22Sep2023_JRV1_MC, "
    "jec: {{simulation: Summer22_22Sep2023_V2_MC, data: {{1-999999: Summer22_22Sep2023_RunCD_V2_DATA}}}}",
}


def entry(folder: Path, year: str, more: str = MASS) -> JetCorrections:
    pog("JME")
    found: JetCorrections = era(folder, f"fat_jets: {{{ERAS[year].format(POG)}, {more}}}").fat_jets
    return found


BRANCHES = (*fat_jets.BRANCHES, *fat_jets.SIMULATED)


class OneByOne:
    """AK8 jets one after the other, by correctionlib itself."""

    def __init__(self, corrections: JetCorrections, events: Events) -> None:
        self.whole = plain(corrections.file.path)
        self.entry, self.events, self.jets = corrections.entry, events, events.flat("FatJet")

    def _identified(self, place: int, salt: int) -> float:
        row = self.jets.event[place]
        numbers = [np.array([int(np.asarray(self.events[name])[row])]) for name in ("run", "luminosityBlock", "event")]
        return float(normal_numbers(*numbers, np.array([self.jets.place[place]]), salt)[0])

    def pt(self, place: int, campaign: str, key: str = "", source: float = 0.0) -> float:
        """With all levels; smeared, if there is a key of the resolution."""
        jet, jer = self.jets, self.entry.jer
        eta, row = max(-5.19, min(5.19, float(jet.eta[place]))), jet.event[place]
        raw = float(jet.pt[place] * (1 - jet.rawFactor[place]))
        rho = float(np.asarray(self.events.fixedGridRhoFastjetAll)[row])
        levels = self.whole.compound[f"{campaign}_L1L2L3Res_AK8PFPuppi"]
        known = {"JetA": float(jet.area[place]), "JetEta": eta, "JetPt": raw, "Rho": rho}
        pt = raw * levels.evaluate(*(known[it.name] for it in levels.inputs))
        if key:
            sigma = self.whole[f"{jer}_PtResolution_AK8PFPuppi"].evaluate(eta, pt, rho)
            ratios = self.whole[f"{jer}_ScaleFactor_AK8PFPuppi"]
            ratio = ratios.evaluate(*({"JetEta": eta, "JetPt": pt, "systematic": key}[it.name] for it in ratios.inputs))
            drawn = 1 + self._identified(place, FAT_JET) * sigma * np.sqrt(max(ratio**2 - 1, 0))
            truth = self._truth(place)
            matched = truth > 0 and abs(pt - truth) < 3 * sigma * pt
            pt *= max(0.01, 1 + (ratio - 1) * (pt - truth) / pt if matched else drawn)
        if source:
            pt *= 1 + source * self.whole[f"{campaign}_FlavorQCD_AK8PFPuppi"].evaluate(eta, pt)
        return float(pt)

    def _truth(self, place: int) -> float:
        jet, row = self.jets, self.jets.event[place]
        index, near = int(jet.genJetAK8Idx[place]), self.events.GenJetAK8
        if not 0 <= index < len(near.pt[row]):
            return 0.0
        across = np.angle(np.exp(1j * (jet.phi[place] - near.phi[row][index])))
        distance = np.hypot(jet.eta[place] - near.eta[row][index], across)
        return float(near.pt[row][index]) if distance < 0.4 else 0.0

    def soft_drop(self, place: int, scale: float, ratio: float) -> float:
        width = 0.12 * np.sqrt(max(ratio**2 - 1, 0))
        return float(self.jets.msoftdrop[place] * scale * (1 + width * self._identified(place, SOFT_DROP)))


@pytest.mark.parametrize(("year", "file"), [("2018", V13), ("2022", V15)])
def test_jets_are_those_of_one_after_the_other_under_every_shift(year: str, file: str, tmp_path: Path) -> None:
    corrections, events = entry(tmp_path, year), events_of(nanoaod(file), BRANCHES)
    one, campaign = OneByOne(corrections, events), corrections.entry.jec.simulation
    places = range(len(one.jets.event))
    nominal = fat_jets.corrected(events, corrections, is_data=False)
    pt = np.array([one.pt(place, campaign, "nom") for place in places])
    mass = np.array([one.soft_drop(place, 0.98, 1.1) for place in places])
    assert len(pt) > (10 if file == V15 else 1)
    expected: dict[str, tuple[Any, Any]] = {"": (pt, mass)}
    for way, sign in (("up", 1), ("down", -1)):
        smeared = np.array([one.pt(place, campaign, way) for place in places])
        scaled = np.array([one.pt(place, campaign, "nom", sign) for place in places])
        expected[f"jer {way}"] = smeared, mass * smeared / pt
        expected[f"jesFlavorQCD {way}"] = scaled, mass * scaled / pt
        expected[f"jms {way}"] = pt, mass * (0.98 + 0.01 * sign) / 0.98
        expected[f"jmr {way}"] = (pt, np.array([one.soft_drop(p, 0.98, 1.2 if sign > 0 else 0.9) for p in places]))
    for name, (of_pt, of_mass) in expected.items():
        found = (fat_jets.shifted(nominal, corrections, *name.split()) if name else nominal).flat("FatJet")
        assert np.allclose(found.pt, of_pt, rtol=1e-7), name
        assert np.allclose(found.mass, one.jets.mass * of_pt / one.jets.pt, rtol=1e-7), name
        assert np.allclose(found.msoftdrop, of_mass, rtol=1e-7), name


def test_data_are_not_smeared(tmp_path: Path) -> None:
    corrections, events = entry(tmp_path, "2022"), events_of(nanoaod(DATA_V13), fat_jets.BRANCHES)
    one, found = OneByOne(corrections, events), fat_jets.corrected(events, corrections, is_data=True).flat("FatJet")
    expected = [one.pt(place, "Summer22_22Sep2023_RunCD_V2_DATA") for place in range(len(one.jets.event))]
    assert len(expected) > 3
    assert np.allclose(found.pt, expected, rtol=1e-7)
    assert found.msoftdrop.tolist() == one.jets.msoftdrop.tolist()


def test_a_shift_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    corrections, events = entry(tmp_path, "2022"), events_of(nanoaod(V13), BRANCHES)
    said = "AK8 jets. Known are jes, jesSOURCE, jer, jms and jmr"
    check_refusals(lambda *shift: fat_jets.shifted(events, corrections, *shift), "jms", "jmz", said)
    with pytest.raises(ConfigError, match="mass_scale"):
        entry(tmp_path, "2022", "mass_scale: {nominal: -1}")


def write_file(path: Path) -> None:
    """A file in the layout of JME's jetid.json, of which no copy is here: nested bins, the result 0 or 1."""
    inputs = dict.fromkeys((*jet_id.FRACTIONS, "multiplicity"), "real")

    def with_veto(passed: float) -> object:
        return invented.binning("muEF", (0.0, 0.8, 1.1), [passed, 0.0])

    tight = invented.binning("multiplicity", (0.0, 2.0, 999.0), [0.0, 1.0])
    veto = invented.binning("multiplicity", (0.0, 2.0, 999.0), [0.0, with_veto(1.0)])
    found = []
    for name, central in (("AK4PUPPI_Tight", tight), ("AK4PUPPI_TightLeptonVeto", veto)):
        forward = invented.binning("neEmEF", (0.0, 0.4, 1.1), [1.0, 0.0])
        data = invented.binning("eta", (-5.2, -2.6, 2.6, 5.2), [forward, central, forward], "error")
        found.append(invented.correction(name, inputs, data))
    invented.write(path, *found)


@pytest.mark.parametrize(("name", "file"), [("AK4PUPPI_Tight", DATA_V13), ("AK4PUPPI_TightLeptonVeto", V15)])
def test_the_file_decides_jet_by_jet(name: str, file: str, tmp_path: Path) -> None:
    write_file(tmp_path / "jetid.json")
    correction = era(tmp_path, f"jet_id: {{file: jetid.json, name: {name}}}").jet_id
    one = plain(tmp_path / "jetid.json")[name]
    events = events_of(nanoaod(file), [f"Jet_{each}" for each in jet_id.FRACTIONS])
    jets = events.flat("Jet")
    found = jet_id.passes(jets, correction)
    for place in range(len(jets.event)):
        row = {each: float(jets[each][place]) for each in jet_id.FRACTIONS}
        values = [row[each] for each in jet_id.FRACTIONS]
        values[0] = min(max(values[0], -5.19), 5.19)
        assert found[place] == (one.evaluate(*values, row["chMultiplicity"] + row["neMultiplicity"]) == 1)
    assert 0 < found.sum() < len(found)
    by_event = [found[jets.event == row].tolist() for row in range(len(jets))]
    assert jet_id.passes(events.Jet, correction).tolist() == by_event


GOOD = {**dict.fromkeys(("neHEF", "chEmEF", "neEmEF", "muEF"), 0.1), "chHEF": 0.5}
GOOD |= {"chMultiplicity": 3, "neMultiplicity": 2, "jetId": 6}
LIMITS = [
    *(((0.0, 2.6), "neHEF", 0.9899, 0.99), ((0.0, 2.6), "neEmEF", 0.8999, 0.9), ((0.0, 2.6), "chHEF", 0.0101, 0.01)),
    *(((0.0, 2.6), "chMultiplicity", 1, 0), ((2.601, 2.7), "neHEF", 0.8999, 0.9)),
    *(((2.601, 2.7), "neEmEF", 0.9899, 0.99), ((2.701, 3.0), "neHEF", 0.9899, 0.99)),
    *(((3.001, 5.1), "neEmEF", 0.3999, 0.4), ((3.001, 5.1), "neMultiplicity", 2, 1)),
]
"""JME's tight identification of Puppi jets at 13.6 TeV: range of |eta|, field, a value that passes and one that fails."""
VETO = [((0.0, 2.7), name, 0.7999, 0.8) for name in ("muEF", "chEmEF")]
"""The same of the veto of leptons."""
FREE = [((2.601, 5.1), "chHEF", 0.0), ((2.601, 5.1), "chMultiplicity", 0), ((2.701, 3.0), "neEmEF", 0.999)]
FREE += [((3.001, 5.1), "neHEF", 0.999), ((2.701, 5.1), "muEF", 0.999), ((2.701, 5.1), "chEmEF", 0.999)]
"""What is not limited there."""


@pytest.mark.parametrize("lepton_veto", [False, True])
def test_each_limit_of_the_official_definition(lepton_veto: bool) -> None:
    rows: list[tuple[float, dict[str, float], bool]] = []
    for limits, is_asked in ((LIMITS, True), (VETO, lepton_veto)):
        for ends, name, inside, outside in limits:
            for eta in (*ends, -ends[1]):
                rows += [(eta, {name: inside}, True), (eta, {name: outside}, not is_asked)]
    rows += [(eta, {name: value}, True) for ends, name, value in FREE for eta in ends]
    one, two = {"chMultiplicity": 1, "neMultiplicity": 0}, {"chMultiplicity": 1, "neMultiplicity": 1}
    rows += [(eta, it, it == two) for eta in (0.0, -2.6) for it in (one, two)]  # constituents of central jets
    columns = {name: np.array([{**GOOD, "eta": eta, **more}[name] for eta, more, _ in rows]) for name in (*GOOD, "eta")}
    jets = Flat(columns, np.array([0, len(rows)]))
    expected = [passed for *_, passed in rows]
    assert jet_id.passes(jets, lepton_veto=lepton_veto).tolist() == expected
    # where NanoAOD has its bits alone, and those of forward jets are wrong, no number of constituents is known
    forward = [abs(eta) > 2.7 and not {*change} & {"neMultiplicity"} for eta, change, _ in rows]
    known = {name: it[forward] for name, it in columns.items() if not name.endswith("Multiplicity")}
    found = jet_id.passes(Flat(known, np.array([0, sum(forward)])), lepton_veto=lepton_veto)
    assert found.tolist() == np.array(expected)[forward].tolist()


def test_the_formula_is_that_of_nanoaod_but_for_forward_jets() -> None:
    """But for a jet at a limit, for which the precision of NanoAOD decides."""
    jets = events_of(nanoaod(DATA_V13), [f"Jet_{name}" for name in (*jet_id.FRACTIONS, "jetId")]).flat("Jet")
    for veto, bit in ((False, 2), (True, 4)):
        differs = jet_id.passes(jets, lepton_veto=veto) != ((jets.jetId & bit) > 0)
        assert differs[abs(jets.eta) <= 3].sum() <= 2
        assert differs[abs(jets.eta) > 3].sum() > 10  # there the bits of NanoAOD are wrong


def test_the_bits_are_repaired_for_forward_puppi_jets_without_multiplicities(tmp_path: Path) -> None:
    """As in NanoAOD v12."""
    columns = {
        "eta": [1.0, 1.0, 2.65, 2.8, -2.8, 4.0, -4.0, 1.0],
        "jetId": [6, 2, 6, 6, 6, 6, 6, 0],
        "neHEF": [0.1, 0.1, 0.1, 0.995, 0.5, 0.1, 0.1, 0.1],
        "neEmEF": [0.1, 0.1, 0.5, 0.1, 0.1, 0.5, 0.3, 0.1],
        "muEF": [0.1, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9, 0.1],
        "chEmEF": [0.1, 0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1],
    }  # fmt: skip
    jets = Flat({name: np.array(values) for name, values in columns.items()}, np.array([0, 8]))
    tight, veto = [1, 1, 1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0, 1, 0]
    assert jet_id.passes(jets).tolist() == list(map(bool, tight))
    assert jet_id.passes(jets, lepton_veto=True).tolist() == list(map(bool, veto))
    write_file(tmp_path / "jetid.json")
    by_file = era(tmp_path, "jet_id: {file: jetid.json, name: AK4PUPPI_TightLeptonVeto}").jet_id
    assert jet_id.passes(jets, by_file).tolist() == list(map(bool, veto))


def test_the_bits_of_run_2_are_right() -> None:
    jets = events_of(nanoaod(V5), ["Jet_eta", "Jet_jetId"]).flat("Jet")
    for veto, bit in ((False, 2), (True, 4)):
        found = jet_id.passes(jets, lepton_veto=veto, is_puppi=False)
        assert found.tolist() == [bool(each & bit) for each in jets.jetId.tolist()]


def test_many_constituents_do_not_overflow() -> None:
    """NanoAOD has their numbers as bytes."""
    columns = {name: np.array([0.1]) for name in jet_id.FRACTIONS}
    columns |= {"chMultiplicity": np.array([200], np.uint8), "neMultiplicity": np.array([57], np.uint8)}
    assert jet_id.passes(Flat(columns, np.array([0, 1]))).tolist() == [True]
    del columns["chHEF"]
    said = "the identification of jets needs chHEF, but these objects have no chHEF: add the branch"
    with pytest.raises(NanoMLError, match=said):
        jet_id.passes(Flat(columns, np.array([0, 1])))
