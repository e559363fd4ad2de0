"""ROOT reads what NanoML writes, merges it without a loss, and runs in users' modules; `make test-root` has ROOT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

pytest.importorskip("data_processing.skim.skim")

from data_processing.merge.merge import MergeJob, merge_files
from data_processing.score.score import ScoreJob, score_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile

pytestmark = pytest.mark.root
ROOT = pytest.importorskip("ROOT")

LEPTONS = Path(__file__).resolve().parents[2] / "data" / "leptons.onnx"
SELECTION = "MLTools.NanoML.trilepton:Trilepton"


def skims(sample: Path, directory: Path, **settings: Any) -> list[Path]:
    folder = sample / "WprimeToWZToLNuLL_M600"
    outputs = []
    for number in range(2):
        outputs.append(directory / f"{number}.root")
        skim_file(SkimJob(str(folder / f"WprimeToWZToLNuLL_M600_{number}.root"), outputs[-1], SELECTION, **settings))
    return outputs


def of_uproot(path: Path) -> Any:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def compare(frame: Any, expected: Any, names: Sequence[str]) -> None:
    """All values of a data frame, which have the types of numpy or of std::vector."""
    found = frame.AsNumpy(names)
    for name in names:
        values = ak.Array([np.asarray(value).tolist() for value in found[name]])
        assert ak.to_list(values) == ak.to_list(ak.nan_to_none(expected[name])), name


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@pytest.mark.parametrize("compression", ["ZLIB:5", "LZMA:4", "LZ4:4", "ZSTD:5"])
def test_a_data_frame_reads_all_of_a_skim(compression: str, format: str, sample: Path, tmp_path: Path) -> None:
    keep = ("MET_*", "Muon_pt", "Muon_charge")
    path, _ = skims(sample, tmp_path, keep=keep, compression=compression, format=format)
    expected = of_uproot(path)
    frame = ROOT.RDataFrame("Events", str(path))
    names = [str(name) for name in frame.GetColumnNames()]
    assert set(names) == set(expected.fields)
    assert len(expected) > 100
    compare(frame, expected, names)
    total = frame.Filter("ZCand_mass > 80").Sum("WLep_pt").GetValue()
    assert total == pytest.approx(ak.sum(expected.WLep_pt[expected.ZCand_mass > 80]), rel=1e-6)


def test_scores_are_a_friend_of_their_events(sample: Path, tmp_path: Path) -> None:
    path, _ = skims(sample, tmp_path, keep=("*",))
    scored = tmp_path / "scored.root"
    score_file(ScoreJob(str(path), scored, [LEPTONS]))
    file, friend = ROOT.TFile.Open(str(path)), ROOT.TFile.Open(str(scored))
    tree = file.Get("Events")
    tree.AddFriend(friend.Get("Events"), "scores")
    expected, scores = of_uproot(path), of_uproot(scored)
    chosen = scores.leptons_signal > 0.5
    assert 10 < ak.sum(chosen) < len(chosen)
    found = ROOT.RDataFrame(tree).Filter("scores.leptons_signal > 0.5")
    assert found.Count().GetValue() == ak.sum(chosen)
    assert found.Sum("WLep_pt").GetValue() == pytest.approx(ak.sum(expected.WLep_pt[chosen]), rel=1e-6)
    assert tree.GetEntries("scores.event == Events.event") == len(expected)


def test_an_rntuple_reader_reads_the_events_and_books_of_a_skim(sample: Path, tmp_path: Path) -> None:
    path, _ = skims(sample, tmp_path, keep=("MET_*", "Muon_pt"), format="RNTuple")
    with RootFile(path) as file:
        expected = file.read(["event", "Muon_pt", "nMuon"])
        runs, record = file.other_tree("Runs"), Provenance.of(file)
    assert runs is not None
    assert record is not None
    assert of_reader(path, "Events", "Muon_pt", "std::vector<float>") == expected["Muon_pt"].tolist()
    assert of_reader(path, "Events", "nMuon", "std::uint32_t") == expected["nMuon"].tolist()
    assert of_reader(path, "Runs", "genEventSumw", "double") == runs["genEventSumw"].tolist()
    assert len(expected["event"]) == record.accounting.selected > 100
    assert len(of_reader(path, "nanoml", "pieces", "std::int32_t")) > 0


def of_reader(path: Path, name: str, field: str, kind: str) -> list[Any]:
    reader = ROOT.RNTupleReader.Open(name, str(path))
    view = reader.GetView[kind](field)
    values = [view(entry) if "vector" not in kind else list(view(entry)) for entry in range(reader.GetNEntries())]
    del view  # ROOT crashes if it outlives the reader
    return values


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_a_file_merger_keeps_the_accounting(format: str, sample: Path, tmp_path: Path) -> None:
    paths = skims(sample, tmp_path, format=format)
    merger = ROOT.TFileMerger(False)
    assert merger.OutputFile(str(tmp_path / "theirs.root"), "RECREATE")
    for path in paths:
        assert merger.AddFile(str(path))
    assert merger.Merge()
    merge_files(MergeJob([str(path) for path in paths], tmp_path / "ours.root"))
    found = {}
    for name in ("ours", "theirs"):
        with RootFile(tmp_path / f"{name}.root") as file:
            record: Any = Provenance.of(file)
            assert record.contradiction(file) is None
            found[name] = record.accounting
    assert found["theirs"].sum_of_weights == found["ours"].sum_of_weights == 2000
    assert found["theirs"].cutflow == found["ours"].cutflow
    assert found["theirs"].entries == 2000
    content = inspect_file(tmp_path / "theirs.root").to_json()
    assert content["warnings"] == content["errors"] == []
    assert ak.to_list(of_uproot(tmp_path / "theirs.root")) == ak.to_list(of_uproot(tmp_path / "ours.root"))


def test_what_root_writes_is_read(sample: Path, tmp_path: Path) -> None:
    source, path = sample / "ZGToLLG" / "ZGToLLG_0.root", tmp_path / "theirs.root"
    frame = ROOT.RDataFrame("Events", str(source)).Define("sum", "Sum(Muon_pt)").Filter("nMuon > 1")
    frame.Snapshot("Events", str(path), ["event", "nMuon", "Muon_pt", "Muon_charge", "MET_pt", "sum"])
    expected = of_uproot(source)
    expected = expected[expected.nMuon > 1]
    with RootFile(path) as file:
        found = file.read(["event", "Muon_pt", "Muon_charge", "MET_pt", "sum"])
    for name in ("event", "Muon_pt", "Muon_charge", "MET_pt"):
        assert ak.to_list(found[name]) == ak.to_list(expected[name]), name
    assert found["sum"].tolist() == pytest.approx(ak.to_list(ak.sum(expected.Muon_pt, axis=1)), rel=1e-6)
    assert len(found["sum"]) > 100
