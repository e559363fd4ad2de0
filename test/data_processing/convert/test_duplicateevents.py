"""Events of data that are there more than once: kept once, wherever they are put together, and counted."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_processing.convert import duplicateevents
from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.convert.duplicateevents import find_duplicates
from data_processing.convert.validation import validate_file
from data_processing.merge.merge import MergeJob, merge_files
from data_processing.shuffle import ShuffleJob, shuffle_files
from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.rootfiles import record_of

Event = tuple[int, int, int]

# few numbers, so that they repeat; the largest ones that there are among them
NUMBERS = st.tuples(
    st.sampled_from([2, 320_000, 2**32 - 1]),
    st.sampled_from([0, 1, 2**32 - 1]),
    st.sampled_from([0, 1, 2**63, 2**64 - 1]),
)


def blocks_of(events: Sequence[Event], size: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(events), size):
        numbers = np.array(events[start : start + size], np.uint64).reshape(-1, 3)
        block = np.empty(len(numbers), [("lumi", "u8"), ("event", "u8")])
        block["lumi"] = numbers[:, 0] << np.uint64(32) | numbers[:, 1]
        block["event"] = numbers[:, 2]
        yield block


@settings(max_examples=40, derandomize=True)
@given(
    parts=st.lists(st.lists(NUMBERS, max_size=30), max_size=4),
    size=st.integers(1, 12),
    events_in_memory=st.sampled_from([1, 7, 1000]),
    buckets=st.sampled_from([1, 3, 1024]),
)
def test_the_first_of_the_same_numbers_is_kept(
    parts: list[list[Event]], size: int, events_in_memory: int, buckets: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("buckets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicateevents, "_BUCKETS", buckets)
        memory = events_in_memory * duplicateevents._BYTES / 1e6
        found = find_duplicates([blocks_of(events, size) for events in parts], directory, memory)
    assert found.sizes == [len(events) for events in parts]
    assert not any(directory.iterdir())
    owner: dict[Event, int] = {}
    for part, events in enumerate(parts):
        kept, copies = [], dict[int, int]()
        for event in events:
            kept.append(event not in owner)
            original = owner.setdefault(event, part)
            if not kept[-1]:
                copies[original] = copies.get(original, 0) + 1
        assert found.copies(part) == copies
        for start in range(len(events) + 1):
            for stop in range(start, len(events) + 1):
                assert found.is_first(part, start, stop).tolist() == kept[start:stop]


def write(path: Path, events: Sequence[Event], weights: Sequence[float] | None = None) -> str:
    """A NanoAOD file; `x` tells one copy of an event from another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.array(events, np.uint64).reshape(-1, 3)
    columns: dict[str, NDArray[Any]] = {
        "run": numbers[:, 0].astype(np.uint32),
        "luminosityBlock": numbers[:, 1].astype(np.uint32),
        "event": numbers[:, 2],
        "x": np.random.default_rng(len(str(path)) + len(events)).random(len(events)).astype(np.float32),
        "Muon_pt": np.arange(len(events), dtype=np.float32),
    }
    if weights is not None:
        columns["genWeight"] = np.array(weights, np.float32)
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in columns.items()}).extend(columns)
    return str(path)


def some_events(chance: random.Random, most: int) -> list[Event]:
    """Events of a data set, none twice; several such sets have events in common."""
    pool = [(320_000 + number % 2, number // 10, number * 7) for number in range(40)]
    return chance.sample(pool, chance.randrange(most))


def split(chance: random.Random, events: list[Event], number: int) -> list[list[Event]]:
    cuts = sorted(chance.randrange(len(events) + 1) for _ in range(number - 1))
    return [events[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(events)])]


def numbers_in(path: Path) -> list[Event]:
    with h5py.File(path) as file:
        events = file["events"][:]
    return [tuple(row) for row in events[["run", "luminosityBlock", "event"]].tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_datasets_keep_what_a_set_would_whatever_the_files_and_the_order_of_jobs(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = chance.sample(["Muon", "DoubleMuon", "EGamma", "MET"], 4)
    events = {name: some_events(chance, 35) for name in names}
    simulated = [(1, 1, number) for number in range(5)]
    lines = ["luminosity: 1", "convert: {features: [x]}", "datasets:"]
    for name in names:
        if name == names[2]:  # simulation between data
            write(tmp_path / "mc" / "0.root", simulated, [1, 1, -1, 1, 1])
            lines.append("  A: {files: mc/0.root, cross_section: 1}")
        for number, part in enumerate(split(chance, events[name], chance.randrange(1, 4))):
            write(tmp_path / name / f"{number}.root", part)
        lines.append(f"  {name}: {{files: {name}/*.root, data: true}}")
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    (stage,) = pipeline_stages(load(tmp_path / "a.yaml"), ["convert"])
    tasks = list(stage.tasks)
    chance.shuffle(tasks)
    for task in tasks:
        decode(json.loads(json.dumps(encode(task.work))))()  # as a job does
    seen: set[Event] = set()
    for name in names:
        path = tmp_path / "a" / "hdf5" / f"{name}.h5"
        assert numbers_in(path) == [event for event in events[name] if event not in seen]
        dataset = metadata_content(path)["datasets"][0]
        lost = len(seen & set(events[name]))
        assert dataset["books"]["duplicates"] == sum(dataset.get("duplicates", {}).values()) == lost
        assert dataset["books"]["selected"] + lost == dataset["books"]["entries"] == len(events[name])
        assert not validate_file(path).faults
        seen |= set(events[name])
    assert numbers_in(tmp_path / "a" / "hdf5" / "A.h5") == simulated


CONFIG = """\
datasets:
  DoubleMuon: {files: double/*.root, data: true}
  SingleMuon: {files: single/*.root, data: true}
skim: {cut: "event > 2", keep: ["*"]}
convert: {features: [x]}
blind: none
"""


@pytest.fixture
def analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three events of SingleMuon are in DoubleMuon, and two in both of its own files; a cut removes one of each."""
    monkeypatch.setenv("NANOML_CORES", "1")  # no processes of workers
    double = [(2, 1, number) for number in range(8)]
    single = [(2, 1, number) for number in (9, 2, 4, 5, 1, 10)]
    write(tmp_path / "double" / "0.root", double)
    write(tmp_path / "single" / "0.root", single)
    write(tmp_path / "single" / "1.root", [(2, 1, number) for number in (20, 9, 10, 21)])
    (tmp_path / "a.yaml").write_text(CONFIG)
    return tmp_path / "a.yaml"


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(nanoml, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_what_is_left_out_is_told_counted_and_shown(analysis: Path) -> None:
    said = invoke("run", analysis)
    assert said.count("SingleMuon: 2 events that DoubleMuon also has were left out") == 1
    assert said.count("SingleMuon: 2 copies of its own events were left out") == 1
    assert "DoubleMuon: 5 events, data\n" in said
    path = analysis.parent / "a" / "hdf5" / "SingleMuon.h5"
    assert [event for _, _, event in numbers_in(path)] == [9, 10, 20, 21]
    accounting = metadata_content(path)["datasets"][0]["books"]
    assert [(file["selected"], file["duplicates"]) for file in accounting["files"]] == [(2, 2), (2, 2)]
    assert not validate_file(path).faults
    shown = invoke("inspect", path, "--show-data")
    assert "4 left out, 2 which DoubleMuon has, 2 copies of its own events" in " ".join(shown.split())
    assert json.loads(invoke("inspect", "--json", "--show-data", path))["datasets"][0]["books"]["duplicates"] == 4


def test_conversions_follow_the_order_of_datasets_and_their_files(analysis: Path) -> None:
    invoke("run", analysis)
    assert "Everything is up to date" in invoke("run", analysis)
    write(analysis.parent / "double" / "1.root", [(2, 1, 20)])
    invoke("run", analysis)
    hdf5 = analysis.parent / "a" / "hdf5"
    assert [event for _, _, event in numbers_in(hdf5 / "SingleMuon.h5")] == [9, 10, 21]
    double, single, *rest = CONFIG.splitlines(keepends=True)[1:]
    analysis.write_text("".join(["datasets:\n", single, double, *rest]))
    invoke("run", analysis)
    assert [event for _, _, event in numbers_in(hdf5 / "SingleMuon.h5")] == [9, 4, 5, 10, 20, 21]
    assert [event for _, _, event in numbers_in(hdf5 / "DoubleMuon.h5")] == [3, 6, 7]


def test_validation_sees_an_event_that_is_in_two_data_sets(tmp_path: Path) -> None:
    source = write(tmp_path / "0.root", [(2, 1, 5), (2, 1, 6)])
    convert_files(ConvertJob([source], tmp_path / "a.h5", ["x"]))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        metadata = json.loads(file["metadata"].asstr()[()])
        (dataset,) = metadata["datasets"]
        empty = {**dataset, "books": {**dataset["books"], "entries": 0, "selected": 0, "files": []}}
        metadata["datasets"] = [dataset, {**empty, "books": {**empty["books"], "sum_of_weights": 0}}]
        file["metadata"][()] = json.dumps(metadata)
        file["metadata"].attrs.pop("crc32", None)
        events = file["events"][:]
        events["event"] = 5
        file["events"][:] = events
    assert [check for check, _, _ in validate_file(tmp_path / "a.h5").faults] == ["unique"]


def test_merging_takes_an_event_of_data_from_the_first_file(analysis: Path) -> None:
    invoke("run", analysis, "--to", "skim")
    skims = analysis.parent / "a" / "skims"
    output = analysis.parent / "all.root"
    paths = [str(skims / name) for name in ("SingleMuon/1.root", "SingleMuon/0.root", "DoubleMuon/0.root")]
    found = merge_files(MergeJob(paths, output))
    assert (found.entries, found.duplicates) == (9, 4)
    with RootFile(output) as file:
        events = file.read(["event", "x"])
    assert events["event"].tolist() == [20, 9, 10, 21, 4, 5, 3, 6, 7]
    with RootFile(paths[1]) as first:
        at = first.read(["event", "x"])
    assert events["x"][4] == at["x"][at["event"].tolist().index(4)]
    assert [(file.selected, file.duplicates) for file in record_of(output).accounting.files] == [(4, 0), (2, 2), (3, 2)]
    assert "duplicates 4 left out" in " ".join(invoke("inspect", output, "--show-data").split())
    # the result is a skim like others: it can be merged and converted
    again = merge_files(MergeJob([str(output)], analysis.parent / "again.root"))
    assert (again.entries, again.duplicates) == (9, 0)
    convert_files(ConvertJob([str(analysis.parent / "again.root")], analysis.parent / "all.h5", ["x"]))
    assert metadata_content(analysis.parent / "all.h5")["datasets"][0]["books"]["duplicates"] == 4
    assert not validate_file(analysis.parent / "all.h5").faults


def test_merging_says_what_it_left_out_of_files_that_were_not_skimmed(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.root", [(2, 1, n), (2, 1, n + 1)]) for n in range(3)]
    said = invoke("merge", "-o", tmp_path / "all.root", *paths)
    assert "2 events that an earlier file also has were left out" in said
    with RootFile(tmp_path / "all.root") as file:
        assert file.read(["event"])["event"].tolist() == [0, 1, 2, 3]


def test_simulation_keeps_all_its_events(tmp_path: Path) -> None:
    events = [(7, 1, 1), (7, 1, 1)]
    source = write(tmp_path / "0.root", events, [1, 1])
    convert_files(ConvertJob([source], tmp_path / "a.h5", ["x"]))
    assert numbers_in(tmp_path / "a.h5") == events
    assert merge_files(MergeJob([source], tmp_path / "all.root")).entries == 2


def test_shuffling_refuses_data_that_were_converted_apart(tmp_path: Path) -> None:
    for number in range(2):
        source = write(tmp_path / f"{number}.root", [(2, 1, number), (2, 1, number + 1)])
        convert_files(ConvertJob([source], tmp_path / f"{number}.h5", ["x"]))
    files = [tmp_path / "0.h5", tmp_path / "1.h5"]
    with pytest.raises(NanoMLError, match=r"1.h5: 1 of its events are in .*0.h5, too, .*`data: true`"):
        shuffle_files(ShuffleJob(files, tmp_path / "all.h5"))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".h5", ".h5", ".root", ".root"]
