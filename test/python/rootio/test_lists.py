from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from MLTools.NanoML.rootio.lists import Lists, Picker, default, is_plain, joined, offsets_of, picked_lists, same_lists


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=8), st.data())
def test_lists_are_picked_as_awkward_does(lists: list[list[int]], data: st.DataObject) -> None:
    counts = np.array([len(each) for each in lists], np.int64)
    numbers = np.array([number for each in lists for number in each], np.int64)
    offsets = offsets_of(counts)
    assert offsets.tolist() == [0, *np.cumsum(counts).tolist()]
    rows = np.array(data.draw(st.lists(st.sampled_from(range(len(lists))), unique=True)) if lists else [], np.int64)
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


@pytest.mark.parametrize("borders", [[0, 4], [0, 1, 4], [0, 0, 2, 4]])
def test_parts_are_joined(borders: list[int]) -> None:
    array, numbers = ak.Array([[1, 2], [], [3], [4, 5, 6]]), np.arange(4)
    parts = [Lists.of(array[begin:end]) for begin, end in zip(borders, borders[1:])]
    found = joined(parts)
    assert isinstance(found, Lists)
    assert found.array().tolist() == array.tolist()
    found = joined([*parts, array])
    assert isinstance(found, ak.Array)
    assert found.tolist() == [*array.tolist(), *array.tolist()]
    found = joined([numbers[begin:end] for begin, end in zip(borders, borders[1:])])
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, 1, 2, 3]


def test_lists_of_numbers_are_plain_and_the_same_if_their_lengths_are() -> None:
    lists = ak.Array([[1, 2], [], [3]])
    others = (ak.Array([1, 2]), lists[np.array([0, 2])], ak.zip({"x": lists}))
    assert [is_plain(array.layout) for array in (lists, *others)] == [True, False, False, False]
    one, other, third = (ak.Array(each).layout.offsets for each in ([[1, 2], []], [[3, 4], []], [[1], [2]]))
    assert [same_lists(one, each) for each in (one, other, third)] == [True, True, False]


DTYPES = ("bool", "int8", "uint8", "int16", "int32", "uint32", "uint64", "float32", "float64")
# arrays of the same content in each of the layouts in which uproot and awkward give it
FLAT = ("numpy", "awkward", "sliced", "strided", "indexed")
JAGGED = ("plain", "sliced", "picked", "indexed", "offsets of 32 bits", "a gap before", "regular", "nested")


def flat(kind: str, numbers: NDArray[Any]) -> Any:
    if kind == "numpy":
        return numbers
    if kind == "awkward":
        return ak.Array(numbers)
    if kind == "sliced":
        return ak.Array(np.concatenate([numbers[:1], numbers, numbers[:1]]))[len(numbers[:1]) :][: len(numbers)]
    if kind == "strided":
        return ak.Array(np.repeat(numbers, 2)[::2])
    order = np.arange(len(numbers))[::-1]
    return ak.Array(ak.contents.IndexedArray(ak.index.Index64(order), ak.contents.NumpyArray(numbers[order])))


def jagged(kind: str, counts: Sequence[int], numbers: NDArray[Any]) -> Any:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = np.resize(numbers, int(offsets[-1])) if len(numbers) else np.zeros(int(offsets[-1]), numbers.dtype)
    content = ak.contents.NumpyArray(values)
    plain = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))
    if kind == "offsets of 32 bits":
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index32(offsets.astype(np.int32)), content))
    if kind == "a gap before":
        shifted = ak.contents.NumpyArray(np.concatenate([values[:1], values]))
        gap = len(values[:1])
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets + gap), shifted))
    if kind == "sliced":
        return ak.concatenate([plain[:1], plain, plain[:1]])[len(plain[:1]) :][: len(plain)]
    if kind == "picked":
        return plain[np.arange(len(plain))]
    if kind == "indexed":
        order = np.arange(len(plain))[::-1]
        return ak.Array(ak.contents.IndexedArray(ak.index.Index64(order), plain[order].layout))
    if kind == "regular":
        return ak.Array(np.resize(values if len(values) else np.zeros(1, values.dtype), (len(plain), 3)))
    if kind == "nested":
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(np.arange(len(plain) + 1)), plain.layout))
    return plain


def check(array: Any, rows: NDArray[np.int64], picker: Picker) -> None:
    found, expected = picker(array), array[rows]
    assert found.tolist() == expected.tolist()
    if isinstance(array, np.ndarray):
        assert found.dtype == array.dtype
        return
    expected = ak.to_packed(expected)
    assert str(found.type) == str(expected.type)
    # nothing that was not picked is held by it
    assert found.nbytes <= expected.nbytes + 8 * (len(rows) + 1)


counts_and_rows = st.lists(st.integers(0, 4), max_size=12).flatmap(
    lambda counts: st.tuples(st.just(counts), st.sets(st.integers(0, len(counts) - 1)) if counts else st.just(set()))
)


@settings(max_examples=25)
@given(counts_and_rows, st.lists(st.integers(0, 100), max_size=8), st.sampled_from(DTYPES))
def test_it_is_what_awkward_picks(picked: Any, content: list[int], dtype: str) -> None:
    counts, chosen = picked
    rows, numbers = np.array(sorted(chosen), np.int64), np.array(content).astype(dtype)
    picker = Picker(rows)
    for kind in FLAT:
        values = np.resize(numbers, len(counts)) if len(numbers) else np.zeros(len(counts), dtype)
        check(flat(kind, values), rows, picker)
    for kind in JAGGED:
        check(jagged(kind, counts, numbers), rows, picker)


def test_lists_of_other_lengths_are_told_apart() -> None:
    picker = Picker(np.array([1, 2]))
    for counts in ([1, 2, 3], [3, 2, 1], [1, 2, 3], [0, 0, 6], [1, 2, 3]):
        check(jagged("plain", counts, np.arange(6.0)), np.array([1, 2]), picker)


@pytest.mark.parametrize("array", [np.arange(5), ak.Array(np.arange(5)), ak.Array([[1], [2, 3], [], [4], [5, 6]])])
def test_what_was_picked_is_no_view(array: Any) -> None:
    before = array.tolist()
    found = Picker(np.arange(5))(array)
    numbers = found if isinstance(found, np.ndarray) else np.asarray(ak.flatten(found, axis=None))
    numbers[:] = 99
    assert array.tolist() == before


def test_a_value_in_place_of_a_branch_has_its_shape() -> None:
    beside = ak.Array([[1.0, 2.0], [], [3.0]])
    assert default(7, 3).tolist() == [7, 7, 7]
    assert default(7, 3, beside).tolist() == [[7, 7], [], [7]]
    assert default(True, 2, beside[1:]).tolist() == [[], [True]]
    assert default([], 2, beside).tolist() == [[], []]
    assert default((1, 2), 2).tolist() == [[1, 2], [1, 2]]
    assert [len(default(*given)) for given in ((1.5, 0), ([], 0), (1.5, 0, beside[:0]))] == [0, 0, 0]
