"""Missing momentum: its modulation in phi, the "xy correction", by the files of JME of Run 2 and Run 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from MLTools.NanoML.corrections.entries import Entry, VariedCorrection, check_shift
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["branches", "corrected", "shifted"]


@dataclass(frozen=True)
class XYEntry:
    """The modulation of the missing momentum in phi."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")
    missing_momentum: str = setting("MET", "The missing momentum that is corrected.", examples=["MET", "PuppiMET"])
    inputs: dict[str, Any] = setting(dict, "Other texts that the file asks for.", examples=[{"epoch": "2022EE"}])
    sources: list[str] = setting(
        list, "Sources of its uncertainty in simulation.", examples=[["stat_x", "stat_y", "pu"]]
    )

    def found_in(self, file: CorrectionFile, place: str) -> XYCorrections:
        """The corrections in their file; `place` is where the entry stands, for messages."""
        found = {}
        for quantity in ("pt", "phi"):
            for is_data in (True, False):
                name, texts = self._where(file, quantity, is_data, place)
                sources = [] if is_data else self.sources
                entry = Entry(self.file, name, {**texts, **self.inputs}, sources=sources)
                found[quantity, is_data] = VariedCorrection(file[name], entry, place)
        return XYCorrections(self, found)

    def _where(self, file: CorrectionFile, quantity: str, is_data: bool, place: str) -> tuple[str, Mapping[str, str]]:
        """The correction of pt or phi, and the texts that choose it: in Run 2 it has its own name, in Run 3 one has all."""
        kind, sample = "puppimet" if "Puppi" in self.missing_momentum else "pfmet", "data" if is_data else "mc"
        own = f"{quantity}_metphicorr_{kind}_{sample}"
        if own in file.names:
            return own, {}
        wanted = [quantity, self.missing_momentum, sample.upper()]
        for name in file.names:
            axes = file[name].axes
            texts = {each: key for each, axis in axes.items() for key in map(str, axis.keys) if key in wanted}
            if len(texts) == len(wanted):
                is_fixed = is_data or not self.sources
                nominal = {each: "nom" for each, axis in axes.items() if is_fixed and "nom" in axis.keys}
                return name, {**texts, **nominal}
        raise ConfigError(
            f"{place}: {file.path} has no correction of {quantity} of {self.missing_momentum} for {sample}."
        )


@dataclass(frozen=True)
class XYCorrections:
    """The corrections of pt and phi, in data and simulation."""

    entry: XYEntry
    found: Mapping[tuple[str, bool], VariedCorrection] = field(repr=False)

    @property
    def described(self) -> tuple[str, str, str]:
        """The name of a correction, what it is for, and its sources, in words."""
        return self.found["pt", False].correction.name, self.entry.missing_momentum, ", ".join(self.entry.sources)

    def factors(self, events: Events, is_data: bool) -> list[Factor]:
        """The corrected missing momentum, pt and phi, and the same under each source in simulation."""
        missing = self.entry.missing_momentum
        known = {"met_pt": events[f"{missing}_pt"], "met_phi": events[f"{missing}_phi"], "run": events.run}
        known.update(npvs=events.PV.npvs, npvGood=events.PV.npvsGood)
        plain = {name: np.asarray(values) for name, values in known.items()}
        made = [self.found[quantity, is_data].of(plain) for quantity in ("pt", "phi")]
        asked = self.found["pt", is_data]
        # for runs of no period, files of Run 2 return what they were given
        same = (made[0].nominal == plain["met_pt"]) & (made[1].nominal == plain["met_phi"])
        if is_data and "run" in asked.inputs and np.any(same):
            where, run = f"{asked.correction.file.path}: {asked.correction.name}", plain["run"][same][0]
            raise NanoMLError(f"{where} has nothing for run {run}. Correct these data by the file of their own era.")
        return made


def branches(missing_momentum: str = "MET") -> tuple[str, ...]:
    """The branches that `corrected` and `shifted` read."""
    return f"{missing_momentum}_pt", f"{missing_momentum}_phi", "PV_npvs", "PV_npvsGood", "run"


def corrected(events: Events, xy: XYCorrections, is_data: bool) -> Events:
    """The events with the modulation of the missing momentum in phi taken away.

    Parameters
    ----------
    events
        The events, after `jets.corrected`; under a shift of jets, after `jets.shifted`.
    xy
        The entry `met_xy` of the era.
    is_data
        Whether they are collision data.
    """
    return _replaced(events, xy, lambda left: [each.nominal for each in xy.factors(left, is_data)])


def shifted(events: Events, xy: XYCorrections, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, under a shift of the correction: "met_" and a source, as met_stat_x, met_pu.

    Raises
    ------
    NanoMLError
        The entry has no such source, or the missing momentum was not corrected before.
    """
    source, pt = name.partition("met_")[2], f"{xy.entry.missing_momentum}_pt"
    known = ", ".join(f"met_{each}" for each in xy.entry.sources) or "none, without `sources` of the entry"
    check_shift(events, pt, "the missing momentum", (name, direction), source in xy.entry.sources, known)
    return _replaced(
        events, xy, lambda left: [each[f"{source}_{direction}"] for each in xy.factors(left.before(pt), False)]
    )


def _replaced(events: Events, xy: XYCorrections, values: Callable[[Events], Sequence[Numbers]]) -> Events:
    names = tuple(f"{xy.entry.missing_momentum}_{quantity}" for quantity in ("pt", "phi"))
    return events.replaced(names, lambda left: dict(zip(names, values(left))))
