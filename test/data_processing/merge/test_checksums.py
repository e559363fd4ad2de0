from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.merge.checksums import Checksums

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


def test_a_column_that_is_missing_differs() -> None:
    assert checksums({"flat": ARRAYS["flat"]}, []).differing(checksums(ARRAYS, [])) == ["bits", "lists"]
