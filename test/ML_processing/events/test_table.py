"""Labelled events in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ML_processing.events import data
from ML_processing.events.data import read
from ML_processing.events.table import Table
from MLTools.NanoML.config.training import PerObject, Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of


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
    """Write other values into a file."""
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        for name, values in columns.items():
            rows[name] = values
        file["events"][...] = rows
    return path


@pytest.mark.parametrize("block", [1 << 17, 50])
def test_every_object_is_a_row(toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    jets, weight = members(), np.arange(600.0)
    path = change(toy(objects={"Jet": jets}, z=np.arange(600)), label=np.full(600, -1), weight=weight)
    monkeypatch.setattr(data, "_BLOCK_EVENTS", block)
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
