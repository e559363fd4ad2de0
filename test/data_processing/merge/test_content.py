from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from data_processing.merge.merge import Checksums, FileContent
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile, rows_at_once

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
