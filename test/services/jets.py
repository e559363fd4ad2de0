"""Jets corrected one after the other by correctionlib itself, to compare with; and the eras and events for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.corrections.entries import JetCorrections
from MLTools.NanoML.corrections.inputs import normal_numbers
from services import invented
from services.real import plain

_LEVELS = ("L1L2L3Res", "L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
ERAS = {
    "2018 UL": "jets: {file: POG/JME/2018_UL/jet_jerc.json.gz, algorithm: AK4PFchs, jer: Summer19UL18_JRV2_MC, "
    "jec: {simulation: Summer19UL18_V5_MC}}",
    "2022": "jets: {file: POG/JME/2022_Summer22/jet_jerc.json.gz, algorithm: AK4PFPuppi, jer: Summer22_22Sep2023_JRV1_MC, "
    "jec: {simulation: Summer22_22Sep2023_V2_MC}, missing_momentum: PuppiMET, matched_only: 2.5-3.0}",
}
"""The YAML files of eras with real files."""


def write_june(source: Path, target: Path) -> None:
    """A file of jets in the layout of June 2026, where the uncertainty of the resolution is a correction of its own."""
    content = json.loads(source.read_text())
    corrections = [each for each in content["corrections"] if "_ScaleFactor_" not in each["name"]]
    inputs = {"JetEta": "real", "JetPt": "real"}
    ratio = invented.binning("JetEta", (-5.2, 0.0, 5.2), [1.1, 1.2])
    error = invented.binning("JetPt", (0.0, 50.0, 1000.0), [0.08, 0.03])
    for kind, data in (("ScaleFactor", ratio), ("SFUncertainty", error)):
        corrections.append(invented.correction(f"Invented2018_JRV1_MC_{kind}_AK4PF", inputs, data))
    target.write_text(json.dumps({**content, "corrections": corrections}))


def write_era(name: str, folder: Path, data: Path, examples: Path) -> Path:
    """The YAML file of an era with the real files in `data`; that of an example, if its name is one of theirs."""
    if name == "2018 June":
        write_june(examples / "corrections" / "2018" / "jets.json", folder / "jets.json")
        entry = (examples / "corrections" / "2018.yaml").read_text().partition("jets:\n")[2].partition("\n\n")[0]
        path = folder / "era.yaml"
        path.write_text("jets:\n" + entry.replace("2018/jets.json", "jets.json"))
        return path
    if name not in ERAS:
        return examples / "corrections" / f"{name}.yaml"
    if not (data / "corrections").is_dir():
        pytest.skip(f"no correction files in {data / 'corrections'}: name their directory by NANOML_TEST_DATA")
    path = folder / "era.yaml"
    path.write_text(ERAS[name].replace("POG/", f"{data / 'corrections' / 'POG'}/"))
    return path


@dataclass
class OneByOne:
    """The jets of an era, evaluated one by one; events are lists by the names of branches."""

    path: Path
    campaign: str = ""  # of the energy scale; that of simulation if it is empty

    def __post_init__(self) -> None:
        self.era: JetCorrections = Corrections.read(self.path).jets
        self.missing = self.era.entry.missing_momentum
        self._set = plain(self.era.file.path)
        self._names = set(self._set)
        self._algorithm, self._scale = self.era.entry.algorithm, self.campaign or self.era.entry.jec.simulation

    @property
    def sources(self) -> list[str]:
        pattern = re.compile(f"{self._scale}_(?:Regrouped_)?(.+)_{self._algorithm}")
        found = [match[1] for match in map(pattern.fullmatch, self._set) if match]
        return list(dict.fromkeys(name for name in found if name not in _LEVELS))

    def nominal(self, events: Mapping[str, Any], row: int) -> Event:
        """An event with corrected and smeared jets."""
        event = Event.of(events, row, self.missing)
        factors = [self._factor(events, row, place, "nom") for place in range(len(event.pt))]
        return self._scaled(event, np.array(factors), events, row)

    def _scaled(self, event: Event, factors: Any, events: Any, row: int, name: str = "", sign: int = 0) -> Event:
        """With jets multiplied by a factor each, and the missing momentum that follows under a shift."""
        pt = event.pt * factors
        return Event(pt, event.mass * factors, event.eta, event.phi, self.type1(events, row, pt, name, sign))

    def type1(self, events: Mapping[str, Any], row: int, pt: Any, name: str = "", sign: int = 0) -> complex:
        """The missing momentum with type-1 corrections, from jets with these momenta and from the softer ones of the file."""

        def of(branch: str, place: int, otherwise: float = 0.0) -> float:
            return float(events[branch][row][place]) if branch in events else otherwise

        rho, found = float(events["fixedGridRhoFastjetAll"][row]), 0j
        level1 = self._set[f"{self._scale}_L1FastJet_{self._algorithm}"]
        levels = self._set.compound[f"{self._scale}_L1L2L3Res_{self._algorithm}"]
        rows = [("Jet", place) for place in range(len(pt))]
        if "CorrT1METJet_rawPt" in events:
            rows += [("CorrT1METJet", place) for place in range(len(events["CorrT1METJet_rawPt"][row]))]
        for jet, place in rows:
            eta, phi, area = (of(f"{jet}_{quantity}", place) for quantity in ("eta", "phi", "area"))
            if jet == "Jet":
                raw = of("Jet_pt", place) * (1 - of("Jet_rawFactor", place))
                factor = pt[place] / raw
                em = of("Jet_neEmEF", place) + of("Jet_chEmEF", place)
            else:
                raw, em = of("CorrT1METJet_rawPt", place), of("CorrT1METJet_EmEF", place)
                factor = levels.evaluate(area, _inside(eta), raw, rho)
                if name == "hem":
                    factor *= 1 - _lost(eta, phi)
                elif name.startswith("jes"):
                    factor *= 1 + sign * self._uncertainty(name[3:] or "Total").evaluate(_inside(eta), raw * factor)
            first = level1.evaluate(area, _inside(eta), raw, rho)
            without_muons = raw * (1 - of(f"{jet}_muonSubtrFactor", place))
            if without_muons * factor > 15 and em < 0.9:
                angle = phi + of(f"{jet}_muonSubtrDeltaPhi", place)
                found -= without_muons * (factor - first) * np.exp(1j * angle)
        start = (float(events[f"Raw{self.missing}_{name}"][row]) for name in ("pt", "phi"))
        return complex(next(start) * np.exp(1j * next(start)) + found)

    def shifted(self, events: Mapping[str, Any], row: int, name: str, direction: str, nominal: Event) -> Event:
        if name == "unclustered":
            return nominal.moved(self._unclustered(events, row, direction))
        factors = []
        for place in range(len(nominal.pt)):
            eta, phi, pt = (float(nominal.eta[place]), float(nominal.phi[place]), float(nominal.pt[place]))
            if name == "jer":
                up, none = (self._factor(events, row, place, key) for key in (direction, "nom"))
                factors.append(up / none)
            elif name == "hem":
                factors.append(1 - _lost(eta, phi))
            else:
                error = self._uncertainty(name[3:] or "Total").evaluate(_inside(eta), pt)
                factors.append(1 + error * (1 if direction == "up" else -1))
        return self._scaled(nominal, np.array(factors), events, row, name, 1 if direction == "up" else -1)

    def _uncertainty(self, source: str) -> Any:
        names = [f"{self._scale}_{way}{source}_{self._algorithm}" for way in ("", "Regrouped_")]
        return self._set[next(name for name in names if name in self._names)]

    def _factor(self, events: Mapping[str, Any], row: int, place: int, key: str) -> float:
        """What the pt of a jet in the file is multiplied by."""
        fields = ("pt", "eta", "phi", "rawFactor", "area")
        old, eta, phi, raw_factor, area = (float(events[f"Jet_{name}"][row][place]) for name in fields)
        rho, inside = float(events["fixedGridRhoFastjetAll"][row]), _inside(eta)
        raw = 1 - raw_factor
        levels = self._set.compound[f"{self._scale}_L1L2L3Res_{self._algorithm}"]
        scale = raw * levels.evaluate(area, inside, old * raw, rho)
        pt, jer = old * scale, self.era.entry.jer
        sigma = self._set[f"{jer}_PtResolution_{self._algorithm}"].evaluate(inside, pt, rho)
        ratios = self._set[f"{jer}_ScaleFactor_{self._algorithm}"]
        if any(axis.name == "systematic" for axis in ratios.inputs):
            by_pt = [pt] if len(ratios.inputs) == 3 else []
            ratio = ratios.evaluate(inside, *by_pt, key)
        else:
            error = self._set[f"{jer}_SFUncertainty_{self._algorithm}"].evaluate(inside, pt)
            ratio = ratios.evaluate(inside, pt) * (1 + {"nom": 0, "up": 1, "down": -1}[key] * error)
        index = int(events["Jet_genJetIdx"][row][place])
        if 0 <= index < len(events["GenJet_pt"][row]):
            truth, near, at = (float(events[f"GenJet_{name}"][row][index]) for name in ("pt", "eta", "phi"))
            distance = np.hypot(eta - near, np.angle(np.exp(1j * (phi - at))))
            if distance < 0.2 and abs(pt - truth) < 3 * sigma * pt:
                return float(scale * max(0.01, 1 + (ratio - 1) * (pt - truth) / pt))
        low, high = map(float, (self.era.entry.matched_only or "0-0").split("-"))
        if low < abs(eta) < high:
            return float(scale)
        identifiers = [np.array([events[name][row]]) for name in ("run", "luminosityBlock", "event")]
        number = float(normal_numbers(*identifiers, np.array([place]))[0])
        return float(scale * max(0.01, 1 + number * sigma * np.sqrt(max(ratio**2 - 1, 0))))

    def _unclustered(self, events: Mapping[str, Any], row: int, direction: str) -> complex:
        if f"{self.missing}_MetUnclustEnUpDeltaX" in events:
            x, y = (float(events[f"{self.missing}_MetUnclustEnUpDelta{axis}"][row]) for axis in "XY")
            return complex(x, y) if direction == "up" else -complex(x, y)
        way = f"Unclustered{direction.capitalize()}"
        there, here = (
            float(events[f"{self.missing}_pt{end}"][row]) * np.exp(1j * float(events[f"{self.missing}_phi{end}"][row]))
            for end in (way, "")
        )
        return complex(there - here)


@dataclass
class Event:
    """The jets of an event, and its missing momentum."""

    pt: Any
    mass: Any
    eta: Any
    phi: Any
    missing: complex

    @classmethod
    def of(cls, events: Mapping[str, Any], row: int, missing: str) -> Event:
        """An event as it is in the file."""
        jets = (np.asarray(events[f"Jet_{name}"][row], np.float64) for name in ("pt", "mass", "eta", "phi"))
        pt, phi = (float(events[f"{missing}_{name}"][row]) for name in ("pt", "phi"))
        return cls(*jets, complex(pt * np.exp(1j * phi)))

    def moved(self, change: complex) -> Event:
        """With another missing momentum."""
        return Event(self.pt, self.mass, self.eta, self.phi, self.missing + change)


def joined(events: Iterable[Event]) -> tuple[Any, Any, Any]:
    """pt and mass of all jets in one row, and the missing momentum of each event as a complex number."""
    listed = list(events)
    pt, mass = (np.concatenate([getattr(event, name) for event in listed]) for name in ("pt", "mass"))
    return pt, mass, np.array([event.missing for event in listed])


def _lost(eta: float, phi: float) -> float:
    """The share of energy without a part of the endcap."""
    return (0.2 if -2.5 < eta < -1.3 else 0.35 if -3 < eta <= -2.5 else 0.0) if -1.57 < phi < -0.87 else 0.0


def _inside(eta: float) -> float:
    return max(-5.19, min(eta, 5.19))


def collections(names: Iterable[str]) -> dict[str, str]:
    return {name: name.split("_")[0] for name in names if name.startswith(("Jet_", "GenJet_", "CorrT1METJet_"))}
