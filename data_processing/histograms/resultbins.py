"""Bins by the result: edges at which a fit measures the strength of the signal best, with all that is uncertain in it.

They are chosen with one half of the events, of which a hash decides, and judged with the other half, both ways. A choice that follows the
fluctuations of its events looks better than it is: that is its optimism, and how many bins there are follows from what was judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.config.fit import FIGURE_OF_MERIT, Fit, LogNormal
from MLTools.NanoML.contracts.bins import Counts, Sides, strength_error
from MLTools.NanoML.contracts.templates import DATA, HistogramChannel, Origin, inner

Floats = NDArray[np.float64]
TOO_FEW = "there are too few events to choose bins by the result; the bins of auto are kept"
CANDIDATES = 30
"""Bins of which neighbours become one until the uncertainty grows."""
_GAIN = 1.005  # more bins must make the uncertainty smaller by more than this


@dataclass(frozen=True)
class FitOf:
    """The fit whose uncertainty bins make small."""

    settings: Fit  # with the signal; channels: the regions, each with the name of its histogram as it is filled
    luminosity: Mapping[str, Mapping[str, LogNormal]]  # its uncertainties, by era and nuisance parameter

    def samples(self, channel: HistogramChannel, origins: Mapping[str, Origin]) -> list[Counts]:
        """The processes of a channel of which events are expected."""
        found = []
        for process, template in channel.processes.items():
            nominal, variances = inner(template.nominal), inner(template.variances)
            if process != DATA and nominal.sum() > 0:
                is_fixed = process in origins and origins[process].is_from_data
                luminosity = {} if is_fixed else self.luminosity.get(channel.era or "", {})
                varied = ((it, inner(template.up[it]), inner(template.down[it])) for it in template.up)
                place = process, channel.region, channel.era
                found.append(self.settings.counts(*place, luminosity, (nominal, variances), varied))
        return found


def merged(counts: Counts, starts: Sequence[int]) -> Counts:
    """A process in fewer bins, which begin at some of its own."""

    def of(values: Floats) -> Floats:
        return np.add.reduceat(values, starts)

    shapes = {name: Sides(of(it.up), of(it.down)) for name, it in counts.shapes.items()}
    return replace(counts, nominal=of(counts.nominal), variances=of(counts.variances), shapes=shapes)


Channels = Sequence[Sequence[Counts]]
Make = Callable[[Optional[int], Sequence[int]], Channels]
"""The channels of a histogram for a half, 0 or 1, or for all events if it is None, and for the fine bins at which bins begin."""


@dataclass(frozen=True)
class Choice:
    """Bins, and the expected uncertainty of the signal strength that they give."""

    starts: list[int]  # fine bins at which a bin begins
    chosen: float  # with the events by which bins were chosen
    judged: float  # with the other ones
    auto: float  # of bins that are chosen by numbers of events alone, with the other ones
    of: str = FIGURE_OF_MERIT

    @property
    def pays(self) -> bool:
        """Whether the result is better than with bins by numbers of events."""
        return self.judged < self.auto

    def __str__(self) -> str:
        found = (
            f"{self.of} {self.judged:.3g} in {len(self.starts)} bins by the result, {self.auto:.3g} "
            f"in those of auto; {self.chosen:.3g} with the events that chose the bins, so {self.judged / self.chosen - 1:+.1%} of optimism"
        ).replace("%", " %")
        return found if self.pays else f"{found}. The bins of auto are kept"


def choose(
    make: Make, others: Channels, candidates: Callable[[Optional[int], int], Sequence[int]], most: int
) -> Optional[Choice]:
    """Choose bins by the result; None if a half has not even events for two bins.

    `make` gives the channels whose bins are chosen, `others` are the other channels of the fit; `candidates` are the fine bins at which at
    most so many bins may begin, by numbers of events, given a half.
    """
    chosen: list[dict[int, float]] = []
    judged: list[dict[int, float]] = []
    auto: list[float] = []
    for half in (0, 1):
        mine, error = candidates(half, CANDIDATES), _Error(others)
        path = dict(_joined(make(half, mine), error, most))
        if len(path) < 2:
            return None
        starts = {count: [mine[it] for it in each] for count, each in path.items()}
        chosen.append({count: error(make(half, each)) for count, each in starts.items()})
        judged.append({count: error(make(1 - half, each)) for count, each in starts.items()})
        auto.append(error(make(1 - half, candidates(half, most))))
    counts = sorted(judged[0].keys() & judged[1].keys())
    means = [(judged[0][count] + judged[1][count]) / 2 for count in counts]
    count = next(it for it, mean in zip(counts, means) if mean <= min(means) * _GAIN)
    all_of_them = candidates(None, CANDIDATES)
    path = dict(_joined(make(None, all_of_them), _Error(others), most))
    starts_of_all = path[min(count, max(path))]
    return Choice(
        [all_of_them[it] for it in starts_of_all],
        (chosen[0][count] + chosen[1][count]) / 2,
        (judged[0][count] + judged[1][count]) / 2,
        sum(auto) / 2,
    )


@dataclass(frozen=True)
class _Error:
    """The expected uncertainty of the signal strength, with some channels as they are.

    In each bin there is the spread of one more background event of the mean weight. Without it, bins that happen to have few events would
    look too good on average: of a Poisson number N with the mean m, the mean of 1 / (N + 1) is 1 / m, and that of 1 / N is more.
    """

    others: Channels

    def __call__(self, channels: Channels) -> float:
        more = [[*samples, _one_more(samples)] for samples in channels if samples]
        with np.errstate(all="ignore"):
            try:
                found = float(strength_error([*self.others, *more], np))
            except np.linalg.LinAlgError:
                return np.inf
        return found if np.isfinite(found) else np.inf


def _one_more(samples: Sequence[Counts]) -> Counts:
    """An estimate of the spread of one more background event in each bin."""
    background, nothing = [each for each in samples if each.strength is None], np.zeros_like(samples[0].nominal)
    expected = sum(float(each.nominal.sum()) for each in background)
    weight = sum(float(each.variances.sum()) for each in background) / expected if expected > 0 else 0.0
    return Counts(None, nothing, nothing + weight + weight**2, {}, {}, None)


def _joined(channels: Channels, error: _Error, most: int) -> Iterator[tuple[int, list[int]]]:
    """Bins of which two neighbours become one, again and again, where that costs least: how many, and at which of them each begins."""
    count = max((len(each.nominal) for of in channels for each in of), default=0)
    starts = [*range(count)]
    while starts:
        if len(starts) <= most:
            yield len(starts), starts
        fewer = [starts[:place] + starts[place + 1 :] for place in range(1, len(starts))]
        starts = min(fewer, key=lambda it: error([[merged(each, it) for each in of] for of in channels]), default=[])
