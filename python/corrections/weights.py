"""Weights of events, from corrections of their objects and from the generator: to be used, or copied and changed.

What is only looked up needs no function here: `corrections.pileup(events.Pileup.nTrueInt)`,
`corrections.muon_id(muons.eta, muons.pt).product()`. Each function takes plain or ragged arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import awkward as ak
import numpy as np

from MLTools.NanoML.corrections.entries import VariedCorrection
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Mask, Numbers

__all__ = [
    "SCALES",
    "SHOWER",
    "btag_shape",
    "btag_working_point",
    "electron_reconstruction",
    "last_tops",
    "lhe_scale",
    "parton_shower",
    "prefiring",
    "top_pt",
]

SCALES = ("mur_up", "mur_down", "muf_up", "muf_down", "mur_muf_up", "mur_muf_down")
"""The variations that `lhe_scale` gives: `Weight(SCALES, combine="envelope")`."""
SHOWER = ("isr_up", "isr_down", "fsr_up", "fsr_down")
"""The variations that `parton_shower` gives."""

_RECONSTRUCTION = re.compile(r"Reco(?:Below(?P<below>\d+)|Above(?P<above>\d+)|(?P<low>\d+)to(?P<high>\d+))")
_ENTRY = re.compile(r"\[(\d+)\] is ([^[;]+)")
_NUMBER = re.compile(r'(\w{1,99}) *= *"?([0-9.eE+-]+)"?')


def electron_reconstruction(
    correction: VariedCorrection, eta: Numbers, pt: Numbers, phi: Numbers | None = None
) -> Factor:
    """The reconstruction efficiency of electrons in data over that in simulation, for each electron.

    The file has a working point for each range of pt ("RecoBelow20", "Reco20to75", "RecoAbove75"), of which each electron
    takes its own.

    Parameters
    ----------
    correction
        The entry of EGM's file, without its `WorkingPoint`.
    eta
        Pseudorapidity of the supercluster: `electrons.eta + electrons.deltaEtaSC`.
    pt
        Transverse momentum [GeV].
    phi
        Azimuth, which the files from 2023 on need.
    """
    known = {"eta": eta, "pt": pt, **({} if phi is None else {"phi": phi})}
    choices = map(str, correction.correction.axes["WorkingPoint"].choices)
    points = {point: _RECONSTRUCTION.fullmatch(point) for point in choices}
    ranges = {point: found for point, found in points.items() if found}
    if not ranges:
        raise NanoMLError(
            f"{correction.correction.file.path}: {correction.correction.name} has no working points for reconstruction. "
            f"It has: {', '.join(points)}."
        )
    total = Factor(1.0)
    for point, found in ranges.items():
        low = float(found["above"] or found["low"] or 0)
        high = float(found["below"] or found["high"] or np.inf)
        total *= correction.of(known, where=(pt >= low) & (pt < high), WorkingPoint=point)
    return total


def btag_shape(
    correction: VariedCorrection, flavour: Numbers, eta: Numbers, pt: Numbers, discriminant: Numbers, sources: Sequence[str],
    shift: str = "",
) -> Factor:  # fmt: skip
    """The correction of the shape of a b-tagging discriminant, for each jet; its product is the weight of the event.

    It changes the number of events before any cut on the discriminant, which must be undone for each variation (BTV). The
    sources cferr1 and cferr2 hold for c jets, all others for b and light jets; other jets keep the nominal value. Jets
    beyond |eta| = 2.5 have 1.

    Parameters
    ----------
    correction
        The entry of BTV's file, as deepJet_shape.
    flavour
        Hadron flavour of each jet: 5, 4 or 0.
    eta, pt, discriminant
        Pseudorapidity, transverse momentum [GeV] and discriminant of each jet.
    sources
        As "hf", "lf", "hfstats1", ..., "cferr1": the variations are hf_up, hf_down, ...
    shift
        The shift of objects, `events.shift`: where the jets' energy scale is shifted, BTV has nominal factors of its own,
        as up_jes, for b and light jets. They take the place of sources named jes.

    Examples
    --------
    >>> from MLTools.NanoML.corrections import Corrections
    >>> c = Corrections.read("examples/corrections/2018.yaml")
    >>> jet = {"flavour": np.array([5, 0]), "eta": np.array([1.0, 1.0]), "pt": np.array([50.0, 50.0])}
    >>> btag_shape(c.btag, **jet, discriminant=np.array([0.9, 0.1]), sources=["hf"]).nominal.round(3).tolist()
    [1.035, 0.985]
    """
    inside = abs(eta) < 2.5
    name, _, direction = shift.rpartition("_")
    nominal = f"{direction}_{name}"
    has_own = shift.startswith("jes") and nominal in correction.correction.axes["systematic"].choices

    def at(key: str, where: Mask) -> Numbers:
        return correction.value(
            systematic=key, flavor=flavour, abseta=abs(eta), pt=pt, discriminant=discriminant, where=where
        )

    central = at("central", inside)
    if has_own:
        central = ak.where(flavour != 4, at(nominal, inside & (flavour != 4)), central)
    made = {}
    for source in sources:
        concerned = (flavour == 4) if source.startswith("cferr") else (flavour != 4)
        for direction in ("up", "down"):
            varied = at(f"{direction}_{source}", inside & concerned)
            made[f"{source}_{direction}"] = ak.where(concerned, varied, central)
    if not isinstance(central, ak.Array):
        made = {name: np.asarray(values) for name, values in made.items()}
        central = np.asarray(central)
    return Factor(central, made)


def btag_working_point(scale: Factor, efficiency: Numbers, is_tagged: Mask) -> Factor:
    """The weight of each jet for one working point of b-tagging; the weight of an event is their product.

    A tagged jet has SF, any other one (1 - SF e) / (1 - e), with its efficiency e in this simulation (BTV, method 1a).

    Parameters
    ----------
    scale
        The scale factor of each jet: those of b and c jets, and of light jets, have different variations.
    efficiency
        The efficiency of the working point for each jet, in simulation with the same selection, below 1.
    is_tagged
        Whether the jet passes.

    Examples
    --------
    >>> scale, efficiency = Factor(np.array([0.9, 0.9])), np.array([0.6, 0.6])
    >>> btag_working_point(scale, efficiency, np.array([True, False])).nominal.round(3).tolist()
    [0.9, 1.15]
    """

    def of(factor: Numbers) -> Numbers:
        failed = (1 - factor * efficiency) / (1 - efficiency)
        return (
            ak.where(is_tagged, factor, failed) if isinstance(factor, ak.Array) else np.where(is_tagged, factor, failed)
        )

    return scale.map(of)


def last_tops(particles: ak.Array) -> tuple[Numbers, Numbers]:
    """The transverse momenta [GeV] of the top quark and antiquark of each event, before they decay; NaN where there is none.

    It reads pt, pdgId and statusFlags of `events.GenPart`: `top_pt(*last_tops(events.GenPart))`.

    Examples
    --------
    >>> top = [{"pt": 80.0, "pdgId": 6, "statusFlags": 1 << 13}, {"pt": 90.0, "pdgId": -6, "statusFlags": 1 << 13}]
    >>> [found.tolist() for found in last_tops(ak.Array([top]))]
    [[80.0], [90.0]]
    """
    is_last = (particles.statusFlags >> 13) & 1 == 1
    found = (ak.firsts(particles.pt[is_last & (particles.pdgId == which)]) for which in (6, -6))
    top, antitop = (np.asarray(ak.fill_none(each, np.nan), np.float64) for each in found)
    return top, antitop


def top_pt(top: Numbers, antitop: Numbers, a: float = 0.0615, b: float = -0.0005) -> Factor:
    """The weight of a ttbar event for the spectrum of the top quarks' transverse momenta.

    w = sqrt(exp(a + b pt(t)) exp(a + b pt(tbar))), with pt at most 500 GeV: data over POWHEG at 13 TeV (TOP group). The
    up variation has the weight twice, the down variation not at all.

    Parameters
    ----------
    top, antitop
        Transverse momentum [GeV] of each, one for each event, of `last_tops`. Where there is none, the weight is 1.
    a, b
        The parameters.

    Examples
    --------
    >>> top_pt(np.array([100.0, 400.0]), np.array([100.0, 400.0])).nominal.round(3).tolist()
    [1.012, 0.871]
    """
    nominal = np.nan_to_num(np.exp(a + b * (np.minimum(top, 500) + np.minimum(antitop, 500)) / 2), nan=1.0)
    return Factor(nominal, {"up": nominal**2, "down": np.ones_like(nominal)})


def prefiring(events: Events) -> Factor:
    """The probability that no trigger primitive of an earlier bunch crossing vetoed the event (2016 to 2018).

    It reads L1PreFiringWeight_Nom, L1PreFiringWeight_Up and L1PreFiringWeight_Dn.

    Examples
    --------
    >>> weights = {"Nom": 0.98, "Up": 0.97, "Dn": 0.99}
    >>> events = Events({f"L1PreFiringWeight_{name}": np.array([it]) for name, it in weights.items()}, {})
    >>> prefiring(events)["up"].tolist()
    [0.97]
    """
    weight = events.L1PreFiringWeight
    return Factor(np.asarray(weight.Nom), {"up": np.asarray(weight.Up), "down": np.asarray(weight.Dn)})


def lhe_scale(weights: ak.Array, title: str) -> Factor:
    """Weights for other scales of renormalisation and factorisation, relative to the nominal one.

    The variations are mur_up, mur_down, muf_up, muf_down, mur_muf_up and mur_muf_down, by factors of 2; their envelope is
    taken in each bin of a histogram, not here. The order of the entries differs between versions of NanoAOD and is read from
    the branch's title; without a title, 9 entries have the order of NanoAOD and 8 lack the nominal one.

    Parameters
    ----------
    weights
        LHEScaleWeight, one list for each event. Where it is empty, the weights are 1.
    title
        Title of the branch.

    Examples
    --------
    >>> scales = lhe_scale(ak.Array([[0.8, 0.9, 1.0, 0.9, 1.0, 1.1, 1.0, 1.1, 1.2]]), "")
    >>> scales.variations["muf_up"].tolist(), scales.variations["mur_muf_down"].tolist()
    ([1.1], [0.8])
    """
    found = _places(title, "mur", "muf")
    counts = np.asarray(ak.num(weights))
    length = int(counts.max()) if len(counts) else 0
    if not found and length in (8, 9):
        order = [(mur, muf) for mur in (0.5, 1.0, 2.0) for muf in (0.5, 1.0, 2.0)]
        found = {pair: place for place, pair in enumerate(pair for pair in order if length == 9 or pair != (1.0, 1.0))}
    wanted = {
        "mur_up": (2.0, 1.0), "mur_down": (0.5, 1.0), "muf_up": (1.0, 2.0), "muf_down": (1.0, 0.5),
        "mur_muf_up": (2.0, 2.0), "mur_muf_down": (0.5, 0.5),
    }  # fmt: skip
    return _entries(weights, "LHEScaleWeight", {name: found.get(pair) for name, pair in wanted.items()}, title)


def parton_shower(weights: ak.Array, title: str) -> Factor:
    """Weights for other scales of the parton shower: isr_up, isr_down, fsr_up and fsr_down, by factors of 2.

    A larger alpha_s, by half the scale, is "up". The first entry has it: older titles name the factor of the scale, ISR = 0.5,
    newer ones that of alpha_s, ISR = 2.

    Parameters
    ----------
    weights
        PSWeight, one list for each event. Where it has one entry only, or none, the weights are 1.
    title
        Title of the branch.

    Examples
    --------
    >>> parton_shower(ak.Array([[1.1, 1.0, 0.9, 1.0]]), "").variations["isr_up"].tolist()
    [1.1]
    """
    found = _places(title, "isr", "fsr") or {(2.0, 1.0): 0, (1.0, 2.0): 1, (0.5, 1.0): 2, (1.0, 0.5): 3}
    # the factor of the renormalisation scale comes first in old titles, beginning with one half
    up, down = (0.5, 2.0) if found.get((0.5, 1.0)) == 0 else (2.0, 0.5)
    wanted = {"isr_up": (up, 1.0), "isr_down": (down, 1.0), "fsr_up": (1.0, up), "fsr_down": (1.0, down)}
    return _entries(weights, "PSWeight", {name: found.get(pair) for name, pair in wanted.items()}, title)


def _places(title: str, one: str, other: str) -> dict[tuple[float, float], int]:
    """The places of a list's entries by the values of two scales, as far as the branch's title says."""
    found = {}
    for index, text in _ENTRY.findall(title):
        values = {name.lower(): float(value) for name, value in _NUMBER.findall(text)}
        if {one, other} <= set(values):
            found[values[one], values[other]] = int(index)
    return found


def _entries(weights: ak.Array, name: str, places: Mapping[str, int | None], title: str) -> Factor:
    """Entries of a list of weights, by name; 1 where an event has a list that is too short to have variations."""
    counts = np.asarray(ak.num(weights))
    one = np.ones(len(counts))
    if not len(counts) or counts.max() <= 1:
        return Factor(one, dict.fromkeys(places, one))
    missing = [variation for variation, place in places.items() if place is None or place >= counts.max()]
    if missing:
        raise NanoMLError(
            f'{name} has {counts.max()} entries, and its title, "{title}", does not say which of them is {missing[0]}.'
        )
    made = {}
    for variation, place in places.items():
        has_it = counts > place
        picked = weights[:, place] if has_it.all() else ak.fill_none(ak.firsts(weights[:, place : place + 1]), 1.0)  # type: ignore[operator]
        made[variation] = np.asarray(picked, np.float64)
    return Factor(one, made)
