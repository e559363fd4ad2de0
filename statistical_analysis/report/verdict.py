"""The meaning of the results of a fit, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer, Digest, digits, percentage, rounded, state_of
from statistical_analysis.report.unbinned import gain
from statistical_analysis.results import CONSTRAINED, Results, ending
from statistical_analysis.samples import LARGE_CHANGE, Remark
from statistical_analysis.toys.experiments import FEWEST

_CONSTRAINED = (0.75, 0.4)  # postfit over prefit uncertainty: have a look, worrying
_LOOSENED = (1.05, 1.3)
_PULL = (2.0, 3.0)
_CORRELATION = (0.5, 0.9)
_PROBABILITY = (0.05, 0.01)
_CLOSURE = 0.02  # of the signal strength: Asimov data must give back what they were made with
_MOST, _IMPACTS = 8, 4  # names in a sentence


def verdict(results: Results, remarks: Sequence[Remark] | None) -> list[Answer]:
    """Answers to what one wants to know about a fit, from its results and from `remarks` about its model; None if nobody looked."""
    channel = f"channel_{results.channels[0].name}"
    of_templates = [
        _empty_bins(results, remarks or ()),
        _remarks("Events in the bins?", remarks, ("outside",), "At most 1 % of a process are below or above the bins."),
        _remarks("Variations to both sides?", remarks, ("one-sided", "emptied"), "Each variation goes up and down."),
        _remarks(
            "Templates as they are?",
            remarks,
            ("unknown", "renamed", "negative", "empty", "smoothed"),
            "No template was changed or left out.",
        ),
        _remarks("Enough simulation?", remarks, ("few events",), "All bins have enough simulated background events."),
    ]
    found: list[tuple[str, Iterable[Answer]]] = [
        *((f"scan{ending(it.of)}", [_closure(it)]) for it in results.by_strength if results.unblinded is None),
        *((channel, [_goodness(results)]) for _ in range(results.unblinded is not None)),
        ("parameters", _bounds(results)),
        ("pulls", [_constraints(results), _pulls(results)]),
        ("correlations", [_correlations(results)]),
        *((f"result{ending(it.of)}", [*_limit(it, remarks), _few_events(it)]) for it in results.by_strength),
        (channel, of_templates),
    ]
    return [replace(it, link=f"#{anchor}") for anchor, answers in found for it in answers]


def _closure(results: Results) -> Answer:
    question, strength = f"Does the fit find what it is given?{results.of}", results.strength
    distance = abs(strength.value - 1)
    text = f"Expected data have a signal strength of one; the fit finds {strength.measured}."
    return Answer(question, "good" if distance < _CLOSURE * max(strength.error or 0.0, 1e-9) else "bad", text)


def _goodness(results: Results) -> Answer:
    question, found = "Does the model describe the data?", results.goodness
    if found is None or found.degrees <= 0:
        why = "There are as many free parameters as bins." if found else "An unbinned likelihood does not tell."
        return Answer(question, "open", why)
    text = (
        f"The saturated test statistic is {found.statistic:.1f} for {found.degrees} degrees of freedom, a probability of "
        f"{digits(found.probability, 2)}."
    )
    return Answer(question, state_of(found.probability, _PROBABILITY), text)


def _bounds(results: Results) -> Iterator[Answer]:
    """Nothing, if the best fit is inside the ranges of all parameters."""
    ends = [f"{it.name} = {digits(it.value, 3)}" for it in results.parameters if it.is_at_bound]
    if ends:
        what = f"At the end of its range: {listed(ends, _MOST)}. The maximum may be beyond it, and errors are not those of a parabola."
        if any(it.strength.is_at_bound and it.strength.value < 0 for it in results.by_strength):
            what += " With an even lower signal strength a bin would have next to no events."
        yield Answer("Is the best fit inside?", "bad", what)


def _constraints(results: Results) -> Answer:
    question = "Over-constrained?"
    loose = sorted(
        (it for it in results.parameters if it.kind == CONSTRAINED and (it.constraint or 0) > _LOOSENED[0]),
        key=lambda it: -(it.constraint or 0),
    )
    if loose:
        text = listed([f"{it.name} ({it.constraint:.2f})" for it in loose], _MOST)
        return Answer(
            question,
            "bad" if (loose[0].constraint or 0) > _LOOSENED[1] else "look",
            f"The postfit uncertainty of {text} is larger than the prefit one: up and down differ so much that the likelihood bends "
            "less than the constraint alone. Errors and impacts of these parameters are not to be trusted: look at their templates.",
        )
    known = [it for it in results.parameters if it.kind == CONSTRAINED and it.constraint is not None]
    if not known:
        return Answer(question, "open", "There are no nuisance parameters with an uncertainty.")
    tight = sorted((it for it in known if (it.constraint or 0) < _CONSTRAINED[0]), key=lambda it: it.constraint or 0)
    if not tight:
        return Answer(question, "good", "The fit leaves at least three quarters of each uncertainty.")
    text = listed([f"{it.name} ({it.constraint:.2f})" for it in tight], _MOST)
    return Answer(
        question,
        state_of(tight[0].constraint or 0, _CONSTRAINED),
        f"The fit constrains {text} to much less than the given uncertainty. It measures them better than whoever gave "
        "that uncertainty: is this plausible, and may one parameter describe all bins, regions and processes?",
    )


def _pulls(results: Results) -> Answer:
    question = "Pulls?"
    if results.unblinded is None:
        return Answer(question, "open", "Expected data pull nothing: this is answered after `nanoml unblind`.")
    unsigned = [it.name for it in results.parameters if it.has_no_sign]
    if unsigned:
        return Answer(
            question,
            "look",
            f"The pull of {listed(unsigned, _MOST)} has no sign: the likelihood is as large with the other one, since up and down change "
            "the templates to the same side.",
        )
    far = sorted((it for it in results.parameters if abs(it.pull or 0) > _PULL[0]), key=lambda it: -abs(it.pull or 0))
    if not far:
        return Answer(question, "good", f"No parameter is pulled by more than {_PULL[0]:.0f} standard deviations.")
    text = listed([f"{it.name} ({it.pull:+.1f})" for it in far], _MOST)
    return Answer(question, state_of(abs(far[0].pull or 0), _PULL), f"Data pull {text}: see which bins do.")


def _correlations(results: Results) -> Answer:
    """Of uncertainties that were given: what is free, or the simulation of a bin, follows from the others."""
    question, names = "Correlated?", [it.name for it in results.parameters]
    given = np.array([it.kind == CONSTRAINED for it in results.parameters])
    matrix = np.abs(np.triu(np.array(results.correlations), 1)) * np.outer(given, given)
    pairs = [(float(matrix[i, j]), f"{names[i]} and {names[j]}") for i, j in np.argwhere(matrix > _CORRELATION[0])]
    if not pairs:
        return Answer(question, "good", f"No two uncertainties have a correlation above {_CORRELATION[0]}.")
    pairs.sort(reverse=True)
    text = listed([f"{pair} ({value:.2f})" for value, pair in pairs], _MOST)
    return Answer(question, state_of(pairs[0][0], _CORRELATION), f"Largest postfit correlations: {text}.")


def _limit(results: Results, remarks: Sequence[Remark] | None) -> Iterator[Answer]:
    """Nothing, if there is one."""
    if results.limit is None:
        why = "the signal has too few events, or an uncertainty or a free normalisation can take its place."
        if remarks is None:
            why = "it, or a band of it, is beyond the range of the signal strength. --range LOW HIGH gives another one."
        text = f"It is above {digits(results.highest, 3)}, and is not given: {why}"
        yield Answer(f"Is there a limit?{results.of}", "bad", text)


def _empty_bins(results: Results, remarks: Sequence[Remark]) -> Answer:
    empty, missing = [], [remark.channel for remark in remarks if remark.kind == "not fitted"]
    for channel in results.channels:
        *samples, total = channel.prefit
        nothing = np.zeros(len(total.events))
        background = sum((np.array(it.events) for it in samples if it.sample not in results.signals), nothing)
        bare = (background <= 0) & (np.array(total.events) > 0)
        empty += [f"{channel.name} bin {it + 1}" for it in np.flatnonzero(bare)]
    texts = []
    if empty:
        texts.append(
            f"No background is expected in {listed(empty, _MOST)}: one event there would be a discovery. Join bins."
        )
    if missing:
        texts.append(f"Nothing is expected in {listed(missing, _MOST)}: not part of the fit.")
    if texts:
        return Answer("Background everywhere?", "bad", " ".join(texts))
    return Answer("Background everywhere?", "good", "Some background is expected in each bin that is fitted.")


def _few_events(results: Results) -> Answer:
    question, events = (
        f"Enough events for asymptotic formulae?{results.of}",
        f"{digits(results.background_events, 3)} background events",
    )
    if results.toys:
        return Answer(
            question, "good", f"Limit and significance are from toys; {events} are expected where the signal is."
        )
    is_enough = results.background_events >= FEWEST
    text = f"Limit and significance are asymptotic, and {events} are expected where the signal is."
    return (
        Answer(question, "good", text)
        if is_enough
        else Answer(question, "bad", f"{text} Remove fit.toys: then toys give both.")
    )


def _remarks(question: str, remarks: Sequence[Remark] | None, kinds: Sequence[str], otherwise: str) -> Answer:
    if remarks is None:
        return Answer(
            question, "open", "Not checked: the templates of this workspace are not known from their histograms."
        )
    found = sorted((it for it in remarks if it.kind in kinds), key=lambda it: (-it.share, kinds.index(it.kind)))
    if not found:
        return Answer(question, "good", otherwise)
    texts = [": ".join(filter(None, (" ".join(filter(None, (it.channel, it.process))), it.what))) for it in found]
    more = f"; and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    others = f" Also: {'; '.join(texts[1:_MOST])}{more}." if len(texts) > 1 else ""
    large = list(dict.fromkeys(f"{it.process} in {it.channel}" for it in found if it.share > LARGE_CHANGE))
    made = f" More than a tenth of a template of {listed(large, _MOST)} was made by this." if large else ""
    return Answer(question, "bad" if large else "look", f"{texts[0]}.{others}{made}")


def digest(results: Results) -> Digest:
    """The limit or, without one, the significance; and the error of the signal strength with what it consists of."""
    upper, discovery, parts = results.limit, results.significance, sorted(results.breakdown, key=lambda it: -it.error)
    kind, found = ("expected", discovery.expected) if discovery.observed is None else ("observed", discovery.observed)
    found = round(found, 2)
    number, what = rounded(found), f"{kind} significance"
    if upper:
        _, low, median, high, _ = upper.expected
        number = rounded(median if upper.observed is None else upper.observed, high - low)
        band = f"68 %: {rounded(low, high - low)} to {rounded(high, high - low)}"
        band = band if upper.observed is None else f"expected {rounded(median, high - low)}, {band}"
        what = f"{kind} limit on {called(results)} at {percentage(upper.level)} CL ({band}); {what} {rounded(found)}"
    text = f"{results.summary[:1].upper()}{results.summary[1:]}."
    if results.impacts:
        largest = [f"{it.parameter} ({rounded(it.size, it.size)})" for it in results.impacts[:_IMPACTS]]
        text += f" Largest impacts: {', '.join(largest)}."
    if results.comparisons:
        text += f" {gain(results)[2]}"
    error, at = results.strength.uncertainty, f" at {results.hypothesis}" if results.hypothesis else ""
    sizes = listed([f"{it.group} {rounded(it.error, it.error)}" for it in parts])
    of = f"uncertainty of {called(results)}{at}{': ' * bool(parts)}{sizes}"
    return Digest(number, what, text, (error, of) if error else ("", ""))


def called(results: Results) -> str:
    """The signal strength in words: its name if there are several."""
    return results.strength.name if results.others else "the signal strength"
