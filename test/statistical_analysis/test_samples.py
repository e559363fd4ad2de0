from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("statistical_analysis.samples")

from statistical_analysis.samples import Shape, _with_parabolas, positive, smooth

RATIOS = arrays(np.float64, st.integers(3, 20), elements=st.floats(0, 10, width=32))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        # by ROOT 6.40, TH1::SmoothArray(n, x, 1)
        (
            [1, 1.3, 0.9, 1.2, 2.5, 1.1, 1.0, 0.8, 1.4, 1.2, 0.6, 0.7],
            [1, 1.040625, 1.142708333333, 1.2125, 1.170833333333, 1.0875, 1.058333333333, 1.046875, 1.015625, 0.925, 0.775, 0.7],
        ),
        ([1, 4, 2], [2, 2, 2]),
    ],
)  # fmt: skip
def test_numbers_are_roots(values: list[float], found: list[float]) -> None:
    assert smooth(np.array(values, float)) == pytest.approx(found, abs=1e-11)


@given(RATIOS)
def test_smoothing_adds_no_negative_ratio_and_no_outlier(values: Any) -> None:
    found = smooth(values)
    assert found.shape == values.shape
    assert (found >= 0).all()


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(3, 20))
def test_what_is_a_line_stays(start: float, slope: float, bins: int) -> None:
    line = start + slope * np.arange(bins)
    assert smooth(line) == pytest.approx(line, abs=1e-9)


@given(RATIOS, st.data())
def test_smoothing_keeps_the_yield(values: Any, data: st.DataObject) -> None:
    nominal = data.draw(arrays(np.float64, len(values), elements=st.floats(0, 100, width=32)))
    shape = Shape(values * nominal, values * nominal / 2)
    found = shape.smoothed(nominal)
    for rough, smoothed in ((shape.up, found.up), (shape.down, found.down)):
        assert smoothed.sum() == pytest.approx(rough.sum(), abs=1e-9)
        assert (smoothed >= 0).all()


@given(arrays(np.float64, 5, elements=st.floats(-100, 100, width=32)))
def test_negative_bins_are_zero_and_the_sum_stays(values: Any) -> None:
    if values.sum() <= 0:
        return
    found, scale = positive(values)
    assert found.sum() == pytest.approx(values.sum())
    assert (found >= 0).all()
    assert 0 < scale <= 1


def test_a_parabola_is_steep_on_the_steep_side() -> None:
    """Three equal numbers at a valley: the parabola has its middle towards the smaller rise, whichever side that is on."""
    values = np.array([5.0, 1.0, 1.0, 1.0, 2.0])
    found = _with_parabolas(values)
    assert found.tolist() == pytest.approx([5, 1, 1 / 0.75 - 0.5 * 5 + 2 / 6, 1 - 1.5, 2])
    assert _with_parabolas(values[::-1]).tolist() == found[::-1].tolist()
