"""Taus: energy scale of simulation by decay mode, by the files of the TAU group.

Their identification against jets, electrons and muons is an entry each, as `c.tau_vs_jet.on(taus)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import Entry, VariedCorrection, check_shift
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["BRANCHES", "SIMULATED", "corrected", "energy_scale", "shifted"]

BRANCHES = tuple(f"Tau_{name}" for name in ("pt", "mass", "eta", "decayMode"))
"""The branches that `corrected` and `shifted` read."""
SIMULATED = ("Tau_genPartFlav",)
"""The branches that they also read, which data do not have."""

_KINDS = {"tauScale": (5,), "tauElectronScale": (1, 3), "tauMuonScale": (2, 4)}
"""The shifts, and to which taus each belongs, by genPartFlav."""


@dataclass(frozen=True)
class TauEntry(Entry):
    """The energy scale of taus."""

    name: str = setting("tau_energy_scale", "Name of the energy scale.")


def corrected(events: Events, taus: VariedCorrection) -> Events:
    """The events of simulation with the energy scale of taus corrected: Tau_pt and Tau_mass; the missing momentum stays.

    Parameters
    ----------
    events
        The events of simulation: data are not corrected.
    taus
        The entry `taus` of the era, with the `id` of the taus, and in Run 3 `wp` and `wp_VSe`.
    """

    def values(left: Events) -> dict[str, Numbers]:
        tau = left.flat("Tau")
        scale = energy_scale(taus, tau).nominal
        return {"Tau_pt": tau.pt * scale, "Tau_mass": tau.mass * scale}

    return events.replaced(["Tau_pt", "Tau_mass"], values)


def shifted(events: Events, taus: VariedCorrection, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, under a shift of the energy scale of taus.

    Parameters
    ----------
    events
        The events.
    taus
        The entry `taus` of the era.
    name
        "tauScale" for genuine taus, "tauElectronScale" and "tauMuonScale" for electrons and muons that look like taus; for one
        decay mode alone "tauScaleDM10", and so on.
    direction
        "up" or "down".

    Raises
    ------
    NanoMLError
        There is no such shift, or taus were not corrected before.
    """
    kind, _, mode = name.partition("DM")
    is_known = kind in _KINDS and (mode.isdigit() or "DM" not in name)
    known = f"{', '.join(_KINDS)}, also as tauScaleDM10"
    check_shift(events, "Tau_pt", "taus", (name, direction), is_known, known)

    def values(left: Events) -> dict[str, Numbers]:
        tau, before = left.flat("Tau"), left.before("Tau_pt").flat("Tau")
        is_shifted = np.isin(tau.genPartFlav, _KINDS[kind]) & ((tau.decayMode == int(mode)) if mode else True)
        scale = energy_scale(taus, before)
        change = np.where(is_shifted, scale[direction] / scale.nominal, 1.0)
        return {"Tau_pt": tau.pt * change, "Tau_mass": tau.mass * change}

    return events.replaced(["Tau_pt", "Tau_mass"], values)


def energy_scale(taus: VariedCorrection, tau: Flat) -> Factor:
    """The factor for the energy of each tau in simulation, with up and down; 1 for decay modes that the file does not have."""
    modes = taus.correction.axes_at(taus.fixed)["dm"].choices
    covered: NDArray[np.bool_] = np.isin(tau.decayMode, modes) if modes else np.ones(len(tau.decayMode), bool)
    return taus.on(tau, where=covered)
