from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Selected
from MLTools.NanoML.trilepton import Z_MASS, Trilepton


def select(path: Path) -> tuple[Selected, dict[str, Any]]:
    with RootFile(path) as file:
        bound = Trilepton().bind(file.branches, file.path)
        arrays = file.read(bound.branches)
        return bound.apply(arrays, np.ones(file.entries)), arrays


def test_counts_are_those_of_the_reference_analysis_and_columns_of_an_event_loop(sample: Path) -> None:
    selected, arrays = select(sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root")
    names = ("all", "three good leptons", "Z candidate", "W lepton", "Z muon identification")
    steps = [(step.cut, step.events) for step in selected.cutflow.steps]
    assert steps == list(zip(names, (1000, 390, 388, 263, 263)))
    assert np.bincount(selected.columns["channel"]).tolist() == [0, 50, 60, 77, 76]
    plain = {name: array.tolist() for name, array in arrays.items()}
    expected = {n: row for n in range(1000) if (row := by_hand({name: values[n] for name, values in plain.items()}))}
    assert selected.rows.tolist() == list(expected)
    for column, values in selected.columns.items():
        assert values == pytest.approx([row[column] for row in expected.values()], rel=2e-6, abs=2e-6), column


def by_hand(event: dict[str, Any]) -> dict[str, float] | None:
    """The selection as one would write it for one event, with numbers and loops only."""
    leptons = []
    for i, pt in enumerate(event["Electron_pt"]):
        if pt > 10 and abs(event["Electron_eta"][i]) < 2.5 and event["Electron_cutBased"][i] >= 2:
            tight = event["Electron_cutBased"][i] == 4 and pt >= 50
            leptons.append(lepton(event, "Electron", i, 11, 0, tight))
    for i, pt in enumerate(event["Muon_pt"]):
        number = event["Muon_highPtId"][i]
        if pt > 20 and abs(event["Muon_eta"][i]) < 2.4 and event["Muon_ip3d"][i] < 0.01 and number >= 1:
            leptons.append(lepton(event, "Muon", i, 13, number, tight=number == 2 and pt >= 70))
    pairs = [(a, b) for a, b in combinations(leptons, 2) if a["flavour"] == b["flavour"]]
    pairs = [(a, b) for a, b in pairs if a["charge"] + b["charge"] == 0]
    if len(leptons) < 3 or not pairs:
        return None
    z = min(pairs, key=lambda pair: abs(mass(*pair) - Z_MASS))
    rest = [x for x in leptons if x is not z[0] and x is not z[1] and x["tight"]]
    if not rest:
        return None
    w = max(rest, key=lambda x: x["pt"])
    first, second = sorted(z, key=lambda x: -x["pt"])
    if first["flavour"] == 13 and 2 not in (first["id"], second["id"]):
        return None
    dphi = (first["phi"] - second["phi"] + np.pi) % (2 * np.pi) - np.pi
    deta = first["eta"] - second["eta"]
    row = {
        "channel": 1 + 2 * (first["flavour"] == 13) + (w["flavour"] == 13),
        "nGoodLepton": len(leptons),
        "ZCand_pt": np.hypot(*(momentum(first)[1:3] + momentum(second)[1:3])),
        "WCand_mT": np.sqrt(2 * w["pt"] * event["MET_pt"] * (1 - np.cos(w["phi"] - event["MET_phi"]))),
        "ThreeLep_sumPt": first["pt"] + second["pt"] + w["pt"],
    }
    row |= {"ZCand_dR": np.hypot(deta, dphi), "ZCand_dPhi": dphi, "ZCand_dEta": deta}
    row |= {"ZCand_mass": mass(first, second), "ThreeLep_mass": mass(first, second, w)}
    for prefix, one in (("ZLep1", first), ("ZLep2", second), ("WLep", w)):
        row.update({f"{prefix}_{name}": one[name] for name in ("pt", "eta", "phi")})
    return row


def lepton(event: dict[str, Any], kind: str, i: int, flavour: int, identification: int, tight: bool) -> dict[str, Any]:
    values = {name: event[f"{kind}_{name}"][i] for name in ("pt", "eta", "phi", "mass", "charge")}
    return {**values, "flavour": flavour, "id": identification, "tight": tight}


def momentum(x: dict[str, Any]) -> Any:
    px, py, pz = x["pt"] * np.cos(x["phi"]), x["pt"] * np.sin(x["phi"]), x["pt"] * np.sinh(x["eta"])
    return np.array([np.sqrt(px**2 + py**2 + pz**2 + x["mass"] ** 2), px, py, pz])


def mass(*particles: dict[str, Any]) -> float:
    total = sum(momentum(x) for x in particles)
    return float(np.sqrt(max(total[0] ** 2 - (total[1:] ** 2).sum(), 0)))
