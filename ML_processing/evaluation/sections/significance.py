"""The expected significance of a cut on the score, and of a fit to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import Scored
from ML_processing.metrics.measured import MERGED, PAIR, UNDEFINED, Floats, Measured
from ML_processing.metrics.significance import BinnedScore, CutScan, by_own_bins, fine_sums, scan_cuts, standing_for
from MLTools.NanoML.report.figures import legend_above, line, marker, single
from MLTools.NanoML.report.page import rounded, with_error
from MLTools.NanoML.report.section import Caption, Style


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


@section("significance", only="classification", after="importance")
@dataclass(frozen=True)
class Significance(Part):
    """Expected significance against the cut on the score."""

    caption = Caption(
        "Expected significance against the cut",
        "Asimov significance of a discovery by counting the events that pass the cut (arXiv:1007.1727), with its "
        "statistical error; dashed, with the statistical error of the background as an uncertainty. The dotted line is "
        "the best cut by the dashed curve with at least 5 effective background events above it. The points are the "
        "significance to quote: the cuts were chosen on one half of the events, and measured on the other. Systematic "
        "uncertainties are not included.",
        "A best cut at the very end of the curve or on a spike: there few background events decide. Use a looser cut, "
        "or more simulation.",
        is_small=True,
    )

    score: str  # what this is
    physical: bool  # the weights are expected numbers of events
    best: BestCut  # chosen and measured on all events
    cross_fit: CrossFit | None  # None if a half has too few events
    without_cut: float
    scan: CutScan = field(metadata=MERGED)
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Significance | None:
        """Yields are those of all events, tested or not; None if only one of several signals can exist."""
        if of.training.parameter or of.training.targets:
            return None
        return cls.of_cuts(of.scored, of.tested.table.hashes(), of.totals, of.physical)

    @classmethod
    def of_cuts(
        cls, scored: Scored, hashes: NDArray[np.uint64], totals: Sequence[float], physical: bool
    ) -> Significance | None:
        """By the sums of weights of each class, `totals`; None if the events cannot stand for them.

        They are expected numbers of events if the weights are `physical`. The `hashes` of the events, (N,), divide them into halves.
        """
        scan = _scan(scored, totals)
        if scan is None or scan.best is None:
            return None
        curves = (scan.cuts, scan.signal, scan.background, scan.plain, scan.plain_error, scan.significance)
        kept = (scan.signal / scan.signal[0], scan.background / scan.background[0])
        best = BestCut(*(float(values[scan.best]) for values in (*curves, *kept)))
        tested, title = _cross_fit(scored, hashes, totals), scored.discriminant.title
        return cls(title, physical, best, tested, float(scan.plain[0]), scan, len(scored))

    def draw(self, style: Style) -> Figure:
        """Expected significance against the cut, with the efficiencies below."""
        figure, axes = single(style, style.conditions() if self.physical else f"{self.events:,} events")
        scan, usable, best = self.scan, self.scan.usable, self.best.score_at_least
        cuts, plain, error = scan.cuts[usable], scan.plain[usable], scan.plain_error[usable]
        color = line(0, 3)["color"]
        label = "Expected significance" if self.physical else "Significance (weights not normalised)"
        axes.plot(cuts, plain, color=color, lw=2.2, label=label)
        axes.fill_between(cuts, plain - error, plain + error, color=color, alpha=0.25, lw=0)
        dashed = {"color": line(1, 3)["color"], "lw": 2.2, "ls": "--"}
        axes.plot(cuts, scan.significance[usable], label="with the background's statistical error", **dashed)
        label = f"Best cut {best:.3f}"
        axes.axvline(best, color="black", lw=1.5, ls=":", label=label)
        highest = float(np.nanmax(plain + error))
        if self.cross_fit is not None:
            points = np.array([(it.score_at_least, it.asimov, it.asimov_error) for it in self.cross_fit.halves])
            axes.errorbar(*points.T, label="cut chosen on other events", **marker(0, 3, 9))
            highest = max(highest, float((points[:, 1] + points[:, 2]).max()))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.05 * max(highest, 1e-9))
        axes.set_xlabel(f"Cut on the {style.axis(self.score[:1].upper() + self.score[1:])}")
        axes.set_ylabel("Significance (standard deviations)")
        legend_above(axes, ncols=1, loc="upper left")
        return figure

    def best_cut(self, page: Evaluation) -> str:
        """The events behind the best cut, in words."""
        best = self.best
        text = (
            f"Best cut: {self.score} at least {best.score_at_least:.4f}. It keeps {rounded(best.signal)} signal and "
            f"{rounded(best.background)} background events. {_tested_cut(self.cross_fit)} On the events that chose the "
            f"cut it is {with_error(best.asimov, best.asimov_error)}, which is biased upwards by the choice, or "
            f"{rounded(best.asimov_with_background_error, best.asimov_error)} with the statistical error of the background; without a cut "
            f"{rounded(self.without_cut, best.asimov_error)}."
        )
        if page.too_few:
            text += (
                f" Do not rely on any of this: {page.too_few}, and the errors do not contain what was not simulated."
            )
        if not self.physical:
            text += (
                " A dataset has no cross section, or there is no luminosity: the sums of weights are not numbers of "
                "events, and the significance only ranks cuts."
            )
        return f"<p>{escape(text)}</p>"


def best_cut(of: Measurement) -> float | None:
    """The cut with the largest significance, if there is one."""
    found = of.once(Significance.compute)
    return found.best.score_at_least if found else None


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


def _tested_cut(found: CrossFit | None) -> str:
    """The significance on events that have not chosen the cut."""
    if found is None:
        return "No significance can be quoted: half of the events are too few to choose a cut, or to test it."
    ways = " and ".join(
        f"{with_error(it.asimov, it.asimov_error)} (the {it.chosen_on} events choose {it.score_at_least:.4f})"
        for it in found.halves
    )
    return (
        f"Significance: {with_error(found.asimov, found.asimov_error)}, with the cut chosen on one half of the events and "
        f"measured on the other, which is the mean of {ways}. Even or odd is a hash of run, luminosityBlock and event."
    )


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


def score_fit(of: Measurement) -> ScoreFit | None:
    """A fit to the score in one channel, in bins by the rule of `histogram`; None if the events cannot stand for all, or are not expected.

    All classes but the signal are background.
    """
    if not of.physical or of.training.parameter or of.training.targets:
        return None
    scored = of.scored
    weights = standing_for(scored.labels, scored.weights, of.totals)
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
