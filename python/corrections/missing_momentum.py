"""Missing momentum: what follows from other jets, its corrections, and filters against false ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.rootio.lists import offsets_of
from MLTools.NanoML.selection.events import Events
from MLTools.NanoML.selection.flat import Flat

__all__ = ["FILTERS", "passes_filters", "propagated", "type1_momentum", "unclustered", "unclustered_branches"]

_FILTERS = (
    *("Flag_goodVertices", "Flag_globalSuperTightHalo2016Filter", "Flag_EcalDeadCellTriggerPrimitiveFilter"),
    *("Flag_BadPFMuonFilter", "Flag_BadPFMuonDzFilter", "Flag_eeBadScFilter"),
)
FILTERS = {
    "2016": (*_FILTERS, "Flag_HBHENoiseFilter", "Flag_HBHENoiseIsoFilter"),
    "Run2": (*_FILTERS, "Flag_HBHENoiseFilter", "Flag_HBHENoiseIsoFilter", "Flag_ecalBadCalibFilter"),
    "Run3": (*_FILTERS, "Flag_hfNoisyHitsFilter", "Flag_ecalBadCalibFilter"),
}
"""Filters against false missing momentum, for data and simulation (JME group): of 2016, of 2017 and 2018, and of Run 3."""

LEAST_PT = 15.0
"""Transverse momentum [GeV] of a jet that corrects the missing momentum."""

_OLD = "MET"  # it has the change of its components, not the changed momentum
_MOST_EM = 0.9  # electromagnetic fraction of a jet that does


def passes_filters(events: Events, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether events pass all filters against false missing momentum, as the JME group asks; a mask for `cutflow.cut`.

    Parameters
    ----------
    events
        The events, with the branches of these names.
    names
        `FILTERS["Run2"]` or `FILTERS["Run3"]`, or those of your own.
    """
    return np.asarray(np.all([np.asarray(events[name], bool) for name in names], axis=0))


def propagated(
    missing_pt: Any, missing_phi: Any, jets: Flat, old_pt: Any, new_pt: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, pt [GeV] and phi, when the transverse momenta of objects change.

    Parameters
    ----------
    missing_pt, missing_phi
        The missing momentum of each event [GeV].
    jets
        The objects, with `phi`.
    old_pt, new_pt
        Transverse momentum of each object before and after [GeV].
    """
    change = np.asarray(new_pt) - np.asarray(old_pt)
    return moved(components(missing_pt, missing_phi), directions(jets), change)


def components(pt: Any, phi: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The x and y components of transverse momenta [GeV]."""
    pt, phi = np.asarray(pt), np.asarray(phi)
    return pt * np.cos(phi), pt * np.sin(phi)


def directions(objects: Flat) -> Flat:
    """The x and y components of a unit vector along the transverse momentum of each object."""
    return Flat({"x": np.cos(objects.phi), "y": np.sin(objects.phi)}, offsets_of(objects.counts))


def moved(
    missing: tuple[NDArray[np.float64], NDArray[np.float64]], along: Flat, change: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, pt [GeV] and phi, when the transverse momenta of objects change by so much [GeV].

    `missing` are its `components` before, `along` the `directions` of the objects.
    """
    px = missing[0] - _sums(along, change * along.x)
    py = missing[1] - _sums(along, change * along.y)
    return np.hypot(px, py), np.arctan2(py, px)


def unclustered_branches(missing: str) -> tuple[str, ...]:
    """The branches with the missing momentum when the energy outside jets is shifted, of which `MET` has two, others four."""
    if missing == _OLD:
        return tuple(f"{missing}_MetUnclustEnUpDelta{axis}" for axis in "XY")
    ways = [f"Unclustered{direction}" for direction in ("Up", "Down")]
    return tuple(f"{missing}_{quantity}{way}" for way in ways for quantity in ("pt", "phi"))


def unclustered(events: Events, direction: str, missing: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, pt [GeV] and phi, when the energy outside jets is shifted by its uncertainty.

    Parameters
    ----------
    events
        The events, with the branches of `unclustered_branches`. Those refer to the file's own missing momentum; the same change
        is applied to a corrected one.
    direction
        "up" or "down".
    missing
        The missing momentum: "MET" up to NanoAOD v14, "PFMET", "PuppiMET".
    """
    here = _vector(events[f"{missing}_pt"], events[f"{missing}_phi"])
    names = unclustered_branches(missing)
    if missing == _OLD:
        x, y = (np.asarray(events[name]) for name in names)
        change = (x + 1j * y) * (1 if direction == "up" else -1)
    else:
        pt, phi = names[:2] if direction == "up" else names[2:]
        before = events.before(f"{missing}_pt")
        change = _vector(events[pt], events[phi]) - _vector(before[f"{missing}_pt"], before[f"{missing}_phi"])
    made = here + change
    return np.abs(made), np.angle(made)


def _vector(pt: Any, phi: Any) -> NDArray[np.complex128]:
    """Transverse momenta as complex numbers."""
    return np.asarray(np.asarray(pt) * np.exp(1j * np.asarray(phi)))


def type1_momentum(
    raw_pt: Any,
    raw_phi: Any,
    jets: Flat,
    raw_jet_pt: Any,
    muon_fraction: Any,
    em_fraction: Any,
    scale: Any,
    level1: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum with type-1 corrections, pt [GeV] and phi, from the raw one (JME group).

    Jets count without their muons, where they then have more than 15 GeV, and an electromagnetic fraction below 0.9; each
    replaces its momentum with the correction for pile-up alone by that with all corrections.

    Parameters
    ----------
    raw_pt, raw_phi
        RawMET of each event [GeV].
    jets
        Jet, or CorrT1METJet, with `phi`; the result of the one is the start for the other.
    raw_jet_pt
        Transverse momentum before corrections [GeV].
    muon_fraction
        muonSubtrFactor.
    em_fraction
        neEmEF + chEmEF; 0 for CorrT1METJet.
    scale, level1
        The factors of all corrections, with shifts and smearing, and of the first level alone, of `energy_scale`.
    """
    without_muons = np.asarray(raw_jet_pt) * (1 - np.asarray(muon_fraction))
    counts = (without_muons * scale > LEAST_PT) & (np.asarray(em_fraction) < _MOST_EM)
    return propagated(
        raw_pt, raw_phi, jets, np.where(counts, without_muons * level1, 0), np.where(counts, without_muons * scale, 0)
    )


def _sums(jets: Flat, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(jets.event, values, len(jets)).astype(np.float64, copy=False)
