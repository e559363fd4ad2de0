from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.corrections import fat_jets
from MLTools.NanoML.corrections.entries import JetCorrections
from MLTools.NanoML.corrections.random_numbers import FAT_JET, SOFT_DROP, normal_numbers
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.selection import Events
from services.real import DATA_V13, POG, V13, V15, check_refusals, era, events_of, nanoaod, plain, pog

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
