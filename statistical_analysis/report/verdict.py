"""The meaning of the results of a fit, in plain words; and what channels without bins gain, and else a referee asks of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import poisson

from MLTools.NanoML.contracts.closure import RatioClosure
from MLTools.NanoML.contracts.densities import UnbinnedChannel
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer, Digest, digits, percentage, rounded, state_of, table
from MLTools.NanoML.report.section import Block, Caption
from statistical_analysis.results import CONSTRAINED, OF_DENSITIES, OF_EVENTS, WITHOUT, Results, ending
from statistical_analysis.samples import LARGE_CHANGE, Remark
from statistical_analysis.toys.intervals import FEWEST
from statistical_analysis.unbinned import beyond_simulation

_CONSTRAINED = (0.75, 0.4)  # postfit over prefit uncertainty: have a look, worrying
_LOOSENED = (1.05, 1.3)
_PULL = (2.0, 3.0)
_CORRELATION = (0.5, 0.9)
_PROBABILITY = (0.05, 0.01)
_CLOSURE = 0.02  # of the signal strength: Asimov data must give back what they were made with
_MOST, _IMPACTS = 8, 4  # names in a sentence
_PAYS = 0.03  # smaller by this share, an error is worth the networks
_FACTOR, _DIFFERENCE, _SPREAD, _PROMISED = (0.03, 0.1), (0.0, 0.2), (0.03, 0.1), (0.03, 0.1)  # have a look, worrying
_NEGATIVE = (0.001, 0.01)
_CHANGES = ("unknown", "renamed", "negative", "empty", "smoothed")
ANCHOR = "unbinned"


def verdict(results: Results, remarks: Sequence[Remark] | None) -> list[Answer]:
    """Answers to what one wants to know about a fit, from its results and from `remarks` about its model; None if nobody looked."""
    channel = f"channel_{results.channels[0].name}"
    of_templates = [
        _empty_bins(results, remarks or ()),
        _remarks("Events in the bins?", remarks, ("outside",), "At most 1 % of a process are below or above the bins."),
        _remarks("Variations to both sides?", remarks, ("one-sided", "emptied"), "Each variation goes up and down."),
        _remarks("Templates as they are?", remarks, _CHANGES, "No template was changed or left out."),
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
        where = listed(empty, _MOST)
        texts.append(f"No background is expected in {where}: one event there would be a discovery. Join bins.")
    if missing:
        texts.append(f"Nothing is expected in {listed(missing, _MOST)}: not part of the fit.")
    text = " ".join(texts) or "Some background is expected in each bin that is fitted."
    return Answer("Background everywhere?", "bad" if texts else "good", text)


def _few_events(results: Results) -> Answer:
    state, events = "good", f"{digits(results.background_events, 3)} background events"
    text = f"Limit and significance are from toys; {events} are expected where the signal is."
    if not results.toys:
        text = f"Limit and significance are asymptotic, and {events} are expected where the signal is."
        if results.background_events < FEWEST:
            state, text = "bad", f"{text} Remove fit.toys: then toys give both."
    return Answer(f"Enough events for asymptotic formulae?{results.of}", state, text)


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


def _percent(value: float) -> str:
    return f"{digits(100 * value, 2)} %"


def _of_yields_alone(channel: UnbinnedChannel) -> set[str]:
    """The nuisance parameters that change no density, since no output of the networks is theirs."""
    columns = [key.partition(", ")[2] for key in channel.closure]
    names = {name for it in channel.processes.values() for name in it.up}
    return {name for name in names if not any(it.startswith(name) for it in columns)}


def gain(results: Results) -> tuple[str, str, str]:
    """The verdict on a comparison with bins: question, state and text."""
    errors = {it.way: it.error for it in results.comparisons}
    mine = errors.pop(WITHOUT)
    best, way = min((error, way) for way, error in errors.items())
    share = 1 - mine / best
    numbers = f"the expected error is {rounded(mine)} {WITHOUT}, and {rounded(best)} {way}"
    does = f"gains {_percent(share)}" if share >= _PAYS else f"does not pay, since it gains less than {_percent(_PAYS)}"
    text = f"By its own densities, the fit without bins {does}: {numbers}."
    return "Does a fit without bins pay?", "good" if share >= _PAYS else "look", text


def sign_of_densities(negative: float) -> tuple[str, str, str]:
    """The verdict on the share of negative densities in the expected events: nothing keeps a fit from them where data have no event."""
    state = state_of(negative, _NEGATIVE)
    text = f"At the best fit, negative densities make up {_percent(negative)} of the expected events."
    advice = " Data have no event there. Believe neither strength nor error: fit this region in bins."
    return "Are densities positive?", state, text if state == "good" else text + advice


@dataclass(frozen=True)
class Unbinned:
    """The channels without bins, and the closure of their ratios by channel."""

    channels: Sequence[UnbinnedChannel]
    closures: dict[str, RatioClosure]

    @classmethod
    def read(cls, channels: Sequence[UnbinnedChannel], closures: Mapping[str, Path]) -> Unbinned:
        """What is known of channels."""
        return cls(channels, {name: RatioClosure.read(path) for name, path in closures.items()})

    def answers(self, results: Results) -> Iterator[Answer]:
        """The verdicts."""
        (pays, found, numbers), checks = gain(results), [*self._checks()]
        checks += self._promise({it.way: it.error for it in results.comparisons})
        checks.append(sign_of_densities(results.negative))
        if found == "good" and any(it in ("bad", "open") for _, it, _ in checks):
            found, numbers = "look", f"{numbers} But the ratios are not known well enough to rely on that."
        signals = {name for it in results.by_strength for name in it.signals}
        seen = self._data(signals) if any(it.observed for it in self.channels) else []
        for question, state, text in ((pays, found, numbers), *seen, *checks):
            yield Answer(question, state, text, f"#{ANCHOR}")

    def _data(self, signals: Collection[str]) -> Iterator[tuple[str, str, str]]:
        found = {it.name: beyond_simulation(it, signals) for it in self.channels if it.observed}
        rare = min(float(poisson.sf(count - 1, max(chance, 1e-9))) for count, chance in found.values())
        few = {name: it for name, it in found.items() if it[0]}
        parts = [f"{count} in {name} (by chance {digits(chance, 2)})" for name, (count, chance) in few.items()]
        state, text = state_of(rare, (0.05, 0.003)), "No event of data is more like the signal than all simulated ones."
        if parts:
            text = f"Events of data that are more like the signal than any simulated one: {listed(parts)}."
            advice = " Look at them: networks have seen nothing there, and a few such events can make a signal."
            text += advice * (state != "good")
        yield "Are data where simulation is?", state, text

    def _promise(self, errors: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
        """Ratios with noise separate processes that are not so different: then the fit promises more than its events hold."""
        if OF_EVENTS in errors and OF_DENSITIES in errors:
            promised, held = errors[OF_DENSITIES], errors[OF_EVENTS]
            state = state_of(1 - promised / held, _PROMISED)
            text = f"In the same 10 bins the expected error is {rounded(promised)} by densities, and {rounded(held)} of simulated events."
            less = f" That of the fit without bins is too small by about {_percent(1 - promised / held)}, too."
            yield "Do densities promise what events hold?", state, text if state == "good" else text + less

    def _checks(self) -> Iterator[tuple[str, str, str]]:
        factors = ((abs(it - 1), f"{of.name}, {name}") for of in self.channels for name, it in of.closure.items())
        off, worst = max(factors)
        text = f"Densities are multiplied for this, by a factor of up to {_percent(off)} off one ({worst})."
        yield "As many events by densities as by weights?", state_of(off, _FACTOR), text
        lost = sorted({name for it in self.channels for name in _of_yields_alone(it)})
        text = f"Of {listed(lost)} no network has learned the shape: add shifts to convert.shifts."
        varied = any(it.up for channel in self.channels for it in channel.processes.values())
        text = text if lost else "Each variation has its ratios." if varied else "No variation changes shapes."
        yield "All shapes learned?", "bad" if lost else "good", text
        differing = max((test.difference for it in self.closures.values() for test in it.differing), default=0.0)
        worst_first = sorted(self.closures.items(), key=lambda it: -len(it[1].differing))
        text = " ".join(f"{name}: {it.text}" for name, it in worst_first)
        yield "Do reweighted events look like true ones?", state_of(differing, _DIFFERENCE), text
        spread = {name: max(it.spread.values()) / it.seeds**0.5 for name, it in self.closures.items() if it.spread}
        parts = [f"{_percent(each)} in {name} ({self.closures[name].seeds} networks)" for name, each in spread.items()]
        text = f"The mean ratio of the networks of a fold is known to {listed(parts)}, where they differ most."
        text = text if spread else "There is one of each fold. Several, as in `seeds: 3`, show by how much they differ."
        yield "Enough networks?", state_of(max(spread.values()), _SPREAD) if spread else "open", text

    def block(self, results: Results, directory: Path) -> Block:
        """The comparison with fits in bins, and the figures of the closure that there are beside the directory of the fit."""
        rows = ((it.way, it.error, it.limit) for it in results.comparisons)
        ways = [(way, rounded(error), "" if upper is None else rounded(upper)) for way, error, upper in rows]
        figures = [
            (f"../ratios/{it.name}", Caption(it.title, f"{name}: {it.reading}"))
            for name, closure in self.closures.items()
            for it in closure.figures(name)
            if (directory / f"../ratios/{it.name}.png").exists()
        ]
        numbers = table(["", "expected error of the signal strength", "expected limit"], ways)
        return Block(ANCHOR, "Without bins", numbers, figures)
