"""Electrons, and photons: energy scale and resolution.

`corrected` and `shifted` change events. The functions below them take the columns of `events.flat("Electron")`, one number for
each electron, or ragged arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from MLTools.NanoML.corrections.entries import Entry, VariedCorrection, check_shift
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.corrections.inputs import ELECTRON, PHOTON, normal_of, supercluster_eta
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["BRANCHES", "RUN2", "corrected", "energy_scale", "energy_uncertainty", "shifted", "smearing"]

BRANCHES = (
    *(f"Electron_{name}" for name in ("pt", "eta", "deltaEtaSC", "r9", "seedGain")),
    *("run", "luminosityBlock", "event"),
)
"""The branches that `corrected` and `shifted` read."""
RUN2 = ("Electron_dEsigmaUp", "Electron_dEsigmaDown")
"""The branches that `shifted` also reads in simulation of NanoAOD v9, for electronSmearing."""

_SALTS = {"Electron": ELECTRON, "Photon": PHOTON}
# what the files call their inputs: the file names of EGM have changed twice
_INPUTS = {
    "pt": "pt", "et": "pt", "ScEta": "eta", "eta": "eta", "AbsScEta": "abseta", "r9": "r9",
    "seedGain": "gain", "gain": "gain", "run": "run",
}  # fmt: skip
_CHOOSERS = ("syst", "valtype", "ValType")


@dataclass(frozen=True)
class ElectronCorrections:
    """The energy scale and resolution of electrons or photons of one era; None for what the entry does not name."""

    scale: Optional[VariedCorrection]
    smearing: Optional[VariedCorrection]
    uncertainty: Optional[VariedCorrection]
    collection: str = "Electron"

    @property
    def described(self) -> tuple[str, str, str]:
        """The names of the corrections, what they are for, and their shifts, in words."""
        names = [each.correction.name for each in (self.scale, self.smearing, self.uncertainty) if each is not None]
        return ", ".join(names), self.kind, ", ".join(self.shifts)

    @property
    def kind(self) -> str:
        """The objects, in words."""
        return f"{self.collection.lower()}s"

    @property
    def shifts(self) -> tuple[str, str]:
        """The names of the shifts."""
        return f"{self.collection.lower()}Scale", f"{self.collection.lower()}Smearing"


@dataclass(frozen=True)
class ElectronEntry:
    """The energy scale and resolution of electrons."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")
    scale: Optional[str] = setting(None, "Name of the energy scale of data.", examples=["Scale"])
    smearing: Optional[str] = setting(None, "Name of the smearing of simulation.", examples=["SmearAndSyst"])
    uncertainty: Optional[str] = setting(
        None,
        "Name of the uncertainty of the scale, instead of these two, where energies in NanoAOD are corrected already (v9).",
        examples=["UL-EGM_ScaleUnc"],
    )
    inputs: dict[str, Any] = setting(dict, "Inputs that are the same for all electrons.", examples=[{"year": 2018}])

    def found_in(self, file: CorrectionFile, place: str) -> ElectronCorrections:
        """The corrections in their file; `place` is where the entry stands, for messages."""
        if (self.scale is None) != (self.smearing is None) or (self.scale is None) == (self.uncertainty is None):
            raise ConfigError(
                f"{place}: name `scale` and `smearing`; or, where energies in NanoAOD are corrected already, `uncertainty`."
            )

        def found(name: Optional[str]) -> Optional[VariedCorrection]:
            return None if name is None else VariedCorrection(file[name], Entry(self.file, name, self.inputs), place)

        return ElectronCorrections(found(self.scale), found(self.smearing), found(self.uncertainty))


def corrected(events: Events, electrons: ElectronCorrections, is_data: bool) -> Events:
    """The events with the energy scale of electrons corrected in data, and their resolution smeared in simulation.

    It replaces Electron_pt; the missing momentum stays. It reads `BRANCHES`. Where the entry has an `uncertainty` alone, the
    energies in NanoAOD are corrected already (v9), and the events are returned as they are.

    Parameters
    ----------
    events
        The events: `def prepare(self, events): return corrected(events, self.dataset.corrections.electrons, self.dataset.is_data)`.
    electrons
        The entry `electrons` of the era.
    is_data
        Whether they are collision data.
    """
    if electrons.scale is None:
        return events

    pt = f"{electrons.collection}_pt"

    def values(left: Events) -> dict[str, Numbers]:
        electron = left.flat(electrons.collection)
        eta, r9 = _eta(left, electrons, electron), electron.r9
        if is_data:
            run = np.asarray(left.run)[electron.event]
            factor = energy_scale(electrons, electron.pt, eta, r9, electron.seedGain, run)
        else:
            normal = normal_of(left, electron, _SALTS[electrons.collection])
            factor = smearing(electrons, electron.pt, eta, r9, normal).nominal
        return {pt: electron.pt * factor}

    return events.replaced([pt], values)


def shifted(events: Events, electrons: ElectronCorrections, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, under a shift of the energy scale or resolution of electrons.

    Parameters
    ----------
    events
        The events: `def shift(self, events, name, direction): return shifted(events, self.dataset.corrections.electrons, name, direction)`.
    electrons
        The entry `electrons` of the era.
    name
        "electronScale" or "electronSmearing", "photonScale" or "photonSmearing".
    direction
        "up" or "down".

    Raises
    ------
    NanoMLError
        There is no such shift, or electrons were not corrected before.
    """
    collection, pt = electrons.collection, f"{electrons.collection}_pt"
    corrected_branch = pt if electrons.smearing is not None else ""
    known = ", ".join(electrons.shifts)
    check_shift(events, corrected_branch, electrons.kind, (name, direction), name in electrons.shifts, known)

    def values(left: Events) -> dict[str, Numbers]:
        electron, before = left.flat(collection), left.before(pt).flat(collection)
        eta = _eta(left, electrons, electron)
        if name.endswith("Scale"):
            factor = energy_uncertainty(electrons, before.pt, eta, electron.r9, electron.seedGain)[direction]
        elif electrons.smearing is None:  # NanoAOD has by how much the energy [GeV] is larger than under the shift
            larger = electron.dEsigmaUp if direction == "up" else electron.dEsigmaDown
            factor = 1 - larger / (electron.pt * np.cosh(electron.eta))
        else:
            normal = normal_of(left, electron, _SALTS[collection])
            smeared = smearing(electrons, before.pt, eta, electron.r9, normal)
            return {pt: before.pt * smeared[direction]}
        return {pt: electron.pt * factor}

    return events.replaced([pt], values)


def _eta(events: Events, electrons: ElectronCorrections, electron: Flat) -> Numbers:
    """The pseudorapidity of the supercluster."""
    if electrons.collection == "Photon" and "superclusterEta" not in electron.columns:
        return eta_from_vertex(events, electron)
    asked = next(each for each in (electrons.scale, electrons.uncertainty) if each is not None)
    return supercluster_eta(asked.correction, "eta", electron)


def eta_from_vertex(events: Events, photon: Flat) -> Numbers:
    """The pseudorapidity of the superclusters of photons, where NanoAOD lacks it (before v13).

    The photon is followed from the vertex to the calorimeter, at a radius of 130 cm or, in the endcaps, at |z| = 310 cm. It reads
    PV_x, PV_y, PV_z, and eta, phi and isScEtaEB of photons.
    """
    x, y, z = (np.asarray(events[f"PV_{axis}"])[photon.event] for axis in "xyz")
    slope, end = np.sinh(photon.eta), np.copysign(310.0, photon.eta)
    in_barrel = np.asarray(photon.isScEtaEB, bool)
    along = x * np.cos(photon.phi) + y * np.sin(photon.phi)
    way = (end - z) / np.where(in_barrel, 1.0, slope)
    radius = np.hypot(x + way * np.cos(photon.phi), y + way * np.sin(photon.phi))
    return np.arcsinh(np.where(in_barrel, (z + (130.0 - along) * slope) / 130.0, end / radius))


def energy_scale(
    electrons: ElectronCorrections, pt: Numbers, eta: Numbers, r9: Numbers, gain: Numbers, run: Numbers
) -> Numbers:
    """The factor for the energy of each electron in data.

    Parameters
    ----------
    electrons
        The entry `electrons` of the era.
    pt
        Transverse momentum in NanoAOD [GeV].
    eta
        Pseudorapidity of the supercluster: `electrons.eta + electrons.deltaEtaSC`.
    r9, gain, run
        r9, seedGain, and the run, for each electron.
    """
    scale = _named(electrons.scale, "scale")
    return _value(scale, ("scale", "total_correction"), pt=pt, eta=eta, r9=r9, gain=gain, run=run)


def energy_uncertainty(electrons: ElectronCorrections, pt: Numbers, eta: Numbers, r9: Numbers, gain: Numbers) -> Factor:
    """The factor for the energy of each electron in simulation when the energy scale is shifted up or down.

    Parameters
    ----------
    electrons
        The entry `electrons` of the era.
    pt
        Transverse momentum in NanoAOD [GeV].
    eta
        Pseudorapidity of the supercluster.
    r9, gain
        r9 and seedGain of each electron.
    """
    one = 0.0 * eta + 1.0
    given = {"pt": pt, "eta": eta, "r9": r9, "gain": gain, "run": one}  # run 1 is simulation
    if electrons.uncertainty is not None:
        up, down = (_value(electrons.uncertainty, (key,), **given) for key in ("scaleup", "scaledown"))
        return Factor(one, {"up": up, "down": down})
    smearing_ = _named(electrons.smearing, "smearing")
    has_it = "escale" in _choices(smearing_)
    error = _value(smearing_ if has_it else _named(electrons.scale, "scale"), ("escale", "total_uncertainty"), **given)
    return Factor(one, {"up": 1 + error, "down": 1 - error})


def smearing(electrons: ElectronCorrections, pt: Numbers, eta: Numbers, r9: Numbers, normal: Numbers) -> Factor:
    """The factor for the energy of each electron in simulation, for the resolution of data: 1 + N sigma.

    The variations, up and down, change the width sigma by its uncertainty.

    Parameters
    ----------
    electrons
        The entry `electrons` of the era.
    pt
        Transverse momentum in NanoAOD [GeV].
    eta
        Pseudorapidity of the supercluster.
    r9
        r9 of each electron.
    normal
        A normal number N for each electron, of `inputs.normal_numbers`.
    """
    correction = _named(electrons.smearing, "smearing")
    sigma, error = (
        _value(correction, keys, pt=pt, eta=eta, r9=r9) for keys in (("smear", "rho"), ("esmear", "err_rho"))
    )
    return Factor(
        1 + normal * sigma, {"up": 1 + normal * (sigma + error), "down": 1 + normal * np.maximum(sigma - error, 0.0)}
    )


def _named(correction: VariedCorrection | None, key: str) -> VariedCorrection:
    if correction is None:
        raise NanoMLError(f"the entry names no {key}: energies in its NanoAOD are corrected already.")
    return correction


def _value(correction: VariedCorrection, keys: tuple[str, ...], **given: Numbers) -> Numbers:
    """The correction under the first of some keys that it has, for quantities under the names that it has for them."""
    known = {**given, "abseta": abs(given["eta"])}
    inputs = [name for name in correction.correction.inputs if name not in correction.fixed]
    choices = _choices(correction)
    chosen = next((key for key in keys if key in choices), keys[0])
    lost = [name for name in inputs if name not in _CHOOSERS and _INPUTS.get(name) not in known]
    if lost:
        raise NanoMLError(f"{correction.correction.name} needs {lost[0]}, which is not known here.")
    return correction.value(**{name: chosen if name in _CHOOSERS else known[_INPUTS[name]] for name in inputs})


def _choices(correction: VariedCorrection) -> tuple[Union[str, int], ...]:
    """The possible values of the input that chooses a quantity; empty if the file does not say."""
    return next((axis.choices for name, axis in correction.correction.axes.items() if name in _CHOOSERS), ())
