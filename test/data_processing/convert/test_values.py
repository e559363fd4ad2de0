"""Conversion loses and changes nothing: every value of every file against uproot alone, made-up files, and blocks of HDF5."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import from_dtype
from numpy.typing import NDArray

from data_processing.convert.columns import (
    IDENTIFIER_TYPES,
    Feature,
    FileColumns,
    StoredCollection,
    columns_of,
    event_level_branches,
)
from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.convert.expressions import EventWeights
from data_processing.convert.writing import BlockQueue, BlockWriter, RowReader, gzip_level
from MLTools.NanoML.contracts.hdf5 import new_hdf5
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile
from services.arrays import same

HEADER = 65_000  # bytes; HDF5 describes all columns of a dataset in 64 KiB


@dataclass(frozen=True)
class Read:
    """A branch: all its numbers one after the other, and how many of them each event has."""

    values: NDArray[Any]
    counts: NDArray[Any] | None = None


def read(paths: Sequence[Path]) -> dict[str, Read]:
    """The branches that all files have, as uproot reads them."""
    found: dict[str, list[ak.Array]] = {}
    for path in paths:
        with uproot.open(path) as file:
            tree = file["Events"]
            names = [name for name in tree.keys(recursive=False) if not name.startswith("_")]
            arrays = tree.arrays(names)
            for name in names:
                found.setdefault(name, []).append(_as_in_file(tree, name, arrays[name]))
    return {name: _joined(parts) for name, parts in found.items() if len(parts) == len(paths)}


def _as_in_file(tree: Any, name: str, array: ak.Array) -> ak.Array:
    if array.ndim == 1 and str(ak.type(array)).endswith("* int64"):
        # the counters of an RNTuple, which uproot widens
        kind = re.fullmatch(r"ROOT::RNTupleCardinality<std::(uint\d+)_t>", tree[name].typename)
        return ak.values_astype(array, kind.group(1)) if kind else array
    return array


def _joined(parts: Sequence[ak.Array]) -> Read:
    if parts[0].ndim == 1:
        return Read(np.concatenate([ak.to_numpy(part) for part in parts]))
    values = [ak.to_numpy(ak.flatten(part)) for part in parts]
    return Read(np.concatenate(values), np.concatenate([ak.to_numpy(ak.num(part)) for part in parts]))


def in_parts(names: Sequence[str], branches: Mapping[str, Read]) -> Iterator[list[str]]:
    """As many columns at once as HDF5 can describe."""
    part: list[str] = []
    size = 0
    for name in names:
        needed = len(name) + (80 if branches[name].values.dtype == bool else 64)
        if size + needed > HEADER:
            yield part
            part, size = [], 0
        part.append(name)
        size += needed
    yield part


def convert_all(paths: Sequence[Path], branches: Mapping[str, Read], output: Path) -> dict[str, str]:
    """Convert all that the files have; return which dataset has each branch, after comparing its values."""
    with RootFile(paths[0]) as file:
        features = [name for name in event_level_branches(file, ["*"])[0] if name in branches]
        members = [branch for branch in file.branches.values() if branch.is_jagged]
    first = {str(branch.collection): branches[branch.name] for branch in reversed(members)}
    most = {name: int(np.max(branch.counts, initial=1)) for name, branch in first.items()}
    objects = {name: StoredCollection((), number, None) for name, number in most.items()}
    found: dict[str, str] = {}
    for part in in_parts(features, branches):
        metadata = convert_files(ConvertJob([str(path) for path in paths], output, part, objects))
        kept = {name: (it.truncated.objects, it.truncated.lost) for name, it in metadata.objects.items()}
        assert kept == {name: (len(first[name].values), 0) for name in objects}
        with h5py.File(output) as hdf5:
            found.update(compare(hdf5, branches))
        objects = {}
    return found


def compare(file: h5py.File, branches: Mapping[str, Read]) -> dict[str, str]:
    """Compare all columns with the branches; return in which dataset each branch was found."""
    found = {}
    for name in set(file) - {"metadata"}:
        rows = file[name][:]
        for column in set(rows.dtype.names) - {"label", "weight", "valid"}:
            branch = column if column == name or name == "events" else f"{name}_{column}"
            values, counts = branches[branch].values, branches[branch].counts
            if counts is not None:
                real = np.arange(rows.shape[1]) < counts[:, None]
                assert same(rows["valid"], real), branch
                padded = np.zeros(rows.shape, values.dtype)
                padded[real] = values
                values = padded
            assert same(rows[column], values), branch
            found[branch] = name
    return found


def test_every_value_of_every_file(tmp_path: Path, made_file: Path) -> None:
    branches = read([made_file])
    found = convert_all([made_file], branches, tmp_path / "a.h5")
    assert set(found) == set(branches)
    flat = {name for name, branch in branches.items() if branch.counts is None}
    assert {name for name, dataset in found.items() if dataset == "events"} == flat


def reference(
    events: Sequence[Mapping[str, Sequence[Any]]], most: int, order: str | None
) -> tuple[list[list[int]], int]:
    """Which objects of each event are kept, in their order, and how many are lost; one after the other."""
    kept, lost = [], 0
    for event in events:
        places = list(range(len(next(iter(event.values())))))
        if order is not None:
            key = [_rank(value, order.startswith("-")) for value in event[order.lstrip("-")]]
            places.sort(key=key.__getitem__)
        kept.append(places[:most])
        lost += len(places[most:])
    return kept, lost


def _rank(value: Any, descending: bool) -> tuple[bool, float]:
    number = value.item()  # of Python, which has whole numbers of any size
    if number != number:
        return True, 0  # what is no number comes last
    return False, -number if descending else number


def check_objects(
    rows: NDArray[Any], events: Sequence[Mapping[str, NDArray[Any]]], most: int, order: str | None
) -> tuple[int, int]:
    """Compare a collection with the reference; return how many objects there were, and how many are lost."""
    kept, lost = reference(events, most, order)
    valid = np.array([[place < len(places) for place in range(most)] for places in kept], bool)
    assert same(rows["valid"], valid.reshape(len(events), most))
    for name in events[0] if events else ():
        expected = np.zeros((len(events), most), events[0][name].dtype)
        for row, event, places in zip(expected, events, kept):
            for place, number in enumerate(places):
                row[place] = event[name][number]
        assert same(rows[name], expected), name
    return lost + int(valid.sum()), lost


@dataclass(frozen=True)
class MadeUp:
    """A made-up branch: numbers of `values`, of which there is one per event, `size`, or any number in a collection."""

    dtype: np.dtype[Any]
    values: Sequence[Any]
    size: int | None = None
    collection: str | None = None

    def field(self, name: str) -> str:
        return name if name == self.collection else name.removeprefix(f"{self.collection}_")


OWN_COUNTERS = ("Tau", "PSWeight")  # each of their branches has one; those of other collections share theirs
TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]
NAMING = {"counter_name": lambda of: f"n{of}", "field_name": lambda of, name: f"{of}_{name}" if of else name}
Tree = dict[str, MadeUp]
Event = dict[str, NDArray[Any]]


@st.composite
def made_up(draw: st.DrawFn, size: int | None = None, collection: str | None = None) -> MadeUp:
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    values = draw(st.lists(from_dtype(dtype), min_size=1, max_size=5))  # so few that there are ties
    return MadeUp(dtype, values, size, collection)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = {f"x{number}": draw(made_up()) for number in range(draw(st.integers(1, 3)))}
    tree.update({f"v{number}": draw(made_up(draw(st.integers(1, 3)))) for number in range(draw(st.integers(0, 2)))})
    for collection in draw(st.sets(st.sampled_from(["Muon", "Muon_soft", "Tau"]))):
        for number in range(draw(st.integers(1, 3))):
            tree[f"{collection}_f{number}"] = draw(made_up(collection=collection))
    if draw(st.booleans()):
        tree["PSWeight"] = draw(made_up(collection="PSWeight"))
    if draw(st.booleans()):
        tree["genWeight"] = MadeUp(np.dtype("f4"), [0.5, -1])
    return tree


def make_events(tree: Tree, length: int, random: np.random.Generator) -> list[Event]:
    events = []
    for _ in range(length):
        sizes = {made.collection: int(random.integers(0, 5)) for made in tree.values() if made.collection}
        event = {}
        for name, made in tree.items():
            places = random.integers(0, len(made.values), sizes.get(made.collection, made.size))
            event[name] = np.array(made.values, made.dtype)[places]
        events.append(event)
    return events


def write(path: Path, tree: Tree, baskets: Sequence[Sequence[Event]]) -> None:
    """Write a file, one basket of events after the other."""
    types: dict[str, Any] = {}
    shared: dict[str, list[str]] = {}
    for name, made in tree.items():
        if made.collection in OWN_COUNTERS:
            types[name] = ak.types.ListType(ak.types.NumpyType(made.dtype.name))
        elif made.collection:
            shared.setdefault(made.collection, []).append(name)
        else:
            types[name] = np.dtype((made.dtype, (made.size,))) if made.size else made.dtype
    for collection, names in shared.items():
        kinds = {tree[name].field(name): ak.types.NumpyType(tree[name].dtype.name) for name in names}
        types[collection] = ak.types.ListType(ak.types.RecordType([*kinds.values()], [*kinds]))
    with uproot.recreate(path) as file:
        written = file.mktree("Events", types, **NAMING)
        for events in baskets:
            columns = {name: column(made, [event[name] for event in events]) for name, made in tree.items()}
            for collection, names in shared.items():
                columns[collection] = ak.zip({tree[name].field(name): columns.pop(name) for name in names})
            written.extend(columns)


def column(made: MadeUp, values: Sequence[NDArray[Any]]) -> Any:
    if made.collection is None:
        return np.stack(values)
    return ak.unflatten(np.concatenate(values), [len(each) for each in values])


def counters(tree: Tree) -> dict[str, str]:
    """The counters that a tree is written with, by a branch that each counts."""
    return {
        f"n{name if made.collection in OWN_COUNTERS else made.collection}": name
        for name, made in tree.items()
        if made.collection
    }


@settings(max_examples=20)
@given(
    tree=trees(),
    files=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=3),
    most=st.integers(1, 4),
    order=st.sampled_from(["", "+", "-"]),
    memory=st.sampled_from([0, 1]),
    compression=st.sampled_from(["none", "gzip:1", "gzip:6"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_made_up_files_are_converted_as_by_hand(
    tree: Tree, files: list[list[int]], most: int, order: str, memory: int, compression: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    identifiers = {name: MadeUp(np.dtype(kind), [0, 1, np.iinfo(kind).max]) for name, kind in IDENTIFIER_TYPES.items()}
    identifiers["run"].values.pop()  # copies of events of later runs would be left out
    tree = {**identifiers, **tree}
    objects = {
        made.collection: StoredCollection((), most, order.strip("+") + made.field(name) if order else None)
        for name, made in tree.items()
        if made.collection
    }
    baskets = [[make_events(tree, length, random) for length in lengths] for lengths in files]
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, f"{number}.root") for number in range(len(files))]
        for path, written in zip(paths, baskets):
            write(path, tree, written)
        with RootFile(paths[0]) as file:
            features = event_level_branches(file, ["*"])[0]
        sources, output = [str(path) for path in paths], Path(directory, "a.h5")
        # without memory every event is a block of its own
        job = ConvertJob(sources, output, features, objects, memory=memory, compression=compression)
        metadata = convert_files(job)
        with h5py.File(output) as hdf5:
            found = {name: hdf5[name][:] for name in {*hdf5} - {"metadata"}}
    events = [event for file in baskets for basket in file for event in basket]
    assert set(found) == {"events", *objects}
    check_events(found["events"], events, tree)
    for collection, wanted in objects.items():
        fields = {name: made.field(name) for name, made in tree.items() if made.collection == collection}
        assert set(found[collection].dtype.names) == {*fields.values(), "valid"}
        lists = [{field: event[name] for name, field in fields.items()} for event in events]
        stored = metadata.objects[collection]
        counted = check_objects(found[collection], lists, most, wanted.order)
        assert (stored.truncated.objects, stored.truncated.lost) == counted


def check_events(rows: NDArray[Any], events: Sequence[Event], tree: Tree) -> None:
    expected: dict[str, tuple[np.dtype[Any], list[Any]]] = {"label": (np.dtype("i4"), [-1] * len(events))}
    if "genWeight" not in tree:
        expected["weight"] = np.dtype("f4"), [1] * len(events)
    for name, made in tree.items():
        if made.size:
            for number in range(made.size):
                expected[f"{name}_{number}"] = made.dtype, [event[name][number] for event in events]
        elif not made.collection:
            expected[name] = made.dtype, [event[name] for event in events]
    for counter, name in counters(tree).items():
        expected[counter] = np.dtype("i4"), [len(event[name]) for event in events]
    assert set(rows.dtype.names) == set(expected)
    for name, (dtype, values) in expected.items():
        assert same(rows[name], np.array(values, dtype)), name


def tree_of_all_kinds(file: Any) -> None:
    """A tree with branches that cannot be stored: a matrix, and names that HDF5 files have for something else."""
    numbers = np.arange(4, dtype=np.int32)
    lists = ak.unflatten(numbers, [0, 1, 3])
    types = {"Muon": ak.type(ak.zip({"pt": lists, "valid": lists})).content}
    types.update(dict.fromkeys((*IDENTIFIER_TYPES, "x", "weight", "label"), numbers.dtype))
    rows = {name: numbers[:3] for name in types if name != "Muon"}
    tree = file.mktree("Events", {**types, "matrix": np.dtype(("f4", (2, 2)))}, **NAMING)
    tree.extend({**rows, "Muon": ak.zip({"pt": lists, "valid": lists}), "matrix": np.zeros((3, 2, 2), "f4")})


def ntuple_of_all_kinds(file: Any) -> None:
    """An RNTuple with fields that cannot be stored: texts, arrays of arrays, lists of lists."""
    if tuple(map(int, uproot.__version__.split(".")[:2])) < (5, 7):
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    numbers = np.arange(3)
    rows = {**dict.fromkeys((*IDENTIFIER_TYPES, "x"), numbers), "word": ["a", "", "b"], "matrix": np.zeros((3, 2, 2))}
    rows.update(record=ak.zip({"a": numbers}), Muon_pt=ak.Array([[1], [], [2, 3]]))
    file.mkrntuple("Events", {**rows, "Muon_hits": ak.Array([[[1, 2]], [], [[3], []]])})


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        (tree_of_all_kinds, {"weight", "label", "matrix", "Muon_valid"}),
        (ntuple_of_all_kinds, {"word", "matrix", "Muon_hits"}),
    ],
)
@pytest.mark.parametrize("pattern", ["*", "x"])
def test_nothing_is_left_out_in_silence(
    tmp_path: Path, make: Callable[[Any], None], refused: set[str], pattern: str
) -> None:
    path = str(tmp_path / "a.root")
    with uproot.recreate(path) as file:
        make(file)
    drop: list[str] = []

    def convert() -> str:
        try:
            with RootFile(path) as file:
                features = event_level_branches(file, [pattern], drop)[0]
            muons = {"Muon": StoredCollection((), 3, None)}
            convert_files(ConvertJob([path], tmp_path / "a.h5", features, muons, drop=drop))
        except NanoMLError as problem:
            return str(problem)
        return ""

    while message := convert():
        told = re.search(r"Leave out: --drop '(\w+)'", message)
        assert told, message
        drop.append(told.group(1))
    asked = refused if pattern == "*" else {name for name in refused if name.startswith("Muon_")}
    assert sorted(drop) == sorted(asked)
    with RootFile(path) as file, h5py.File(tmp_path / "a.h5") as hdf5:
        stored = {*hdf5["events"].dtype.names, *(f"Muon_{name}" for name in hdf5["Muon"].dtype.names)}
        made = {"weight", "label", "Muon_valid"}
        if pattern == "*":
            assert stored - made == set(file.branches) - refused


def test_two_branches_that_would_be_one_column_are_refused(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"v": np.dtype(("f4", (2,))), "v_1": "f4"})
    with RootFile(tmp_path / "a.root") as file, pytest.raises(NanoMLError, match="v and v_1 would both be column v_1"):
        columns_of(file, event_level_branches(file)[0], {}, None)


def test_lists_of_one_collection_that_differ_in_length_are_refused(tmp_path: Path) -> None:
    tree = {name: MadeUp(np.dtype(kind), [1]) for name, kind in IDENTIFIER_TYPES.items()}
    tree.update({name: MadeUp(np.dtype("f4"), [1], collection="Tau") for name in ("Tau_pt", "Tau_eta")})
    events = make_events(tree, 2, np.random.default_rng(1))
    for event, (pt, eta) in zip(events, [(1, 2), (2, 1)]):  # as many in all
        event.update(Tau_pt=np.ones(pt, "f4"), Tau_eta=np.ones(eta, "f4"))
    write(tmp_path / "a.root", tree, [events])
    job = ConvertJob([str(tmp_path / "a.root")], tmp_path / "a.h5", [], {"Tau": StoredCollection((), 2, None)})
    with pytest.raises(NanoMLError, match="Tau_eta has other numbers of objects than Tau_pt"):
        convert_files(job)


@pytest.mark.parametrize("kind", ["bool", "int32", "float32"])
def test_columns_are_refused_only_if_hdf5_cannot_describe_them(tmp_path: Path, kind: str) -> None:
    refused = 0
    with h5py.File(tmp_path / "a.h5", "w") as hdf5:
        for number in range(500, 1250, 50):
            branches = [Branch(f"HLT_path_{i:03}", kind, "flat", "", None, kind) for i in range(number)]
            features = {branch.name: Feature(branch) for branch in branches}
            reader = RowReader(FileColumns(features, {}), True, -1, EventWeights(1.0, False))
            try:
                dtype = reader.tables["events"]
            except NanoMLError as problem:
                refused += "columns are more than one HDF5 dataset can describe" in str(problem)
            else:
                hdf5.create_dataset(str(number), (1,), dtype)
    assert 0 < refused < 15


def test_pandas_has_the_same_columns(tmp_path: Path, made_files: dict[str, Path]) -> None:
    pandas = pytest.importorskip("pandas")
    path = made_files["made_v9_mc"]
    with RootFile(path) as file:
        features = event_level_branches(file)[0]
    convert_files(ConvertJob([str(path)], tmp_path / "a.h5", features))
    with h5py.File(tmp_path / "a.h5") as hdf5:
        rows = hdf5["events"][:]
        frame = pandas.DataFrame(hdf5["events"][:])
    assert tuple(frame) == rows.dtype.names
    for name in frame:
        assert same(frame[name].to_numpy(), rows[name]), name


DTYPE = np.dtype([("a", "u1"), ("b", "f4"), ("c", "?"), ("d", "u8")])


@pytest.mark.parametrize("deflater", ["isal", "zlib"])
@pytest.mark.parametrize("compression", ["gzip:1", "none"])
@pytest.mark.parametrize("shape", [(10_007, 3), (4096, 2), (1,), (0,)])
def test_hdf5_reads_back_what_was_written_in_pieces(
    tmp_path: Path, shape: tuple[int, ...], compression: str, deflater: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if deflater == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr("MLTools.NanoML.rootio.compression.isal_zlib", None)
    random = np.random.default_rng(1)
    rows = np.zeros(shape, DTYPE)
    for name in DTYPE.names or ():
        rows[name] = random.integers(0, 2 if name == "c" else 200, shape)
    with ThreadPoolExecutor(2) as threads, new_hdf5(tmp_path / "a.h5") as file:
        writer = BlockWriter(file, "events", shape, DTYPE, compression, BlockQueue(threads, ahead=3))
        start = 0
        while start < len(rows):
            size = int(random.integers(0, 5000))
            part = rows[start : start + size]
            writer.write(part if size % 2 else {name: part[name] for name in DTYPE.names or ()})
            start += size
        assert writer.finish() == len(rows)
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["events"][:] == rows).all()
        assert file["events"].compression == (None if compression == "none" or not shape[0] else "gzip")


@pytest.mark.parametrize("compression", ["gzip:1", "none"])
def test_damage_is_noticed(tmp_path: Path, compression: str) -> None:
    with ThreadPoolExecutor(1) as threads, new_hdf5(tmp_path / "a.h5") as file:
        writer = BlockWriter(file, "events", (1000,), DTYPE, compression, BlockQueue(threads))
        writer.write({name: np.arange(1000).astype(DTYPE[name]) for name in DTYPE.names or ()})
        writer.finish()
        place = file["events"].id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place + 500] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(OSError, match="Can't .*read data"):
        file["events"][:]


@pytest.mark.parametrize("text", ["gzip", "gzip:0", "gzip:10", "lzf", "none:1", ""])
def test_a_compression_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="gzip and a level from 1 to 9"):
        gzip_level(text)
