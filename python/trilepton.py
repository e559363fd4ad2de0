"""The worked example: W' -> WZ -> three leptons and a neutrino (13 TeV, NanoAOD v9 names)."""

from __future__ import annotations

from typing import Any

import numpy as np

from MLTools.NanoML.nanoaodtools import postproc_module
from MLTools.NanoML.selection import Column, Cutflow, Events, Flat, Selection

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
        electrons, muons = good_electrons(events), good_muons(events)
        enough = electrons.counts + muons.counts >= 3
        events, electrons, muons = cutflow.cut("three good leptons", enough, events, electrons, muons)
        leptons = good_leptons(electrons, muons)

        first, second = z_pairs(leptons)
        events, leptons, first, second = cutflow.cut("Z candidate", first.counts >= 1, events, leptons, first, second)
        nearest = first.smallest(abs((first.p4 + second.p4).mass - Z_MASS))
        first, second = harder_first(first.at(nearest), second.at(nearest))

        of_z = (leptons.index == first.index[leptons.event]) | (leptons.index == second.index[leptons.event])
        rest = leptons.keep(leptons.is_tight & ~of_z)
        events, leptons, first, second, rest = cutflow.cut(
            "W lepton", rest.counts >= 1, events, leptons, first, second, rest
        )
        w = rest.at(rest.largest(rest.pt))

        # the muons of a boosted Z are close to each other: one of them must have the full high-pt identification
        identified = (first.flavour == ELECTRON) | (first.high_pt_id == 2) | (second.high_pt_id == 2)
        events, leptons, first, second, w = cutflow.cut(
            "Z muon identification", identified, events, leptons, first, second, w
        )
        return events, {"nGoodLepton": leptons.counts, **describe(first, second, w, events)}


def good_electrons(events: Events) -> Flat:
    """The good electrons of each event."""
    electron = events.flat("Electron")
    return electron.keep((electron.pt > 10) & (abs(electron.eta) < 2.5) & (electron.cutBased >= 2))


def good_muons(events: Events) -> Flat:
    """The good muons of each event."""
    muon = events.flat("Muon")
    return muon.keep((muon.pt > 20) & (abs(muon.eta) < 2.4) & (muon.ip3d < 0.01) & (muon.highPtId >= 1))


def good_leptons(electrons: Flat, muons: Flat) -> Flat:
    """Good electrons, then good muons, of each event.

    Returns
    -------
    Four-vectors with `charge`, `flavour` (11 or 13), `high_pt_id` (0 for electrons), `is_tight` (may be the W's)
    and `index` (number in this list).
    """
    leptons = Flat.joined(
        electrons.with_columns(
            flavour=ELECTRON, high_pt_id=0, is_tight=(electrons.cutBased == 4) & (electrons.pt >= 50)
        ),
        muons.with_columns(flavour=MUON, high_pt_id=muons.highPtId, is_tight=(muons.highPtId == 2) & (muons.pt >= 70)),
    )
    return leptons.with_columns(index=leptons.place)


def z_pairs(leptons: Flat) -> tuple[Flat, Flat]:
    """All pairs of opposite charge and same flavour of each event."""
    first, second = leptons.pairs()
    fits = (first.charge + second.charge == 0) & (first.flavour == second.flavour)
    return first.keep(fits), second.keep(fits)


def harder_first(one: Flat, other: Flat) -> tuple[Flat, Flat]:
    """In each event, the lepton with the higher pt, and the other one."""
    swap = other.pt > one.pt
    return Flat.chosen(swap, other, one), Flat.chosen(swap, one, other)


def describe(first: Flat, second: Flat, w: Flat, events: Events) -> dict[str, Any]:
    """The columns from the leptons of Z and W and the missing momentum, one value per event."""
    pair = first.p4 + second.p4
    return {
        "channel": 1 + 2 * (first.flavour == MUON) + (w.flavour == MUON),
        "ZCand_mass": pair.mass,
        "ZCand_pt": pair.pt,
        "ZCand_dR": first.p4.deltaR(second.p4),
        "ZCand_dPhi": first.p4.deltaphi(second.p4),
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
        "ThreeLep_mass": (pair + w.p4).mass,
        "ThreeLep_sumPt": first.pt + second.pt + w.pt,
    }


def transverse_mass(lepton: Flat, missing: Any) -> Any:
    """Transverse mass [GeV] of a lepton and the missing momentum, both taken as massless.

    mT^2 = 2 pt ptmiss (1 - cos(delta phi)); Particle Data Group, Review of particle physics, Kinematics.
    """
    pt, phi = np.asarray(missing.pt), np.asarray(missing.phi)
    return np.sqrt(2 * lepton.pt * pt * (1 - np.cos(lepton.phi - phi)))


trilepton = postproc_module(Trilepton)
