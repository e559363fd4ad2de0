from __future__ import annotations

from typing import Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mplhep")  # scipy comes with it

from matplotlib.figure import Figure
from scipy.stats import poisson

from MLTools.NanoML.report.stack import Drawn, Observed, Stack, draw_ratio, draw_stack, drawn_edges, label_edges


def test_intervals_are_those_of_the_tables() -> None:
    found = Observed.of([0, 1, 10])
    assert found.low == pytest.approx([0, 0.173, 6.891], abs=1e-3)
    assert found.high == pytest.approx([1.841, 3.300, 14.267], abs=1e-3)


@given(st.integers(0, 2000), st.floats(0.5, 0.99))
def test_an_end_is_the_mean_for_which_the_count_is_at_its_tail(count: int, coverage: float) -> None:
    found = Observed.of([count], coverage)
    (low,), (high,) = found.low, found.high
    tail = (1 - coverage) / 2
    assert poisson.cdf(count, high) == pytest.approx(tail, rel=1e-6)
    assert low == 0 if count == 0 else poisson.sf(count - 1, low) == pytest.approx(tail, rel=1e-6)


def stack(data: Optional[list[float]] = None) -> Stack:
    processes = [
        Drawn("small", np.array([1.0, 0.0, 2.0, 1.0, 1.0]), "C0"),
        Drawn("large", np.array([9.0, 0.0, 18.0, 9.0, 9.0]), "C1"),
    ]
    observed = None if data is None else Observed.of(data)
    error, line = np.array([1.0, 0.0, 4.0, 1.0, 1.0]), Drawn("signal", np.full(5, 0.5), "C2")
    return Stack(np.array([0.0, 1.0, 2.0, 4.0, 5.0, 6.0]), processes, error, "Error", line, observed)


def test_processes_lie_on_each_other() -> None:
    axes = Figure().subplots()
    content = stack([10, 0, 25, 10, 10])
    draw_stack(axes, content)
    assert content.expected.tolist() == [10, 0, 20, 10, 10]
    assert axes.get_legend_handles_labels()[1] == ["small", "large", "Error", "signal", "Data"]
    assert axes.get_ylim()[1] > 25


@pytest.mark.parametrize("content", [stack([0] * 5), Stack(np.arange(4.0), [], np.zeros(3), "Error")])
def test_a_logarithmic_axis_needs_positive_ends(content: Stack) -> None:
    axes = Figure().subplots()
    draw_stack(axes, content, logarithmic=True)
    assert 0 < axes.get_ylim()[0] < axes.get_ylim()[1]


@pytest.mark.parametrize(
    ("data", "limits", "arrows"),
    [
        (None, (0.74, 1.26), []),
        ([10, 3, 20, 10, 10], (0.3, 1.7), []),
        ([10, 3, 0, 10, 10], (0.3, 1.7), [(3.0, "v")]),  # at most 1.84 where 20 are expected
        ([2, 3, 20, 10, 10], (0.3, 1.7), []),  # 2 + 2.6 where 10 are expected
        ([90, 3, 90, 10, 10], (0.0, 5.0), [(0.5, "^")]),
    ],
)
def test_points_beyond_a_ratio_are_arrows(
    data: Optional[list[float]], limits: tuple[float, float], arrows: list[tuple[float, str]]
) -> None:
    axes = Figure().subplots()
    draw_ratio(axes, stack(data))
    assert axes.get_ylim() == pytest.approx(limits)
    found = [(x, it.get_marker()) for it in axes.lines if it.get_marker() in ("^", "v") for x in it.get_xdata()]
    assert found == arrows


def test_narrow_bins_are_drawn_evenly_with_their_edges() -> None:
    narrow, wide = (0.0, 0.5, 0.999, 0.9999, 1.0), (0.0, 0.5, 0.9, 1.0)
    assert drawn_edges(narrow).tolist() == [0, 1, 2, 3, 4]
    assert drawn_edges(wide).tolist() == [*wide]
    axes = Figure().subplots()
    label_edges(axes, wide)
    assert [it.get_text() for it in axes.get_xticklabels()] != ["0", "0.5", "0.9", "1"]
    label_edges(axes, narrow)
    assert [it.get_text() for it in axes.get_xticklabels()] == ["0", "0.5", "0.999", "0.9999", "1"]
