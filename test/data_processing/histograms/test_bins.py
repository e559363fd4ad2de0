"""Where values are in bins, and fine bins that become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.histograms.fill import places_in
from data_processing.histograms.templates import merged_bins
from MLTools.NanoML.contracts.bins import fine_edges


@pytest.mark.parametrize("shape", [(8,), (3, 8)])
def test_merged(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    found = merged_bins(values, [0, 2, 6])
    assert found.shape == (*shape[:-1], 4)
    assert found[..., 0].tolist() == values[..., 0].tolist()
    assert found[..., 1].tolist() == values[..., 1:3].sum(axis=-1).tolist()
    assert found[..., 2].tolist() == values[..., 3:7].sum(axis=-1).tolist()
    assert found[..., 3].tolist() == values[..., 7].tolist()


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=50), st.integers(1, 60))
def test_places_are_those_that_a_search_finds(values: list[float], count: int) -> None:
    edges = np.linspace(-1, 2, count + 1)
    many = np.array([*values, *edges, np.inf, -np.inf, *np.nextafter(edges, 9), *np.nextafter(edges, -9)])
    assert places_in(edges, many).tolist() == np.searchsorted(edges, many, "right").tolist()
    assert places_in(np.array(fine_edges()), many).tolist() == np.searchsorted(fine_edges(), many, "right").tolist()
