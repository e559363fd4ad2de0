from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_processing.eventloop.input import BranchReader, InputFile, InputTree
from data_processing.eventloop.output import OutputTree, TargetFile
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile


@pytest.fixture
def tree(wz: Path) -> Any:
    with RootFile(wz) as file:
        yield InputTree(BranchReader(file))


def test_lists_its_branches(tree: Any) -> None:
    branches = tree.GetListOfBranches()
    names = [branch.GetName() for branch in branches]
    assert {"run", "Muon_pt", "genWeight"} <= set(names)
    assert names == [branches.At(number).GetName() for number in range(branches.GetEntries())]
    assert branches.FindObject("run").GetName() == "run"
    assert not branches.FindObject("ran")
    assert tree.GetEntries() == tree.entries == 800
    assert bool(tree.GetBranch("genWeight"))
    assert not tree.GetBranch("genWeights")
    assert tree.GetBranchStatus("run")
    assert tree.GetName() == "Events"


@pytest.mark.parametrize(
    ("name", "kind", "counter"),
    [
        ("Muon_pt", "Float_t", "nMuon"),
        ("Muon_charge", "Int_t", "nMuon"),
        ("Muon_highPtId", "UChar_t", "nMuon"),
        ("Muon_tightId", "Bool_t", "nMuon"),
        ("event", "ULong64_t", None),
        ("run", "UInt_t", None),
    ],
)
def test_branches_have_types(name: str, kind: str, counter: str | None, tree: Any) -> None:
    leaf = tree.GetBranch(name).FindLeaf(name)
    assert (leaf.GetName(), leaf.GetTypeName(), leaf.GetLeafCount(), leaf.GetLen()) == (name, kind, counter, 1)
    assert tree.GetLeaf(name).GetTypeName() == kind
    assert tree.GetBranch("Muon_charge").GetTitle() == "electric charge"
    assert tree.GetBranch(name).GetLeaf("other") is None


def test_entries_can_be_looked_at_outside_of_the_events(tree: Any) -> None:
    assert hasattr(tree, "genWeight")
    assert not hasattr(tree, "genWeights")
    assert (tree.run, tree.Muon_pt) == (0, [])
    assert tree.GetEntry(1) == 1
    assert (tree.event, tree.entries) == (None, 800)
    assert tree.readBranch("event") == 2600002
    assert len(tree.Muon_pt) == tree.nMuon == 2
    assert tree.GetEntry(800) == 0
    with pytest.raises(NanoMLError, match=r"inputTree\.Draw.*needs ROOT"):
        tree.Draw("x")
    with pytest.raises(NanoMLError, match="has no branch nope"):
        tree.readBranch("nope")


def test_other_trees_have_rows(tree: Any, wz: Path) -> None:
    with RootFile(wz) as file:
        source = InputFile(file, tree)
        assert source.GetName() == str(wz)
        assert source.Get("Events") is tree
        runs = source.Get("Runs")
        assert runs.GetEntries() == len(list(runs)) == 1
        assert [run.genEventCount for run in runs] == file.other_tree("Runs")["genEventCount"].tolist()
        assert source.Get("Nothing") is None
        with pytest.raises(NanoMLError, match=r"inputFile\.mkdir needs ROOT"):
            source.mkdir("x")


def test_the_output_has_the_branches_of_the_input_and_more(tree: Any) -> None:
    target = TargetFile("skims/x.root")
    output = OutputTree(tree, target)
    output.branch("Thing_x", "F", lenVar="nThing")
    assert output.tree().GetBranch("Thing_x").FindLeaf("Thing_x").GetTypeName() == "Float_t"
    assert output.tree().GetBranch("nThing").FindLeaf("nThing").GetTypeName() == "Int_t"
    assert output._tree.GetBranch("Muon_pt").GetName() == "Muon_pt"
    assert not tree.GetBranch("Thing_x")
    assert target.GetName() == "skims/x.root"
    assert target.cd()
    with pytest.raises(NanoMLError, match=r"outputFile\.WriteTObject needs ROOT"):
        target.WriteTObject(1)
