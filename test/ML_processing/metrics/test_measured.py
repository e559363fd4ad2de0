from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from ML_processing.metrics.measured import (
    MERGED,
    PAIR,
    Histogram,
    Measured,
    as_json,
    bin_of,
    effective_events,
    efficiency,
    even_edges,
    histogram,
    quantile,
    quantile_edges,
)


def test_effective_events() -> None:
    assert effective_events([2.0, 2.0, 2.0]) == pytest.approx(3)
    assert effective_events([1.0, 1.0, -1.0]) == pytest.approx(1 / 3)
    assert effective_events([]) == 0


def test_efficiency_without_weights_is_binomial() -> None:
    passed = np.arange(100) < 20
    found = efficiency(passed, np.ones(100))
    assert found.value == pytest.approx(0.2)
    assert found.error == pytest.approx(np.sqrt(0.2 * 0.8 / 100))
    assert efficiency([True], [-1.0]).value is None


def test_error_of_an_efficiency_depends_on_which_weights_pass() -> None:
    assert efficiency([True, False], [3.0, 1.0]).value == 0.75
    assert efficiency([True, False], [3.0, 1.0]).error == pytest.approx(np.sqrt(9 * 0.25**2 + 1 * 0.75**2) / 4)


def test_error_of_the_efficiency_is_its_spread() -> None:
    random = np.random.default_rng(1)
    passed, weight = (random.random(500) < 0.3, random.exponential(1, 500) * np.where(random.random(500) < 0.1, -1, 1))
    drawn = [efficiency(passed, weight * random.poisson(1, 500)).value for _ in range(500)]
    assert efficiency(passed, weight).error == pytest.approx(np.std(np.array(drawn, float)), rel=0.1)


def test_histogram_holds_what_is_beyond() -> None:
    found = histogram([-5, 0.5, 0.6, 9, np.nan], [1, 2, -1, 2, 7], np.array([0.0, 0.4, 1.0]))
    assert found.values == pytest.approx([0.25, 0.75])
    assert found.errors == pytest.approx([0.25, 0.75])
    assert histogram([0.5], [-1], np.array([0.0, 1.0])).values.tolist() == [0]


def test_quantile() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=5000)
    assert quantile(values, np.ones(5000), (0.16, 0.5)) == pytest.approx(np.quantile(values, (0.16, 0.5)), abs=0.01)
    doubled = quantile(np.append(values, values[:100]), np.append(np.ones(5000), -np.ones(100)), (0.5,))
    assert doubled == pytest.approx(np.median(values[100:]), abs=0.02)
    assert np.isnan(quantile([1.0], [-1.0], (0.5,))).all()
    assert quantile([1.0, 3.0, 2.0], [1.0, 2.0, 1.0], (0.5, 0.75)).tolist() == pytest.approx(
        [7 / 3, 3]
    )  # half of each is below it


def test_edges() -> None:
    random = np.random.default_rng(1)
    values = random.exponential(1, 8000)
    counts = np.histogram(values, quantile_edges(values, 8))[0]
    assert counts == pytest.approx(1000, abs=2)
    assert quantile_edges(np.full(5, 2.0), 4).size == 0
    assert quantile_edges(np.array([np.nan]), 4).size == 0
    mostly_zero = quantile_edges(np.append(np.zeros(99), 1.0), 8)
    assert np.bincount(bin_of([0, 0, 1], mostly_zero)).tolist() == [2, 1]
    edges = even_edges(np.append(random.normal(90, 3, 1000), [1e6]), 20)
    assert 70 < edges[0] < edges[-1] < 110
    assert even_edges(np.array([]), 20).size == 0
    tails = np.append(random.normal(0, 1, 9000), random.uniform(-100, 100, 1000))
    low, high = np.quantile(tails, (0.16, 0.84))
    assert np.ptp(even_edges(tails, 20)) == pytest.approx(5 * (high - low))


def test_bins() -> None:
    found = bin_of([-1, 0, 0.5, 1, 1.5, 2, 9, np.nan], np.array([0.0, 1.0, 2.0]))
    assert found.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_measured() -> None:
    assert Measured.of(np.float64(1), np.nan) == Measured(None, None)
    assert as_json(Measured.of(1, 2)) == {"value": 1, "error": 2}


def test_json_of_dataclasses() -> None:
    @dataclass
    class Point:
        area: Measured = field(metadata=PAIR)
        bins: Histogram = field(metadata=MERGED)
        usable: NDArray[np.bool_]

    bins = Histogram(np.array([1 / 3, np.nan]), np.ones((1, 2)))
    assert as_json({"points": [Point(Measured(1 / 3, None), bins, np.array([True]))]}) == {
        "points": [
            {"area": 1 / 3, "area_error": None, "values": [0.333333, None], "errors": [[1.0, 1.0]], "usable": [True]}
        ]
    }
