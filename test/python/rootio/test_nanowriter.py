from __future__ import annotations

import gc
import uuid
import warnings
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance
from MLTools.NanoML.rootio import nanowriter, roottree
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter, copy_auxiliary
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal import progress

BRANCHES = {
    "event": Branch("event", "uint64", "flat", "", None, ""),
    "HLT_X": Branch("HLT_X", "bool", "flat", "", None, ""),
    "Muon_pt": Branch("Muon_pt", "float32", "jagged", "", "Muon", ""),
    "Muon_id": Branch("Muon_id", "uint8", "jagged", "", "Muon", ""),
    "LHEPdfWeight": Branch("LHEPdfWeight", "float32", "jagged", "", "LHEPdfWeight", ""),
    "Jet_idx": Branch("Jet_idx", "int16", "jagged", "index in a list", "Jet", ""),
    "Muon_sumPt": Branch("Muon_sumPt", "float64", "flat", "one number, not a list", None, ""),
    "legs": Branch("legs", "int16", "fixed", "two numbers", None, "", 2),
    "nMuon": Branch("nMuon", "uint32", "flat", "number of muons", None, ""),
}
EVENTS = {"run": Branch("run", "uint32", "flat", "run number", None, "")}
CERTIFIED = LumiMask.from_dict({"1": [[2, 3]], "3": [[1, 1]]}, "test")
ACCOUNTING = FileAccounting("a.root", 20, 12, 20.0, "Runs/genEventSumw", False)
COLUMNS = [name for name in BRANCHES if name != "nMuon"]


def rows(first: int, count: int) -> dict[str, ak.Array]:
    events = np.arange(first, first + count)
    numbers = events % 3
    return {
        "event": ak.Array(events.astype(np.uint64)),
        "HLT_X": ak.Array(events % 2 == 0),
        "Muon_pt": ak.unflatten(np.arange(numbers.sum(), dtype=np.float32), numbers),
        "Muon_sumPt": events / 3,
        "legs": np.stack([events, -events], axis=1).astype(np.int16),
        "Muon_id": ak.unflatten(np.arange(numbers.sum()).astype(np.uint8), numbers),
        "LHEPdfWeight": ak.unflatten(np.ones(2 * count, np.float32), np.full(count, 2)),
        "Jet_idx": ak.unflatten(np.zeros(numbers.sum(), np.int16), numbers[::-1]),
    }


@pytest.mark.parametrize("compression", ["ZLIB:5", "LZMA:1"])
def test_what_is_written_is_read(tmp_path: Path, compression: str) -> None:
    parts = [rows(0, 7), rows(7, 0), rows(7, 5)]
    title = "a long one, and not in ASCII: \u00b5 " * 100  # more than one row
    record = Provenance("skim", Accounting([ACCOUNTING, ACCOUNTING]), columns={"x": MadeColumn("f4", title)})
    with NanoWriter(tmp_path / "a.root", BRANCHES, compression) as writer:
        for part in parts:
            writer.events.extend(part)
        writer.finish(record.tree())
        assert writer.events.entries == 12
    with RootFile(tmp_path / "a.root") as file:
        assert Provenance.of(file) == record
    with uproot.open(tmp_path / "a.root") as file:
        tree = file["Events"]
        for name in COLUMNS:
            array = tree[name].array()
            assert ak.to_list(array) == [value for part in parts for value in ak.to_list(part[name])]
            assert str(BRANCHES[name].dtype) in str(array.type)
            assert tree[name].title == BRANCHES[name].title
        # collections share one counter, as nanoAOD-tools and coffea expect
        assert tree["Muon_pt"].count_branch.name == "nMuon"
        assert tree["Muon_id"].count_branch.name == "nMuon"
        assert tree["LHEPdfWeight"].count_branch.name == "nLHEPdfWeight"
        assert tree["nMuon"].array().tolist() == [0, 1, 2] * 4
        # counters are of the type that was asked for, or of NanoAOD's newest
        assert tree["nMuon"].typename == "uint32_t"
        assert tree["nMuon"].title == "number of muons"
        assert tree["nJet"].typename == "int32_t"


def test_collections_whose_branches_disagree_are_refused(tmp_path: Path) -> None:
    differing = {**rows(0, 3), "Muon_id": rows(1, 3)["Muon_id"]}
    refused = pytest.raises(NanoMLError, match="Muon_id has other numbers of objects")
    with NanoWriter(tmp_path / "a.root", BRANCHES, "ZLIB:1") as writer, refused:
        writer.events.extend(differing)


def test_a_file_that_cannot_be_begun_is_closed(tmp_path: Path) -> None:
    branch = Branch("text", None, "other", "", None, "std::string")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(NanoMLError, match="cannot be written"):
            NanoWriter(tmp_path / "a.root", {"text": branch}, "ZLIB:1")
        gc.collect()
    assert not [each for each in said if each.category is ResourceWarning]


@pytest.mark.parametrize("most", [0, 2000])
def test_a_file_is_the_same_however_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    for module in (roottree, uproot._util):
        monkeypatch.setattr(module, "datetime_to_code", lambda _: 1_234_567_890)
    monkeypatch.setattr(uproot, "recreate", partial(uproot.recreate, uuid_function=lambda: uuid.UUID(int=1)))
    found = []
    for limit in (1_000_000, most):
        monkeypatch.setattr(nanowriter, "_BYTES_IN_MEMORY", limit)
        with NanoWriter(tmp_path / "a.root", BRANCHES, "ZLIB:1") as writer:
            assert (tmp_path / "a.root").stat().st_size == 0 or limit == most
            for _ in range(12):
                writer.events.extend(rows(0, 7))
                writer.events.flush()
            writer.finish()
            assert ((tmp_path / "a.root").stat().st_size == 0) == (limit > most)
        found.append((tmp_path / "a.root").read_bytes())
    assert found[0] == found[1]


def test_what_was_written_does_not_wait_for_the_garbage_collection(tmp_path: Path) -> None:
    gc.disable()
    try:
        with NanoWriter(tmp_path / "a.root", BRANCHES, "ZLIB:1") as writer:
            for _ in range(12):  # there is room for ten baskets at first
                writer.events.extend(rows(0, 7))
                writer.events.flush()
            writer.finish()
        gone = weakref.ref(writer.events._tree.tree)
        del writer
        assert gone() is None
    finally:
        gc.enable()


def test_a_file_without_events_has_all_branches_and_other_trees_can_be_written(tmp_path: Path) -> None:
    with NanoWriter(tmp_path / "a.root", BRANCHES, "ZLIB:1") as writer:
        sums = {"run": np.array([1, 2]), "Pdf": ak.Array([[0.5, 1.5], [2.0]])}
        pdf = Branch("Pdf", "float64", "jagged", "weights", "Pdf", "")
        writer.write_tree("Runs", {"run": Branch("run", "int64", "flat", "", None, ""), "Pdf": pdf}, sums)
        writer.finish()
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Events"].num_entries == 0
        assert set(BRANCHES) <= set(file["Events"].keys())
        assert file["Runs/Pdf"].array().tolist() == [[0.5, 1.5], [2.0]]
        assert file["Runs/nPdf"].array().tolist() == [2, 1]
        assert file["Runs/Pdf"].title == "weights"


def test_without_uproots_private_classes_the_public_ones_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(*_: object) -> None:
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(roottree, "_KNOWN", (5, 0, 0))
    monkeypatch.setattr(roottree.RootTree, "__init__", changed)
    monkeypatch.setattr(progress, "_notes", {})
    nanowriter._overrides.cache_clear()
    for name in ("a", "b"):
        with NanoWriter(tmp_path / f"{name}.root", BRANCHES, "ZLIB:1") as writer:
            writer.events.extend(rows(0, 7))
            writer.events.extend(rows(7, 5))
            writer.finish(Provenance("skim", Accounting([ACCOUNTING])).tree())
    nanowriter._overrides.cache_clear()  # other tests write with this uproot
    said = capsys.readouterr().err
    assert said.count("Files are written without them, and more slowly.") == 1
    assert "(TypeError: unexpected keyword argument)" in said
    with RootFile(tmp_path / "b.root") as file:
        for name, array in file.read(COLUMNS).items():
            assert array.tolist() == [value for part in (rows(0, 7), rows(7, 5)) for value in part[name].tolist()]
        assert file.branch("Muon_pt").collection == "Muon"
        assert file.branch("nMuon").dtype == "int32"
        assert Provenance.of(file) == Provenance("skim", Accounting([ACCOUNTING]))


@pytest.mark.parametrize("newest", [(5, 0, 0), (9, 0, 0)])
def test_an_unknown_uproot_is_tried_out(newest: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []
    by_writing = roottree._check_by_writing
    monkeypatch.setattr(roottree, "_KNOWN", newest)
    monkeypatch.setattr(roottree, "_check_by_writing", lambda: tried.append(by_writing() is None))
    roottree.check()
    assert tried == ([True] if newest == (5, 0, 0) else [])


# the trees and objects beside the events


def copied(source: Path, output: Path, certified: LumiMask | None = None) -> list[str]:
    with RootFile(source) as file, NanoWriter(output, EVENTS, "ZLIB:1") as writer:
        left_out = copy_auxiliary(file, writer, certified.rows if certified is not None else None)
        writer.finish()
    return left_out


def rows_of(path: Path, tree: str) -> dict[str, list[Any]]:
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
        accounting = Accounting([FileAccounting("a.root", 3, 3, 1.5, "Runs/genEventSumw", False)])
        writer.finish(Provenance("skim", accounting).tree())
    return path


def test_all_is_copied_but_what_is_named(source: Path, tmp_path: Path) -> None:
    assert copied(source, tmp_path / "copy.root") == ["Other (TTree)"]
    for tree in ("Runs", "LuminosityBlocks"):
        assert rows_of(tmp_path / "copy.root", tree) == rows_of(source, tree)
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
    assert rows_of(tmp_path / "copy.root", "LuminosityBlocks") == {"run": [1], "luminosityBlock": [2]}
    assert rows_of(tmp_path / "copy.root", "Runs") == {
        "run": [1], "genEventSumw": [2.5], "nPdfSumw": [3], "PdfSumw": [[0.5, 1.5, 2.5]]
    }  # fmt: skip
    copied(source, tmp_path / "none.root", LumiMask())
    assert rows_of(tmp_path / "none.root", "LuminosityBlocks") == {"run": [], "luminosityBlock": []}
    assert rows_of(tmp_path / "none.root", "Runs")["run"] == []


def test_a_branch_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"run": "u4"}).extend({"run": np.uint32([1])})
        runs = {"run": np.uint32([1]), "x": np.ones((1, 2, 3), "f4")}
        file.mktree("Runs", {"run": "u4", "x": np.dtype(("f4", (2, 3)))}).extend(runs)
    assert copied(tmp_path / "a.root", tmp_path / "copy.root") == ["Runs/x (float[2][3])"]
    assert rows_of(tmp_path / "copy.root", "Runs") == {"run": [1]}
