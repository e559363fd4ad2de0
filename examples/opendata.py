"""The selection of examples/opendata.yaml: a muon and a tau that decays to hadrons, in reduced NanoAOD of CMS Open Data of 2012."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.selection import Column, Cutflow, Events, Selection


class MuTau(Selection):
    """A muon and a hadronic tau, well separated; and the jets beside them."""

    branches = (
        *(f"Muon_{name}" for name in ("pt", "eta", "phi", "mass", "charge", "tightId", "pfRelIso03_all")),
        *(f"Tau_{name}" for name in ("pt", "eta", "phi", "mass", "charge", "relIso_all")),
        *(f"Tau_id{name}" for name in ("DecayMode", "IsoTight", "AntiEleTight", "AntiMuTight")),
        *(f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "puId", "btag")),
        "MET_pt",
        "MET_phi",
    )
    columns = {
        "is_opposite": Column("?", "muon and tau have opposite charges"),
        "muon_pt": Column("f4", "transverse momentum of the muon [GeV]"),
        "tau_pt": Column("f4", "transverse momentum of the tau [GeV]"),
        "visible_mass": Column("f4", "mass of muon and tau [GeV]"),
        "visible_dR": Column("f4", "distance of muon and tau in eta and phi"),
        "muon_mT": Column("f4", "transverse mass of muon and missing momentum [GeV]"),
        "missing_pt": Column("f4", "missing transverse momentum [GeV]"),
        "nCleanJet": Column("i4", "number of jets"),
        "dijet_mass": Column("f4", "mass of the two hardest jets [GeV]", missing=-1),
        "dijet_dEta": Column("f4", "distance of the two hardest jets in eta", missing=-1),
        "largest_btag": Column("f4", "largest discriminant of b jets", missing=-1),
    }

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        muons, taus = events.Muon, events.Tau
        muons = muons[(muons.pt > 17) & (abs(muons.eta) < 2.1) & muons.tightId]
        muons = muons[(muons.pfRelIso03_all >= 0) & (muons.pfRelIso03_all < 0.1)]  # -999 stands for none
        taus = taus[(taus.pt > 20) & (abs(taus.eta) < 2.3) & (taus.charge != 0) & taus.idDecayMode & taus.idIsoTight]
        taus = taus[taus.idAntiEleTight & taus.idAntiMuTight]
        pairs = ak.cartesian({"muon": muons, "tau": taus})
        pairs = pairs[pairs.muon.deltaR(pairs.tau) > 0.5]
        events, pairs = cutflow.cut("muon and tau", ak.num(pairs) > 0, events, pairs)

        pairs = pairs[pairs.muon.pt == ak.max(pairs.muon.pt, axis=1)]  # the hardest muon, and the most isolated tau
        pair = pairs[ak.argmin(pairs.tau.relIso_all, axis=1, keepdims=True)][:, 0]
        muon, tau, missing = pair.muon, pair.tau, events.MET
        jets = events.Jet[(events.Jet.pt > 30) & (abs(events.Jet.eta) < 4.7) & events.Jet.puId]
        jets = jets[(jets.deltaR(muon) > 0.5) & (jets.deltaR(tau) > 0.5)]
        two = ak.pad_none(jets, 2)
        first, second = two[:, 0], two[:, 1]
        return events, {
            "is_opposite": muon.charge * tau.charge < 0,
            "muon_pt": muon.pt,
            "tau_pt": tau.pt,
            "visible_mass": (muon + tau).mass,
            "visible_dR": muon.deltaR(tau),
            "muon_mT": np.sqrt(2 * muon.pt * missing.pt * (1 - np.cos(muon.phi - missing.phi))),
            "missing_pt": missing.pt,
            "nCleanJet": ak.num(jets),
            "dijet_mass": ak.fill_none((first + second).mass, -1),
            "dijet_dEta": ak.fill_none(abs(first.eta - second.eta), -1),
            "largest_btag": np.maximum(ak.fill_none(ak.max(jets.btag, axis=1), -1), -1),  # less stands for none
        }
