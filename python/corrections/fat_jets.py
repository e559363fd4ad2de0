"""AK8 jets: energy scale and resolution as of other jets, and the scale and resolution of the soft-drop mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MLTools.NanoML.corrections import jets
from MLTools.NanoML.corrections.entries import JetCorrections, JetEntry, check_shift
from MLTools.NanoML.corrections.inputs import SOFT_DROP, normal_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["BRANCHES", "SIMULATED", "corrected", "shifted"]

BRANCHES = (
    *(f"FatJet_{name}" for name in ("pt", "eta", "phi", "mass", "msoftdrop", "rawFactor", "area")),
    *("fixedGridRhoFastjetAll", "run", "luminosityBlock", "event"),
)
"""The branches that `corrected` and `shifted` read."""
SIMULATED = ("FatJet_genJetAK8Idx", "GenJetAK8_pt", "GenJetAK8_eta", "GenJetAK8_phi")
"""The branches that they also read in simulation."""

_PT, _MASS, _SOFT_DROP = _CORRECTED = ("FatJet_pt", "FatJet_mass", "FatJet_msoftdrop")
_EXAMPLE = {"nominal": 1.0, "up": 1.01, "down": 0.99}


@dataclass(frozen=True)
class Ratio:
    """Data over simulation."""

    nominal: float = setting(1.0, "The ratio.", exclusiveMinimum=0)
    up: float = setting(1.0, "Up by its uncertainty.", exclusiveMinimum=0)
    down: float = setting(1.0, "Down by its uncertainty.", exclusiveMinimum=0)

    @property
    def factor(self) -> Factor:
        """The ratio as a factor."""
        return Factor(self.nominal, {"up": self.up, "down": self.down})


@dataclass(frozen=True)
class FatJetEntry(JetEntry):
    """The energy scale and resolution of AK8 jets, and those of their soft-drop mass, for which JME gives numbers."""

    mass_scale: Ratio = setting(Ratio, "Soft-drop mass in data over simulation.", examples=[_EXAMPLE])
    mass_resolution: Ratio = setting(Ratio, "The same for the resolution of the soft-drop mass.", examples=[_EXAMPLE])
    mass_width: float = setting(0.1, "Relative resolution of the soft-drop mass in simulation.", exclusiveMinimum=0)


def corrected(events: Events, fat_jets: JetCorrections, is_data: bool) -> Events:
    """The events with AK8 jets corrected again, and smeared in simulation: FatJet_pt and FatJet_mass.

    FatJet_msoftdrop, which has the corrections of its subjets in the file, gets the mass scale and resolution of simulation only. The
    missing momentum stays. The parameters are those of `jets.corrected`, the entry is `fat_jets`.
    """

    def values(left: Events) -> dict[str, Numbers]:
        jet, total = left.flat("FatJet"), jets.total_factor(left, fat_jets, is_data, "FatJet")
        mass = 1.0 if is_data else _entry(fat_jets).mass_scale.nominal * _mass_smearing(left, fat_jets).nominal
        return {_PT: jet.pt * total, _MASS: jet.mass * total, _SOFT_DROP: jet.msoftdrop * mass}

    return events.replaced(_CORRECTED, values)


def shifted(events: Events, fat_jets: JetCorrections, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, under a shift of AK8 jets.

    "jes", "jesFlavorQCD" and "jer" have the names of the shifts of AK4 jets, so that both can move together; "jms" and "jmr" are scale and
    resolution of the soft-drop mass. The other parameters are those of `jets.shifted`.

    Raises
    ------
    NanoMLError
        There is no such shift, or jets were not corrected before.
    """
    is_known = name in ("jer", "jms", "jmr") or name.startswith("jes")
    check_shift(events, _PT, "AK8 jets", (name, direction), is_known, "jes, jesSOURCE, jer, jms and jmr")

    def values(left: Events) -> dict[str, Numbers]:
        jet, before = left.flat("FatJet"), left.before(_PT)
        if name == "jer":
            change = jets.smearing_before(left, fat_jets, "FatJet")
        elif name == "jms":
            change = _entry(fat_jets).mass_scale.factor
        elif name == "jmr":
            change = _mass_smearing(before, fat_jets)
        else:
            error = jets.energy_uncertainty(fat_jets, name[3:] or "Total", jet.eta, jet.pt)
            change = Factor(1.0, {"up": 1 + error, "down": 1 - error})
        by = change[direction] / change.nominal
        whole = 1.0 if name in ("jms", "jmr") else by
        return {_PT: jet.pt * whole, _MASS: jet.mass * whole, _SOFT_DROP: jet.msoftdrop * by}

    return events.replaced(_CORRECTED, values)


def _mass_smearing(events: Events, fat_jets: JetCorrections) -> Factor:
    """The factor for the soft-drop mass, for the resolution of data: 1 + N sigma sqrt(max(ratio^2 - 1, 0))."""
    normal = normal_of(events, events.flat("FatJet"), SOFT_DROP)
    entry = _entry(fat_jets)
    return entry.mass_resolution.factor.map(
        lambda ratio: 1 + normal * entry.mass_width * np.sqrt(max(ratio**2 - 1, 0.0))
    )


def _entry(fat_jets: JetCorrections) -> FatJetEntry:
    if not isinstance(fat_jets.entry, FatJetEntry):
        raise NanoMLError(f"{fat_jets.place}: is not the entry `fat_jets`, which AK8 jets need.")
    return fat_jets.entry
