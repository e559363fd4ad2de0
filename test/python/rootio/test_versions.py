from __future__ import annotations

import pytest

from MLTools.NanoML.rootio import versions
from MLTools.NanoML.terminal import progress


def test_a_branch_is_found_under_its_name_in_another_version() -> None:
    assert versions.resolve("MET_pt", {"MET_pt", "PFMET_pt"}) == "MET_pt"
    assert versions.resolve("MET_pt", {"PFMET_pt", "PuppiMET_pt"}) == "PFMET_pt"
    assert versions.resolve("PFMET_phi", {"MET_phi"}) == "MET_phi"
    assert versions.resolve("MET_pt", {"PuppiMET_pt"}) is None
    assert versions.resolve("fixedGridRhoAll", {"Rho_fixedGridRhoAll"}) == "Rho_fixedGridRhoAll"
    assert versions.resolve("Rho_fixedGridRhoAll", {"fixedGridRhoAll"}) == "fixedGridRhoAll"


def test_globs_keep_the_order_of_the_file_and_follow_renames() -> None:
    assert versions.expand("Muon_*", ["Muon_pt", "Electron_pt", "Muon_eta"]) == ["Muon_pt", "Muon_eta"]
    assert versions.expand("MET_*", ["PFMET_pt", "PFMET_phi"]) == ["PFMET_pt", "PFMET_phi"]
    assert versions.expand("Tau_*", ["Muon_pt"]) == []


def test_other_momenta_are_mentioned_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    assert versions.resolve("PFMET_pt", ["MET_pt"]) == "MET_pt"
    assert versions.resolve("MET_pt", ["MET_pt", "PFMET_pt"]) == "MET_pt"
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert versions.expand("MET_*", ["PFMET_pt"]) == ["PFMET_pt"]
        assert versions.resolve("MET_phi", ["PFMET_phi"]) == "PFMET_phi"
    (line,) = capsys.readouterr().err.splitlines()
    assert "PFMET_*" in line
    assert "Run 3 analyses use PuppiMET" in line


def test_the_collection_of_a_branch() -> None:
    for name, counter, collection in (
        *(("Muon_pt", "nMuon", "Muon"), ("Muon_pt", None, "Muon"), ("Odd_thing", None, "Odd")),
        ("Muon_highPtId", "nMuon_highPtId", "Muon"),  # a counter of the branch's own says nothing
        ("Proton_multiRP_arm", "nProton_multiRP", "Proton_multiRP"),
        ("LHEPdfWeight", "nLHEPdfWeight", "LHEPdfWeight"),
    ):
        available = {"nMuon", "nMuon_highPtId", "nProton_multiRP", "nLHEPdfWeight", name}
        assert versions.collection_of(name, counter, available) == collection
