"""Four-vectors in the graph, and those of the package vector."""

from __future__ import annotations

from typing import Any

import awkward as ak
import pytest

from MLTools.NanoML.selection import Events
from services.compilation import check

COORDINATES = (
    "pt phi eta mass px py pz E energy p p2 pt2 mass2 theta costheta rapidity Et Mt beta gamma x y z t tau rho m et mt"
)
METHODS = ("deltaphi", "deltaeta", "deltaR", "deltaR2", "dot")
LINES = [
    *(f"jets.{name}" for name in (*COORDINATES.split(), "pseudorapidity")),
    *(f"(a + b).{name}" for name in ("pt", "phi", "eta", "mass", "energy", "rapidity", "theta")),
    *(f"a.{name}(b)" for name in METHODS),
    "(a - b).px",
    "(a.add(b)).mass",
    "(a.subtract(b)).E",
    "(2 * jets).pt",
    "(jets / 2).mass",
    "(-jets).pz",
    "(-jets).mass",
    "(jets * -2).E",
    "((a + b) * -2).mass",
    "((a - b) + a).mass",
    "(a - b).mass",
    "abs(jets)",
    "ak.zip({'pt': jets.pt, 'phi': jets.phi}, with_name='Momentum2D').px",
    "ak.zip({'pt': jets.pt, 'phi': jets.phi}, with_name='Momentum2D').deltaphi(jets)",
    "ak.zip({'px': jets.pt, 'py': jets.eta, 'pz': jets.phi, 'E': jets.pt * 9}, with_name='Momentum4D').mass",
    "ak.zip({'px': jets.pt, 'py': jets.eta, 'pz': jets.phi, 'E': jets.pt * 9}, with_name='Momentum4D').eta",
    "ak.zip({'pt': jets.pt, 'eta': jets.eta, 'phi': jets.phi, 'energy': jets.pt * 9}, with_name='Momentum4D').mass",
    "flat.p4.deltaphi(flat.p4)",
]


@pytest.mark.parametrize("line", LINES)
def test_graph_and_package_agree(line: str) -> None:
    code = compile(line, "line", "eval")

    def lines(events: Events) -> Any:
        a, b = ak.unzip(ak.combinations(events.Jet, 2))
        given = {"ak": ak, "jets": events.Jet, "met": events.MET, "flat": events.flat("Muon"), "a": a, "b": b}
        return eval(code, given)

    check(lines)
