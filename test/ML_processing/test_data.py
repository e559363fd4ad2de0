from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ML_processing import data
from ML_processing.data import read
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.folds import fold_of
from MLTools.NanoML.hdf5 import read_metadata

Toy = Callable[..., Path]


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
    metadata = [read_metadata(file) for file in files]
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
    assert together.notes == apart.notes


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
    whole = read(files).sha256()
    monkeypatch.setattr(data, "_ROWS", 100)
    assert read(files).sha256() == whole


def test_hash_is_of_the_content(toy: Toy, write: Callable[..., Path], tmp_path: Path) -> None:
    first = toy()
    packed = write(tmp_path / "packed.h5", rows_of(first), classes=["signal", "other"], compression="gzip")
    assert packed.read_bytes() != first.read_bytes()
    assert read([packed]).sha256() == read([first]).sha256()
    before = read([first]).sha256()
    weights = rows_of(first)["weight"]
    weights[3] = 7
    assert read([change(first, "weight", weights)]).sha256() != before


def test_other_types_of_numbers(toy: Toy) -> None:
    path = toy(
        count=600, flag=np.arange(600) % 3 == 0, big=np.full(600, 1e300), byte=np.arange(600, dtype="u1")
    )
    with pytest.raises(NanoMLError, match=r'feature "big" is not a finite number in any event'):
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
    table = read([toy(gap=gap, fixed=np.full(600, 4, "i4"))])
    assert table.notes == [
        "Feature gap is not a finite number in 3 of 600 events (0.5 %): these count as missing and take the median.",
        "Feature fixed has the same value, 4, in every event: it cannot help.",
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
        NanoMLError, match=r"bare.h5: has no event-level feature. Name some in `convert.features`"
    ):
        read([write(tmp_path / "bare.h5", rows, classes=["signal", "other"])])


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
