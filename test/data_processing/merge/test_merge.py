from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from data_processing.merge import merge
from data_processing.merge.merge import Checksums, FileContent, MergeJob, MergeRecord, _check, foresee, merge_files
from data_processing.merge.plan import MergeInputs
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of, all_events_of, is_same_sum
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance
from MLTools.NanoML.rootio.baskets import rows_at_once
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from processes import nanoml
from services.arrays import same
from services.rootfiles import record_of, values_of

IDENTIFIERS = ("run", "luminosityBlock", "event")
READ = (*IDENTIFIERS, "nMuon", "Muon_pt", "Muon_charge", "Muon_highPtId", "Jet_pt", "MET_pt", "HLT_Mu50", "HLT_IsoMu24")
NEW = "event < 1000000000000"  # passed by all events of the example, and by none of `empty`
COLLECTIONS = {"Muon_pt": "Muon", "Muon_charge": "Muon", "Muon_highPtId": "Muon", "Jet_pt": "Jet"}
Arrays = dict[str, Any]


def command(*arguments: object, cwd: Path) -> tuple[int, str]:
    done = nanoml("merge", *arguments, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def described(name: str, array: Any) -> Branch:
    dtype = str(ak.flatten(array, axis=None).type.content) if len(array) else "float32"
    shape = "jagged" if array.ndim > 1 else "flat"
    return Branch(name, dtype, shape, f"title of {name}", COLLECTIONS.get(name, name), "")


def write(
    path: Path, events: Arrays, *, runs: Arrays | None = None, record: Provenance | None = None, **others: Any
) -> Path:
    """Write a NanoAOD file; without `runs`, with the sums of its weights."""
    if runs is None and "genWeight" in events:
        weights = np.asarray(events["genWeight"], np.float64)
        runs = {"run": np.uint32([1]), "genEventCount": np.int64([len(weights)]), "genEventSumw": [weights.sum()]}
    branches = {name: described(name, array) for name, array in events.items()}
    with NanoWriter(path, branches, "ZLIB:1") as writer:
        writer.events.extend(events)
        if runs:
            arrays = {name: ak.Array(values) for name, values in runs.items()}
            writer.write_tree("Runs", {name: described(name, array) for name, array in arrays.items()}, arrays)
        for name, content in others.items():
            writer.write_object(name, content)
        writer.finish(record.tree() if record else None)
    return path


def sample_events(sample: Path, start: int, stop: int) -> Arrays:
    """Events of the example, with weights of both signs."""
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        events: Arrays = file.read(READ, start, stop)
    number = np.asarray(events["event"]).astype(np.int64)
    weights = np.where(number % 7 == 0, -1, 1) * (1 + number % 5 / 3)
    return {**events, "genWeight": ak.Array(weights.astype(np.float32))}


@pytest.fixture(scope="module")
def parts(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("parts")
    whole = sample_events(sample, 0, 200)
    return [
        write(directory / f"{n:02}.root", {name: array[n * 25 : n * 25 + 25] for name, array in whole.items()})
        for n in range(8)
    ]


@pytest.fixture(scope="module")
def empty(parts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A skim that keeps no event, but has weights behind it."""
    directory = tmp_path_factory.mktemp("empty")
    with uproot.open(parts[0]) as file:
        events = file["Events"].arrays([*READ, "genWeight"], how=dict)
    events["event"] = events["event"] + 1_000_000_000_000
    write(directory / "other.root", events)
    source = write(directory / "source.root", events)
    skim_file(SkimJob(str(source), directory / "empty.root", cut=NEW, keep=("*",)))
    return directory / "empty.root"


def joined(paths: Sequence[Path], tree: str = "Events") -> dict[str, list[Any]]:
    found = [values_of(path, tree) for path in paths]
    return {name: [value for each in found for value in each[name]] for name in found[0]}


def merged(paths: Sequence[Path], output: Path, **settings: Any) -> MergeRecord:
    return merge_files(MergeJob([str(path) for path in paths], output, **settings))


def sum_of_weights(path: Path) -> float:
    with RootFile(path) as file:
        return accounting_of(file).sum_of_weights


def test_skims_of_which_some_keep_nothing_lose_no_event_and_no_weight(parts: list[Path], tmp_path: Path) -> None:
    skims, accounting = [], []
    dropped = [event for n in (0, 3, 4, 7) for event in values_of(parts[n])["event"]]
    cut = " && ".join(["nMuon >= 1 && MET_pt > 20", *(f"event != {event}" for event in dropped)])
    for part in parts:
        output = tmp_path / "skims" / part.name
        accounting += skim_file(SkimJob(str(part), output, cut=cut, keep=("*",))).files
        skims.append(output)
    expected = Accounting(accounting)
    before = [path.read_bytes() for path in skims]
    found = merged(skims, tmp_path / "all.root")
    # as the files were made, though nobody told what their weights are
    assert expected.sum_of_weights == pytest.approx(sum(sum_of_weights(part) for part in parts), rel=1e-14)
    assert expected.selected not in (0, expected.entries)
    assert (found.files, found.entries) == (8, expected.selected)
    assert found.sum_of_weights == expected.sum_of_weights
    assert sum_of_weights(tmp_path / "all.root") == pytest.approx(expected.sum_of_weights, rel=1e-14)
    assert record_of(tmp_path / "all.root").accounting == expected
    assert record_of(tmp_path / "all.root").kind == "skim"
    for tree in ("Events", "Runs"):
        assert values_of(tmp_path / "all.root", tree) == joined(skims, tree)
    assert [path.read_bytes() for path in skims] == before
    # and the next step of the chain finds the same
    assert merged([tmp_path / "all.root"], tmp_path / "again.root") == replace(found, files=1)
    assert record_of(tmp_path / "again.root").accounting == expected


@pytest.mark.parametrize("order", ["E01", "01E", "EE"])
def test_a_file_without_events_counts_wherever_it_stands(
    parts: list[Path], empty: Path, tmp_path: Path, order: str
) -> None:
    second = tmp_path / "second.root"
    shutil.copy(empty.with_name("other.root"), tmp_path / "source.root")
    whole = [tmp_path / "0.root", tmp_path / "1.root"]
    for source, output in ((tmp_path / "source.root", second), *zip(parts, whole)):
        skim_file(SkimJob(str(source), output, cut=NEW, keep=("*",)))
    taken = iter([empty, second])
    paths = [next(taken) if each == "E" else whole[int(each)] for each in order]
    found = merged(paths, tmp_path / "all.root")
    assert found.entries == 25 * (len(order) - order.count("E"))
    assert found.sum_of_weights == pytest.approx(sum(sum_of_weights(path) for path in paths), rel=1e-14)
    assert sum_of_weights(tmp_path / "all.root") == pytest.approx(found.sum_of_weights, rel=1e-14)
    assert found.sum_of_weights != 0
    for tree in ("Events", "Runs"):
        assert values_of(tmp_path / "all.root", tree) == joined(paths, tree)


@pytest.fixture(scope="module")
def eras(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files with other trigger paths: IsoMu24 is in the first two, Mu50 in the last two."""
    directory, paths = tmp_path_factory.mktemp("eras"), []
    for n, lacking in enumerate(("HLT_Mu50", "", "HLT_IsoMu24")):
        events = sample_events(sample, n * 30, n * 30 + 30)
        events.pop(lacking, None)
        paths.append(write(directory / f"era{n}.root", events))
    return paths


def test_branches_that_a_file_lacks_are_named_with_the_file(eras: list[Path], tmp_path: Path) -> None:
    with pytest.raises(NanoMLError) as raised:
        merged(eras, tmp_path / "all.root")
    message = str(raised.value)
    assert f"HLT_IsoMu24: not in {eras[2]}, but in {eras[0]}, {eras[1]}" in message
    assert f"HLT_Mu50: not in {eras[0]}, but in {eras[1]}, {eras[2]}" in message
    assert "--fill" in message
    assert "--common" in message
    assert not (tmp_path / "all.root").exists()


def test_branches_that_a_file_lacks_are_filled_or_left_out(eras: list[Path], tmp_path: Path) -> None:
    job = MergeJob([str(path) for path in eras], tmp_path / "all.root", fill=True)
    line = foresee(job).lines("all.root")[1]
    assert line == "filled where a file lacks it: Events/HLT_IsoMu24 (1 of 3 files), Events/HLT_Mu50 (1 of 3 files)"
    found = merge_files(job)
    assert found.filled == {"Events/HLT_Mu50": [str(eras[0])], "Events/HLT_IsoMu24": [str(eras[2])]}
    result, each = values_of(tmp_path / "all.root"), [values_of(path) for path in eras]
    assert result["HLT_Mu50"] == [False] * 30 + each[1]["HLT_Mu50"] + each[2]["HLT_Mu50"]
    assert result["HLT_IsoMu24"] == each[0]["HLT_IsoMu24"] + each[1]["HLT_IsoMu24"] + [False] * 30
    assert result["Muon_pt"] == [pt for one in each for pt in one["Muon_pt"]]
    with RootFile(tmp_path / "all.root") as file:
        assert file.branches["HLT_Mu50"].dtype == "bool"
    found = merged(eras, tmp_path / "common.root", common=True)
    assert found.not_merged == dict.fromkeys(["Events/HLT_IsoMu24", "Events/HLT_Mu50"], "is not the same in all files")
    assert "Events/HLT_Mu50 (is not the same in all files)" in record_of(tmp_path / "common.root").not_copied
    del each[0]["HLT_IsoMu24"]
    assert {name: array[:30] for name, array in values_of(tmp_path / "common.root").items()} == each[0]


def test_lists_that_a_file_lacks_are_as_long_as_the_others_of_their_collection(sample: Path, tmp_path: Path) -> None:
    whole, poor, poorest = (sample_events(sample, start, start + 20) for start in (0, 20, 40))
    del poor["Muon_charge"]
    for name in ("Muon_pt", "Muon_charge", "Muon_highPtId", "Jet_pt"):
        del poorest[name]  # it still says how many muons there are
    paths = [write(tmp_path / f"{n}.root", events) for n, events in enumerate((whole, poor, poorest))]
    merged(paths, tmp_path / "all.root", fill=True)
    result = values_of(tmp_path / "all.root")
    numbers = [ak.to_list(events["nMuon"]) for events in (whole, poor, poorest)]
    assert result["nMuon"] == [number for each in numbers for number in each]
    assert result["Muon_charge"][:20] == ak.to_list(whole["Muon_charge"])
    assert result["Muon_charge"][20:] == [[0] * count for count in numbers[1] + numbers[2]]
    assert sum(numbers[2]) > 0
    assert result["Muon_pt"][20:40] == ak.to_list(poor["Muon_pt"])
    assert result["Jet_pt"][40:] == [[]] * 20
    with pytest.raises(NanoMLError, match="Muon_charge: not in"):
        merged(paths, tmp_path / "no.root")
    merged(paths, tmp_path / "common.root", common=True)
    assert not {"Muon_pt", "Muon_charge", "Jet_pt", "nJet"} & set(values_of(tmp_path / "common.root"))
    assert values_of(tmp_path / "common.root")["nMuon"] == [number for each in numbers for number in each]


@pytest.mark.parametrize("name", ["genWeight", "event"])
def test_what_nothing_can_stand_in_for_is_never_filled(sample: Path, tmp_path: Path, name: str) -> None:
    whole, poor = sample_events(sample, 0, 20), sample_events(sample, 20, 40)
    del poor[name]
    runs = {"run": [1], "genEventSumw": [20.0]}
    paths = [write(tmp_path / f"{n}.root", events, runs=runs) for n, events in enumerate((whole, poor))]
    for settings in ({}, {"fill": True}, {"common": True}):
        with pytest.raises(NanoMLError, match=f"Nothing can stand in for {name}"):
            merged(paths, tmp_path / "all.root", **settings)


def test_types_that_differ_are_joined_where_nothing_is_lost(sample: Path, tmp_path: Path) -> None:
    one, two = sample_events(sample, 0, 20), sample_events(sample, 20, 40)
    changes = [("Muon_highPtId", "int16"), ("MET_pt", "float64"), ("HLT_Mu50", "uint8"), ("run", "int32")]
    for name, dtype in changes:
        two[name] = ak.values_astype(two[name], dtype)
    two["nMuon"] = ak.values_astype(two["nMuon"], "int32")
    one["whole"], two["whole"] = ak.values_astype(one["MET_pt"], "int32"), ak.values_astype(two["MET_pt"], "float32")
    # the order of branches does not matter either
    paths = [write(tmp_path / f"{n}.root", events) for n, events in enumerate((one, dict(reversed(two.items()))))]
    merged(paths, tmp_path / "all.root")
    assert values_of(tmp_path / "all.root") == joined(paths)
    with RootFile(tmp_path / "all.root") as file:
        assert file.branches["Jet_pt"].title == "title of Jet_pt"
        found = {name: file.branches[name].dtype for name in (*dict(changes), "nMuon", "whole")}
    # a counter keeps the type of the first file: int64 would be none that NanoAOD has
    assert found == {
        "Muon_highPtId": "int16", "MET_pt": "float64", "HLT_Mu50": "uint8", "run": "int64", "nMuon": "uint32",
        "whole": "float64",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "two", "dtypes"),
    [
        ("MET_pt", "MET_pt", ("int64", "float64")),
        ("MET_pt", "MET_pt", ("uint64", "int64")),
        ("MET_pt", "Muon_pt", ("float32", "lists of float32")),
    ],
)
def test_types_that_cannot_be_joined_are_refused(
    sample: Path, tmp_path: Path, one: str, two: str, dtypes: tuple[str, str]
) -> None:
    paths = []
    for n, (name, dtype) in enumerate(zip((one, two), dtypes)):
        events = sample_events(sample, n * 20, n * 20 + 20)
        x = ak.values_astype(events[name], dtype.split()[-1])
        paths.append(write(tmp_path / f"{n}.root", {**events, "x": x}))
    for fill in (False, True):
        with pytest.raises(NanoMLError, match=rf"x: {dtypes[0]} in .*0.root; {dtypes[1]} in .*1.root"):
            merged(paths, tmp_path / "all.root", fill=fill)
    merged(paths, tmp_path / "all.root", common=True)
    assert "x" not in values_of(tmp_path / "all.root")


def test_a_file_without_events_may_lack_anything(parts: list[Path], tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.root", {"run": ak.Array(np.empty(0, np.uint32)), "genWeight": np.empty(0, "f4")})
    for paths in ([bare, parts[0]], [parts[0], bare]):
        merged(paths, tmp_path / "all.root")
        assert values_of(tmp_path / "all.root") == values_of(parts[0])
    extra = {"run": np.empty(0, "u4"), "genWeight": np.empty(0, "f4"), "HLT_New": np.empty(0, "f4")}
    with pytest.raises(NanoMLError, match="HLT_New: not in"):
        merged([parts[0], write(tmp_path / "extra.root", extra)], tmp_path / "no.root")


def without_own_counters(branches: Mapping[str, Branch]) -> dict[str, Branch]:
    """All but the counters of single lists, which have those of their collections in what is written."""
    lists = [branch for branch in branches.values() if branch.is_jagged]
    own = {f"n{branch.name}" for branch in lists} - {f"n{branch.collection}" for branch in lists}
    return {name: branch for name, branch in branches.items() if name not in own}


@pytest.mark.exhaustive("every file at hand, value for value")
@pytest.mark.parametrize("name", ["v6_mc_underscore", "v9_mc_zero_events", "v9_data", "v12_mc_many_runs", "v15_mc"])
def test_every_file_is_merged_value_for_value(made_files: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    made_file = made_files[f"made_{name}"]
    copy = tmp_path / "copy.root"
    content = bytearray(made_file.read_bytes())
    content[47:63] = bytes(range(16))  # the identifier by which ROOT tells files apart
    copy.write_bytes(content)
    found = merged([made_file, copy], tmp_path / "all.root")
    with RootFile(made_file) as file, RootFile(tmp_path / "all.root") as result:
        # of data, the copy of an event is left out
        times = 1 if accounting_of(file).is_data else 2
        assert result.entries == times * file.entries == found.entries
        assert found.duplicates == (2 - times) * file.entries
        branches = without_own_counters(file.branches)
        before, after = file.read(branches), result.read(branches)
        for key, branch in branches.items():
            assert same(after[key], ak.concatenate([before[key]] * times)), key
            assert result.branches[key].dtype == branch.dtype
            assert result.branches[key].title == branch.title
        for tree in ("Runs", "LuminosityBlocks"):
            if tree in file.keys:
                branches = without_own_counters(file.branches_of(tree))
                before, after = file.other_tree(tree) or {}, result.other_tree(tree) or {}
                for key in branches:
                    assert same(after[key], ak.concatenate([before[key], before[key]])), key
        for key in ("tag", "untagged"):
            assert result.string(key) == file.string(key)
        total = times * accounting_of(file).sum_of_weights
        assert accounting_of(result).sum_of_weights == pytest.approx(total, rel=1e-14)


def test_the_same_events_never_count_twice(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="would count twice"):
        merged([parts[0], parts[0]], tmp_path / "all.root")
    skims = [tmp_path / "one.root", tmp_path / "two.root", tmp_path / "three.root"]
    for source, skim in zip((parts[0], parts[0], parts[1]), skims):
        skim_file(SkimJob(str(source), skim, cut="MET_pt > 20", keep=("*",)))
    with pytest.raises(NanoMLError, match=rf"two.root: was made from {parts[0]}, as .*one.root was"):
        merged(skims, tmp_path / "all.root")
    merged([skims[0], skims[2]], tmp_path / "some.root")
    with pytest.raises(NanoMLError, match=r"some.root: was made from .*00.root"):
        merged([skims[1], tmp_path / "some.root"], tmp_path / "all.root")
    assert not (tmp_path / "all.root").exists()


def test_files_that_do_not_belong_together_are_refused(
    parts: list[Path], data: list[Path], sample: Path, tmp_path: Path
) -> None:
    trilepton = tmp_path / "trilepton.root"
    skim_file(SkimJob(str(sample / "ZGToLLG" / "ZGToLLG_0.root"), trilepton, "MLTools.NanoML.trilepton:Trilepton"))
    cases = [
        ([parts[0], data[0]], r"data0.root: is data, but .*00.root is simulation. Merge them separately."),
        ([parts[0], trilepton], r"trilepton.root: was selected by .*Trilepton, but .*00.root was selected by nothing"),
        ([parts[0], write(tmp_path / "x.root", sample_events(sample, 0, 5), runs={})],
         "x.root: has no tree Runs, but .*00.root has it: weights would be lost"),
    ]  # fmt: skip
    for paths, message in cases:
        for settings in ({}, {"fill": True}, {"common": True}):
            with pytest.raises(NanoMLError, match=message):
                merged(paths, tmp_path / "all.root", **settings)


@pytest.fixture(scope="module")
def data(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of events of the example as if they were data."""
    directory, paths = tmp_path_factory.mktemp("data"), []
    for n in range(2):
        events = sample_events(sample, n * 40, n * 40 + 40)
        del events["genWeight"]
        paths.append(write(directory / f"data{n}.root", events, runs={"run": [1]}))
    return paths


EVEN = """
import awkward as ak
from MLTools.NanoML.selection import Selection

class Even(Selection):
    branches = ("event",)

    def select(self, events, cutflow):
        return cutflow.cut("even", events.event % 2 == 0, events), {}

class Odd(Even):
    pass

class Module:
    def beginJob(self): pass
    def endJob(self): pass
    def beginFile(self, *_): pass
    def endFile(self, *_): pass
    def analyze(self, event): return event.nMuon >= 1

module = lambda: Module()
"""


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ({"cut": "nMuon >= 1"}, {"cut": "nMuon>=2"}, "selected by the cut nMuon>=2, but .*0.root was selected by the cut nMuon >= 1"),
        ({"cut": "nMuon >= 1"}, {"cut": "nMuon>=1"}, None),
        ({"selection": "even.py:Even"}, {"selection": "even.py:Even", "cut": "1"}, "selected by the cut 1, but .*selected without a cut"),
        ({"selection": "even.py:Even"}, {"selection": "even.py:Odd"}, "selected by even.py:Odd, but .* was selected by even.py:Even"),
        ({"selection": "even.py:Even"}, {"selection": "./copy/even.py:Even"}, None),
        ({"selection": "even.py:Even"}, {"selection": "changed/even.py:Even"}, "selected by changed/even.py:Even"),
        ({"modules": ("even.py:module",)}, {"cut": "1"}, "selected without modules, but .* was selected by the modules even.py:module"),
        ({"modules": ("even.py:module",)}, {"modules": ("copy/even.py:module",)}, None),
        ({"certified": "a.json"}, {"certified": "b.json"}, "certified by b.json [0-9a-f]{8}, but .*0.root was certified by a.json"),
        ({"certified": "a.json"}, {"certified": "same.json"}, None),
        ({"cut": "1", "keep": ("nMuon", "*")}, {"cut": "1"}, None),
    ],
)  # fmt: skip
def test_skims_that_something_else_selected_are_refused(
    data: list[Path], tmp_path: Path, one: dict[str, Any], two: dict[str, Any], message: str | None
) -> None:
    for name, code in (("even", EVEN), ("copy/even", EVEN), ("changed/even", EVEN.replace("== 0", "== 1"))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(code)
    for name, text in (("a", '{"1": [[1, 99999]]}'), ("b", '{"1": [[1, 9]]}'), ("same", '{"1":[[1,5],[6,99999]]}')):
        (tmp_path / f"{name}.json").write_text(text)
    skims = [tmp_path / "skims" / path.name for path in data]
    for source, skim, settings in zip(data, skims, (one, two)):
        skim_file(SkimJob(str(source), skim, base=str(tmp_path), **{"keep": ("*",), **settings}))
    if message is None:
        merged(skims, tmp_path / "all.root")
        assert record_of(tmp_path / "all.root").criteria == record_of(skims[0]).criteria
        return
    with pytest.raises(NanoMLError, match=rf"data1.root: was {message}.*Merge them separately"):
        merged(skims, tmp_path / "all.root")


def test_sums_of_weights_differ_by_rounding_only() -> None:
    assert is_same_sum(1e6, 1e6 * (1 + 1e-15), 1e6)
    assert is_same_sum(0.0, 1e-7, 1e6)  # weights that cancel
    assert not is_same_sum(1e6, 1e6 * (1 + 1e-10), 1e6)


def test_a_skim_that_was_changed_behind_its_record_is_refused(parts: list[Path], empty: Path, tmp_path: Path) -> None:
    skim = tmp_path / "skim.root"
    skim_file(SkimJob(str(parts[0]), skim, cut="MET_pt > 20", keep=("*",)))
    record = record_of(skim)
    with RootFile(skim) as file:
        events = file.read([name for name in file.branches if name not in ("nMuon", "nJet")])
        runs = file.other_tree("Runs")
    assert runs is not None
    more = {name: ak.concatenate([array, array]) for name, array in events.items()}
    write(tmp_path / "more.root", more, runs=runs, record=record)
    doubled = {name: ak.concatenate([array, array]) for name, array in runs.items()}
    write(tmp_path / "heavy.root", events, runs=doubled, record=record)
    with pytest.raises(NanoMLError, match="more.root: has .* events, but its record says"):
        merged([parts[1], tmp_path / "more.root"], tmp_path / "all.root")
    message = "heavy.root: has a sum of weights of .* in its Runs tree, but its record says"
    with pytest.raises(NanoMLError, match=message):
        merged([parts[1], tmp_path / "heavy.root"], tmp_path / "all.root")


def test_what_is_beside_the_trees_is_summed_kept_or_named(sample: Path, tmp_path: Path) -> None:
    edges = np.array([0.0, 1, 2])
    paths = []
    for n in range(3):
        objects = {
            "tag": "2018",
            "run": f"of file {n}",
            "h": (np.array([1.0, 2 + n]), edges),
            "other_axes": (np.array([1.0, 2]), edges + n),
        }
        if n == 1:
            objects["only_here"] = (np.array([3.0, 4]), edges)
        paths.append(write(tmp_path / f"{n}.root", sample_events(sample, n * 9, n * 9 + 9), **objects))
    found = merged(paths, tmp_path / "all.root")
    assert found.not_merged == {"run": "differs from file to file", "other_axes": "has different axes"}
    with RootFile(tmp_path / "all.root") as file:
        assert set(file.keys) == {"Events", "Runs", "tag", "h", "only_here", "nanoml"}
        assert file.string("tag") == "2018"
        assert file.object("h").values().tolist() == [3, 9]
        assert file.object("only_here").values().tolist() == [3, 4]
    assert record_of(tmp_path / "all.root").not_copied == [
        "run (differs from file to file)",
        "other_axes (has different axes)",
    ]


def test_a_tree_that_data_lack_is_told(sample: Path, tmp_path: Path) -> None:
    paths = []
    for n, runs in enumerate(({"run": [1, 2]}, {})):
        events = sample_events(sample, n * 9, n * 9 + 9)
        del events["genWeight"]
        paths.append(write(tmp_path / f"{n}.root", events, runs=runs))
    with pytest.raises(NanoMLError, match=r"1.root: has no tree Runs, but .*0.root has it. --fill takes it"):
        merged(paths, tmp_path / "all.root")
    merged(paths, tmp_path / "fill.root", fill=True)
    assert values_of(tmp_path / "fill.root", "Runs") == {"run": [1, 2]}
    assert merged(paths, tmp_path / "common.root", common=True).not_merged == {"Runs": "is not in all files"}


def test_the_memory_does_not_change_the_result(parts: list[Path], tmp_path: Path) -> None:
    merged(parts[:3], tmp_path / "one.root", memory=1000)
    merged(parts[:3], tmp_path / "many.root", memory=0.002)
    assert values_of(tmp_path / "one.root") == values_of(tmp_path / "many.root") == joined(parts[:3])
    with uproot.open(tmp_path / "one.root") as one, uproot.open(tmp_path / "many.root") as many:
        assert one["Events/MET_pt"].num_baskets == 1
        assert many["Events/MET_pt"].num_baskets > 5


def test_friends_are_merged_as_the_files_that_they_belong_to(parts: list[Path], tmp_path: Path) -> None:
    friends = []
    for part in parts[:2]:
        with RootFile(part) as file:
            record = Provenance("attached", Accounting([all_events_of(file)]), None, {"x": MadeColumn("float32", "t")})
            arrays: Arrays = file.read(IDENTIFIERS)
            arrays["x"] = file.read(["MET_pt"])["MET_pt"]
        friends.append(write(tmp_path / part.name, arrays, record=record))
    merged(friends, tmp_path / "friend.root")
    assert record_of(tmp_path / "friend.root").kind == "attached"
    assert record_of(tmp_path / "friend.root").columns == {"x": MadeColumn("float32", "t")}
    assert values_of(tmp_path / "friend.root")["x"] == joined(parts[:2])["MET_pt"]
    with pytest.raises(NanoMLError, match="has attached in it, but .* skim"):
        merged([parts[2], friends[0]], tmp_path / "no.root", common=True)


def test_mistakes_are_told_before_anything_is_written(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ALGORITHM:LEVEL"):
        merged(parts[:2], tmp_path / "all.root", compression="ZIP:1")
    with uproot.recreate(tmp_path / "odd.root") as file:
        file.mktree("Events", {"x": np.dtype(("f4", (3,)))}).extend({"x": np.ones((2, 3), "f4")})
    with pytest.raises(NanoMLError, match=r"odd.root: Events/x is of type float\[3\], which cannot be merged"):
        merged([tmp_path / "odd.root"], tmp_path / "all.root")
    bad = write(tmp_path / "bad.root", {"run": np.uint32([1]), "genWeight": np.float32([np.nan])})
    with pytest.raises(NanoMLError, match="bad.root: the sum of its weights .* is not a finite number"):
        merged([bad], tmp_path / "all.root")
    (tmp_path / "short.root").write_bytes(parts[0].read_bytes()[:5000])
    with pytest.raises(NanoMLError, match="short.root: cannot be read"):
        merged([parts[1], tmp_path / "short.root"], tmp_path / "all.root")
    assert not list(tmp_path.glob("*all*"))


def test_what_was_written_is_compared_with_what_was_read(parts: list[Path], tmp_path: Path) -> None:
    for name, number in (("right", 1), ("wrong", 2)):
        merged([parts[0], parts[number]], tmp_path / f"{name}.root")
    with RootFile(tmp_path / "right.root") as file:
        expected = FileContent.of(file, 100)
    job = MergeJob([str(path) for path in parts[:2]], tmp_path / "all.root")
    inputs = MergeInputs.of(job.sources)
    _check(job, tmp_path / "right.root", expected, inputs)
    with pytest.raises(NanoMLError) as raised:
        _check(job, tmp_path / "wrong.root", expected, inputs)
    assert "all.root: what was written is not what was read: Events/HLT_" in str(raised.value)
    lighter = MergeInputs.of([str(path) for path in parts[:1]])
    with pytest.raises(NanoMLError, match=r"is not what was read: sum of weights \(.* for .*\)"):
        _check(job, tmp_path / "right.root", expected, lighter)


def test_the_command_says_what_it_does_and_does_it_once(parts: list[Path], tmp_path: Path) -> None:
    code, said = command("-o", "all.root", "--dry-run", *parts, cwd=tmp_path)
    assert (code, os.listdir(tmp_path)) == (0, []), said
    assert "merge: 1 of 1 to do" in said
    assert "all.root: 8 files, 200 events" in said
    code, said = command("-o", "out/all.root", *parts, cwd=tmp_path)
    assert code == 0, said
    assert "all.root: 8 files, 200 events, sum of weights " in said
    assert values_of(tmp_path / "out" / "all.root") == joined(parts)
    assert "merge: up to date (1 of 1)" in command("-o", "out/all.root", *parts, cwd=tmp_path)[1]
    code, said = command("-o", "out/all.root", *parts[1:], cwd=tmp_path)
    assert f"{parts[0]} is no longer an input" in said
    assert len(values_of(tmp_path / "out" / "all.root")["event"]) == 175


def test_the_command_refuses_what_cannot_be_meant(parts: list[Path], eras: list[Path], tmp_path: Path) -> None:
    cases = [
        (("-o", "all.root", parts[0], parts[0]), 1, "is named twice"),
        (("-o", parts[0], *parts[:2]), 1, "would be overwritten by merge"),
        (("-o", "all.root", "--fill", "--common", *parts[:2]), 2, "give one of them"),
        (("-o", "all.root", "--dry-run", *eras), 1, "HLT_IsoMu24: not in"),
    ]
    before = parts[0].read_bytes()
    for arguments, code, message in cases:
        found, said = command(*arguments, cwd=tmp_path)
        assert found == code, said
        assert message in said
    assert not (tmp_path / "all.root").exists()
    assert parts[0].read_bytes() == before
    assert command("-o", "all.root", "--fill", *eras, cwd=tmp_path)[0] == 0
    _, said = command("-o", "all.root", "--common", *eras, cwd=tmp_path)
    assert "fill was changed from true to false" in said
    assert "WARNING Events/HLT_Mu50 is left out" in said


def test_a_file_that_changes_while_files_are_merged_is_noticed(
    parts: list[Path], eras: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [Path(shutil.copy(path, tmp_path)) for path in parts[:2]]
    record = merge._record

    def record_after_a_change(*arguments: Any) -> Provenance:
        shutil.copy(eras[0], sources[1])  # with more events
        return record(*arguments)

    monkeypatch.setattr(merge, "_record", record_after_a_change)
    with pytest.raises(NanoMLError, match=r"01.root: was changed meanwhile: nothing was written"):
        merged(sources, tmp_path / "all.root")
    assert not (tmp_path / "all.root").exists()


ACCOUNTING = FileAccounting("a.root", 3, 3, 3.0, "Runs/genEventSumw", False)
CONTENT: dict[str, Any] = {
    "Events": {"event": np.arange(3), "x": np.ones(3)},
    "Runs": {"run": np.ones(1), "genEventSumw": np.full(1, 3.0)},
    "tag": "2018",
    "h": (np.array([1.0, 2]), np.array([0.0, 1, 2])),
    "nanoml": Provenance("skim", Accounting([ACCOUNTING])).rows(),
}


def content(path: Path, **changes: Any) -> FileContent:
    with uproot.recreate(path) as file:
        for name, value in {**CONTENT, **changes}.items():
            if isinstance(value, dict):
                tree = file.mktree(name, {key: (array.dtype, array.shape[1:]) for key, array in value.items()})
                tree.extend(value)
            elif value is not None:
                file[name] = value
    with RootFile(path) as file:
        return FileContent.of(file, 100)


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({}, []),
        ({"Events": {"event": np.arange(3), "x": np.array([1.0, 2, 1])}}, ["Events/x"]),
        ({"Events": {"event": np.arange(3)}}, ["Events/x"]),
        ({"Events": {"event": np.arange(2), "x": np.ones(2)}}, ["rows of Events (3 and 2)"]),
        ({"Runs": None}, ["rows of Runs (1 and 0)"]),
        ({"Runs": {"run": np.ones(1), "genEventSumw": np.full(1, 2.0)}}, ["Runs/genEventSumw"]),
        ({"tag": "2017"}, ["tag"]),
        ({"tag": None}, ["tag"]),
        ({"h": (np.array([1.0, 3]), np.array([0.0, 1, 2]))}, ["h"]),
        ({"h": None}, ["h"]),
        ({"nanoml": Provenance("skim", Accounting([ACCOUNTING, ACCOUNTING])).rows()}, ["the record nanoml"]),
        ({"nanoml": None}, ["the record nanoml"]),
    ],
)
def test_what_differs_is_named(tmp_path: Path, changes: dict[str, Any], differing: list[str]) -> None:
    original, changed = content(tmp_path / "a.root"), content(tmp_path / "b.root", **changes)
    assert original.differing(changed) == differing
    assert len(changed.differing(original)) == len(differing)


def test_at_least_one_row_is_read() -> None:
    assert rows_at_once(1e9, 1) == 1
    assert rows_at_once(0, 1) == rows_at_once(1, 1) == 500_000


ARRAYS: dict[str, Any] = {
    "flat": ak.Array(np.arange(6, dtype=np.float32)),
    "bits": np.array([True, False, False, True, True, False]),
    "lists": ak.Array([[1, 2], [], [3], [], [], [4, 5, 6]]),
}


def checksums(arrays: dict[str, Any], ends: Sequence[int]) -> Checksums:
    found, start = Checksums(), 0
    for end in [*ends, 6]:
        found.add({name: array[start:end] for name, array in arrays.items()}, end - start)
        start = end
    return found


@given(st.lists(st.integers(0, 6)).map(sorted))
def test_they_do_not_depend_on_the_chunks(ends: list[int]) -> None:
    assert checksums(ARRAYS, ends).differing(checksums(ARRAYS, [])) == []
    assert checksums(ARRAYS, ends).rows == 6


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("flat", np.array([0, 1, 2, 3, 5, 4], np.float32)),
        ("flat", np.arange(6, dtype=np.float64)),
        ("flat", np.arange(6, dtype=np.int32)),
        ("bits", np.array([True, False, False, True, True, True])),
        ("lists", ak.Array([[1, 2], [3], [], [], [], [4, 5, 6]])),  # the same numbers in other lists
        ("lists", ak.Array([[1, 2], [], [3], [], [], [4, 6, 5]])),
        ("lists", np.arange(6)),
    ],
)
def test_they_depend_on_all_else(name: str, array: Any) -> None:
    other = checksums({**ARRAYS, name: array}, [])
    assert checksums(ARRAYS, [3]).differing(other) == [name]
    assert other.differing(checksums(ARRAYS, [3])) == [name]
