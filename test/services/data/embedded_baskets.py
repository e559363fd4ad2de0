"""Makes embedded_baskets.root, a file whose baskets stand inside their branches: python embedded_baskets.py, with ROOT.

uproot cannot write such a file, so what ROOT 6.40 made is kept in the repository. `TTree.Write` would first write the
baskets to the file; as an object among others, the tree takes them along.
"""

from __future__ import annotations

from array import array
from pathlib import Path

PATH = Path(__file__).with_suffix(".root")
EVENTS = 40


def muon_pts(event: int) -> list[float]:
    """Transverse momenta of the muons of an event [GeV]."""
    return [10 * event + muon + 0.25 for muon in range(event % 4)]


def weight(event: int) -> float:
    """Generator weight of an event."""
    return 1.5 if event % 7 else -0.5


def main() -> None:
    import ROOT

    file = ROOT.TFile(str(PATH), "RECREATE", "", 101)
    tree = ROOT.TTree("Events", "Events")
    tree.SetAutoFlush(0)
    run, section, number, weights = array("I", [1]), array("I", [1]), array("L", [0]), array("f", [0])
    counter, pts = array("i", [0]), array("f", [0] * 3)
    tree.Branch("run", run, "run/i")
    tree.Branch("luminosityBlock", section, "luminosityBlock/i")
    tree.Branch("event", number, "event/l")
    tree.Branch("genWeight", weights, "genWeight/F")
    tree.Branch("nMuon", counter, "nMuon/I")
    tree.Branch("Muon_pt", pts, "Muon_pt[nMuon]/F")
    for event in range(EVENTS):
        number[0], weights[0], counter[0] = event, weight(event), len(muon_pts(event))
        pts[: counter[0]] = array("f", muon_pts(event))
        tree.Fill()
    file.WriteTObject(tree, "Events")
    file.Close()


if __name__ == "__main__":
    main()
