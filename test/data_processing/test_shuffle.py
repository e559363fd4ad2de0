from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.lib.recfunctions import rename_fields
from numpy.typing import NDArray

from data_processing import shuffle
from data_processing.convert.stage import shuffle_summary
from data_processing.shuffle import Reader, Records, ShuffleJob, shuffle_files
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, RecordedAccounting
from processes import nanoml, running
from services.arrays import same

Tables = dict[str, NDArray[Any]]

IDENTIFIERS = [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
EVENT = np.dtype([*IDENTIFIERS, ("x", "f8"), ("flag", "?")])
COLLECTIONS = {
    "Jet": (np.dtype([("pt", "f4"), ("half", "f2"), ("valid", "?")]), 3),
    "Muon": (np.dtype([("pt", "f8"), ("charge", "i1"), ("valid", "?")]), 1),
}


def made_up(first: int, count: int, label: int = 0) -> Tables:
    """Rows of which all numbers follow from the number of the event."""
    events = np.zeros(count, EVENT)
    number = events["event"] = np.arange(first, first + count)
    events["run"], events["luminosityBlock"], events["label"] = 1, number // 100, label
    events["weight"], events["x"], events["flag"] = number % 7, number**0.5, number % 3 == 0
    tables = {"events": events}
    for name, (dtype, most) in COLLECTIONS.items():
        rows = tables[name] = np.zeros((count, most), dtype)
        rows["valid"] = np.arange(most) < number[:, np.newaxis] % (most + 1)
        rows["pt"] = number[:, np.newaxis] * 10 + np.arange(most)
    tables["Jet"]["half"] = number[:, np.newaxis] % 1000
    tables["Muon"]["charge"] = number[:, np.newaxis] % 2 * 2 - 1
    return tables


def metadata_of(name: str, count: int, label: int) -> dict[str, Any]:
    accounting = asdict(RecordedAccounting([], count, count, 0, 1.0, []))
    return {
        "schema": 1,
        "creator": "NanoML 0.0.1",
        "classes": ["signal", "other"],
        "features": [{"name": key, "dtype": EVENT[key].name, "title": "", "source": "branch"} for key in ("x", "flag")],
        "objects": {
            key: {"max": most, "order": "-pt", "fields": [], "truncated": {"objects": count, "lost": label}}
            for key, (_, most) in COLLECTIONS.items()
        },
        "selection": None,
        "datasets": [{"name": name, "class": "signal", "label": label, "is_data": False, "books": accounting}],
    }


def write(path: Path, tables: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, rows in tables.items():
            file.create_dataset(name, data=rows, chunks=True if len(rows) else None, **options)
        file["metadata"] = json.dumps(metadata)
    return path


def write_files(directory: Path, counts: Sequence[int], **options: Any) -> list[Path]:
    """Files of so many events each, numbered through."""
    paths = []
    for number, count in enumerate(counts):
        tables = made_up(sum(counts[:number]), count, number % 2)
        metadata = metadata_of(f"d{number}", count, number % 2)
        paths.append(write(directory / f"d{number}.h5", tables, metadata, **options))
    return paths


def read(path: Path) -> Tables:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in ("events", *COLLECTIONS)}


def joined(paths: Sequence[Path]) -> Tables:
    tables = [read(path) for path in paths]
    return {name: np.concatenate([each[name] for each in tables]) for name in tables[0]}


def in_order(tables: Tables, seed: int) -> Tables:
    """What the documentation promises."""
    order = np.random.PCG64(seed).random_raw(len(tables["events"])).argsort(kind="stable")
    return {name: rows[order] for name, rows in tables.items()}


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(0, 300), min_size=1, max_size=5),
    memory=st.floats(0.002, 0.2),
    seed=st.integers(0, 2**32 - 1),
)
@example([20, 0, 7], 1e-6, 7)
@example([300, 0, 17, 500], 100, 7)
def test_the_order_is_the_documented_one_whatever_the_memory(counts: list[int], memory: float, seed: int) -> None:
    """Rows stay together, every event is there once, and nothing is left beside the file."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        paths = write_files(directory, counts)
        shuffle_files(ShuffleJob(paths, directory / "all.h5", seed, memory, "none"))
        assert sorted(directory.iterdir()) == [directory / "all.h5", *paths]
        found = read(directory / "all.h5")
    expected = made_up(0, sum(counts))
    for number, count in enumerate(counts):
        expected["events"]["label"][sum(counts[:number]) :][:count] = number % 2
    assert same(found, in_order(expected, seed))


PACKED = {"chunks": (100, 3), "compression": "gzip", "shuffle": True}


@pytest.mark.parametrize(
    ("options", "is_known"),
    [
        (PACKED, True),
        ({"chunks": (100, 3)}, False),
        ({"chunks": (100, 2)}, False),
        ({**PACKED, "shuffle": False}, False),
        ({**PACKED, "fletcher32": True}, False),
        ({}, False),
    ],
)
def test_blocks_are_read_as_h5py_reads_them(tmp_path: Path, options: dict[str, Any], is_known: bool) -> None:
    rows = made_up(0, 1050)["Jet"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("Jet", data=rows, **options)
    with h5py.File(tmp_path / "a.h5") as file, ThreadPoolExecutor(2) as threads:
        table = np.dtype((rows.dtype, rows.shape[1:]))
        records = Records({"Jet": table})
        reader = Reader(file["Jet"], "Jet", records, threads)
        assert reader._is_known == is_known
        for start, stop in ((0, 1050), (99, 101), (250, 950), (1001, 1050), (7, 7)):
            for read in (reader.read, *([reader._read] if is_known else [])):
                found = np.zeros(stop - start, records.dtype)
                read(start, stop, found)
                assert records.rows("Jet", found).tobytes() == rows[start:stop].tobytes()


def test_of_events_with_the_same_number_the_first_comes_first() -> None:
    keys = np.random.default_rng(1).integers(0, 300, 2000).astype(np.uint64)
    assert shuffle._order(keys).tolist() == sorted(range(2000), key=lambda row: (keys[row], row))


def test_metadata_tell_of_all_files(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [30, 20, 10])
    metadata = shuffle_files(ShuffleJob(paths, tmp_path / "all.h5", 5)).to_json()
    assert metadata_content(tmp_path / "all.h5") == metadata
    assert [dataset["name"] for dataset in metadata["datasets"]] == ["d0", "d1", "d2"]
    assert metadata["objects"]["Jet"]["truncated"] == {"objects": 60, "lost": 1}
    assert metadata["shuffled"] == {"seed": 5}
    first = metadata_content(paths[0])
    assert all(metadata[key] == first[key] for key in ("schema", "classes", "features", "selection"))
    with h5py.File(tmp_path / "all.h5") as file:
        assert file.attrs["schema"] == 1
        assert list(file["events"].attrs["classes"]) == ["signal", "other"]
    assert shuffle_summary({"all": metadata}) == ["all: 60 events of 3 datasets"]


def _retyped(rows: NDArray[Any], field: str, dtype: str) -> NDArray[Any]:
    return rows.astype([(name, dtype if name == field else rows.dtype[name]) for name in rows.dtype.names or ()])


def _sorted_otherwise() -> dict[str, Any]:
    return {"Jet": {**metadata_of("b", 10, 0)["objects"]["Jet"], "order": "-btag"}}


OTHER_TABLES: list[tuple[Callable[[Tables], Tables], str]] = [
    (lambda t: {"events": rename_fields(t["events"], {"x": "y"})}, "`events` has no field x, but .*a.h5 has it"),
    (lambda t: {"Jet": _retyped(t["Jet"], "pt", "f8")}, "pt of `Jet` is float64, but float32 in .*a.h5"),
    (lambda t: {"Jet": t["Jet"][:, :2]}, "`Jet` has 2 for each event, but 3 in .*a.h5"),
    (lambda t: {"Jet": t["Jet"][:-1]}, "`Jet` has 9 rows, but `events` has 10"),
    (lambda t: {"Tau": t["Jet"]}, "has no `Tau`, but .*b.h5 has it"),
    (lambda t: {"Muon": None}, "has no `Muon`, but .*a.h5 has it"),
    (lambda t: {"extra": np.arange(10)}, "`extra` is not a table"),
    (lambda t: {"Muon": t["Muon"][["charge", "pt", "valid"]]}, "`Muon` has its fields in another order than .*a.h5"),
    (lambda t: {"events": rename_fields(t["events"], {"run": "Run"})}, "`events` has no field run. Convert again"),
]
OTHER_METADATA: list[tuple[dict[str, Any], str]] = [
    ({"classes": ["other", "signal"]}, "its classes are other, signal, but those of .*a.h5 are signal, other"),
    ({"regions": [{"name": "SR", "cut": "x > 1"}]}, r"its regions are SR \(x > 1\), but .*a.h5 are none"),
    ({"selection": "a:B"}, "its events were selected by a:B, but those of .*a.h5 by nothing"),
    ({"objects": _sorted_otherwise()}, "`Jet` is sorted by -btag, but by -pt in .*a.h5"),
    ({"datasets": [{"name": "b"}]}, "its `metadata` cannot be understood .KeyError: 'class'"),
]


@pytest.mark.parametrize(
    ("change", "told", "message"),
    [
        *((change, {}, message) for change, message in OTHER_TABLES),
        *((lambda _: {}, told, message) for told, message in OTHER_METADATA),
    ],
)
def test_files_that_do_not_fit_are_named_with_their_field(
    tmp_path: Path, change: Callable[[Tables], Tables], told: dict[str, Any], message: str
) -> None:
    tables = made_up(10, 10)
    changed = {name: rows for name, rows in {**tables, **change(tables)}.items() if rows is not None}
    a = write(tmp_path / "a.h5", made_up(0, 10), metadata_of("a", 10, 0))
    b = write(tmp_path / "b.h5", changed, {**metadata_of("b", 10, 0), **told})
    lacking = "a" if "no `Tau`" in message else "b"
    with pytest.raises(NanoMLError, match=f"{lacking}.h5: {message}"):
        shuffle_files(ShuffleJob([a, b], tmp_path / "all.h5"))
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5"]


def test_gaps_within_rows_do_not_matter(tmp_path: Path) -> None:
    a, b = made_up(0, 10), made_up(10, 10)
    names = EVENT.names or ()
    wide = np.dtype({"names": names, "formats": [EVENT[name] for name in names], "offsets": range(0, 56, 8)})
    paths = [
        write(tmp_path / "a.h5", a, metadata_of("a", 10, 0)),
        write(tmp_path / "b.h5", {**b, "events": b["events"].astype(wide)}, metadata_of("b", 10, 0)),
    ]
    shuffle_files(ShuffleJob(paths, tmp_path / "all.h5"))
    both = {name: np.concatenate([a[name], b[name]]) for name in a}
    assert same(read(tmp_path / "all.h5"), in_order(both, 1))


def test_events_that_would_count_twice_are_refused(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [10, 10])
    for path in paths:
        content = metadata_content(path)
        source = FileAccounting(f"/{path.stem}.root", 10, 10, 10.0, "Runs/genEventSumw", False)
        content["datasets"][0]["books"]["files"] = [asdict(source)]
        write(path, read(path), content)
    shuffle_files(ShuffleJob(paths, tmp_path / "all.h5"))
    with pytest.raises(NanoMLError, match=r"d1.h5: has events of /d1.root, which .*all.h5 has, too"):
        shuffle_files(ShuffleJob([tmp_path / "all.h5", paths[1]], tmp_path / "more.h5"))
    with pytest.raises(NanoMLError, match=r"all.h5: is one of the files to be shuffled"):
        shuffle_files(ShuffleJob([*paths, tmp_path / "all.h5"], tmp_path / "all.h5"))


def test_what_is_no_job_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="no HDF5 file was given"):
        shuffle_files(ShuffleJob([], tmp_path / "all.h5"))
    with pytest.raises(NanoMLError, match='compression "zip": write gzip'):
        shuffle_files(ShuffleJob([], tmp_path / "all.h5", compression="zip"))
    with pytest.raises(NanoMLError, match=r"absent.h5: no such file"):
        shuffle_files(ShuffleJob([tmp_path / "absent.h5"], tmp_path / "all.h5"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_damaged_source_is_named_and_leaves_nothing(tmp_path: Path, shuffle: bool) -> None:
    """By whomever its blocks are inflated: h5py does it for blocks that were not shuffled."""
    paths = write_files(tmp_path, [100, 20_000], compression="gzip", shuffle=shuffle)
    content = bytearray(paths[1].read_bytes())
    with h5py.File(paths[1]) as file:
        chunk = file["events"].id.get_chunk_info(5)
    content[chunk.byte_offset + 10 : chunk.byte_offset + 500] = bytes(490)
    paths[1].write_bytes(content)
    with pytest.raises(NanoMLError, match=r"d1.h5: cannot be read: .*convert again"):
        shuffle_files(ShuffleJob(paths, tmp_path / "all.h5", memory=0.2))
    assert sorted(os.listdir(tmp_path)) == ["d0.h5", "d1.h5"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    paths = write_files(tmp_path, [100])
    (tmp_path / "all.h5").write_text("old")
    monkeypatch.setattr(shuffle.BlockWriter, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        shuffle_files(ShuffleJob(paths, tmp_path / "all.h5"))
    assert sorted(os.listdir(tmp_path)) == ["all.h5", "d0.h5"]
    assert (tmp_path / "all.h5").read_text() == "old"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda records: np.concatenate([records[:1], records[:-1]]), "100 events were written of 100, or other ones"),
        (lambda records: records[:-1], "Run the same command again"),
    ],
)
def test_events_that_are_lost_on_the_way_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[NDArray[Any]], NDArray[Any]], message: str
) -> None:
    append = shuffle.Buckets.append

    def spoiled(self: Any, bucket: int, records: NDArray[Any]) -> None:
        append(self, bucket, spoil(records))

    paths = write_files(tmp_path, [100])
    monkeypatch.setattr(shuffle.Buckets, "append", spoiled)
    with pytest.raises(NanoMLError, match=message):
        shuffle_files(ShuffleJob(paths, tmp_path / "all.h5"))
    assert os.listdir(tmp_path) == ["d0.h5"]


def test_two_runs_do_not_make_the_same_file(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [10])
    with shuffle.scratch(tmp_path / "all.h5") as directory:
        with pytest.raises(NanoMLError, match="another run is active here"):
            shuffle_files(ShuffleJob(paths, tmp_path / "all.h5"))
        assert directory.is_dir()
        shuffle_files(ShuffleJob(paths, tmp_path / "other.h5"))
    assert sorted(os.listdir(tmp_path)) == ["d0.h5", "other.h5"]


def test_an_output_that_cannot_grow_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [4000, 4000])
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (8_000, 200_000):  # which is enough for the buckets
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1][1]))
            with pytest.raises(NanoMLError, match=r"all.h5: cannot write: File too large"):
                shuffle_files(ShuffleJob(paths, tmp_path / "all.h5", memory=0.1, compression="none"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
    assert sorted(os.listdir(tmp_path)) == ["d0.h5", "d1.h5"]


FILES = (2, 5, 13, 20)  # ROOT files of each dataset: 40 in all
PER_FILE = 25_000
FIRST = np.cumsum([0, *FILES]) * PER_FILE  # of each dataset, if all events are numbered through
A_MILLION = """
datasets:
{datasets}
convert:
  features: [MET_pt]
  objects: {{Muon: {{fields: [pt], max: 2}}}}
  memory: 10
  shuffle: 5
"""


def met_of(number: NDArray[Any]) -> NDArray[np.float32]:
    """A number that follows from that of the event, and looks like none that does."""
    return (number * 2_654_435_761 % 2**22).astype(np.float32)


def write_root_files(directory: Path) -> None:
    """Datasets D0 to D3; their events have the same numbers, but not the same values."""
    for dataset, files in enumerate(FILES):
        (directory / f"D{dataset}").mkdir()
        for file in range(files):
            event = np.arange(file * PER_FILE, (file + 1) * PER_FILE)
            met, muons = met_of(FIRST[dataset] + event), event % 3
            columns = {
                "run": np.ones(PER_FILE, np.uint32),
                "luminosityBlock": (event // 1000).astype(np.uint32),
                "event": event.astype(np.uint64),
                "genWeight": np.ones(PER_FILE, np.float32),
                "MET_pt": met,
            }
            pt = ak.unflatten(np.repeat(met, muons), muons)
            types = {name: values.dtype for name, values in columns.items()}
            with uproot.recreate(directory / f"D{dataset}" / f"{file:02}.root", compression=None) as root:
                tree = root.mktree("Events", {**types, "Muon": ak.zip({"pt": pt}).type})
                tree.extend({**columns, "Muon": ak.zip({"pt": pt})})


def write_analysis(directory: Path, name: str, files: str = "*.root") -> None:
    datasets = (f"  D{number}: {{files: D{number}/{files}, class: c{number}}}" for number in range(len(FILES)))
    (directory / f"{name}.yaml").write_text(A_MILLION.format(datasets="\n".join(datasets)))


def family(process: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from family(int(child))


def peak_memory(process: int) -> int:
    """The largest resident memory that a process, or one that comes from it, has had [MB]."""
    peak = 0
    for each in family(process):
        with contextlib.suppress(OSError):  # it may end at any moment
            found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{each}/status").read_text())
            peak = max(peak, int(found[1]) // 1024 if found else 0)
    return peak


def run_analysis(directory: Path, name: str, due: Callable[[], bool] = lambda: False) -> int:
    """Run an analysis, and kill it as soon as it is due; return its peak memory [MB]."""
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "run", f"{name}.yaml"]
    peak, killed = 0, False
    with open(directory / "log", "w+") as log, running(line, cwd=directory, stderr=log) as run:
        while run.poll() is None:
            peak = max(peak, peak_memory(run.pid))
            if not killed and due():
                run.kill()
                killed = True
            time.sleep(0.005)
        log.seek(0)
        assert run.returncode == (-signal.SIGKILL if killed else 0), log.read()
    return peak


@dataclass(frozen=True)
class Watched:
    """How far an analysis has come, to be seen from its files."""

    workdir: Path

    def converted(self) -> dict[Path, int]:
        """Datasets that need not be converted again, and when they were written."""
        records = self.workdir.glob(".nanoml/convert/D?.json")
        return {path: path.stat().st_mtime_ns for path in map(self._output, records)}

    def _output(self, record: Path) -> Path:
        return self.workdir / "hdf5" / f"{record.stem}.h5"

    def _size(self, glob: str) -> int:
        size = 0
        for path in (self.workdir / "hdf5").glob(glob):
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        return size

    def is_converting(self) -> bool:
        return 0 < len(self.converted()) < len(FILES) and self._size(".D?.part-*.h5") > 100_000

    def is_dealing(self) -> bool:
        return not self.is_gathering() and self._size(".all.part-scratch.h5/buckets/*") > 25_000_000

    def is_gathering(self) -> bool:
        return self._size(".all.part-[0-9]*.h5") > 5_000_000

    def files(self) -> list[Path]:
        return sorted(path.relative_to(self.workdir) for path in self.workdir.rglob("*"))


@pytest.mark.exhaustive("a million events")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see how much memory is used")
def test_a_million_events_of_40_files_survive_a_kill_in_conversion_and_in_each_pass(tmp_path: Path) -> None:
    write_root_files(tmp_path)
    write_analysis(tmp_path, "small", "00.root")
    write_analysis(tmp_path, "killed")
    small, peaks = run_analysis(tmp_path, "small"), []
    watched, kept = Watched(tmp_path / "killed"), dict[Path, int]()
    for due in (watched.is_converting, watched.is_dealing, watched.is_gathering):
        peaks.append(run_analysis(tmp_path, "killed", due))
        # a worker may end the file that it writes, of which there is no record then
        assert due() or 0 < len(watched.converted()) < len(FILES), "it went on after its death"
        kept.update(watched.converted())
    peaks.append(run_analysis(tmp_path, "killed"))

    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert watched.files() == Watched(tmp_path / "small").files()
    check_a_million(tmp_path / "killed/hdf5/all.h5")
    # all rows are 38 MB, and as much again in order; with old versions of uproot, ROOT files that are open count, too
    assert 0 < max(peaks) < min(500, small + 35), f"{peaks} MB for 1,000,000 events, {small} MB for 100,000"


def check_a_million(path: Path) -> None:
    """Every event is there once, with its own values, in the order that the documentation promises."""
    with h5py.File(path) as file:
        events, muons = file["events"][:], file["Muon"][:]
    total = sum(FILES) * PER_FILE
    number = FIRST[events["label"]] + events["event"].astype(np.int64)
    assert np.array_equal(events["luminosityBlock"], events["event"] // 1000)
    assert np.array_equal(events["MET_pt"], met_of(number))
    valid = np.arange(2) < events["event"][:, np.newaxis] % 3
    assert np.array_equal(muons["valid"], valid)
    assert np.array_equal(muons["pt"], np.where(valid, events["MET_pt"][:, np.newaxis], 0))
    assert np.array_equal(number, np.random.PCG64(5).random_raw(total).argsort(kind="stable"))


def test_without_a_configuration_by_the_command_line(tmp_path: Path) -> None:
    write_files(tmp_path, [100, 50])
    options = ("-o", "all.h5", "--seed", 4, "--memory", 16)
    done = nanoml("shuffle", *options, "d0.h5", "d1.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert same(read(tmp_path / "all.h5"), in_order(joined([tmp_path / "d0.h5", tmp_path / "d1.h5"]), 4))
    done = nanoml("shuffle", "d0.h5", cwd=tmp_path)
    assert done.returncode == 2
    assert "or HDF5 files with -o ALL.h5" in done.stderr
