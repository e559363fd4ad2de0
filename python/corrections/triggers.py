"""Triggers of several leptons: the weight of an event by the efficiencies of each leg, or by a file for pairs of leptons.

A trigger of one lepton whose scale factor is that of the one lepton that matters is looked up: `c.muon_trigger.on(muons)`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import Entry, VariedCorrection
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.corrections.inputs import Objects, needed
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Mask, Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["Leptons", "pair", "weight"]

_QUANTITY = re.compile("(?<![a-z])(abs_?eta|eta|phi|pt|charge|pdg_?id)(?![a-z])")
_LEG = {"pattern": "single|leading|trailing", "form": "single, leading or trailing"}
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Efficiency:
    """An efficiency of triggers, in data or in simulation."""

    name: str = setting(..., "The name of the correction in the file.", examples=["Electron-HLT-DataEff"])
    inputs: dict[str, Any] = setting(dict, "Inputs that choose it.", examples=[{"corrtype": "eff_data"}])


@dataclass(frozen=True)
class LegsEntry:
    """The efficiencies of the legs of triggers, for leptons of one kind."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")
    data: Efficiency = setting(..., "Efficiency in data.")
    simulation: Efficiency = setting(..., "Efficiency in simulation.")
    legs: dict[str, dict[str, Any]] = setting(
        ...,
        "The inputs that choose each leg: that of triggers of one lepton, and the tighter and looser one of triggers of two.",
        names=_LEG,
        examples=[{"single": {"Path": "HLT_SF_Ele30_TightID"}}],
    )
    inputs: dict[str, Any] = setting(
        dict, "Inputs that are the same for all legs.", examples=[{"year": "2022Re-recoBCD"}]
    )

    def found_in(self, file: CorrectionFile, place: str) -> Legs:
        """The efficiencies in their file; `place` is where the entry stands, for messages."""

        def found(kind: Efficiency, leg: Mapping[str, object]) -> VariedCorrection:
            entry = Entry(self.file, kind.name, {**self.inputs, **kind.inputs, **leg})
            return VariedCorrection(file[kind.name], entry, place)

        return Legs({name: (found(self.data, leg), found(self.simulation, leg)) for name, leg in self.legs.items()})


@dataclass(frozen=True)
class Legs:
    """The efficiencies of each leg, in data and in simulation."""

    found: Mapping[str, tuple[VariedCorrection, VariedCorrection]] = field(repr=False)

    @property
    def described(self) -> tuple[str, str, str]:
        """The names of the corrections, the legs, and the variations, in words."""
        both = next(iter(self.found.values()))
        return ", ".join(each.correction.name for each in both), ", ".join(self.found), "up, down"

    def on(self, leptons: Objects, where: Optional[Mask] = None, **named: Numbers) -> Leptons:
        """The efficiencies for leptons, as `weight` takes them; the parameters are those of `VariedCorrection.on`.

        Softer leptons than the file covers, and those that `where` leaves out, fire no leg. "up" is more efficiency in data and less in
        simulation.
        """

        def of(correction: VariedCorrection, is_data: bool) -> Factor:
            low = correction.correction.axes_at(correction.fixed)["pt"].low if "pt" in correction.inputs else None
            covered = needed(correction.correction, "pt", leptons, "pt") >= (low or 0.0)
            covered = covered if where is None else covered & where
            made = correction.on(leptons, covered, **named).map(lambda values: values * covered)
            return made if is_data else Factor(made.nominal, {"up": made["down"], "down": made["up"]})

        data, simulation = (
            {name: of(both[number], number == 0) for name, both in self.found.items()} for number in (0, 1)
        )
        return Leptons(data, simulation, leptons if isinstance(leptons, Flat) else None)


@dataclass(frozen=True)
class Leptons:
    """The efficiencies of the legs for each lepton of one kind: `single`, `leading`, `trailing`, in data and simulation.

    Where a file has the scale factor alone: `Leptons({"single": scale * Factor(efficiency)}, {"single": Factor(efficiency)})`.

    Attributes
    ----------
    data, simulation
        The efficiencies by the name of the leg, one for each lepton.
    objects
        The leptons, if these are plain columns (`events.flat("Muon")`); not needed for awkward arrays.
    """

    data: Mapping[str, Factor]
    simulation: Mapping[str, Factor]
    objects: Optional[Flat] = None

    def named(self, name: str) -> Leptons:
        """The same with the variations "up" and "down" called NAME_up and NAME_down, so that each kind has its own."""
        data, simulation = (
            {leg: each.named(name) for leg, each in legs.items()} for legs in (self.data, self.simulation)
        )
        return Leptons(data, simulation, self.objects)

    def silent(self, is_data: bool, variation: str) -> tuple[_Floats, _Floats, _Floats]:
        """The probabilities that these leptons fire no trigger: with no leg, with trailing legs alone, with one leading leg alone."""
        legs = self.data if is_data else self.simulation
        found = {name: self._padded(factor[variation]) for name, factor in legs.items()}
        leading = found.get("leading", found.get("single"))
        if leading is None:
            raise NanoMLError("triggers need the efficiency of the leg `single`, or of `leading` and `trailing`.")
        single, trailing = found.get("single", np.zeros_like(leading)), found.get("trailing", leading)
        # a lepton that fires a tighter leg fires the looser ones
        leading = np.maximum(leading, single)
        none, soft, hard = np.ones(single.shape[1]), *np.zeros((2, single.shape[1]))
        for one, tight, loose in zip(single, leading, np.maximum(trailing, leading)):
            hard = hard * (1 - loose) + none * (tight - one)
            soft = soft * (1 - tight) + none * (loose - tight)
            none = none * (1 - loose)
        return none, soft, hard

    def _padded(self, values: Numbers) -> _Floats:
        """The efficiencies of the first lepton of each event, of the second, ...; 0 where there is none."""
        ragged = ak.Array(values) if self.objects is None else ak.unflatten(values, self.objects.counts)
        most = int(np.max(np.asarray(ak.num(ragged)), initial=0))
        padded = ak.to_numpy(ak.fill_none(ak.pad_none(ragged, most, clip=True), 0.0))
        return np.clip(padded.reshape(len(ragged), most).T, 0.0, 1.0)


def weight(*leptons: Leptons, is_mixed: bool = False) -> Factor:
    """The probability that an event fires any of its triggers, in data over simulation; 1 where it cannot.

    Each lepton fires no leg, the trailing one, that and the leading one, or these and a trigger of one lepton, independently of
    the others. The event fires if one lepton fires `single`, or if two of a kind fire `leading` and `trailing`. So triggers of one lepton
    have 1 - prod(1 - e), and triggers of two have, for two leptons, L1 T2 + T1 L2 - L1 L2, the formula of H to WW (TrigMaker of
    LatinoAnalysis). For more leptons, and both kinds of triggers, it is the sum over all that may fire, as for H to Z gamma
    (TriggerWeighter of nano2pico). The weight is for events that fire any of these triggers.

    Parameters
    ----------
    leptons
        The leptons of each kind: `c.electron_legs.on(electrons)`.
    is_mixed
        Whether there are also triggers of two leptons of different kinds, with the same legs; for two kinds.

    Examples
    --------
    >>> data, simulation = ({"single": Factor(ak.Array([[it, it], [it]]))} for it in (0.8, 0.9))
    >>> weight(Leptons(data, simulation)).nominal.round(3).tolist()
    [0.97, 0.889]
    """
    if is_mixed and len(leptons) != 2:
        raise NanoMLError(f"triggers of two kinds of leptons need two kinds, but got {len(leptons)}.")

    def probability(is_data: bool, variation: str) -> _Floats:
        kinds = [each.silent(is_data, variation) for each in leptons]
        if not is_mixed:
            return np.asarray(1 - np.prod([np.sum(kind, axis=0) for kind in kinds], axis=0))
        (none, soft, hard), other = kinds
        return np.asarray(1 - none * sum(other) - soft * (other[0] + other[1]) - hard * other[0])

    def ratio(variation: str) -> _Floats:
        in_data, expected = probability(True, variation), probability(False, variation)
        return np.asarray(np.divide(in_data, expected, out=np.ones_like(expected), where=expected > 0))

    factors = (factor for each in leptons for legs in (each.data, each.simulation) for factor in legs.values())
    variations = dict.fromkeys(name for factor in factors for name in factor.variations)
    return Factor(ratio("nominal"), {name: ratio(name) for name in variations})


def pair(correction: VariedCorrection, leptons: ak.Array, **named: Numbers) -> Factor:
    """The scale factor of each event by the two leptons with the most transverse momentum; 1 for fewer than two.

    Parameters
    ----------
    correction
        An entry of a file with a scale factor for pairs: of two inputs with pt in their names, as lep1_pt and lep2_pt, the first
        is that of the leading lepton, and likewise for eta.
    leptons
        The leptons, ragged: those of two kinds are joined by `ak.concatenate([electrons, muons], axis=1)`.
    named
        Other inputs by name, one number for each event.
    """
    has_two = np.asarray(ak.num(leptons) >= 2)
    two = leptons[has_two]
    two = two[ak.argsort(two.pt, ascending=False)]
    given: dict[str, Numbers] = {name: np.asarray(values)[has_two] for name, values in named.items()}
    seen: Counter[str] = Counter()
    for name in (each for each in correction.inputs if each not in named):
        found = _QUANTITY.search(re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower())
        quantity = found[0].replace("_", "") if found else name
        column = needed(correction.correction, name, two, quantity.replace("abseta", "eta"))
        values = np.asarray(ak.Array(column)[:, seen[quantity]])
        given[name] = abs(values) if quantity == "abseta" else values
        seen[quantity] += 1

    def everywhere(values: Numbers) -> _Floats:
        full = np.ones(len(has_two))
        full[has_two] = values
        return full

    return correction(**given).map(everywhere)
