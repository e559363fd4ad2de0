"""Labelled events in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ML_processing.data import read
from ML_processing.table import Table
from MLTools.NanoML.config import Train


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
