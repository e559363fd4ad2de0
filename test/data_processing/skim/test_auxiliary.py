from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.skim.auxiliary import copy_auxiliary
from MLTools.NanoML.contracts.accounting import FileAccounting
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile

EVENTS = {"run": Branch("run", "uint32", "flat", "run number", None, "")}
CERTIFIED = LumiMask.from_dict({"1": [[2, 3]], "3": [[1, 1]]}, "test")


def copied(source: Path, output: Path, certified: LumiMask | None = None) -> list[str]:
    with RootFile(source) as file, NanoWriter(output, EVENTS, "ZLIB:1") as writer:
        left_out = copy_auxiliary(file, writer, certified)
        writer.finish()
    return left_out


def rows(path: Path, tree: str) -> dict[str, list[Any]]:
    with RootFile(path) as file:
        return {name: array.tolist() for name, array in (file.other_tree(tree) or {}).items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with all that may be beside the events."""
    path = tmp_path / "source.root"
    runs = {
        "run": Branch("run", "uint32", "flat", "run number", None, ""),
        "genEventSumw": Branch("genEventSumw", "float64", "flat", "sum of weights", None, ""),
        "nPdfSumw": Branch("nPdfSumw", "uint32", "flat", "number of weights", None, ""),
        "PdfSumw": Branch("PdfSumw", "float64", "jagged", "sums of weights", "PdfSumw", ""),
    }
    sections = {name: Branch(name, "uint32", "flat", "", None, "") for name in ("run", "luminosityBlock")}
    with NanoWriter(path, EVENTS, "ZLIB:1") as writer:
        writer.events.extend({"run": np.uint32([1, 1, 2])})
        sums = {"run": np.uint32([1, 2]), "genEventSumw": np.array([2.5, -1])}
        writer.write_tree("Runs", runs, {**sums, "PdfSumw": ak.Array([[0.5, 1.5, 2.5], [1.0]])})
        blocks = {"run": np.uint32([1, 1, 1, 2]), "luminosityBlock": np.uint32([1, 2, 4, 2])}
        writer.write_tree("LuminosityBlocks", sections, blocks)
        writer.write_tree("Other", EVENTS, {"run": np.uint32([7])})
        writer.write_object("tag", "untagged")
        writer.write_object("h1", np.histogram([0.5, 1.5, 1.7], [0.0, 1, 2]))
        writer.write_object("h2", np.histogram2d([0.5, 1.5], [0.5, 0.5], ([0.0, 1, 2], [0.0, 1])))
        writer.write_object("h3", np.histogramdd(np.full((1, 3), 0.5), ([0.0, 1], [0.0, 1], [0.0, 1])))
        writer.finish(Provenance("skim", Accounting([FileAccounting("a.root", 3, 3, 1.5, "Runs/genEventSumw", False)])))
    return path


def test_all_is_copied_but_what_is_named(source: Path, tmp_path: Path) -> None:
    assert copied(source, tmp_path / "copy.root") == ["Other (TTree)"]
    for tree in ("Runs", "LuminosityBlocks"):
        assert rows(tmp_path / "copy.root", tree) == rows(source, tree)
    with RootFile(source) as before, RootFile(tmp_path / "copy.root") as after:
        # the record is that of the file that it is in
        assert set(after.keys) == set(before.keys) - {"Other", "nanoml"}
        assert after.string("tag") == "untagged"
        for name in ("h1", "h2", "h3"):
            assert np.array_equal(after.object(name).values(), before.object(name).values())
            assert after.object(name).values().sum() > 0
        for name in ("Runs", "LuminosityBlocks"):
            kinds = [
                {key: (branch.dtype, branch.title, branch.collection) for key, branch in file.branches_of(name).items()}
                for file in (before, after)
            ]
            assert kinds[0] == kinds[1]


def test_a_luminosity_mask_narrows_runs_and_sections(source: Path, tmp_path: Path) -> None:
    copied(source, tmp_path / "copy.root", CERTIFIED)
    assert rows(tmp_path / "copy.root", "LuminosityBlocks") == {"run": [1], "luminosityBlock": [2]}
    assert rows(tmp_path / "copy.root", "Runs") == {
        "run": [1], "genEventSumw": [2.5], "nPdfSumw": [3], "PdfSumw": [[0.5, 1.5, 2.5]]
    }  # fmt: skip


def test_nothing_may_be_certified(source: Path, tmp_path: Path) -> None:
    copied(source, tmp_path / "copy.root", LumiMask())
    assert rows(tmp_path / "copy.root", "LuminosityBlocks") == {"run": [], "luminosityBlock": []}
    assert rows(tmp_path / "copy.root", "Runs")["run"] == []


def test_a_branch_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"run": "u4"}).extend({"run": np.uint32([1])})
        file.mktree("Runs", {"run": "u4", "x": np.dtype(("f4", (2, 3)))}).extend(
            {"run": np.uint32([1]), "x": np.ones((1, 2, 3), "f4")}
        )
    assert copied(tmp_path / "a.root", tmp_path / "copy.root") == ["Runs/x (float[2][3])"]
    assert rows(tmp_path / "copy.root", "Runs") == {"run": [1]}


def test_nothing_is_beside_the_events_of_some_files(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"run": "u4"}).extend({"run": np.uint32([1])})
    assert copied(tmp_path / "a.root", tmp_path / "copy.root") == []
    with RootFile(tmp_path / "copy.root") as file:
        assert set(file.keys) == {"Events"}
