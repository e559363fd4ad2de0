from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.rootio.lists import Lists, is_plain, offsets_of, picked_lists, same_lists


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=8), st.data())
def test_lists_are_picked_as_awkward_does(lists: list[list[int]], data: st.DataObject) -> None:
    counts = np.array([len(each) for each in lists], np.int64)
    numbers = np.array([number for each in lists for number in each], np.int64)
    offsets = offsets_of(counts)
    assert offsets.tolist() == [0, *np.cumsum(counts).tolist()]
    rows = np.array(
        data.draw(st.lists(st.sampled_from(range(len(lists))), unique=True)) if lists else [], np.int64
    )
    picked, where = picked_lists(offsets, rows)
    found = [numbers[where][begin:end].tolist() for begin, end in zip(picked, picked[1:])]
    assert found == [lists[row] for row in rows]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [1, 2], [3, 0], [2], []])
def test_lists_are_taken_from_any_awkward_array_and_given_back(rows: list[int]) -> None:
    array = ak.Array([[1, 2], [], [3], [4, 5, 6]])[np.array(rows, np.int64)]
    for some in (array, ak.to_packed(array), array[1:]):
        found = Lists.of(some)
        assert len(found) == len(some)
        assert found.offsets[0] == 0
        assert len(found.numbers) == found.offsets[len(some)]
        assert found.array().tolist() == some.tolist()


def test_lists_of_numbers_are_plain() -> None:
    lists = ak.Array([[1, 2], [], [3]])
    assert is_plain(lists.layout)
    assert not is_plain(ak.Array([1, 2]).layout)
    assert not is_plain(lists[np.array([0, 2])].layout)
    assert not is_plain(ak.zip({"x": lists}).layout)


def test_lists_are_the_same_if_their_lengths_are() -> None:
    one, other, third = (ak.Array(each).layout.offsets for each in ([[1, 2], []], [[3, 4], []], [[1], [2]]))
    assert same_lists(one, one)
    assert same_lists(one, other)
    assert not same_lists(one, third)
