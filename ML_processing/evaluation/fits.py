"""The expected significance of a fit to the score in bins, without and with the variations of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ML_processing.evaluation.scored import Scored
from ML_processing.metrics.measured import PAIR, UNDEFINED, Floats, Measured
from ML_processing.metrics.significance import BinnedScore, by_own_bins, fine_sums, standing_for


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
