"""Muons of Run 3: momentum scale and resolution, by the files of the MUO group.

`corrected` and `shifted` change events. The functions below them take the columns of `events.flat("Muon")`, one number for each
muon.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import check_shift
from MLTools.NanoML.corrections.evaluation import CorrectionFile, Input
from MLTools.NanoML.corrections.inputs import MUON, normal_of
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.weights import Factor
from MLTools.NanoML.rootio.lists import Numbers
from MLTools.NanoML.schema.settings import setting

__all__ = ["BRANCHES", "corrected", "crystal_ball", "scale", "scale_uncertainty", "shifted", "width"]

BRANCHES = (
    *(f"Muon_{name}" for name in ("pt", "eta", "phi", "charge", "nTrackerLayers")),
    *("run", "luminosityBlock", "event"),
)
"""The branches that `corrected` and `shifted` read."""

_OF_MUONS = ("m_data", "m_mc", "a_data", "a_mc", "k_data", "k_mc", "poly_params", "cb_params")
_SHIFTS = ("muonScale", "muonSmearing")
_LEAST_PT, _MOST_PT = 26.0, 200.0  # [GeV] of muons from Z bosons, by which the corrections were measured
_LEAST, _MOST = 0.1, 2.0  # what smearing may multiply pt by
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class MuonCorrections:
    """The momentum scale and resolution of muons of one era."""

    file: CorrectionFile

    @property
    def described(self) -> tuple[str, str, str]:
        """The names of the corrections, what they are for, and their shifts, in words."""
        return ", ".join(_OF_MUONS), "muons", "muonScale, muonSmearing"

    def value(self, name: str, **inputs: Input) -> Numbers:
        """One of the corrections of the file."""
        return self.file[name](**inputs)


@dataclass(frozen=True)
class MuonEntry:
    """The momentum scale and resolution of muons in Run 3."""

    file: str = setting(..., "The file: a path, a URL, or a path below CMS's directories on CVMFS.")

    def found_in(self, file: CorrectionFile, place: str) -> MuonCorrections:
        """The corrections in their file; `place` is where the entry stands, for messages."""
        for name in _OF_MUONS:  # a wrong file is an error at the start
            assert file[name]
        return MuonCorrections(file)


def corrected(events: Events, muons: MuonCorrections, is_data: bool) -> Events:
    """The events with the momentum scale of muons corrected, and in simulation their resolution smeared.

    It replaces Muon_pt from 26 to 200 GeV; the missing momentum stays. It reads `BRANCHES`.

    Parameters
    ----------
    events
        The events: `def prepare(self, events): return corrected(events, self.dataset.corrections.muons, self.dataset.is_data)`.
    muons
        The entry `muons` of the era.
    is_data
        Whether they are collision data.
    """

    def values(left: Events) -> dict[str, Numbers]:
        scaled = _scaled(left, muons, is_data)
        return {"Muon_pt": scaled if is_data else _smeared(left, muons, scaled).nominal}

    return events.replaced(["Muon_pt"], values)


def shifted(events: Events, muons: MuonCorrections, name: str, direction: str) -> Events:
    """The events, which `corrected` has corrected, under a shift of the momentum scale or resolution of muons.

    Parameters
    ----------
    events
        The events: `def shift(self, events, name, direction): return shifted(events, self.dataset.corrections.muons, name, direction)`.
    muons
        The entry `muons` of the era.
    name
        "muonScale" or "muonSmearing".
    direction
        "up" or "down".

    Raises
    ------
    NanoMLError
        There is no such shift, or muons were not corrected before.
    """
    check_shift(events, "Muon_pt", "muons", (name, direction), name in _SHIFTS, ", ".join(_SHIFTS))

    def values(left: Events) -> dict[str, Numbers]:
        if name == "muonSmearing":
            before = left.before("Muon_pt")
            return {"Muon_pt": _smeared(before, muons, _scaled(before, muons, False))[direction]}
        muon = left.flat("Muon")
        change = muon.pt * scale_uncertainty(muons, muon.pt, muon.eta, muon.phi, muon.charge)
        return {
            "Muon_pt": np.where(_is_covered(muon.pt), muon.pt + (change if direction == "up" else -change), muon.pt)
        }

    return events.replaced(["Muon_pt"], values)


def _scaled(events: Events, muons: MuonCorrections, is_data: bool) -> _Numbers:
    """The transverse momenta with the scale corrected."""
    muon = events.flat("Muon")
    factor = scale(muons, muon.pt, muon.eta, muon.phi, muon.charge, is_data)
    return np.asarray(np.where(_is_covered(muon.pt), muon.pt * factor, muon.pt))


def _smeared(events: Events, muons: MuonCorrections, pt: _Numbers) -> Factor:
    """The transverse momenta smeared: nominal, and with another width; `pt` has the scale corrected."""
    muon = events.flat("Muon")
    uniform = below(normal_of(events, muon, MUON))
    drawn = crystal_ball(muons, muon.eta, muon.nTrackerLayers, uniform)

    def smeared(sigma: Numbers) -> Numbers:
        factor = 1 + sigma * drawn
        is_fine = _is_covered(pt) & (factor > _LEAST) & (factor < _MOST)
        return np.asarray(np.where(is_fine, pt * factor, pt))

    return width(muons, pt, muon.eta, muon.nTrackerLayers).map(smeared)


def _is_covered(pt: _Numbers) -> NDArray[np.bool_]:
    return np.asarray((pt >= _LEAST_PT) & (pt <= _MOST_PT))


def scale(muons: MuonCorrections, pt: Numbers, eta: Numbers, phi: Numbers, charge: Numbers, is_data: bool) -> _Numbers:
    """The factor for the transverse momentum of each muon: 1 / pt becomes m / pt + q a.

    Parameters
    ----------
    muons
        The entry `muons` of the era.
    pt, eta, phi, charge
        Transverse momentum in NanoAOD [GeV], direction and charge of each muon.
    is_data
        Data and simulation have their own m and a.
    """
    kind = "data" if is_data else "mc"
    m, a = (muons.value(f"{name}_{kind}", eta=eta, phi=phi, variation="nom") for name in "ma")
    return np.asarray(1 / (m + charge * a * pt))


def scale_uncertainty(muons: MuonCorrections, pt: Numbers, eta: Numbers, phi: Numbers, charge: Numbers) -> _Numbers:
    """The relative statistical uncertainty of the scale of each muon in simulation, of m and a with their correlation.

    The transverse momentum is the corrected one [GeV].
    """
    m, a = (muons.value(f"{name}_mc", eta=eta, phi=phi, variation="stat") for name in "ma")
    has_correlation = "rho_stat" in muons.file["m_mc"].axes["variation"].choices  # as newer files
    rho = muons.value("m_mc", eta=eta, phi=phi, variation="rho_stat") if has_correlation else 0.0
    square = m**2 + (a * pt) ** 2 + 2 * charge * rho * m * a * pt
    return np.sqrt(np.maximum(square, 0.0))


def width(muons: MuonCorrections, pt: Numbers, eta: Numbers, layers: Numbers) -> Factor:
    """The relative width by which each muon in simulation is smeared, 0 where its resolution is worse than that of data.

    It is the resolution, a parabola in pt, times sqrt(k_data^2 - k_mc^2). Up and down multiply that by 1 +- the relative statistical
    uncertainty of k_mc, as MUO's script does, which divides the smearing by k_mc and multiplies it by k_mc +- its uncertainty. `pt` [GeV]
    has the scale corrected, `layers` is nTrackerLayers.
    """
    place = {"abseta": abs(eta), "nTrackerLayers": layers}
    parabola = (muons.value("poly_params", **place, parameter=power) * pt**power for power in range(3))
    sigma = np.maximum(sum(parabola), 0.0)
    data, mc = (muons.value(f"k_{kind}", abseta=abs(eta), variation="nom") for kind in ("data", "mc"))
    factor = np.sqrt(np.maximum(data**2 - mc**2, 0.0))
    error = muons.value("k_mc", abseta=abs(eta), variation="stat")
    change = sigma * factor * np.divide(error, mc, out=np.zeros_like(factor), where=mc > 0)
    return Factor(sigma * factor, {"up": sigma * factor + change, "down": sigma * factor - change})


def crystal_ball(muons: MuonCorrections, eta: Numbers, layers: Numbers, uniform: Numbers) -> _Numbers:
    """A number for each muon from the distribution of its momentum: a Gaussian with two tails that fall as a power.

    It is 0 where the file has no such distribution, because there were too few muons. `uniform`, from 0 to 1, is the share of
    the distribution below the result, `layers` is nTrackerLayers.
    """
    place = {"abseta": abs(eta), "nTrackerLayers": layers}
    mean, sigma, power, edge = (muons.value("cb_params", **place, parameter=number) for number in range(4))
    return two_tails(mean, sigma, power, edge, uniform)


def two_tails(mean: Numbers, sigma: Numbers, power: Numbers, edge: Numbers, uniform: Numbers) -> _Numbers:
    """Numbers from Gaussians with two tails that fall as a power from `edge` sigmas on; 0 where there is no such distribution."""
    is_known = (power > 1) & (edge > 0) & (sigma > 0)
    power, edge = np.where(is_known, power, 2.0), np.where(is_known, edge, 1.0)
    # in units of the Gaussian, up to a common factor: a tail from `edge` on, and the middle
    tail = power / edge / (power - 1) * np.exp(-(edge**2) / 2)
    middle = np.sqrt(2 * np.pi) * (1 - 2 * below(-edge))
    share = np.asarray(uniform) * (middle + 2 * tail)
    from_end = np.minimum(share, middle + 2 * tail - share)
    is_tail = from_end < tail
    beyond = np.divide(tail, from_end, out=np.ones_like(share), where=is_tail)
    far = power / edge * beyond ** (1 / (power - 1)) - power / edge + edge
    inside = _quantile(np.where(is_tail, 0.5, below(-edge) + (share - tail) / np.sqrt(2 * np.pi)))
    units = np.where(is_tail, np.where(share < tail, -far, far), inside)
    return np.asarray(np.where(is_known, mean + sigma * units, 0.0))


_normal = NormalDist()
below = np.vectorize(_normal.cdf, otypes=[np.float64])  # numpy has neither, and CMSSW's scipy is not everywhere
_quantile = np.vectorize(_normal.inv_cdf, otypes=[np.float64])
