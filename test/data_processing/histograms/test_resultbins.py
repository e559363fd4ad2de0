"""Bins by the result: against bins by numbers of events, and against the best that is possible, on events whose densities are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np
import pytest
from scipy.stats import norm as gaussian

from data_processing.histograms.resultbins import FitOf, choose
from data_processing.histograms.templates import Sums
from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.bins import STRENGTH, Counts, chosen_bins, fine_edges, strength_error, with_background
from MLTools.NanoML.contracts.templates import HistogramChannel, Origin, Template

EDGES = np.array(fine_edges())
DENSITIES = {"signal": (1.0, 1.0, 60.0), "wide": (-1.0, 1.0, 3000.0), "peak": (1.6, 0.4, 60.0)}
"""Mean and width of a Gaussian, and expected events: the peak lies under the signal."""


def samples(contents: dict[str, tuple[np.ndarray, np.ndarray]], starts: Sequence[int], size: float) -> list[Counts]:
    """The processes in bins; the yield of the peak is uncertain."""
    factors = {"peak": {"norm": LogNormal(1 + size, 1 / (1 + size))}, "wide": {"lumi": LogNormal(1.02, 1 / 1.02)}}
    return [
        Counts(
            STRENGTH if name == "signal" else None,
            *(np.add.reduceat(it, starts) for it in each),
            {},
            factors.get(name, {}),
            None,
        )
        for name, each in contents.items()
    ]


def halves(seed: int, events: int) -> dict[Optional[int], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Sums of weights and of their squares in fine bins of the score 1 / (1 + exp(-2 x)): of both halves, and of all."""
    random, found = np.random.default_rng(seed), {0: {}, 1: {}, None: {}}
    for name, (mean, width, expected) in DENSITIES.items():
        score, part = 1 / (1 + np.exp(-2 * random.normal(mean, width, events))), random.random(events) < 0.5
        for half, mine in ((0, part), (1, ~part), (None, part | ~part)):
            counts, weight = np.histogram(score[mine], EDGES)[0], expected / mine.sum()
            found[half][name] = counts * weight, counts * weight**2 * (1 if half is None else 0.5)
    return found


def candidates(contents: Any, half: Optional[int], most: int) -> list[int]:
    signal, (wide, peak) = contents[half]["signal"][0], (contents[half][name] for name in ("wide", "peak"))
    *starts, _ = chosen_bins(signal, wide[0] + peak[0], wide[1] + peak[1], 10, most)
    return with_background(starts, [signal], [wide[0] + peak[0]])


def truth(starts: Sequence[int], size: float) -> float:
    """The uncertainty in bins, of the densities themselves."""
    odds = np.concatenate([[-np.inf], np.log(EDGES[1:-1] / (1 - EDGES[1:-1])) / 2, [np.inf]])
    exact = {
        name: (expected * np.diff(gaussian.cdf(odds, mean, width)), np.zeros(len(odds) - 1))
        for name, (mean, width, expected) in DENSITIES.items()
    }
    return float(strength_error([samples(exact, starts, size)], np))


@pytest.mark.parametrize(("size", "most", "gain"), [(0.5, 4, 0.2), (2.0, 8, 0.1), (0.02, 15, 0.0)])
def test_they_measure_better_than_bins_by_numbers(size: float, most: int, gain: float) -> None:
    contents = halves(1, 20_000)
    make = lambda half, starts: [samples(contents[half], starts, size)]  # noqa: E731
    found = choose(make, [], partial(candidates, contents), most)
    assert found is not None
    assert len(found.starts) <= most
    best, auto = truth(range(len(EDGES) - 1), size), truth(candidates(contents, None, most), size)
    mine = truth(found.starts, size)
    assert best <= mine < (1 - gain) * auto * 1.01
    assert found.judged < (1 - gain) * found.auto
    # what was judged is the truth but for the statistical errors of simulation, of which the truth has none
    assert found.judged == pytest.approx(mine, rel=0.1)
    assert str(found).startswith(
        f"expected uncertainty of the signal strength {found.judged:.3g} in {len(found.starts)} bins"
    )


def test_optimism_is_seen_where_there_are_few_events() -> None:
    found = []
    for seed in range(4):
        contents = halves(seed, 1000)
        make: Callable[..., Any] = lambda half, starts, of=contents: [samples(of[half], starts, 0.5)]  # noqa: E731
        choice = choose(make, [], partial(candidates, contents), 15)
        found.append(choice.judged / choice.chosen if choice else 1.0)
    assert np.mean(found) > 1.05


def test_other_channels_count() -> None:
    """A control region that knows the yield of the peak makes bins that tell it apart less important."""
    contents = halves(1, 20_000)
    make = lambda half, starts: [samples(contents[half], starts, 0.5)]  # noqa: E731
    peak = Counts(None, np.array([1e4]), np.zeros(1), {}, {"norm": LogNormal(1.5, 1 / 1.5)}, None)
    alone, constrained = (choose(make, each, partial(candidates, contents), 4) for each in ([], [[peak]]))
    assert alone is not None
    assert constrained is not None
    assert constrained.judged < 0.9 * alone.judged
    assert constrained.starts != alone.starts


def test_without_signal_there_is_nothing_to_choose() -> None:
    contents = {half: {"wide": each["wide"], "peak": each["peak"]} for half, each in halves(1, 2_000).items()}
    nothing = np.zeros(len(EDGES) - 1)
    for each in contents.values():
        each["signal"] = nothing, nothing
    make = lambda half, starts: [samples(contents[half], starts, 0.5)[:2]]  # noqa: E731
    assert choose(make, [], lambda half, most: [0], 4) is None


def test_processes_are_those_of_the_fit() -> None:
    """Names, factors, negative bins, processes from data and free ones."""
    settings = Fit(
        {"SR": "score"}, "signal", free=["ZZ"], uncertainties={"WZ": "10 %"}, nuisances={}, uncorrelated=["jer"]
    )
    fit = FitOf(settings, {"2018": {"lumi": LogNormal(1.02, 1 / 1.02)}})

    def template(*values: float) -> Template:
        nominal = np.array([9.0, *values, 7.0])
        return Template(nominal, nominal**2, {"jer": 1.1 * nominal}, {"jer": 0.9 * nominal})

    processes = {"signal": template(1, 2), "WZ": template(4, -1), "ZZ": template(3, 3), "fakes": template(2, 2)}
    processes["none"] = template(0, 0)
    found = fit.samples(HistogramChannel("SR", "2018", processes), {"fakes": Origin((), True)})
    assert [each.strength for each in found] == [STRENGTH, None, None, None]
    signal, wz, zz, fakes = found
    assert (signal.factors.keys(), wz.factors.keys()) == ({"lumi"}, {"lumi", "norm_WZ"})
    assert (zz.free, zz.factors, fakes.factors) == ("norm_ZZ", {}, {})
    assert wz.nominal.tolist() == [3.0, 0.0]
    assert set(wz.shapes) == {"jer_2018"}
    assert wz.shapes["jer_2018"].up.tolist() == pytest.approx([3.3, 0.0])


def test_halves_are_scaled_to_all_events() -> None:
    sums = Sums({"": np.array([1.0, 2, 0, 3, 0, 3]), "_xUp": np.arange(6.0)}, {"": np.ones(6)})
    assert sums.whole.sums[""].tolist() == [4, 2, 3]
    assert sums.half(0).sums[""].tolist() == [3, 6, 0]
    assert sums.half(1).sums["_xUp"].tolist() == [4.5, 6, 7.5]
    assert sums.half(0).squares[""].tolist() == [3, 3, 3]
