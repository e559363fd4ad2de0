"""Merging of skims of which not all have the same columns under shifts of objects."""

from __future__ import annotations

import re
from pathlib import Path

import awkward as ak
import pytest

from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.merge.merge import MergeJob, merge_files
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.rootio.rootfile import RootFile
from services.rootfiles import lists_of, record_of
from services.shifted import INFO, SHIFTS, ShiftedSkims, like_others, rewritten


@pytest.fixture(scope="module")
def merged(shifted_skims: ShiftedSkims, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("merged") / "all.root"
    found = merge_files(MergeJob(shifted_skims.shifted, path))
    assert found.filled == {}
    return path


def test_a_column_that_a_file_lacks_is_the_nominal_one(shifted_skims: ShiftedSkims, merged: Path) -> None:
    files, found = [lists_of(path) for path in shifted_skims.shifted], lists_of(merged)
    assert len({frozenset(each) for each in files}) > 2  # or nothing is shown here
    assert found.keys() == set().union(*files)
    for name, values in found.items():
        nominal = next((name.replace(f"_{shift}", "") for shift in SHIFTS if f"_{shift}" in name), name)
        expected = [each[name if name in each else nominal] for each in files]
        assert ak.all(values == ak.concatenate(expected), axis=None)


def test_the_record_names_all_columns(shifted_skims: ShiftedSkims, merged: Path) -> None:
    record, files = record_of(merged), [record_of(path) for path in shifted_skims.shifted]
    assert record.columns.keys() == set().union(*(each.columns for each in files))
    assert record.accounting == Accounting([file for each in files for file in each.accounting.files])
    assert 0 < record.accounting.selected < record.accounting.written == len(lists_of(merged)["run"])
    assert record.shifts == list(SHIFTS)
    with RootFile(merged) as file:
        assert record.contradiction(file) is None
    assert inspect_file(merged).errors == []


def test_a_merged_file_is_merged_again(shifted_skims: ShiftedSkims, merged: Path, tmp_path: Path) -> None:
    merge_files(MergeJob(shifted_skims.shifted[:2], tmp_path / "first.root"))
    merge_files(MergeJob([str(tmp_path / "first.root"), *shifted_skims.shifted[2:]], tmp_path / "all.root"))
    one, other = lists_of(merged), lists_of(tmp_path / "all.root")
    assert one.keys() == other.keys()
    assert all(ak.all(one[name] == other[name], axis=None) for name in one)


def test_what_belongs_to_no_column_is_missed(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    """Only columns under shifts of the record are filled, and no flags."""
    source = shifted_skims.shifted[0]
    with RootFile(source) as file:
        branches = file.branches
    for lost in ("selected_jesUp", "Muon_sumPt"):
        path = rewritten(source, tmp_path / f"{lost}.root", [name for name in branches if name != lost])
        with pytest.raises(NanoMLError, match=f"{lost}: not in .*{lost}.root, but in "):
            merge_files(MergeJob([str(path), *shifted_skims.shifted[1:]], tmp_path / "out.root"))
    assert not (tmp_path / "out.root").exists()


def test_other_shifts_are_another_selection(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    text = (shifted_skims.directory / "shifted.py").read_text()
    (tmp_path / "shifted.py").write_text(text.replace('"jes": UP_DOWN, "jer": UP_DOWN', '"jer": UP_DOWN'))
    job = SkimJob(shifted_skims.sources[0], tmp_path / "0.root", "shifted.py:Shifted", str(tmp_path), dataset=INFO)
    skim_file(job)
    with pytest.raises(NanoMLError, match="was selected under the shifts jerUp, jerDown, but .* jesUp, jesDown, jerUp"):
        merge_files(MergeJob([shifted_skims.shifted[1], str(job.output)], tmp_path / "out.root"))


NUMBERS = ["run", "luminosityBlock", "event", "genWeight", "selected", "MET", "nGoodJet"]
NUMBERS += [f"selected_{shift}" for shift in SHIFTS]


@pytest.mark.parametrize("is_filled", [True, False])
def test_what_others_merged_is_refused(shifted_skims: ShiftedSkims, tmp_path: Path, is_filled: bool) -> None:
    some = [*NUMBERS, "nGoodJet_jesUp"] if is_filled else NUMBERS
    path = like_others(shifted_skims.shifted[:2], tmp_path / "hadd.root", some)
    message = (
        "was merged from files of which only some have columns with values under shifts, .*nGoodJet_.* `nanoml merge`"
    )
    with pytest.raises(NanoMLError, match=message):
        merge_files(MergeJob([str(path)], tmp_path / "out.root"))
    with pytest.raises(NanoMLError, match=message):
        convert_files(ConvertJob([str(path)], tmp_path / "out.h5", ["MET"], sample=Sample("WZ")))
    assert any(re.search(message, error) for error in inspect_file(path).errors)


def test_columns_that_were_lost_are_missed(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    """As by a program that takes the branches of its first file, which has no events and lacks some."""
    empty, full = shifted_skims.shifted[2], shifted_skims.shifted[0]
    path = like_others([empty, full], tmp_path / "hadd.root", NUMBERS)
    message = (
        "has lost columns with values under shifts, which its record names: (nGoodJet|MET|SelJet).* `nanoml merge`"
    )
    with pytest.raises(NanoMLError, match=message):
        convert_files(ConvertJob([str(path)], tmp_path / "out.h5", ["MET"], sample=Sample("WZ")))
    assert any(re.search(message, error) for error in inspect_file(path).errors)
    # one that takes all branches loses nothing
    path = like_others(
        [full, empty],
        tmp_path / "all.root",
        [name for name in lists_of(full) if name not in LISTS and "SelJet" not in name],
    )
    [left] = inspect_file(path).errors
    assert left.startswith("The record names columns that the file lacks: SelJet_pt")


LISTS = ("nJet", "nMuon", "Jet_pt", "Jet_eta", "Jet_phi", "Muon_pt", "Muon_eta")
