from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.nanowriter import NanoWriter, compression_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootfile import Branch

BRANCHES = {
    "event": Branch("event", "uint64", "flat", "", None, ""),
    "HLT_X": Branch("HLT_X", "bool", "flat", "", None, ""),
    "Muon_pt": Branch("Muon_pt", "float32", "jagged", "", "Muon", ""),
    "Muon_id": Branch("Muon_id", "uint8", "jagged", "", "Muon", ""),
    "LHEPdfWeight": Branch("LHEPdfWeight", "float32", "jagged", "", "LHEPdfWeight", ""),
    "Jet_idx": Branch("Jet_idx", "int16", "jagged", "", "Jet", ""),
}


def rows(first: int, count: int) -> dict[str, ak.Array]:
    events = np.arange(first, first + count)
    numbers = events % 3
    return {
        "event": ak.Array(events.astype(np.uint64)),
        "HLT_X": ak.Array(events % 2 == 0),
        "Muon_pt": ak.unflatten(np.arange(numbers.sum(), dtype=np.float32), numbers),
        "Muon_id": ak.unflatten(np.arange(numbers.sum()).astype(np.uint8), numbers),
        "LHEPdfWeight": ak.unflatten(np.ones(2 * count, np.float32), np.full(count, 2)),
        "Jet_idx": ak.unflatten(np.zeros(numbers.sum(), np.int16), numbers[::-1]),
    }


@pytest.mark.parametrize("compression", ["ZLIB:5", "LZMA:1"])
def test_what_is_written_is_read(tmp_path: Path, compression: str) -> None:
    parts = [rows(0, 7), rows(7, 0), rows(7, 5)]
    with NanoWriter(tmp_path / "a.root", BRANCHES, compression) as writer:
        for part in parts:
            writer.extend(part)
        writer.finish('{"x": 1}')
        assert writer.entries == 12
    with uproot.open(tmp_path / "a.root") as file:
        tree = file["Events"]
        assert str(file["nanoml"]) == '{"x": 1}'
        for name, branch in BRANCHES.items():
            array = tree[name].array()
            assert ak.to_list(array) == [value for part in parts for value in ak.to_list(part[name])]
            assert str(branch.dtype) in str(array.type)
        # collections share one counter, as nanoAOD-tools and coffea expect
        assert tree["Muon_pt"].count_branch.name == "nMuon"
        assert tree["Muon_id"].count_branch.name == "nMuon"
        assert tree["LHEPdfWeight"].count_branch.name == "nLHEPdfWeight"
        assert tree["nMuon"].array().tolist() == [0, 1, 2] * 4


def test_a_file_without_events_has_all_branches(tmp_path: Path) -> None:
    with NanoWriter(tmp_path / "a.root", BRANCHES, "ZLIB:1") as writer:
        writer.finish("{}")
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Events"].num_entries == 0
        assert set(BRANCHES) <= set(file["Events"].keys())


def test_other_trees_are_copied_if_they_are_of_numbers(tmp_path: Path) -> None:
    with NanoWriter(tmp_path / "a.root", BRANCHES, "ZLIB:1") as writer:
        sums = {"run": ak.Array([1, 2]), "nPdf": ak.Array([2, 1]), "Pdf": ak.Array([[0.5, 1.5], [2.0]])}
        assert writer.copy_tree("Runs", sums)
        assert not writer.copy_tree("Words", {"word": ak.Array(["a", "b"])})
        assert not writer.copy_tree("Deep", {"deep": ak.Array([[[1]], []])})
        assert not writer.copy_tree("Nothing", {})
        writer.finish("{}")
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Runs/Pdf"].array().tolist() == [[0.5, 1.5], [2.0]]
        assert file["Runs/nPdf"].array().tolist() == [2, 1]


@pytest.mark.parametrize("text", ["ZIP:5", "ZLIB", "ZLIB:five", "ZLIB:50", ""])
def test_a_compression_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ALGORITHM:LEVEL"):
        compression_of(text)
