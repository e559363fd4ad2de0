"""Identification of jets, by the file of JME, its formula or the bits of NanoAOD, whichever there is; and of b jets, by files of BTV.

b tags by fixed working points, of any tagger, are cuts, scale factors and weights. The shape of a discriminant is `weights.btag_shape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import awkward as ak
import numpy as np

from MLTools.NanoML.corrections.entries import Entry, VariedCorrection
from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile
from MLTools.NanoML.corrections.inputs import Objects, clipped, discriminant_of, field_of, integers, needed
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Mask, Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["FRACTIONS", "BTagEntry", "BTags", "passes"]

FRACTIONS = ("eta", "chHEF", "neHEF", "chEmEF", "neEmEF", "muEF", "chMultiplicity", "neMultiplicity")
"""Fields of jets that file and formula read, as `Jet_chHEF`; files before NanoAOD v13 have `Jet_jetId` in place of the multiplicities."""
_MEASUREMENTS = (("comb", "kinfit", "mujets"), ("light", "incl", "negtag"))
"""The names of BTV's measurements with heavy and with light jets, those first that it recommends."""


def passes(
    jets: Objects, correction: Optional[VariedCorrection] = None, lepton_veto: bool = False, is_puppi: bool = True
) -> Mask:
    """Whether each jet passes the tight identification.

    With the numbers of charged and neutral constituents (NanoAOD v13), the file of JME decides, or its formula without a file.
    Without them, the bits of `jetId` do. For forward Puppi jets these are wrong, and JME's remedy is applied: |eta| from 2.7 to 3
    needs neHEF < 0.99, beyond neEmEF < 0.4.

    Parameters
    ----------
    jets
        The jets, AK4 or AK8.
    correction
        The entry of JME's file, with the name AK4PUPPI_Tight or AK4PUPPI_TightLeptonVeto, which decides on the veto.
    lepton_veto
        Whether jets that may be leptons fail, where no file decides.
    is_puppi
        Whether they are Puppi jets of Run 3; in Run 2, where they are not, the bits of NanoAOD are right.
    """
    if all(field_of(jets, f"{kind}Multiplicity") is not None for kind in ("ch", "ne")):
        if correction is not None:
            return correction.on(jets, eta=clipped(_field(jets, "eta"))).nominal > 0.5
        passed = _formula(jets)
    else:
        if correction is not None:
            lepton_veto = "veto" in correction.correction.name.lower()
        bits, eta = integers(_field(jets, "jetId")), abs(_field(jets, "eta"))
        if not is_puppi:
            return (bits & (4 if lepton_veto else 2)) > 0
        forward = ((eta <= 3.0) & (_field(jets, "neHEF") < 0.99)) | ((eta > 3.0) & (_field(jets, "neEmEF") < 0.4))
        passed = ((bits & 2) > 0) & ((eta <= 2.7) | forward)
    if not lepton_veto:
        return passed
    is_hadronic = (_field(jets, "muEF") < 0.8) & (_field(jets, "chEmEF") < 0.8)
    return passed & (is_hadronic | (abs(_field(jets, "eta")) > 2.7))


def _formula(jets: Objects) -> Mask:
    """JME's formula for Puppi jets of Run 3."""
    eta, neutral, photons = abs(_field(jets, "eta")), _field(jets, "neHEF"), _field(jets, "neEmEF")
    charged, others = (integers(_field(jets, f"{kind}Multiplicity")) for kind in ("ch", "ne"))
    has_tracks = (_field(jets, "chHEF") > 0.01) & (charged > 0) & (charged + others > 1)
    central = (eta <= 2.6) & (neutral < 0.99) & (photons < 0.9) & has_tracks
    edge = (eta > 2.6) & (eta <= 2.7) & (neutral < 0.9) & (photons < 0.99)
    endcap = (eta > 2.7) & (eta <= 3.0) & (neutral < 0.99)
    return central | edge | endcap | ((eta > 3.0) & (others >= 2) & (photons < 0.4))


def _field(jets: Objects, name: str) -> Numbers:
    return needed("the identification of jets", name, jets)


@dataclass(frozen=True)
class BTagEntry:
    """b tags by working points of one tagger."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")
    tagger: str = setting(
        ..., "The tagger, as the names in the file begin.", examples=["deepJet", "particleNet", "UParTAK4"]
    )
    working_points: list[str] = setting(["M"], "Working points.", minItems=1, uniqueItems=True, examples=[["L", "M"]])
    measurements: list[str] = setting(
        list,
        "Measurements of the scale factors, if not the recommended ones of the file.",
        examples=[["mujets", "incl"]],
    )
    sources: list[str] = setting(
        list, "Sources of the uncertainty in place of the total one.", examples=[["correlated", "uncorrelated"]]
    )

    def found_in(self, file: CorrectionFile, place: str) -> BTags:
        """The corrections in their file; `place` is where the entry stands, for messages."""
        values, start = file[f"{self.tagger}_wp_values"], f"{self.tagger}_"
        known = [str(point) for point in values.axes["working_point"].choices]
        lost = [point for point in self.working_points if point not in known]
        if lost:
            raise ConfigError(
                f"{place}: working_points: {self.tagger} has no working point {lost[0]}. It has: {', '.join(known)}."
            )
        cuts = {point: float(values(working_point=point)) for point in self.working_points}
        there = [name[len(start) :] for name in file.names if name.startswith(start)]
        found = (next((name for name in names if name in there), "") for names in _MEASUREMENTS)
        measured = self.measurements or list(filter(None, found))
        if not measured:
            raise ConfigError(
                f"{place}: write `measurements`: of {', '.join(there)}, the file's corrections of {self.tagger}."
            )
        scales = {}
        for point in sorted(cuts, key=cuts.__getitem__):
            inputs = {"working_point": point}
            parts = [file[f"{start}{name}"] for name in measured]
            entries = [Entry(self.file, part.name, inputs, sources=self._sources(part)) for part in parts]
            scales[point] = [VariedCorrection(part, entry, place) for part, entry in zip(parts, entries)]
        return BTags(self, cuts, scales)

    def _sources(self, part: Correction) -> list[str]:
        """The sources that a correction has: that of light jets may have the total uncertainty alone."""
        choices = part.axes["systematic"].choices
        return [source for source in self.sources if f"up_{source}" in choices]


@dataclass(frozen=True)
class BTags:
    """The working points of a tagger, from the loosest to the tightest."""

    entry: BTagEntry
    cuts: Mapping[str, float]  # the discriminant at each working point
    scales: Mapping[str, list[VariedCorrection]]  # the measurements for each of them

    @property
    def described(self) -> tuple[str, str, str]:
        """The names of the corrections, what they are for, and the working points, in words."""
        points = (f"{point} above {self.cuts[point]:g}" for point in self.scales)
        names = [scale.correction.name for scale in next(iter(self.scales.values()))]
        return ", ".join(names), "jets", ", ".join(points)

    def is_tagged(self, jets: Objects, point: str = "") -> Mask:
        """Whether each jet passes a working point; the first of the entry, if there is no name."""
        scale = next(iter(self.scales.values()))[0].correction
        branch = discriminant_of(self.entry.tagger) or f"btag{self.entry.tagger}B"
        return needed(scale, "discriminant", jets, branch) > self.cuts[self._point(point)]

    def scale(self, jets: Objects, point: str = "") -> Factor:
        """The scale factor of each jet at a working point, 1 where nothing is measured.

        The variations are heavy_up and heavy_down of b and c jets, light_up and light_down; with sources of the entry
        heavy_correlated_up, and so on.
        """
        total = Factor(1.0)
        for scale in self.scales[self._point(point)]:
            axes = scale.correction.axes
            flavour, eta = (
                needed(scale.correction, *names) for names in (("flavor", jets, "hadronFlavour"), ("eta", jets, "eta"))
            )
            where = abs(eta) < (axes["abseta"].high or np.inf)
            flavours = axes["flavor"].choices or (0, 4, 5)
            of_these = flavour == flavours[0]
            for each in flavours[1:]:
                of_these = of_these | (flavour == each)
            total *= scale.on(jets, where & of_these).named("light" if 0 in flavours else "heavy")
        return total

    def weight(self, jets: Objects, efficiencies: Mapping[str, Numbers]) -> Factor:
        """The weight of each jet for all working points together; the weight of an event is their product.

        With SF e of the tightest working point that a jet passes, SF' e' of the next one, 1 before the first and 0 after the last
        one, it is (SF e - SF' e') / (e - e') (BTV, method 1a).

        Parameters
        ----------
        jets
            The jets, with pt, eta, hadronFlavour and the discriminant.
        efficiencies
            The efficiency of each working point for each jet, in simulation with the same selection.
        """
        lost = [point for point in self.scales if point not in efficiencies]
        if lost:
            raise NanoMLError(f"b tags: the efficiency of the working point {lost[0]} is missing.")
        scales = {point: self.scale(jets, point) for point in self.scales}
        passed = [self.is_tagged(jets, point) for point in self.scales]
        before: list[Numbers] = [1.0, *(efficiencies[point] for point in self.scales), 0.0]

        def of(variation: str) -> Numbers:
            after: list[Numbers] = [
                1.0,
                *(scale[variation] * efficiencies[point] for point, scale in scales.items()),
                0.0,
            ]
            shares = [(after[i] - after[i + 1]) / (before[i] - before[i + 1]) for i in range(len(after) - 1)]
            made = shares[0]
            for passes, share in zip(passed, shares[1:]):
                made = ak.where(passes, share, made) if isinstance(passes, ak.Array) else np.where(passes, share, made)
            return made

        names = dict.fromkeys(name for scale in scales.values() for name in scale.variations)
        return Factor(of("nominal"), {name: of(name) for name in names})

    def _point(self, point: str) -> str:
        chosen = point or self.entry.working_points[0]
        if chosen not in self.scales:
            raise NanoMLError(f"b tags: the entry has no working point {chosen}. It has: {', '.join(self.scales)}.")
        return chosen
