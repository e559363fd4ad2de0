"""Labelled events, all or those of some regions: read from HDF5 files block by block, in tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ML_processing.events.data import Table
from ML_processing.events.survey import Survey
from ML_processing.training import data as training_data
from ML_processing.training.data import TrainingFiles, read
from ML_processing.training.train import train
from MLTools.NanoML.config.training import PerObject, Train
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.folds import fold_of
from services.trainings import changing


@pytest.fixture
def table(toy: Callable[..., Path]) -> Table:
    """600 events with jets, a target and a column that is nothing."""
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4"), ("id", "u1")])
    members["valid"] = np.arange(600)[:, None] % 3 > np.arange(2)
    members["pt"] = np.arange(600)[:, None]
    path = toy(objects={"Jet": members}, z=np.arange(600), rest=np.arange(600))
    return read([path], Train(targets=["z"], features=["x", "y"]))


def test_shape(table: Table) -> None:
    assert table.names == ["x", "y"]
    assert table.shape.tensors == ["features", "Jet", "Jet_mask"]
    assert table.targets()[:, 0].tolist() == list(range(600))
    assert list(table.extras) == ["z", "rest"]
    assert table.objects["Jet"][0].shape == (600, 2, 2)
    assert table.objects["Jet"][1].sum() == 600


@pytest.mark.parametrize("rows", [np.arange(600) % 7 == 0, np.array([5, 3]), np.zeros(0, np.int64)])
def test_some_events(table: Table, rows: np.ndarray) -> None:
    some = table[rows]
    expected = np.arange(600)[rows]
    assert len(some) == len(expected)
    assert np.array_equal(some.identifiers[2], expected)
    assert np.array_equal(some.features, table.features[rows])
    assert np.array_equal(some.objects["Jet"][0], table.objects["Jet"][0][rows])
    assert np.array_equal(some.extras["rest"], expected)
    assert np.array_equal(some.folds(5), table.folds(5)[rows])


def test_parts_join_to_the_whole(table: Table) -> None:
    parts = [table[np.arange(start, stop)] for start, stop in ((0, 10), (10, 10), (10, 600))]
    joined = Table.join(parts)
    assert joined.sha256() == table.sha256()
    assert joined.nbytes == table.nbytes == sum(part.nbytes for part in parts)


def test_hash_is_of_all_that_matters(table: Table) -> None:
    values, mask = table.objects["Jet"]
    others = [
        replace(table, features=-table.features),
        replace(table, objects={"Jet": (values + 1, mask)}),
        replace(table, objects={"Jet": (values, ~mask)}),
        replace(table, labels=1 - table.labels),
        replace(table, weights=2 * table.weights),
        replace(table, identifiers=table.identifiers[::-1]),
        replace(table, extras={**table.extras, "z": table.extras["z"] + 1}),
    ]
    assert len({it.sha256() for it in (table, *others)}) == 8


def test_memory_does_not_depend_on_the_extras(table: Table) -> None:
    assert replace(table, extras={}).nbytes == table.nbytes
    assert table.nbytes == 600 * (2 * 4 + 2 * (2 * 4 + 1) + 8 + 4 + 16)


IDENTITY = PerObject("Jet", "id", {"a": [1, 3], "b": [0]})


def members() -> np.ndarray:
    """Jets of 600 events: up to four, anywhere in the rows, with an event's number in their eta and an id of 0 to 5."""
    found = np.zeros((600, 4), [("valid", "?"), ("pt", "f4"), ("eta", "f8"), ("id", "u1")])
    random = np.random.default_rng(7)
    found["valid"] = random.random((600, 4)) < 0.6
    found["pt"], found["id"] = random.exponential(50, (600, 4)), random.integers(0, 6, (600, 4))
    found["eta"] = np.arange(600)[:, None]
    return found


def change(path: Path, **columns: np.ndarray) -> Path:
    with changing(path) as rows:
        for name, values in columns.items():
            rows[name] = values
    return path


@pytest.mark.parametrize("block", [1 << 17, 50])
def test_every_object_is_a_row(toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    jets, weight = members(), np.arange(600.0)
    path = change(toy(objects={"Jet": jets}, z=np.arange(600)), label=np.full(600, -1), weight=weight)
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", block)
    table = read([path], Train(per_object=IDENTITY, features=["z", "Jet_pt"]))
    event, place = np.nonzero(jets["valid"] & np.isin(jets["id"], [0, 1, 3]))
    assert table.names == ["z", "Jet_pt"]
    assert table.labels.tolist() == (jets["id"][event, place] == 0).astype(int).tolist()
    assert table.features[:, 0].tolist() == event.tolist() == table.extras["Jet_eta"].tolist()
    assert table.features[:, 1].tolist() == jets["pt"][event, place].tolist()
    assert table.weights.tolist() == event.tolist() == table.identifiers[2].tolist()
    assert table.objects == {}
    one, zero = np.ones(600, "u4"), (np.arange(600) // 100).astype("u4")
    assert table.folds(5).tolist() == fold_of(one, zero, np.arange(600), 5)[event].tolist()
    left_out = {i: int((jets["valid"] & (jets["id"] == i)).sum()) for i in (2, 4, 5)}
    assert table.left_out == left_out
    assert len(table) + sum(left_out.values()) == jets["valid"].sum()


def test_objects_of_a_parameter(toy: Callable[..., Path]) -> None:
    mass = np.where(np.arange(600) % 2, np.nan, 600.0 + np.arange(600) % 4)
    path = toy(objects={"Jet": members()}, mass=mass, parameter="mass")
    table = read([path], Train(per_object=IDENTITY, features=["Jet_eta"], parameter="mass"))
    odd = table.features[:, 0] % 2 == 1
    assert 0 < odd.sum() < len(table)
    assert (np.isnan(table.features[:, 1]) == odd).all()


def test_objects_of_an_event_without_a_weight(toy: Callable[..., Path]) -> None:
    path = change(toy(objects={"Jet": members()}), weight=np.where(np.arange(600) == 5, np.nan, 1.0))
    with pytest.raises(NanoMLError, match="event 5 has weight nan"):
        read([path], Train(per_object=IDENTITY))


Toy = Callable[..., Path]


def whole_of(files: list[Path]) -> Table:
    return read(files, Train())


def survey_of(files: list[Path], **settings: Any) -> Survey:
    return TrainingFiles.open(files, Train(**settings)).sample(100, 5)[1]


def rows_of(path: Path) -> NDArray[Any]:
    with h5py.File(path) as file:
        return file["events"][:]


def test_joins_files(files: list[Path]) -> None:
    table, rows = whole_of(files), [rows_of(file) for file in files]
    assert len(table) == sum(map(len, rows)) > 1000
    assert table.features.dtype == np.float32
    for i, name in enumerate(table.names):
        assert np.array_equal(table.features[:, i], np.concatenate([part[name] for part in rows]))
    assert np.bincount(table.labels).tolist() == [len(part) for part in rows]
    assert table.weights[table.labels == 1].sum() == pytest.approx(rows[1]["weight"].sum(dtype="f8"))
    joined = np.concatenate([part["event"] for part in rows])
    expected = fold_of(table.identifiers[0], table.identifiers[1], joined, 5)
    assert np.array_equal(table.folds(5), expected)
    assert [dataset.name for dataset in table.about.datasets] == [file.stem for file in files]


def test_reads_one_file_of_several_datasets_in_any_order(files: list[Path], tmp_path: Path) -> None:
    rows = np.concatenate([rows_of(file) for file in files])
    order = np.random.default_rng(3).permutation(len(rows))
    metadata = [metadata_content(file) for file in files]
    datasets = [dataset for content in metadata for dataset in content["datasets"]]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["events"] = rows[order]
        file["metadata"] = json.dumps({**metadata[0], "datasets": datasets, "shuffled": {"seed": 3}})
    together, apart = whole_of([tmp_path / "all.h5"]), whole_of(files)
    assert np.array_equal(together.features, apart.features[order], equal_nan=True)
    assert np.array_equal(together.labels, apart.labels[order])
    assert np.array_equal(together.weights, apart.weights[order])
    assert np.array_equal(together.folds(5), apart.folds(5)[order])
    assert together.about.datasets == apart.about.datasets
    assert survey_of([tmp_path / "all.h5"]).notes() == survey_of(files).notes()


def test_refuses_files_that_have_the_same_events(toy: Toy) -> None:
    paths = [toy(), toy("again.h5")]
    counts = FileAccounting("/skims/0.root", 600, 600, 600.0, "Runs/genEventSumw", False)
    for path in paths:
        with h5py.File(path, "r+") as file:
            content = json.loads(file["metadata"].asstr()[()])
            content["datasets"][0]["books"]["files"] = [asdict(counts)]
            del file["metadata"]
            file["metadata"] = json.dumps(content)
    assert len(whole_of(paths[:1])) == 600
    with pytest.raises(NanoMLError, match=r"again.h5: has events of /skims/0.root, which .*toy.h5 has, too"):
        whole_of(paths)


def test_reads_in_pieces(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = whole_of(files)
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 100)
    assert TrainingFiles.open(files, Train()).blocks == 15
    pieces = whole_of(files)
    order = np.lexsort(pieces.identifiers), np.lexsort(whole.identifiers)
    assert pieces[order[0]].sha256() == whole[order[1]].sha256()


def test_blocks_of_whole_chunks_have_all_rows(files: list[Path]) -> None:
    opened = dataclasses.replace(TrainingFiles.open(files[:1], Train()), rows=(1003,), chunks=(10,), blocks=3)
    edges = [opened._edges(number)[0][1:] for number in range(3)]
    assert edges == [(0, 330), (330, 670), (670, 1003)]


def test_hash_is_of_the_content(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    first = toy()
    packed = write(tmp_path / "packed.h5", rows_of(first), classes=["signal", "other"], compression="gzip")
    assert packed.read_bytes() != first.read_bytes()
    assert whole_of([packed]).sha256() == whole_of([first]).sha256()
    before = whole_of([first]).sha256()
    weights = rows_of(first)["weight"]
    weights[3] = 7
    assert whole_of([change(first, weight=weights)]).sha256() != before


def test_other_types_of_numbers(toy: Toy) -> None:
    path = toy(count=600, flag=np.arange(600) % 3 == 0, big=np.full(600, 1e300), byte=np.arange(600, dtype="u1"))
    with pytest.raises(NanoMLError, match=r'"big" is not a finite number in any event'):
        whole_of([path])
    table = whole_of([toy(flag=np.arange(600) % 3 == 0, byte=(np.arange(600) % 256).astype("u1"))])
    assert table.features[:4, 2].tolist() == [1, 0, 0, 1]
    assert table.features[:4, 3].tolist() == [0, 1, 2, 3]


def test_notes_on_features(toy: Toy) -> None:
    gap = np.where(np.arange(600) < 3, np.nan, np.arange(600)).astype("f4")
    assert survey_of([toy(gap=gap, fixed=np.full(600, 4, "i4"))]).notes() == [
        "Feature gap is not a finite number in 3 of 600 events (0.5 %): these count as missing.",
        "Feature fixed has the same value, 4, everywhere: it cannot help.",
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": 2}, "event 0 has label 2, but the labels of 2 classes are 0 to 1, or -1"),
        ({"weight": np.nan}, "event 0 has weight nan: a weight must be a number"),
        ({"label": 1}, 'class "signal" has no event .*no file here belongs to a dataset of this class'),
        ({"x": np.nan}, '"x" is not a finite number in any event'),
    ],
)
def test_values_that_cannot_be_used(toy: Toy, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        whole_of([change(toy(), **columns)])


def test_files_with_nothing_to_tell_apart_or_to_train_on(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    rows = rows_of(toy())
    kept = ["run", "luminosityBlock", "event", "label", "weight"]
    bare = write(tmp_path / "bare.h5", rows[kept], ["signal", "other"])
    message = "bare.h5: has no event-level feature and no collection to train on. Name some in `convert.features`"
    with pytest.raises(NanoMLError, match=message):
        whole_of([bare])
    with pytest.raises(NanoMLError, match="no HDF5 file was given"):
        whole_of([])


def in_blocks(monkeypatch: pytest.MonkeyPatch, files: list[Path], events: int) -> list[Table]:
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", events)
    opened = TrainingFiles.open(files, Train())
    return [opened.block(number) for number in range(opened.blocks)]


def test_blocks_take_their_share_of_every_file(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [toy(f"{i}.h5", count=count, run=np.full(count, i)) for i, count in enumerate((1000, 0, 300, 7))]
    blocks = in_blocks(monkeypatch, files, 100)
    assert len(blocks) == 14
    for block in blocks:
        found = np.bincount(block.identifiers[0], minlength=4)
        assert found[0] in (71, 72)
        assert found[2] in (21, 22)
        assert found[3] in (0, 1)
    rows = Table.join(blocks)
    for i, count in enumerate((1000, 0, 300, 7)):
        assert rows.identifiers[2][rows.identifiers[0] == i].tolist() == list(range(count))


def test_many_files_of_few_events(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [toy(f"{i}.h5", count=1, run=np.full(1, i)) for i in range(10)]
    blocks = in_blocks(monkeypatch, files, 2)
    assert len(blocks) == 5  # of which some have no event
    assert sorted(Table.join(blocks).identifiers[0].tolist()) == list(range(10))


def test_large_rows_make_small_blocks(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "_BLOCK_BYTES", 1000)
    members = np.zeros((600, 10), [("valid", "?"), ("pt", "f4")])
    # 50 bytes of 10 jets and 32 of the rest
    assert TrainingFiles.open([toy(objects={"Jet": members})], Train()).blocks == 50


def test_events_that_do_not_fit_into_memory(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 20_000)
    path = toy(count=60_000)
    whole, _ = TrainingFiles.open([path], Train()).sample(1000, 5)
    some, survey = TrainingFiles.open([path], Train()).sample(1, 5)
    assert len(whole) == survey.counts.sum() == 60_000
    assert 0.4e6 < some.nbytes <= 1e6 < whole.nbytes
    assert np.bincount(some.folds(5)) / len(some) == pytest.approx([0.2] * 5, abs=0.02)
    assert np.bincount(some.labels) / len(some) == pytest.approx([0.5] * 2, abs=0.02)
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 1000)
    again, _ = TrainingFiles.open([path], Train(features=["y"]), everything=True).sample(1, 5)
    assert np.isin(some.identifiers[2], again.identifiers[2]).all()  # which are smaller, but no others
    assert np.array_equal(whole.features[some.identifiers[2]], some.features)


def test_a_share_of_the_events_is_part_of_a_larger_one(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy(count=2000)
    everything = read([file], Train())
    events = {share: read([file], Train(share=share)).identifiers[2] for share in (0.1, 0.3, 1.0)}
    assert [len(events[share]) for share in (0.1, 0.3)] == pytest.approx([200, 600], abs=100)
    assert set(events[0.1]) < set(events[0.3]) < set(events[1.0]) == set(everything.identifiers[2])
    assert everything.hashes()[np.isin(everything.identifiers[2], events[0.1])].max() <= 0.1 * 2.0**64
    monkeypatch.setattr("ML_processing.training.data._BLOCK_EVENTS", 100)
    assert set(read([file], Train(share=0.1)).identifiers[2]) == set(events[0.1])


def test_collections(object_files: list[Path]) -> None:
    table = whole_of(object_files)
    assert table.shape.tensors == ["features", "Electron", "Electron_mask", "Muon", "Muon_mask"]
    values, mask = table.objects["Electron"]
    with h5py.File(object_files[0]) as file:
        members = file["Electron"][:]
    assert np.array_equal(values[: len(members), :, 0], members["pt"])
    assert np.array_equal(mask[: len(members)], members["valid"])
    assert values.dtype == np.float32
    assert not values[~mask].any()
    assert (mask.sum(axis=1) + table.objects["Muon"][1].sum(axis=1) >= 3).all()


def jets(count: int = 600, **fields: float) -> dict[str, NDArray[Any]]:
    """Two in each event, of which the first is valid and has these values."""
    found = np.zeros((count, 2), [("valid", "?"), *((name, "f4") for name in fields)])
    found["valid"][:, 0] = True
    for name, value in fields.items():
        found[name] = [value, np.nan]
    return {"Jet": found}


def test_padding_is_zero_whatever_the_file_has(toy: Toy) -> None:
    values, _ = whole_of([toy(objects=jets(pt=5))]).objects["Jet"]
    assert values[0].tolist() == [[5], [0]]


def test_collections_that_cannot_be_used(toy: Toy) -> None:
    with pytest.raises(NanoMLError, match=r'"Jet_mass" is not a finite number in any event'):
        whole_of([toy(objects=jets(pt=0, mass=np.nan))])
    with pytest.raises(NanoMLError, match=r"toy.h5: `Jet` has 599 rows for 600 events"):
        whole_of([toy(objects=jets(599, pt=0))])
    nothing = np.zeros((600, 2), [("valid", "?"), ("pt", "f4")])  # but that there is no object is no mistake
    assert not whole_of([toy(objects={"Jet": nothing})]).objects["Jet"][1].any()


def test_files_that_disagree(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    first = toy()
    more = toy("more.h5", z=np.zeros(600, "f4"))
    with pytest.raises(NanoMLError, match=r"more.h5: its features are not those of .*toy.h5: with z\. Convert all"):
        whole_of([first, more])
    with pytest.raises(NanoMLError, match="without z"):
        whole_of([more, first])
    turned = write(tmp_path / "turned.h5", rows_of(first), classes=["other", "signal"])
    with pytest.raises(NanoMLError, match=r"its classes are .*another order \(other, signal\)"):
        whole_of([first, turned])
    selected = write(tmp_path / "selected.h5", rows_of(first), classes=["signal", "other"], selection="a:B")
    with pytest.raises(NanoMLError, match=r"its selection are not those of .*without none and with a:B"):
        whole_of([first, selected])


def test_field_that_is_missing(toy: Toy) -> None:
    path = toy()
    rows = rows_of(path)
    with h5py.File(path, "r+") as file:
        del file["events"]
        file["events"] = rows[["run", "luminosityBlock", "event", "label", "weight", "x"]]
    with pytest.raises(NanoMLError, match="`events` has no field y"):
        whole_of([path])


REGIONS = {"SR": "number < 300", "CR": "number >= 200 && number < 400", "odd": "label == 1"}
NUMBER = np.arange(600)
FLAGS: dict[str, Any] = {
    "in_SR": NUMBER < 300, "in_CR": (NUMBER >= 200) & (NUMBER < 400), "in_odd": NUMBER % 2 == 1,
}  # fmt: skip


@pytest.fixture
def file(toy: Toy) -> Path:
    """600 events in three regions, with jets."""
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4"), ("id", "u1")])
    members["valid"][:, 0] = True
    members["pt"], members["id"] = NUMBER[:, None], NUMBER[:, None] % 2
    return toy(objects={"Jet": members}, regions=REGIONS, **FLAGS)


def table_of(file: Path, regions: list[str], **settings: Any) -> tuple[Table, Survey]:
    return TrainingFiles.open([file], Train(regions=regions, **settings)).sample(1000, 5)


@pytest.mark.parametrize(
    ("regions", "numbers"),
    [([], range(600)), (["SR"], range(300)), (["CR"], range(200, 400)), (["SR", "CR"], range(400))],
)
def test_events_in_any_of_the_regions_are_used(file: Path, regions: list[str], numbers: range) -> None:
    table, survey = table_of(file, regions)
    assert table.identifiers[2].tolist() == list(numbers)
    assert table.objects["Jet"][0][:, 0, 0].tolist() == list(numbers)
    assert table.names == ["x", "y"]  # the flags are no features
    assert survey.counts.sum() == survey.sums.sum() == len(numbers)
    assert [region.name for region in table.about.regions] == ["SR", "CR", "odd"]
    assert [region.name for region in table.about.within] == regions


def test_objects_of_other_events_are_left_out(file: Path) -> None:
    table, _ = table_of(file, ["CR"], per_object=PerObject("Jet", "id", {"a": [0], "b": [1]}), features=["Jet_pt"])
    assert table.features[:, 0].tolist() == list(range(200, 400))


def test_a_region_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match='train.regions: "RS" is not in the HDF5 files. They have: SR, CR, odd'):
        table_of(file, ["RS"])


def test_a_class_without_an_event_in_the_region(file: Path) -> None:
    with pytest.raises(NanoMLError, match=r'class "signal" has no event in odd \('):
        table_of(file, ["odd"])


def test_files_with_other_regions_do_not_go_together(toy: Toy) -> None:
    file = toy(regions=REGIONS, **FLAGS)
    other = toy("other.h5", regions={**REGIONS, "CR": "number > 5"}, **FLAGS)
    with pytest.raises(NanoMLError, match=r"other.h5: its regions are not those of .*with CR \(number > 5\)"):
        TrainingFiles.open([file, other], Train())


def test_a_training_is_that_on_these_events_alone(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """Classes are balanced, inputs are scaled, and networks are tested within the region."""
    inside = toy("inside.h5", regions=REGIONS, **FLAGS)
    table = read([inside], replace(quick, regions=["SR"]))
    alone = toy("alone.h5", count=300)
    assert table.features.shape == (300, 2)
    restricted = train([inside], replace(quick, regions=["SR"]), tmp_path / "restricted")
    with h5py.File(inside) as source, h5py.File(alone, "r+") as target:
        names = ["run", "luminosityBlock", "event", "label", "weight", "x", "y"]
        target["events"][:] = source["events"][:300][names]
    assert restricted == train([alone], quick, tmp_path / "plain")
