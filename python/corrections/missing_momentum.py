"""Missing momentum: what follows from other jets, its corrections, and filters against false ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import VariedCorrection
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import Numbers, offsets_of

__all__ = [
    "FILTERS",
    "Type1Jets",
    "passes_filters",
    "propagated",
    "recoil",
    "recoil_shifted",
    "unclustered",
    "unclustered_branches",
]

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

_OLD = "MET"  # it has the change of its components, not the changed momentum
_LEAST_PT, _MOST_EM = 15.0, 0.9  # transverse momentum [GeV] and electromagnetic fraction of a jet that corrects it
Components = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The x and y components of transverse momenta [GeV]."""
Polar = tuple[Numbers, Numbers]
"""Transverse momenta [GeV], and phi."""
_Complex = NDArray[np.complex128]


def passes_filters(events: Events, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether events pass all filters against false missing momentum, as the JME group asks; a mask for `cutflow.cut`.

    The names are `FILTERS["Run2"]` or `FILTERS["Run3"]`, or those of your own.
    """
    return np.asarray(np.all([np.asarray(events[name], bool) for name in names], axis=0))


def propagated(
    missing_pt: Numbers, missing_phi: Numbers, jets: Flat, old_pt: Numbers, new_pt: Numbers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, pt [GeV] and phi, when the transverse momenta of objects change."""
    change = np.asarray(new_pt) - np.asarray(old_pt)
    return polar(_moved(components(missing_pt, missing_phi), _directions(jets, jets.phi), change))


def components(pt: Numbers, phi: Numbers) -> Components:
    """The components of transverse momenta [GeV]."""
    size, angle = np.asarray(pt), np.asarray(phi)
    return size * np.cos(angle), size * np.sin(angle)


def polar(missing: Components) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The transverse momenta [GeV], and phi."""
    return np.hypot(*missing), np.arctan2(missing[1], missing[0])


@dataclass(frozen=True)
class Type1Jets:
    """Jets for the type-1 correction of the missing momentum, without their muons (JME group).

    Attributes
    ----------
    along
        Their directions.
    raw
        Transverse momentum before corrections [GeV].
    level1
        The same with the correction for pile-up alone.
    is_counted
        Whether a jet counts, by its electromagnetic fraction.
    """

    along: Flat
    raw: NDArray[np.float64]
    level1: NDArray[np.float64]
    is_counted: NDArray[np.bool_]

    @classmethod
    def of(cls, jets: Flat, raw_pt: Numbers, em_fraction: Numbers, level1: Numbers) -> Type1Jets:
        """The branches of Jet or CorrT1METJet, with phi, muonSubtrFactor and, from NanoAOD v15 on, muonSubtrDeltaPhi.

        `raw_pt` is with muons, `em_fraction` neEmEF + chEmEF or EmEF, and `level1` the factor of the correction for pile-up alone.
        """
        raw = np.asarray(raw_pt) * (1 - jets.muonSubtrFactor)
        phi = jets.phi + (jets.muonSubtrDeltaPhi if "muonSubtrDeltaPhi" in jets.columns else 0.0)
        is_counted = np.broadcast_to(np.asarray(em_fraction) < _MOST_EM, len(raw))
        return cls(_directions(jets, phi), raw, raw * level1, is_counted)

    def correct(self, missing: Components, scale: Numbers) -> Components:
        """The missing momentum when jets that count and have more than 15 GeV replace `level1` by raw momenta times `scale`."""
        pt = self.raw * scale
        return _moved(missing, self.along, np.where(self.is_counted & (pt > _LEAST_PT), pt - self.level1, 0.0))


def _directions(objects: Flat, phi: NDArray[np.float64]) -> Flat:
    """The x and y components of a unit vector along the transverse momentum of each object."""
    return Flat({"x": np.cos(phi), "y": np.sin(phi)}, offsets_of(objects.counts))


def _moved(missing: Components, along: Flat, change: NDArray[np.float64]) -> Components:
    """The missing momentum when the transverse momenta of objects in some directions change by so much [GeV]."""
    x, y = (np.bincount(along.event, change * each, len(along)) for each in (along.x, along.y))
    return missing[0] - x, missing[1] - y


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
        before = as_read(events, f"{missing}_pt")
        change = _vector(events[pt], events[phi]) - _vector(before[f"{missing}_pt"], before[f"{missing}_phi"])
    made: NDArray[np.complex128] = here + change
    return np.abs(made), np.arctan2(made.imag, made.real)


def recoil(
    correction: VariedCorrection, missing: Polar, boson: Polar, visible: Polar, jets: Numbers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, pt [GeV] and phi, with the recoil of single bosons in simulation corrected to that of data.

    The recoil U = missing + visible - boson is corrected along and across the boson.

    Parameters
    ----------
    correction
        The entry, as Recoil_correction_QuantileMapHist or Recoil_correction_Rescaling, with the `order` of the sample.
    missing
        The missing momentum of each event, pt [GeV] and phi.
    boson, visible
        The generated boson with and without its neutrinos, pt [GeV] and phi.
    jets
        The number of jets of each event: above 30 GeV for |eta| below 2.5, above 50 GeV beyond.
    """
    full, seen = _vector(*boson), _vector(*visible)
    return _recoiled(correction, "U", _vector(*missing) + seen - full, boson, jets, full - seen, 1)


def recoil_shifted(
    correction: VariedCorrection, missing: Polar, boson: Polar, visible: Polar, jets: Numbers, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The missing momentum, which `recoil` has corrected, under an uncertainty: "RespUp", "RespDown", "ResoUp" or "ResoDown".

    The hadronic recoil H = -missing - visible is changed; `correction` is the entry Recoil_correction_Uncertainty.
    """
    seen = _vector(*visible)
    return _recoiled(correction, "H", -_vector(*missing) - seen, boson, jets, -seen, -1, name)


def _recoiled(
    correction: VariedCorrection,
    kind: str,
    vector: _Complex,
    boson: Polar,
    jets: Numbers,
    rest: _Complex,
    sign: int,
    name: str = "",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum of `rest` and of a vector whose components along and across the boson the file corrects."""
    along = np.exp(1j * np.asarray(boson[1]))
    turned, known = vector / along, {"njet": np.asarray(jets, np.float64), "ptll": np.asarray(boson[0])}
    shift = {axis: name for axis in correction.inputs if name in correction.correction.axes[axis].keys}
    if name and not shift:
        raise NanoMLError(f"{correction.correction.name} has no {name}.")
    parts = (
        correction.of({**known, **shift, "val": values}, var=f"{kind}{end}").nominal
        for end, values in (("para", turned.real), ("perp", turned.imag))
    )
    made = rest + sign * (next(parts) + 1j * next(parts)) * along
    return np.abs(made), np.arctan2(made.imag, made.real)


def as_read(events: Events, name: str) -> Events:
    """The events before anything replaced a branch: with its values in the file."""
    while events.before(name) is not events:
        events = events.before(name)
    return events


def _vector(pt: Numbers, phi: Numbers) -> NDArray[np.complex128]:
    """Transverse momenta as complex numbers."""
    return np.asarray(np.asarray(pt) * np.exp(1j * np.asarray(phi)))
