"""From a workspace to results: best fit, impacts, limit, significance, scan, goodness of fit, yields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional

import numpy as np
from scipy.stats import chi2

from MLTools.NanoML.config.fit import AUTO, NEVER, Fit
from MLTools.NanoML.contracts.densities import UnbinnedChannel
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.page import digits, rounded
from MLTools.NanoML.terminal.progress import progress
from statistical_analysis.asymptotic import OutOfReachError, contours, limit, significance, upper_error
from statistical_analysis.likelihood import Floats, Likelihood
from statistical_analysis.maximum import Maximum, maximum, mirrored
from statistical_analysis.model import StatisticalModel
from statistical_analysis.results import (
    CONSTRAINED,
    CREATOR,
    FREE,
    OF_DATA,
    OF_DENSITIES,
    OF_EVENTS,
    OF_SIMULATION,
    STATISTICAL,
    TOTAL,
    WITHOUT,
    Channel,
    Comparison,
    Contribution,
    GoodnessOfFit,
    Impact,
    Limit,
    Parameter,
    Results,
    Scan,
    Significance,
    StrengthResults,
    Yields,
)
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.intervals import COUNT, FEWEST, background_events
from statistical_analysis.toys.intervals import limit as limit_by_toys
from statistical_analysis.toys.intervals import significance as significance_by_toys
from statistical_analysis.unbinned import Points, in_bins, in_place
from statistical_analysis.workspace import workspace as workspace_of

_STEPS = 31  # of a scan
_REACH = 3.0  # of a scan, in standard deviations
# with which a fit without any is compared: how many, and of simulated events or of the densities
_BINS = ((OF_DENSITIES, 10, False), ("in 30 bins of the share of signal", 30, False), (OF_EVENTS, 10, True))


def infer(
    workspace: Mapping[str, object],
    unblinded: Optional[str],
    is_blind: bool,
    groups: Mapping[str, Collection[str]] | None = None,
    toys: int | str = AUTO,
    strengths: tuple[float, float] | None = None,
    points: Points | None = None,
) -> Results:
    """All results of a workspace.

    Parameters
    ----------
    workspace
        A workspace of pyhf, whose measurements have signal strengths as parameters of interest.
    unblinded
        Who unblinded the analysis, and when.
    is_blind
        Whether nothing may depend on observed data: then they are replaced, in all channels, by what is expected with
        signal strengths of one (for limits: of zero of this signal) before any fit.
    groups
        Parameters whose part of the error of the signal strength is given together, by group.
    toys
        How many pseudo-experiments of each hypothesis give limit and significance; "never": asymptotic formulae do; "auto": these do
        unless fewer than `toys.intervals.FEWEST` background events are expected.
    strengths
        The range of the signal strength, as of `likelihood.Likelihood`.
    points
        The events of unbinned channels: with these, there is no goodness of fit.
    """
    likelihood = Likelihood(workspace, strengths, points)
    data = likelihood.expected(likelihood.with_strength(1.0)) if is_blind else likelihood.observed
    best = maximum(likelihood, data, twice=True)
    covariance = likelihood.covariance(data, best.at)
    parameters, moved = _parameters(likelihood, data, best, covariance), changes(likelihood, data, best, covariance)
    seen = [likelihood.of(poi) for poi in likelihood.pois]
    for each in seen:
        if parameters[each.poi].is_at_bound:
            parameters[each.poi] = replace(parameters[each.poi], error=upper_error(each, data, best))

    def of_strength(each: Likelihood) -> StrengthResults:
        strength = parameters[each.poi]
        impacts = (Impact(name, *change[:, each.poi].tolist()) for name, change in moved.items())
        return StrengthResults(
            _signals(workspace, strength.name),
            strength,
            tuple(sorted(impacts, key=lambda it: -it.size)),
            () if strength.is_at_bound else _breakdown(each, covariance, groups or {}),
            _scan(each, data, best, strength.error or float(covariance[each.poi, each.poi] ** 0.5)),
            each.highest,
            *limit_and_significance(each, data, best, is_blind, toys),
        )

    first, *others = found = [of_strength(each) for each in seen]
    chosen = [number for number in range(len(parameters)) if not likelihood.is_fixed[number]]
    errors = np.sqrt(np.diag(covariance))[chosen]
    correlations = covariance[np.ix_(chosen, chosen)] / np.outer(errors, errors)
    state = "blinded" if is_blind else unblinded or "with data"
    return Results(
        **vars(first),
        creator=CREATOR,
        summary="; ".join([*map(_in_words, seen, found), state]),
        unblinded=None if is_blind else unblinded,
        parameters=tuple(parameters[number] for number in chosen),
        correlations=tuple(tuple(float(it) for it in row) for row in correlations),
        goodness=None if is_blind or points else _goodness(likelihood, data, best),
        channels=_channels(likelihood, best, covariance, None if is_blind else data),
        others=tuple(others),
        contours=contours(likelihood, data, best, covariance),
        expected="; ".join(expected(each, it.limit, it.significance) for each, it in zip(seen, found, strict=True)),
        negative=_negative(likelihood.finest(best.at)) if points else 0.0,
    )


def _negative(events: Floats) -> float:
    """The share of negative densities in expected events."""
    return float(np.maximum(-events, 0.0).sum() / events.sum())


def _signals(workspace: Mapping[str, Any], strength: str) -> tuple[str, ...]:
    """The samples that a signal strength multiplies."""
    samples = [sample for channel in workspace["channels"] for sample in channel["samples"]]
    found = dict.fromkeys(it["name"] for it in samples if any(each["name"] == strength for each in it["modifiers"]))
    return tuple(found) or (strength,)


def expectation(workspace: Mapping[str, object], toys: int | str, points: Points | None = None) -> str:
    """The expected result that a blind `infer` gives, in words, without its other results."""
    likelihood, found = Likelihood(workspace, points=points), list[str]()
    data = likelihood.expected(likelihood.with_strength(1.0))
    best = maximum(likelihood, data, twice=True)
    for each in map(likelihood.of, likelihood.pois):
        upper, discovery, *_ = limit_and_significance(each, data, best, is_blind=True, toys=toys)
        found.append(expected(each, upper, discovery))
    return "; ".join(found)


def expected_limit(workspace: Mapping[str, object], points: Points | None = None) -> tuple[Optional[float], float]:
    """The expected limit by asymptotic formulae, None if it is out of reach, and the error of a signal strength of one."""
    likelihood, upper = Likelihood(workspace, points=points), None
    data, without = (likelihood.expected(likelihood.with_strength(it)) for it in (1.0, 0.0))
    best = maximum(likelihood, data, twice=True)
    with suppress(OutOfReachError):
        upper = limit(likelihood, without, best, False).expected[2]
    return upper, float(likelihood.covariance(data, best.at)[likelihood.poi, likelihood.poi] ** 0.5)


def compared(
    settings: Fit,
    templates: Templates,
    unbinned: Sequence[UnbinnedChannel],
    model: Callable[[Fit, Templates], StatisticalModel],
) -> Iterator[Comparison]:
    """The expected results of a fit without bins, of the same densities and events in bins, and in the bins of its histograms."""
    signals, binned = next(iter(settings.strengths(templates.signal).values())), (settings, templates)
    ways = {WITHOUT: in_place(*binned, [it.counted for it in unbinned], WITHOUT)}
    for way, count, of_events in _BINS:
        if not of_events or all(it.own is not None for each in unbinned for it in each.processes.values()):
            ways[way] = in_place(*binned, [in_bins(each, signals, count, of_events) for each in unbinned], way)
    for way, given in {**ways, "in bins of the histogram": binned}.items():
        with suppress(NanoMLError):  # a bin may have no background
            points = Points.of(unbinned, settings.named) if way == WITHOUT else None
            limit, error = expected_limit(workspace_of(model(*given)), points)
            yield Comparison(way, error, limit)


def asymptotic_limit(workspace: Mapping[str, object], is_observed: bool) -> Limit:
    """The limit by asymptotic formulae, also where pseudo-experiments give that of the results; OutOfReachError if there is none."""
    likelihood = Likelihood(workspace)
    best = maximum(likelihood, likelihood.observed, twice=True)
    return limit(likelihood, likelihood.observed, best, is_observed)


def limit_and_significance(
    likelihood: Likelihood, data: Floats, best: Maximum, is_blind: bool, toys: int | str
) -> tuple[Optional[Limit], Significance, float, int]:
    """Limit, if it is in reach, and significance; how many background events are expected, and how many toys gave the two."""
    for_limits = likelihood.expected(likelihood.with_strength(0.0)) if is_blind else data
    upper = None
    with suppress(OutOfReachError):
        upper = limit(likelihood, for_limits, best, not is_blind)
    discovery = significance(likelihood, data, best, not is_blind)
    few = background_events(likelihood, upper.expected[2] if upper else likelihood.highest)
    count = 0 if toys == NEVER else int(toys) if toys != AUTO else COUNT if few < FEWEST else 0
    if count:
        many = ManyMaxima(likelihood)  # compiled once for both
        with progress("limit by toys", None, "fits") as bar:
            if upper:
                asymptotic, upper = upper, None
                with suppress(OutOfReachError):
                    upper = limit_by_toys(many, for_limits, best, asymptotic, count, bar)
            discovery = significance_by_toys(many, data, best, discovery, count, bar)
    return upper, discovery, few, count


def expected(likelihood: Likelihood, upper: Optional[Limit], discovery: Significance) -> str:
    """The expected result in words: "expected limit on the signal strength 0.42 (+0.18 -0.12) at 95 % CL, significance 4.8"."""
    text = f"no limit on {likelihood.called}: it is above {digits(likelihood.highest, 3)}; expected"
    if upper:
        _, low, median, high, _ = upper.expected
        by = " by toys" if upper.expected_errors else ""
        number, up, down = (rounded(it, high - median) for it in (median, high - median, median - low))
        text = f"expected limit on {likelihood.called} {number} (+{up} -{down})"
        text = f"{text} at {upper.level:.0%} CL{by},".replace("%", " %")
    return f"{text} significance {digits(round(discovery.expected, 2), 2)}"


def _in_words(likelihood: Likelihood, found: StrengthResults) -> str:
    """The result in words: what is expected, and what is observed unless that is blind."""
    upper, discovery, strength, observed = found.limit, found.significance, found.strength, ""
    text = expected(likelihood, upper, discovery)
    if discovery.observed is None:
        return text
    if upper and upper.observed is not None:
        _, _, median, high, _ = upper.expected
        observed = f"limit {rounded(upper.observed, high - median)}, "
    return (
        f"{text}; observed {observed}significance {digits(round(discovery.observed, 2), 2)}, "
        f"{likelihood.called.removeprefix('the ')} {strength.measured}"
    )


def _parameters(likelihood: Likelihood, data: Floats, best: Maximum, covariance: Floats) -> list[Parameter]:
    found, at_bounds, signless = [], likelihood.at_bounds(best.at), mirrored(likelihood, data, best)
    for number, (name, kind) in enumerate(zip(likelihood.names, likelihood.kinds, strict=True)):
        value, error = float(best.at[number]), float(np.sqrt(covariance[number, number]))
        width = likelihood.widths[number]
        pull = None if kind == FREE else float((value - likelihood.start[number]) / width)
        constraint = None if kind == FREE else float(error / width)
        is_at_bound = number in at_bounds
        given = None if kind == FREE and is_at_bound else error
        found.append(Parameter(name, kind, value, given, pull, constraint, is_at_bound, number in signless))
    return found


def changes(likelihood: Likelihood, data: Floats, best: Maximum, covariance: Floats) -> dict[str, Floats]:
    """How the best fit changes, float64 of shape (4, parameters), if a parameter, which has a prefit uncertainty, is fixed elsewhere.

    It is moved up and down, by its postfit and then by its prefit uncertainty. The statistical uncertainty of a bin is small, and there are
    many: these are not fitted, but follow from the covariance matrix.
    """
    found, near = {}, likelihood.near(covariance)
    for number in np.flatnonzero(~likelihood.is_fixed & [kind != FREE for kind in likelihood.kinds]):
        postfit, prefit = float(np.sqrt(covariance[number, number])), float(likelihood.widths[number])
        slopes = covariance[:, number] / covariance[number, number]
        moved = []
        for shift in (postfit, -postfit, prefit, -prefit):
            if likelihood.kinds[number] == CONSTRAINED:
                fixed = {int(number): float(best.at[number] + shift)}
                moved.append(maximum(near, data, fixed, best.at + slopes * shift).at - best.at)
            else:
                moved.append(slopes * shift)
        found[likelihood.names[number]] = np.array(moved)
    return found


def _breakdown(
    likelihood: Likelihood, covariance: Floats, groups: Mapping[str, Collection[str]]
) -> tuple[Contribution, ...]:
    """Each group is fixed at its best fit, and the square of the error that is left subtracted from that of the whole."""
    free, poi = np.flatnonzero(~likelihood.is_fixed).tolist(), likelihood.poi
    information = np.linalg.inv(covariance[np.ix_(free, free)])

    def variance_without(fixed: Callable[[int], bool]) -> float:
        left = [place for place, number in enumerate(free) if number == poi or not fixed(number)]
        strength = [free[place] for place in left].index(poi)
        return float(np.linalg.inv(information[np.ix_(left, left)])[strength, strength])

    whole, kinds = float(covariance[poi, poi]), likelihood.kinds
    found = [Contribution(OF_DATA, variance_without(lambda it: kinds[it] != FREE) ** 0.5)]
    parts = {OF_SIMULATION: {name for name, kind in zip(likelihood.names, kinds, strict=True) if kind == STATISTICAL}}
    for group, names in {**parts, **groups}.items():
        if not names:
            continue
        left = variance_without(lambda it, names=names: likelihood.names[it] in names)  # type: ignore[misc]
        found.append(Contribution(group, max(whole - left, 0.0) ** 0.5))
    return tuple(found)


def _scan(likelihood: Likelihood, data: Floats, best: Maximum, error: float) -> Scan:
    """From the best strength outwards on both sides, each fit from the end of the last one, while no bin has less than no events."""
    poi = likelihood.poi
    bounds = likelihood.lowest(best.at, data), likelihood.bounds[poi, 1]
    known = np.flatnonzero(np.isfinite(likelihood.widths) & ~likelihood.is_fixed).tolist()
    center, found = best.at[poi], {float(best.at[poi]): (0.0, 0.0)}
    for side, bound in zip((-1, 1), bounds, strict=True):
        ends, reach = [best, best], min(_REACH * error, 0.99 * abs(bound - center))
        for step in range(1, _STEPS // 2 + 1) if reach > 0 else ():
            strength = float(center + side * reach * step / (_STEPS // 2))
            fixed: list[dict[int, float]] = [{}, {number: float(best.at[number]) for number in known}]
            ends = [
                maximum(likelihood, data, {**others, poi: strength}, end.at)
                for others, end in zip(fixed, ends, strict=True)
            ]
            if not likelihood.is_possible(ends[0].at):
                break
            full, statistical = (end.twice_nll - best.twice_nll for end in ends)
            found[strength] = full, statistical
    strengths = sorted(found)
    return Scan(tuple(strengths), *(tuple(found[it][number] for it in strengths) for number in (0, 1)))


def _goodness(likelihood: Likelihood, data: Floats, best: Maximum) -> GoodnessOfFit:
    """Saturated model: a degree of freedom for each bin, less one for each free parameter."""
    free = sum(kind == FREE and not fixed for kind, fixed in zip(likelihood.kinds, likelihood.is_fixed, strict=True))
    statistic = max(best.twice_nll - likelihood.saturated(data), 0.0)
    degrees = int(likelihood.model.config.nmaindata) - free
    return GoodnessOfFit(statistic, degrees, float(chi2.sf(statistic, degrees)) if degrees > 0 else 1.0)


def _channels(likelihood: Likelihood, best: Maximum, covariance: Floats, data: Optional[Floats]) -> tuple[Channel, ...]:
    """Errors are propagated linearly; prefit, parameters are independent, and free ones have no error."""
    widths = np.where(np.isfinite(likelihood.widths) & ~likelihood.is_fixed, likelihood.widths, 0.0)
    expected = likelihood.with_strength(1.0)
    prefit = _yields(likelihood, expected, np.diag(widths**2))
    postfit = _yields(likelihood, best.at, covariance)
    config, found = likelihood.model.config, []
    for name in config.channels:
        place = config.channel_slices[name]
        observed = None if data is None else tuple(float(it) for it in data[place])
        stages = [
            tuple(
                Yields(sample, tuple(map(float, events[place])), tuple(map(float, errors[place])))
                for sample, (events, errors) in yields.items()
                if sample == TOTAL or prefit[sample][0][place].any()
            )
            for yields in (prefit, postfit)
        ]
        found.append(Channel(name, stages[0], stages[1], observed))
    return tuple(found)


def _yields(likelihood: Likelihood, at: Floats, covariance: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Events of each sample and of all in the bins of all channels, and their errors."""
    samples = [*likelihood.model.config.samples, TOTAL]
    events, slopes = _with_total(likelihood.by_sample(at)), _with_total(likelihood.slopes(at))
    variances = np.einsum("sbi,ij,sbj->sb", slopes, covariance, slopes, optimize=True)
    errors = np.sqrt(np.maximum(variances, 0.0))
    return {sample: (events[number], errors[number]) for number, sample in enumerate(samples)}


def _with_total(events: Floats) -> Floats:
    """Samples, and their sum behind them."""
    return np.concatenate([events, events.sum(axis=0, keepdims=True)])
