"""The pages of doc/, followed to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

pytest.importorskip("data_processing")


@pytest.fixture(scope="module")
def skims(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., None]) -> Path:
    """What is made by following the page on skims."""
    directory = tmp_path_factory.mktemp("skim")
    follow("skim.md", directory)
    return directory / "skims"


def record(path: Path) -> dict[str, Any]:
    with uproot.open(path) as file:
        found: dict[str, Any] = json.loads(str(file["nanoml"]))
    return found


def events(path: Path) -> Any:
    return uproot.open(path)["Events"]


def test_the_selection_finds_the_z(skims: Path) -> None:
    masses = np.concatenate(
        [tree["DiMuon_mass"].array() for tree in map(events, (skims / "dimuon").glob("*.root"))]
    )
    assert len(masses) == 442
    assert abs(np.median(masses) - 91) < 2
    (books,) = record(skims / "dimuon" / "ZGToLLG_0.root")["books"]["files"]
    assert [step["cut"] for step in books["cutflow"]] == ["all", "two muons", "pt", "opposite charge"]


def test_the_analysis_skims_both_datasets(skims: Path) -> None:
    found = sorted((skims / "analysis" / "skims").glob("*/*.root"))
    assert [path.stem for path in found] == ["WZTo3LNu_0", "WZTo3LNu_1", "ZGToLLG_0", "ZGToLLG_1"]
    for path in found:
        cuts = [step["cut"] for step in record(path)["books"]["cutflow"]]
        assert cuts == ["all", "cut", "two muons", "pt", "opposite charge"]
        names = events(path).keys()
        assert "MET_pt" in names
        assert "MET_covXX" not in names


def test_cut_and_selection_agree(skims: Path) -> None:
    chosen, cut = (
        events(skims / name / "ZGToLLG_0.root")["event"].array(library="np") for name in ("dimuon", "cut")
    )
    assert len(chosen) < len(cut) < 800
    assert np.isin(chosen, cut).all()


def test_rules_keep_what_the_page_says(skims: Path) -> None:
    names = events(skims / "rules" / "ZGToLLG_0.root").keys()
    assert {"run", "luminosityBlock", "event", "genWeight", "MET_pt", "nMuon", "HLT_IsoMu24"} <= set(names)
    assert not [name for name in names if "Iso" in name and name.startswith("Muon_")]
    assert not [name for name in names if name.startswith(("Jet_", "Flag_", "HLT_Ele"))]


def test_the_module_makes_its_column(skims: Path) -> None:
    tree = events(skims / "module" / "ZGToLLG_0.root")
    sums, muons = tree["muonSumPt"].array(library="np"), tree["Muon_pt"].array()
    assert len(sums) == record(skims / "module" / "ZGToLLG_0.root")["books"]["selected"] > 0
    assert np.allclose(sums, [sum(pts) for pts in muons.tolist()], rtol=1e-6)
    assert tree["muonSumPt"].title == "scalar sum of the muons' pt [GeV]"


def test_the_merged_skim_has_the_events_and_weights_of_both(skims: Path) -> None:
    merged = record(skims / "ZGToLLG.root")["books"]
    assert (merged["entries"], merged["selected"], merged["sum_of_weights"]) == (1600, 442, 1600)
    assert events(skims / "ZGToLLG.root").num_entries == 442
