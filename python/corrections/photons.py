"""Photons: energy scale and resolution as those of electrons, and the veto of electrons.

Their identification is an entry, as `c.photon_id.on(photons)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from MLTools.NanoML.corrections.electrons import ElectronCorrections, ElectronEntry, corrected, eta_from_vertex, shifted
from MLTools.NanoML.corrections.entries import VariedCorrection
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Factor

__all__ = ["BRANCHES", "VERTEX", "corrected", "eta_from_vertex", "shifted", "veto"]

BRANCHES = (
    *(f"Photon_{name}" for name in ("pt", "eta", "superclusterEta", "r9", "seedGain")),
    *("run", "luminosityBlock", "event"),
)
"""The branches that `corrected` and `shifted` read from NanoAOD v13 on."""
VERTEX = ("Photon_phi", "Photon_isScEtaEB", "PV_x", "PV_y", "PV_z")
"""The branches that they read in place of Photon_superclusterEta where files lack it."""

_BARREL, _HIGH_R9 = 1.5, 0.94


@dataclass(frozen=True)
class PhotonEntry(ElectronEntry):
    """The energy scale and resolution of photons."""

    def found_in(self, file: CorrectionFile, place: str) -> ElectronCorrections:
        """The corrections in their file; `place` is where the entry stands, for messages."""
        return replace(super().found_in(file, place), collection="Photon")


def veto(correction: VariedCorrection, photons: Flat) -> Factor:
    """The scale factor of the veto of electrons for each photon, by its pixel seed or its conversions.

    Files of Run 3 have eta and R9, those of Run 2 a name for each part of the calorimeter, for R9 above and below 0.94.

    Parameters
    ----------
    correction
        The entry of EGM's file, as UL-Photon-PixVeto-SF, with its `WorkingPoint`.
    photons
        `events.flat("Photon")`, or some of them, with r9 and superclusterEta or isScEtaEB.
    """
    bins = [name for name in correction.inputs if name.endswith("Bin")]
    if not bins:
        return correction.on(photons)
    known = photons.isScEtaEB if "isScEtaEB" in photons.columns else abs(photons.superclusterEta) < _BARREL
    in_barrel, is_high = np.asarray(known, bool), photons.r9 > _HIGH_R9
    total = Factor(1.0)
    for part, is_there in (("EB", in_barrel), ("EE", ~in_barrel)):
        for kind, is_kind in (("High", is_high), ("Low", ~is_high)):
            total *= correction(where=is_there & is_kind, **{bins[0]: f"{part}{kind}R9"})
    return total
