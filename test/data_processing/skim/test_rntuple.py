"""Skims from RNTuples and as RNTuples are those from TTrees, with all books, and all that follows reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import uproot

from data_processing.convert.columns import StoredCollection
from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.merge.merge import MergeJob, merge_files
from data_processing.score.score import ScoreJob, score_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from data_processing.skim.stage import skim_tasks
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import accounting_of
from MLTools.NanoML.rootio.rootfile import RootFile
from services.data.cmssw_rntuples import LISTS, RECORDS
from services.nanoaod import can_write_rntuple
from services.rootfiles import record_of

Skims = dict[tuple[str, str], Path]

SELECTION = "MLTools.NanoML.trilepton:Trilepton"
KEEP = ("Muon_*", "Electron_*", "MET_*", "PSWeight", "HLT_IsoMu24")

needs_rntuples = pytest.mark.skipif(not can_write_rntuple(), reason=f"uproot {uproot.__version__} writes no RNTuple")


def content(path: Path) -> dict[str, Any]:
    """All that a skim carries, but for the name of its input and its format."""
    with RootFile(path) as file:
        record = record_of(path)
        books = record.accounting.to_json()
        own = accounting_of(file)
        for each in books["files"]:
            assert each.pop("file")
            each.pop("uuid", None)
        return {
            "events": {name: array.tolist() for name, array in file.read(file.branches).items()},
            "branches": {
                name: (branch.dtype, branch.shape, branch.collection) for name, branch in file.branches.items()
            },
            "titles": {name: branch.title for name, branch in file.branches.items()},
            "books": books,
            "record": (record.selection, record.columns, record.criteria, record.not_copied),
            "sums": (own.sum_of_weights, own.sum_of_weights_source),
            "trees": {
                name: {key: array.tolist() for key, array in (file.other_tree(name) or {}).items()}
                for name in ("Runs", "LuminosityBlocks")
            },
            "tag": file.string("tag"),
        }


@pytest.fixture(scope="module")
def skims(made_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Skims:
    """Skims of the same events, by the format of the input and of the skim."""
    if not can_write_rntuple():
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    directory = tmp_path_factory.mktemp("formats")
    found = {}
    for source, name in (("TTree", "made_v9_mc"), ("RNTuple", "made_v9_mc_rntuple")):
        for written in ("TTree", "RNTuple"):
            path = found[source, written] = directory / f"{source}_{written}.root"
            skim_file(SkimJob(str(made_files[name]), path, SELECTION, keep=KEEP, format=written))
    return found


def test_skims_from_and_to_both_formats_are_equal(skims: Skims) -> None:
    reference = content(skims["TTree", "TTree"])
    assert 0 < len(reference["events"]["event"]) < 80
    assert len(reference["books"]["files"][0]["cutflow"]) > 3
    assert reference["titles"]["Muon_pt"]
    for (source, written), path in skims.items():
        found = content(path)
        if source == "RNTuple":  # uproot's public functions wrote it without titles
            found["titles"] = reference["titles"]
        assert found == reference, (source, written)
        with uproot.open(path) as file:
            kinds = set(file.classnames(cycle=False).values()) - {"TObjString"}
            assert kinds == {"TTree" if written == "TTree" else "ROOT::RNTuple"}
            assert file["Events"]["Muon_pt"].array().tolist() == reference["events"]["Muon_pt"]


def test_what_follows_a_skim_reads_it(skims: Skims, tmp_path: Path) -> None:
    found = []
    for written in ("TTree", "RNTuple"):
        path = tmp_path / f"{written}.h5"
        skim = str(skims["TTree", written])
        convert_files(
            ConvertJob([skim], path, ["ZCand_mass", "MET_pt"], {"Muon": StoredCollection(("pt", "charge"), 2)})
        )
        with h5py.File(path) as file:
            found.append({name: file[name][()].tolist() for name in ("events", "Muon")})
    assert found[0] == found[1]
    assert found[0]["events"]


@pytest.mark.parametrize("copy", [False, True])
def test_scores_have_the_format_of_what_is_scored(
    skims: Skims, linear_model: Callable[..., Path], copy: bool, tmp_path: Path
) -> None:
    model, found = linear_model(["MET_phi"]), []
    for written in ("TTree", "RNTuple"):
        path = tmp_path / f"{written}.root"
        score_file(ScoreJob(str(skims["TTree", written]), path, [model], copy=copy))
        with RootFile(path) as file:
            assert file.format == written
        found.append(content(path))
    assert found[0] == found[1]
    assert len(set(found[0]["events"]["linear_signal"])) > 1


def test_an_rntuple_is_merged_to_one(made_files: dict[str, Path], tmp_path: Path) -> None:
    if not can_write_rntuple():
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    merged = []
    for written in ("TTree", "RNTuple"):
        parts = [tmp_path / f"{written}_{name}.root" for name in ("made_v9_mc", "made_v9_mc_skimmed")]
        for part, name in zip(parts, ("made_v9_mc", "made_v9_mc_skimmed")):
            skim_file(SkimJob(str(made_files[name]), part, keep=["*"], format=written))
        merge_files(MergeJob([str(part) for part in parts], tmp_path / f"{written}.root"))
        with RootFile(tmp_path / f"{written}.root") as file:
            assert file.format == written
        merged.append(content(tmp_path / f"{written}.root"))
    assert merged[0] == merged[1]
    assert len(merged[0]["events"]["event"]) == 110


@needs_rntuples
def test_a_skim_without_events_is_an_rntuple_with_its_books(made_files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    skim_file(SkimJob(str(made_files["made_v9_mc_zero_events"]), path, SELECTION, keep=KEEP, format="RNTuple"))
    found = content(path)
    assert found["events"]["Muon_pt"] == []
    assert found["sums"][0] != 0


@needs_rntuples
def test_files_of_cmssw_are_skimmed(tmp_path: Path) -> None:
    found = []
    for number, source in enumerate((RECORDS, LISTS)):
        path = tmp_path / f"{number}.root"
        skim_file(SkimJob(str(source), path, cut="nMuon >= 2 && Muon_pt[0] > 100", keep=["*"]))
        found.append(content(path))
    one, two = found
    assert one["events"] == two["events"]
    assert one["books"] == two["books"]
    assert one["trees"] == two["trees"]
    assert one["sums"] == (48, "Runs/genEventSumw")
    assert one["events"]["event"] == [number for number in range(10, 40) if number % 4 >= 2]


def test_what_cannot_write_an_rntuple_says_so(made_files: dict[str, Path], tmp_path: Path) -> None:
    job = SkimJob("", Path(), keep=["*"], engine="nanoaodtools", format="RNTuple")
    with pytest.raises(ConfigError, match=r"skim.format: the engine nanoaodtools writes no RNTuple"):
        skim_tasks(["a.root"], tmp_path, job)
    if not can_write_rntuple():
        job = SkimJob(str(made_files["made_v9_mc"]), tmp_path / "a.root", keep=["*"], format="RNTuple")
        with pytest.raises(NanoMLError, match=r"Events is to be an RNTuple\. That takes uproot 5\.7 or newer"):
            skim_file(job)
        assert not list(tmp_path.iterdir())
