from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ML_processing.events import data
from ML_processing.events.data import Data
from ML_processing.events.data import read as read_with
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of

Toy = Callable[..., Path]


def read(files: list[Path], **settings: Any) -> Table:
    return read_with(files, Train(**settings))


def survey_of(files: list[Path], **settings: Any) -> Survey:
    return Data.open(files, Train(**settings)).sample(100, 5)[1]


def rows_of(path: Path) -> NDArray[Any]:
    with h5py.File(path) as file:
        return file["events"][:]


def change(path: Path, column: str, values: Any) -> Path:
    """Change a column of a file in place."""
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        rows[column] = values
        file["events"][:] = rows
    return path


def test_joins_files(files: list[Path]) -> None:
    table, rows = read(files), [rows_of(file) for file in files]
    assert len(table) == sum(map(len, rows)) > 1000
    assert table.features.dtype == np.float32
    for i, name in enumerate(table.names):
        assert np.array_equal(table.features[:, i], np.concatenate([part[name] for part in rows]))
    assert np.bincount(table.labels).tolist() == [len(part) for part in rows]
    assert table.summary()["WZ"]["sum_of_weights"] == pytest.approx(rows[1]["weight"].sum(dtype="f8"))
    joined = np.concatenate([part["event"] for part in rows])
    expected = fold_of(table.identifiers[0], table.identifiers[1], joined, 5)
    assert np.array_equal(table.folds(5), expected)
    assert [dataset["name"] for dataset in table.datasets] == [file.stem for file in files]


def test_reads_one_file_of_several_datasets_in_any_order(files: list[Path], tmp_path: Path) -> None:
    rows = np.concatenate([rows_of(file) for file in files])
    order = np.random.default_rng(3).permutation(len(rows))
    metadata = [metadata_content(file) for file in files]
    datasets = [dataset for content in metadata for dataset in content["datasets"]]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["events"] = rows[order]
        file["metadata"] = json.dumps({**metadata[0], "datasets": datasets, "shuffled": {"seed": 3}})
    together, apart = read([tmp_path / "all.h5"]), read(files)
    assert np.array_equal(together.features, apart.features[order], equal_nan=True)
    assert np.array_equal(together.labels, apart.labels[order])
    assert np.array_equal(together.weights, apart.weights[order])
    assert np.array_equal(together.folds(5), apart.folds(5)[order])
    assert together.datasets == apart.datasets
    assert survey_of([tmp_path / "all.h5"]).notes() == survey_of(files).notes()


def test_refuses_files_that_have_the_same_events(toy: Toy) -> None:
    paths = [toy(), toy("again.h5")]
    for path in paths:
        with h5py.File(path, "r+") as file:
            content = json.loads(file["metadata"].asstr()[()])
            content["datasets"][0]["books"]["files"] = [{"file": "/skims/0.root"}]
            del file["metadata"]
            file["metadata"] = json.dumps(content)
    assert len(read(paths[:1])) == 600
    with pytest.raises(NanoMLError, match=r"again.h5: has events of /skims/0.root, which .*toy.h5 has, too"):
        read(paths)


def test_reads_in_pieces(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(files)
    monkeypatch.setattr(data, "_BLOCK_EVENTS", 100)
    assert Data.open(files, Train()).blocks == 15
    pieces = read(files)
    order = np.lexsort(pieces.identifiers), np.lexsort(whole.identifiers)
    assert pieces[order[0]].sha256() == whole[order[1]].sha256()


def test_blocks_of_whole_chunks_have_all_rows(files: list[Path]) -> None:
    opened = dataclasses.replace(Data.open(files[:1], Train()), rows=(1003,), chunks=(10,), blocks=3)
    edges = [opened._edges(number)[0][1:] for number in range(3)]
    assert edges == [(0, 330), (330, 670), (670, 1003)]


def test_hash_is_of_the_content(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    first = toy()
    packed = write(tmp_path / "packed.h5", rows_of(first), classes=["signal", "other"], compression="gzip")
    assert packed.read_bytes() != first.read_bytes()
    assert read([packed]).sha256() == read([first]).sha256()
    before = read([first]).sha256()
    weights = rows_of(first)["weight"]
    weights[3] = 7
    assert read([change(first, "weight", weights)]).sha256() != before


def test_weights_keep_their_signs(toy: Toy) -> None:
    path = toy()
    weights = rows_of(path)["weight"]
    weights[::7] *= -1
    assert read([change(path, "weight", weights)]).weights.tolist() == weights.tolist()


def test_other_types_of_numbers(toy: Toy) -> None:
    path = toy(
        count=600, flag=np.arange(600) % 3 == 0, big=np.full(600, 1e300), byte=np.arange(600, dtype="u1")
    )
    with pytest.raises(NanoMLError, match=r'"big" is not a finite number in any event'):
        read([path])
    table = read([toy(flag=np.arange(600) % 3 == 0, byte=(np.arange(600) % 256).astype("u1"))])
    assert table.features[:4, 2].tolist() == [1, 0, 0, 1]
    assert table.features[:4, 3].tolist() == [0, 1, 2, 3]


def test_leaves_out_events_without_a_class_and_empty_files(toy: Toy) -> None:
    whole, empty = toy(), toy("empty.h5", count=0)
    labels = rows_of(whole)["label"]
    labels[:100] = -1
    table = read([empty, change(whole, "label", labels)])
    assert len(table) == 500
    assert table.labels.min() == 0


def test_notes_on_features(toy: Toy) -> None:
    gap = np.where(np.arange(600) < 3, np.nan, np.arange(600)).astype("f4")
    assert survey_of([toy(gap=gap, fixed=np.full(600, 4, "i4"))]).notes() == [
        "Feature gap is not a finite number in 3 of 600 events (0.5 %): these count as missing and take the median.",
        "Feature fixed has the same value, 4, everywhere: it cannot help.",
    ]


def test_no_file() -> None:
    with pytest.raises(NanoMLError, match="no HDF5 file was given"):
        read([])


def test_label_out_of_range(toy: Toy) -> None:
    with pytest.raises(
        NanoMLError, match=r"toy.h5: event 0 has label 2, but the labels of 2 classes are 0 to 1, or -1"
    ):
        read([change(toy(), "label", 2)])


def test_weight_not_finite(toy: Toy) -> None:
    with pytest.raises(NanoMLError, match=r"toy.h5: event 0 has weight nan: a weight must be a number"):
        read([change(toy(), "weight", np.nan)])


def test_class_without_events(toy: Toy) -> None:
    with pytest.raises(
        NanoMLError, match=r'class "signal" has no event .*no file here is of a dataset of this class'
    ):
        read([change(toy(), "label", 1)])


def test_one_class(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    rows = rows_of(toy())
    rows["label"] = 0
    with pytest.raises(NanoMLError, match="two classes or more"):
        read([write(tmp_path / "one.h5", rows, classes=["signal"])])


def test_no_feature(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    rows = rows_of(toy())[["run", "luminosityBlock", "event", "label", "weight"]]
    with pytest.raises(
        NanoMLError,
        match=r"bare.h5: has no event-level feature and no collection to train on. Name some in `convert.features`",
    ):
        read([write(tmp_path / "bare.h5", rows, classes=["signal", "other"])])


def in_blocks(monkeypatch: pytest.MonkeyPatch, files: list[Path], events: int) -> list[Table]:
    monkeypatch.setattr(data, "_BLOCK_EVENTS", events)
    return list(Data.open(files, Train()).tables())


def test_blocks_take_their_share_of_every_file(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(data, "_BLOCK_BYTES", 1000)
    members = np.zeros((600, 10), [("valid", "?"), ("pt", "f4")])
    assert (
        Data.open([toy(objects={"Jet": members})], Train()).blocks == 50
    )  # 50 bytes of 10 jets and 32 of the rest


def test_events_that_do_not_fit_into_memory(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_BLOCK_EVENTS", 20_000)
    path = toy(count=60_000)
    whole, _ = Data.open([path], Train()).sample(1000, 5)
    some, survey = Data.open([path], Train()).sample(1, 5)
    assert len(whole) == survey.counts.sum() == 60_000
    assert 0.4e6 < some.nbytes <= 1e6 < whole.nbytes
    assert np.bincount(some.folds(5)) / len(some) == pytest.approx([0.2] * 5, abs=0.02)
    assert np.bincount(some.labels) / len(some) == pytest.approx([0.5] * 2, abs=0.02)
    monkeypatch.setattr(data, "_BLOCK_EVENTS", 1000)
    again, _ = Data.open([path], Train(features=["y"]), everything=True).sample(1, 5)
    assert np.isin(some.identifiers[2], again.identifiers[2]).all()  # which are smaller, but no others
    assert np.array_equal(whole.features[some.identifiers[2]], some.features)


def test_all_columns_take_no_events_away(toy: Toy) -> None:
    path = toy(count=60_000)
    few, _ = Data.open([path], Train(features=["y"])).sample(1, 5)
    same, _ = Data.open([path], Train(features=["y"]), everything=True).sample(1, 5)
    assert list(few.extras) == []
    assert list(same.extras) == ["x"]
    assert np.array_equal(few.identifiers[2], same.identifiers[2])


def test_damaged_file(toy: Toy) -> None:
    path = toy(count=20_000)
    opened = Data.open([path], Train())
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(size // 2)
    with pytest.raises(NanoMLError, match=r"toy.h5: .*(truncated|cannot be read)"):
        opened.block(0)


def test_collections(object_files: list[Path]) -> None:
    table = read(object_files)
    assert table.shape.tensors == ["features", "Electron", "Electron_mask", "Muon", "Muon_mask"]
    values, mask = table.objects["Electron"]
    with h5py.File(object_files[0]) as file:
        members = file["Electron"][:]
    assert np.array_equal(values[: len(members), :, 0], members["pt"])
    assert np.array_equal(mask[: len(members)], members["valid"])
    assert values.dtype == np.float32
    assert not values[~mask].any()
    assert (mask.sum(axis=1) + table.objects["Muon"][1].sum(axis=1) >= 3).all()


def test_padding_is_zero_whatever_the_file_has(toy: Toy) -> None:
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4")])
    members["pt"] = np.nan
    members["valid"][:, 0] = True
    members["pt"][:, 0] = 5
    values, _ = read([toy(objects={"Jet": members})]).objects["Jet"]
    assert values[0].tolist() == [[5], [0]]


def test_collection_without_a_value(toy: Toy) -> None:
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4"), ("mass", "f4")])
    members["mass"] = np.nan
    members["valid"][:, 0] = True
    with pytest.raises(NanoMLError, match=r'"Jet_mass" is not a finite number in any event'):
        read([toy(objects={"Jet": members})])


def test_collection_without_an_object(toy: Toy) -> None:
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4")])
    assert not read([toy(objects={"Jet": members})]).objects["Jet"][1].any()


def test_collection_with_other_rows(toy: Toy) -> None:
    members = np.zeros((599, 2), [("valid", "?"), ("pt", "f4")])
    with pytest.raises(NanoMLError, match=r"toy.h5: `Jet` has 599 rows for 600 events"):
        read([toy(objects={"Jet": members})])


def test_files_that_disagree(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    first = toy()
    more = toy("more.h5", z=np.zeros(600, "f4"))
    with pytest.raises(
        NanoMLError, match=r"more.h5: its features are not those of .*toy.h5: with z\. Convert all"
    ):
        read([first, more])
    with pytest.raises(NanoMLError, match="without z"):
        read([more, first])
    turned = write(tmp_path / "turned.h5", rows_of(first), classes=["other", "signal"])
    with pytest.raises(NanoMLError, match=r"its classes are .*another order \(other, signal\)"):
        read([first, turned])
    selected = write(tmp_path / "selected.h5", rows_of(first), classes=["signal", "other"], selection="a:B")
    with pytest.raises(NanoMLError, match=r"its selection are not those of .*without none and with a:B"):
        read([first, selected])


def test_field_that_is_missing(toy: Toy) -> None:
    path = toy()
    rows = rows_of(path)
    with h5py.File(path, "r+") as file:
        del file["events"]
        file["events"] = rows[["run", "luminosityBlock", "event", "label", "weight", "x"]]
    with pytest.raises(NanoMLError, match="`events` has no field y"):
        read([path])
