"""Muons of Run 2: momentum scale and resolution by the Rochester corrections, from the text files of their authors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import check_shift
from MLTools.NanoML.corrections.inputs import MUON, normal_of
from MLTools.NanoML.corrections.muons import BRANCHES, below, two_tails
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["BRANCHES", "SIMULATED", "Rochester", "corrected", "shifted"]

SIMULATED = ("Muon_genPartIdx", "GenPart_pt")
"""The branches that `corrected` and `shifted` also read in simulation."""

_Numbers = NDArray[np.float64]
_SIMULATION, _DATA = 0, 1
_MOST_PT = 200.0  # [GeV]; beyond, muons have momenta of another fit
_PI = 3.14159  # that of the authors, by which bins in phi begin


@dataclass
class _Member:
    """One set of parameters: the recommended one, or one for the uncertainty; the first index is simulation or data."""

    scale: _Numbers  # (2, 2, eta, phi): M and A, which come second
    ratio: _Numbers  # (2, |eta|)
    shape: _Numbers  # (6, |eta|, layers): the width, a parabola in pt - 45 GeV; width, edge and power of the tails


class Rochester:
    """A text file of Rochester corrections; `ConfigError` if it is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = path.read_bytes()
            self.digest = hashlib.sha256(raw).hexdigest()
            self._read(iter(raw.decode().splitlines()))
        except (OSError, ValueError, KeyError, IndexError) as problem:
            raise ConfigError(f"{path}: cannot be read as a text file of Rochester corrections: {problem}.") from None

    def _read(self, lines: Iterator[str]) -> None:
        head: dict[str, list[str]] = {}
        self.members: dict[tuple[int, int], _Member] = {}
        self.counts: list[int] = []
        for line in lines:
            first, *words = line.split() or [""]
            if not first.isdigit():
                head[first] = words
                continue
            if not self.members:
                self.counts = list(map(int, head["NMEM"]))
                self.phi_bins, self.least = int(head["CPHI"][0]), int(head["RMIN"][0])
                self.eta, self.abs_eta = (np.array(head[key][1:], np.float64) for key in ("CETA", "RETA"))
                bins, layers = len(self.abs_eta) - 1, int(head["RTRK"][0])
            key = int(first), int(words[0])
            if key not in self.members:
                shapes = ((2, 2, len(self.eta) - 1, self.phi_bins), (2, bins), (6, bins, layers))
                self.members[key] = _Member(*(np.full(shape, np.nan) for shape in shapes))
            member, tag = self.members[key], words[1]
            if tag == "C":
                kind, quantity, row = map(int, words[2:5])
                member.scale[kind, quantity, row] = np.array(words[5:], np.float64) / 100 + (quantity == 0)
            elif tag == "F":
                member.ratio[int(words[2])] = np.array(words[3:], np.float64)
            elif tag == "R":
                quantity, row = map(int, words[2:4])
                member.shape[quantity, row] = np.array(words[4:], np.float64) / (100 if quantity == 2 else 1)
        expected = [(number, each) for number, count in enumerate(self.counts) for each in range(count)]
        parts = (part for each in self.members.values() for part in (each.scale, each.ratio, each.shape))
        if not expected or sorted(self.members) != expected or any(np.isnan(part).any() for part in parts):
            raise ValueError("it lacks members of its sets, or numbers of a member")

    def factor(
        self, muon: Flat, is_data: bool, truth: Numbers, uniform: Numbers, member: tuple[int, int] = (0, 0)
    ) -> _Numbers:
        """The factor for the momentum of each muon, by its pt, eta, phi, charge and nTrackerLayers.

        `truth` is the transverse momentum [GeV] of the generated muon, 0 without one: then a number from 0 to 1, `uniform`, smears it. Sets
        and members other than the first are for the uncertainty.
        """
        of = self.members[member]
        row = _bin(self.eta, muon.eta)
        column = np.clip(((muon.phi + _PI) / (2 * _PI / self.phi_bins)).astype(int), 0, self.phi_bins - 1)
        m, a = of.scale[_DATA if is_data else _SIMULATION, :, row, column].T
        scale = 1 / (m + muon.charge * a * muon.pt)
        if is_data:
            return np.asarray(scale)
        row, pt = _bin(self.abs_eta, abs(muon.eta)), scale * muon.pt
        simulation, data = of.ratio[:, row]
        x = np.where(truth > 0, truth, pt) / pt
        spread = x / (1 + (x - 1) * data / simulation)
        layers = np.where(muon.nTrackerLayers > self.least, muon.nTrackerLayers - np.int64(self.least), 0)
        shape = of.shape[:, row, np.minimum(layers, of.shape.shape[2] - 1)]
        sigma = sum(parameter * (pt - 45) ** power for power, parameter in enumerate(shape[:3]))
        wider, is_drawn = np.sqrt(np.maximum(data**2 - simulation**2, 0.0)), ~(np.asarray(truth) > 0)
        drawn = np.zeros(len(pt))
        width, edge, power = shape[3:, is_drawn]
        drawn[is_drawn] = two_tails(0.0, width, power, edge, np.asarray(uniform)[is_drawn])
        change = wider * sigma * drawn
        smeared = np.where(change > -1, 1 / np.where(change > -1, 1 + change, 1.0), 1.0)
        return np.asarray(scale * np.where(is_drawn, smeared, spread))

    def error(self, muon: Flat, truth: Numbers, uniform: Numbers) -> _Numbers:
        """The uncertainty of the factor in simulation: of all sets, the mean square of the differences of their members."""
        nominal, square = self.factor(muon, False, truth, uniform), np.zeros(len(muon.event))
        for number, each in self.members:
            difference = self.factor(muon, False, truth, uniform, (number, each)) - nominal
            square += difference**2 / self.counts[number]
        return np.sqrt(square)


def _bin(edges: _Numbers, values: Numbers) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)


@dataclass(frozen=True)
class RochesterCorrections:
    """The momentum scale and resolution of muons of one era."""

    file: Rochester = field(repr=False)

    @property
    def described(self) -> tuple[str, str, str]:
        """Its name, its objects, and its shift, in words."""
        return "Rochester corrections", "muons", "muonScale"


@dataclass(frozen=True)
class RochesterEntry:
    """The momentum scale and resolution of muons in Run 2."""

    file: str = setting(..., "The text file: a path or a URL.", examples=["RoccoR2018UL.txt"])
    opens: ClassVar[type[Rochester]] = Rochester

    def found_in(self, file: Rochester, place: str) -> RochesterCorrections:
        """The corrections in their file; `place` is where the entry stands, for messages."""
        return RochesterCorrections(file)


def corrected(events: Events, muons: RochesterCorrections, is_data: bool) -> Events:
    """The events with the momenta of muons corrected up to 200 GeV: Muon_pt; the missing momentum stays.

    It reads `BRANCHES` and, in simulation, `SIMULATED`. The parameters are those of `muons.corrected`, the entry is `rochester`.
    """

    def values(left: Events) -> dict[str, Numbers]:
        muon = left.flat("Muon")
        truth, uniform = (np.zeros(len(muon.event)),) * 2 if is_data else _drawn(left, muon)
        factor = muons.file.factor(muon, is_data, truth, uniform)
        return {"Muon_pt": np.where(muon.pt < _MOST_PT, muon.pt * factor, muon.pt)}

    return events.replaced(["Muon_pt"], values)


def shifted(events: Events, muons: RochesterCorrections, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, with the momenta of muons up or down by their whole uncertainty: "muonScale".

    Raises
    ------
    NanoMLError
        There is no such shift, or muons were not corrected before.
    """
    check_shift(events, "Muon_pt", "muons", (name, direction), name == "muonScale", "muonScale")

    def values(left: Events) -> dict[str, Numbers]:
        muon, before = left.flat("Muon"), left.before("Muon_pt")
        old = before.flat("Muon")
        change = old.pt * muons.file.error(old, *_drawn(before, old)) * (1 if direction == "up" else -1)
        return {"Muon_pt": np.where(old.pt < _MOST_PT, muon.pt + change, muon.pt)}

    return events.replaced(["Muon_pt"], values)


def _drawn(events: Events, muon: Flat) -> tuple[_Numbers, _Numbers]:
    """The transverse momentum of each muon's generated one, 0 without; and a uniform number."""
    generated, index = events.flat("GenPart"), np.asarray(muon.genPartIdx)
    is_known = (index >= 0) & (index < generated.counts[muon.event])
    begin = np.cumsum(generated.counts) - generated.counts
    place = np.where(is_known, begin[muon.event] + index, 0)
    pt = np.where(is_known, generated.pt[place], 0.0) if len(generated.pt) else np.zeros(len(index))
    return pt, below(normal_of(events, muon, MUON))
