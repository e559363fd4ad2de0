"""Bins of a score that are chosen by what is expected in them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.contracts.bins import FINE, chosen_bins, fine_edges

expected = st.lists(st.floats(0, 100), min_size=20, max_size=20).map(np.array)


@given(expected, expected, st.floats(0.1, 50), st.integers(1, 20))
def test_what_each_bin_has(signal: np.ndarray, background: np.ndarray, least: float, most: int) -> None:
    squares = background * 0.5
    edges = chosen_bins(signal, background, squares, least, most)
    assert edges[0] == 0
    assert edges[-1] == 20
    assert edges == sorted(set(edges))
    s, b, w2 = (np.add.reduceat(values, edges[:-1]) for values in (signal, background, squares))
    if len(edges) > 2:
        assert (b > 0).all()
        assert (b**2 >= least * w2 * (1 - 1e-9)).all()
        assert (np.diff(s / (s + b)) > -1e-12).all()


def test_as_many_as_are_asked_for() -> None:
    score = (np.arange(1000) + 0.5) / 1000
    edges = chosen_bins(score * 10, (1 - score) * 1000, (1 - score) * 1000, 10.0, 10)
    assert 8 <= len(edges) - 1 <= 20
    assert chosen_bins(score * 10, (1 - score) * 1000, (1 - score) * 1000, 1e9, 10) == [0, 1000]


def test_nothing_is_expected() -> None:
    nothing = np.zeros(10)
    assert chosen_bins(nothing, nothing, nothing, 10.0, 5) == [0, 10]
    assert chosen_bins(nothing + 1, nothing, nothing, 10.0, 5) == [0, 10]


def test_a_subtracted_background() -> None:
    """Bins in which more is subtracted than there is join their neighbours."""
    background = np.array([100.0, 50, -20, 40, 5])
    edges = chosen_bins(np.array([0.0, 1, 2, 3, 4]), background, np.abs(background), 1.0, 10)
    assert (np.add.reduceat(background, edges[:-1]) > 0).all()


def test_fine_bins() -> None:
    edges = fine_edges()
    assert len(edges) == FINE + 1
    assert np.searchsorted(edges, [0.0, 1.0, np.float32(1)], "right").tolist() == [1, FINE, FINE]
