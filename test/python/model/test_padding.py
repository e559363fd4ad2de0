from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.model.padding import Jagged, Places, padded

PT = ak.Array([[30.0, 50.0, 50.0, 10.0], [], [7.0], [1.0, 2.0, 3.0]])
NUMBER = ak.Array([[0, 1, 2, 3], [], [4], [5, 6, 7]])


def test_lists_of_awkward() -> None:
    for array in (PT, PT[1:], PT[[3, 0]], ak.from_iter([[1.0, None], []])[:, :1]):
        found = Jagged.of(array)
        assert found.values.tolist() == ak.flatten(array).to_list()
        assert found.counts.tolist() == ak.num(array).to_list()


@pytest.mark.parametrize(
    ("by", "descending", "most", "expected"),
    [
        (None, False, 3, [[0, 1, 2], [], [4], [5, 6, 7]]),
        (PT, True, 3, [[1, 2, 0], [], [4], [7, 6, 5]]),
        (PT, False, 2, [[3, 0], [], [4], [5, 6]]),
        (PT, True, 6, [[1, 2, 0, 3], [], [4], [7, 6, 5]]),
        (NUMBER, True, 1, [[3], [], [4], [7]]),
        (ak.values_astype(NUMBER, np.uint8), True, 2, [[3, 2], [], [4], [7, 6]]),
        (NUMBER > 1, True, 2, [[2, 3], [], [4], [5, 6]]),
    ],
)
def test_order_and_padding(by: ak.Array, descending: bool, most: int, expected: list[list[int]]) -> None:
    numbers, pt = Jagged.of(NUMBER), Jagged.of(PT)
    key = None if by is None else Jagged.of(by).values
    values, mask = padded([numbers.values, pt.values], numbers.counts, most, key, descending)
    assert (values.dtype, mask.dtype) == (np.float32, np.float32)
    assert (values.shape, mask.shape) == ((4, most, 2), (4, most))
    assert mask.tolist() == [[1.0] * len(row) + [0.0] * (most - len(row)) for row in expected]
    flat = ak.flatten(PT).to_list()
    for row, found in zip(expected, values):
        assert found[: len(row), 0].tolist() == row
        assert found[: len(row), 1].tolist() == [flat[number] for number in row]
        assert not found[len(row) :].any()


def test_nan_comes_last() -> None:
    key = np.array([1.0, np.nan, 3.0])
    for descending in (False, True):
        places = Places.of(np.array([3]), 3, key, descending)
        assert places.picked(np.arange(3)).tolist()[2] == 1


def test_no_events_and_numbers_that_are_too_large_for_float32() -> None:
    values, mask = padded([np.zeros(0)], np.zeros(0, np.int64), 4)
    assert (values.shape, mask.shape) == ((0, 4, 1), (0, 4))
    values, _ = padded([np.array([1e300])], np.array([1]), 1)
    assert np.isinf(values).all()
