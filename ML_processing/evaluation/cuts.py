"""The expected significance of a cut on the score and of a fit to it, and what cuts do to features and masses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.importance import Importance
from ML_processing.evaluation.scored import ClassHistogram, OutOfFold, Scored, label, spectators
from ML_processing.metrics.distances import Sculpting, jensen_shannon, sculpting
from ML_processing.metrics.measured import (
    MERGED,
    PAIR,
    UNDEFINED,
    Floats,
    Histogram,
    Measured,
    bin_of,
    efficiency,
    even_edges,
    histogram,
    quantile_edges,
)
from ML_processing.metrics.significance import BinnedScore, CutScan, by_own_bins, fine_sums, scan_cuts, standing_for

_MOST_FEATURES, _MOST_MASSES = 12, 3
_BINS, _MASS_BINS = 8, 20
_KEPT = (0.5, 0.1)  # of the background, by cuts whose shapes are compared


@dataclass(frozen=True)
class BestCut:
    """The cut with the largest significance."""

    score_at_least: float
    signal: float
    background: float
    asimov: float
    asimov_error: float
    asimov_with_background_error: float
    signal_efficiency: float
    background_efficiency: float


@dataclass(frozen=True)
class ChosenCut:
    """The best cut on one half of the events, and its Asimov significance on the other half."""

    chosen_on: str  # events with an "even" or an "odd" hash of run, luminosityBlock and event
    score_at_least: float
    asimov: float
    asimov_error: float


@dataclass(frozen=True)
class CrossFit:
    """Significance behind a best cut as events show it that have not chosen the cut: the mean of both ways."""

    asimov: float
    asimov_error: float
    halves: list[ChosenCut]


@dataclass(frozen=True)
class Significance:
    """Expected significance against the cut on the score."""

    score: str  # what this is
    physical: bool  # the weights are expected numbers of events
    best: BestCut  # chosen and measured on all events
    cross_fit: CrossFit | None  # None if a half has too few events
    without_cut: float
    scan: CutScan = field(metadata=MERGED)
    events: int


def significance(
    scored: Scored, hashes: NDArray[np.uint64], totals: Sequence[float], physical: bool
) -> Significance | None:
    """Expected significance against the cut on the score.

    Yields are those of all events, tested or not: `totals` are their sums of weights by class. They are expected
    numbers of events if the weights are `physical`. The `hashes` of the events, (N,), divide them into two halves.
    """
    scan = _scan(scored, totals)
    if scan is None or scan.best is None:
        return None
    curves = (scan.cuts, scan.signal, scan.background, scan.plain, scan.plain_error, scan.significance)
    kept = (scan.signal / scan.signal[0], scan.background / scan.background[0])
    best = BestCut(*(float(values[scan.best]) for values in (*curves, *kept)))
    tested, title = _cross_fit(scored, hashes, totals), scored.discriminant.title
    return Significance(title, physical, best, tested, float(scan.plain[0]), scan, len(scored))


def _scan(scored: Scored, totals: Sequence[float], at: float | None = None) -> CutScan | None:
    """Cuts on some events, whose weights are scaled to those of all; None if they cannot stand for a class."""
    weights = standing_for(scored.labels, scored.weights, totals)
    return None if weights is None else scan_cuts(scored.score, scored.truth, weights, at=at)


def _cross_fit(scored: Scored, hashes: NDArray[np.uint64], totals: Sequence[float]) -> CrossFit | None:
    is_even, halves = hashes % np.uint64(2) == 0, []
    for name, chooses in (("even", is_even), ("odd", ~is_even)):
        scan = _scan(scored.select(chooses), totals)
        if scan is None or scan.best is None:
            return None
        cut = float(scan.cuts[scan.best])
        tested = _scan(scored.select(~chooses), totals, at=cut)
        if tested is None or not tested.usable[0]:
            return None
        halves.append(ChosenCut(name, cut, float(tested.plain[0]), float(tested.plain_error[0])))
    first, second = halves
    mean, error = (first.asimov + second.asimov) / 2, math.hypot(first.asimov_error, second.asimov_error) / 2
    return CrossFit(mean, error, halves)


@dataclass(frozen=True)
class FeatureEfficiency:
    """Efficiency of a cut for each class in bins of a feature."""

    name: str
    label: str
    edges: Floats
    classes: list[ClassHistogram]


@dataclass(frozen=True)
class Efficiency:
    """Efficiency of a cut for each class in bins of the most important of some `columns`."""

    score_at_least: float
    features: list[FeatureEfficiency]
    columns: int
    events: int


def by_feature(tested: OutOfFold, scored: Scored, important: Importance, cut: float) -> Efficiency:
    """Efficiency of a cut for each class, in bins of the features with about the same number of events each."""
    passed, features, columns = scored.score >= cut, [], spectators(tested.table)
    names = list(columns)
    for name in (names[i] for i in important.leading(names, _MOST_FEATURES)):
        values = columns[name]
        edges = quantile_edges(values, _BINS)
        if not edges.size:
            continue
        known, index, classes = np.isfinite(values), bin_of(values, edges), []
        for i, class_ in enumerate(tested.table.classes):
            mine = known & (scored.labels == i)
            bins = [mine & (index == number) for number in range(len(edges) - 1)]
            found = [efficiency(passed[inside], scored.weights[inside]) for inside in bins]
            kept, errors = (
                np.array(each, np.float64) for each in zip(*((it.value, it.error) for it in found), strict=True)
            )
            classes.append(ClassHistogram(class_, Histogram(kept, errors)))
        features.append(FeatureEfficiency(name, label(tested.table, name), edges, classes))
    return Efficiency(cut, features, len(names), len(scored))


def is_mass(name: str) -> bool:
    """Whether a column is a mass by its name: ..._mass, ..._mT, m_..., invMass and the like."""
    return bool(re.search(r"mass|Mass|(^|_)(m[TtZW]?|mjj|mll)(_|$)|mT(?![a-z])", name))


@dataclass(frozen=True)
class Cut:
    """A cut whose shapes are compared."""

    score_at_least: float
    background_efficiency: float | None


@dataclass(frozen=True)
class ShapeAfterCut:
    """Shape of a mass in the events that pass a cut."""

    bins: Histogram = field(metadata=MERGED)
    events: int
    sculpting: Sculpting = field(metadata=MERGED)


@dataclass(frozen=True)
class SculptedMass:
    """Shapes of a mass for one background, before and after the cuts."""

    feature: str
    label: str
    background: str
    edges: Floats
    before: Histogram
    after: list[ShapeAfterCut]


@dataclass(frozen=True)
class SculptedMasses:
    """Shapes of masses for each background, before and after cuts: of those that change most if there are more `masses`."""

    cuts: list[Cut]
    panels: list[SculptedMass]
    masses: int
    events: int


def sculpted(tested: OutOfFold, scored: Scored, column: str | None, cut: float | None) -> SculptedMasses | None:
    """Shapes of masses for each background, before and after cuts; None if there is no mass, or no cut.

    The mass is the `column` that the training was decorrelated from, or else all masses among the features but the
    parameter, which background events have at random. The cuts keep 50 % and 10 % of the background; `cut` is one more.
    """
    columns, chosen, panels = spectators(tested.table), _cuts(scored, cut), []
    parameter = tested.training.parameter
    others = [name for name in columns if parameter is None or name != parameter.column]
    masses = [column] if column is not None else [name for name in others if is_mass(name)]
    binned = {name: even_edges(columns[name][~scored.truth], _MASS_BINS) for name in masses if chosen}
    change = {name: _change(columns[name], edges, scored, chosen) for name, edges in binned.items() if edges.size}
    most = sorted(change, key=lambda name: -change[name])[:_MOST_MASSES]
    for name in (name for name in change if name in most):
        values, edges = columns[name], binned[name]
        title = label(tested.table, name)
        for i in scored.backgrounds:
            mine = scored.labels == i
            x, score, weights = values[mine], scored.score[mine], scored.weights[mine]
            after = [_after(x, score >= it.score_at_least, weights, edges, tested.seed) for it in chosen]
            before = histogram(x, weights, edges)
            panels.append(SculptedMass(name, title, tested.table.classes[i], edges, before, after))
    return SculptedMasses(chosen, panels, len(change), len(scored)) if panels else None


def _change(values: NDArray[Any], edges: Floats, scored: Scored, cuts: Sequence[Cut]) -> float:
    """By how much the cuts change the shape of a mass for any background, at most: a divergence."""
    found = []
    for i in scored.backgrounds:
        mine = np.isfinite(values) & (scored.labels == i)
        place, weights, score = bin_of(values[mine], edges), scored.weights[mine], scored.score[mine]
        for it in cuts:
            passed = score >= it.score_at_least
            parts = (np.bincount(place[part], weights[part], len(edges) - 1) for part in (passed, ~passed))
            found.append(jensen_shannon(*parts) or 0.0)
    return max(found)


def _cuts(scored: Scored, best: float | None) -> list[Cut]:
    values = {at for at in (*map(scored.cut_at, _KEPT), best) if at is not None}
    score, weights = scored.score[~scored.truth], scored.weights[~scored.truth]
    return [Cut(at, efficiency(score >= at, weights).value) for at in sorted(values)]


def _after(
    values: NDArray[Any], passed: NDArray[np.bool_], weights: NDArray[Any], edges: Floats, seed: int
) -> ShapeAfterCut:
    found = sculpting(values, passed, weights, edges, seed)
    return ShapeAfterCut(histogram(values[passed], weights[passed], edges), int(passed.sum()), found)


@dataclass(frozen=True)
class FitSignificance:
    """Expected significance of a fit to the score, with the statistical errors of simulation."""

    network: Measured = field(metadata=PAIR)
    baseline: Measured = field(metadata=PAIR)  # of the BDT, if there is one
    difference: Measured = field(metadata=PAIR)
    with_variations: Measured | None  # of the networks; None if no weight has any
    sources: list[str]  # of these variations
    edges: Floats  # of the bins of the networks' score
    signal: Floats
    background: Floats
    background_errors: Floats


@dataclass(frozen=True)
class ScoreFit:
    """A fit to the score of the networks that is expected, and its significance without variations."""

    bins: BinnedScore
    significance: FitSignificance

    def varied(self, sources: Sequence[str], shifts: Floats) -> FitSignificance:
        """With sources of uncertainty, each of which changes the background in each bin: (sources, bins)."""
        return replace(self.significance, with_variations=self.bins.significance(shifts), sources=list(sources))


def score_fit(scored: Scored, totals: Sequence[float]) -> ScoreFit | None:
    """A fit to the score in the bins that `histogram` chooses; None if the events cannot stand for all.

    The weights are expected numbers of events, and `totals` those of all events by class, tested or not. All classes but the signal are
    background.
    """
    weights = standing_for(scored.labels, scored.weights, totals)
    if weights is None or not scored.has_roc:
        return None
    found, effects = [], []
    for score in (it for it in (scored.score, scored.reference) if it is not None):
        bins = by_own_bins(fine_sums(score, scored.truth, weights))
        found.append(bins)
        effects.append(weights * bins.influence(score, scored.truth))
    network, *beside = (it.significance() for it in found)
    baseline = difference = UNDEFINED
    if network.value is None:
        return None
    for bdt in beside:
        if bdt.value is None:
            return None
        error = float(np.sqrt(((effects[0] - effects[1]) ** 2).sum()))  # the events are the same
        baseline, difference = bdt, Measured.of(network.value - bdt.value, error)
    ours = found[0]
    return ScoreFit(
        ours,
        FitSignificance(
            network, baseline, difference, None, [], ours.edges, ours.signal, ours.background, ours.background_errors
        ),
    )
