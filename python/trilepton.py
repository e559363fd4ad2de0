"""The worked example: W' -> WZ -> three leptons and a neutrino (13 TeV, NanoAOD v9 names)."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.cutflow import Cutflow
from MLTools.NanoML.events import Events
from MLTools.NanoML.nanoaodtools import postproc_module
from MLTools.NanoML.selection import Column, Selection

__all__ = ["Trilepton", "trilepton"]

Z_MASS = 91.1876  # GeV, Particle Data Group
ELECTRON, MUON = 11, 13


class Trilepton(Selection):
    """Three good leptons: a Z candidate and the lepton of a W.

    Good electrons have pt > 10 GeV, |eta| < 2.5 and pass the loose cut-based identification; good muons have
    pt > 20 GeV, |eta| < 2.4, a three-dimensional impact parameter below 0.01 cm and a high-pt identification.
    The Z candidate is the pair of opposite charge and same flavour with the mass nearest to the Z's; the W
    lepton is the hardest of the rest that is tight and hard enough. Channels by the flavours of (Z, W):
    1 = ee e, 2 = ee mu, 3 = mumu e, 4 = mumu mu.
    """

    branches = (
        "Electron_pt",
        "Electron_eta",
        "Electron_phi",
        "Electron_mass",
        "Electron_charge",
        "Electron_cutBased",
        "Muon_pt",
        "Muon_eta",
        "Muon_phi",
        "Muon_mass",
        "Muon_charge",
        "Muon_ip3d",
        "Muon_highPtId",
        "MET_pt",
        "MET_phi",
    )
    columns = {
        "channel": Column("i4", "flavours of Z and W leptons: 1 = ee e, 2 = ee mu, 3 = mumu e, 4 = mumu mu"),
        "nGoodLepton": Column("i4", "number of good electrons and muons"),
        "ZCand_mass": Column("f4", "mass of the Z candidate [GeV]"),
        "ZCand_pt": Column("f4", "transverse momentum of the Z candidate [GeV]"),
        "ZCand_dR": Column("f4", "distance in eta and phi between the leptons of the Z candidate"),
        "ZCand_dPhi": Column("f4", "azimuthal angle between the leptons of the Z candidate"),
        "ZCand_dEta": Column("f4", "distance in eta between the leptons of the Z candidate"),
        "ZLep1_pt": Column("f4", "transverse momentum of the harder lepton of the Z candidate [GeV]"),
        "ZLep1_eta": Column("f4", "pseudorapidity of the harder lepton of the Z candidate"),
        "ZLep1_phi": Column("f4", "azimuth of the harder lepton of the Z candidate"),
        "ZLep2_pt": Column("f4", "transverse momentum of the softer lepton of the Z candidate [GeV]"),
        "ZLep2_eta": Column("f4", "pseudorapidity of the softer lepton of the Z candidate"),
        "ZLep2_phi": Column("f4", "azimuth of the softer lepton of the Z candidate"),
        "WLep_pt": Column("f4", "transverse momentum of the W lepton [GeV]"),
        "WLep_eta": Column("f4", "pseudorapidity of the W lepton"),
        "WLep_phi": Column("f4", "azimuth of the W lepton"),
        "WCand_mT": Column("f4", "transverse mass of the W lepton and the missing momentum [GeV]"),
        "ThreeLep_mass": Column("f4", "mass of the three leptons [GeV]"),
        "ThreeLep_sumPt": Column("f4", "scalar sum of the three leptons' transverse momenta [GeV]"),
    }

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        number = ak.sum(is_good_electron(events), axis=1) + ak.sum(is_good_muon(events), axis=1)
        events = cutflow.cut("three good leptons", number >= 3, events)
        leptons = good_leptons(events)  # of the few events that have enough of them

        pairs = z_pairs(leptons)
        events, leptons, pairs = cutflow.cut("Z candidate", ak.num(pairs) >= 1, events, leptons, pairs)
        z = pairs[ak.argmin(abs(pairs.mass - Z_MASS), axis=1, keepdims=True)][:, 0]

        rest = leptons[(leptons.index != z.first.index) & (leptons.index != z.second.index)]
        rest = rest[rest.is_tight]
        events, leptons, z, rest = cutflow.cut("W lepton", ak.num(rest) >= 1, events, leptons, z, rest)
        w = rest[ak.argmax(rest.pt, axis=1, keepdims=True)][:, 0]

        # the muons of a boosted Z are close to each other: one of them must have the full high-pt identification
        identified = (z.first.flavour == ELECTRON) | (z.first.high_pt_id == 2) | (z.second.high_pt_id == 2)
        events, leptons, z, w = cutflow.cut("Z muon identification", identified, events, leptons, z, w)
        return events, {"nGoodLepton": ak.num(leptons), **describe(z, w, events)}


def is_good_electron(events: Events) -> ak.Array:
    """Which electrons are good."""
    electron = events.Electron
    return (electron.pt > 10) & (abs(electron.eta) < 2.5) & (electron.cutBased >= 2)


def is_good_muon(events: Events) -> ak.Array:
    """Which muons are good."""
    muon = events.Muon
    return (muon.pt > 20) & (abs(muon.eta) < 2.4) & (muon.ip3d < 0.01) & (muon.highPtId >= 1)


def good_leptons(events: Events) -> ak.Array:
    """Good electrons, then good muons, of each event.

    Returns
    -------
    Four-vectors with `charge`, `flavour` (11 or 13), `high_pt_id` (0 for electrons), `is_tight` (may be the W's)
    and `index` (number in this list).
    """
    electron, muon = events.Electron[is_good_electron(events)], events.Muon[is_good_muon(events)]
    leptons = ak.concatenate(
        [
            _lepton(electron, ELECTRON, 0 * electron.charge, (electron.cutBased == 4) & (electron.pt >= 50)),
            _lepton(muon, MUON, muon.highPtId, (muon.highPtId == 2) & (muon.pt >= 70)),
        ],
        axis=1,
    )
    return ak.with_field(leptons, ak.local_index(leptons.charge, axis=1), "index")


def _lepton(particles: ak.Array, flavour: int, high_pt_id: ak.Array, is_tight: ak.Array) -> ak.Array:
    fields = {name: particles[name] for name in ("pt", "eta", "phi", "mass", "charge")}
    fields["flavour"] = ak.ones_like(particles.charge) * flavour
    fields["high_pt_id"] = ak.values_astype(high_pt_id, np.int32)
    fields["is_tight"] = is_tight
    return ak.zip(fields, with_name="Momentum4D", behavior=particles.behavior)


def z_pairs(leptons: ak.Array) -> ak.Array:
    """All pairs of opposite charge and same flavour, with their `mass` [GeV]; `first` is the harder lepton."""
    first, second = ak.unzip(ak.combinations(leptons, 2))
    fits = (first.charge + second.charge == 0) & (first.flavour == second.flavour)
    first, second = first[fits], second[fits]
    swap = second.pt > first.pt
    return ak.zip(
        {
            "first": ak.where(swap, second, first),
            "second": ak.where(swap, first, second),
            "mass": (first + second).mass,
        },
        depth_limit=2,
    )


def describe(z: ak.Array, w: ak.Array, events: Events) -> dict[str, Any]:
    """The columns that follow from Z candidate, W lepton and missing momentum, one value per event."""
    first, second = z.first, z.second
    pair = first + second
    return {
        "channel": 1 + 2 * (first.flavour == MUON) + (w.flavour == MUON),
        "ZCand_mass": pair.mass,
        "ZCand_pt": pair.pt,
        "ZCand_dR": first.deltaR(second),
        "ZCand_dPhi": first.deltaphi(second),
        "ZCand_dEta": first.eta - second.eta,
        "ZLep1_pt": first.pt,
        "ZLep1_eta": first.eta,
        "ZLep1_phi": first.phi,
        "ZLep2_pt": second.pt,
        "ZLep2_eta": second.eta,
        "ZLep2_phi": second.phi,
        "WLep_pt": w.pt,
        "WLep_eta": w.eta,
        "WLep_phi": w.phi,
        "WCand_mT": transverse_mass(w, events.MET),
        "ThreeLep_mass": (pair + w).mass,
        "ThreeLep_sumPt": first.pt + second.pt + w.pt,
    }


def transverse_mass(lepton: ak.Array, missing: Any) -> Any:
    """Transverse mass [GeV] of a lepton and the missing momentum, both taken as massless.

    mT^2 = 2 pt ptmiss (1 - cos(delta phi)); Particle Data Group, Review of particle physics, Kinematics.
    """
    pt = ak.values_astype(missing.pt, np.float64)
    phi = ak.values_astype(missing.phi, np.float64)
    return np.sqrt(2 * lepton.pt * pt * (1 - np.cos(lepton.phi - phi)))


trilepton = postproc_module(Trilepton)
