"""The page of a fit: the result, a verdict in words, figures and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer, digits, rounded, table, with_error
from MLTools.NanoML.report.section import Block, Caption, Document, Style
from statistical_analysis.report.plots import Axis, figures_of
from statistical_analysis.report.verdict import called
from statistical_analysis.results import CONSTRAINED, TOTAL, Channel, NoFit, Results, Yields, ending

_MOST = 4  # names in a cell of a table
_SMOOTHED = "smoothed_"  # what the names of their figures begin with
_STACK = Caption(
    "",
    "The events of each process, with the uncertainty of their sum, and below what data are to be compared with.",
    is_small=True,
)
_RATIOS = Caption(
    "Smoothed variations",
    "Ratios of variations to nominal events, as the fit uses them and before they were smoothed; those that smoothing changes most.",
    "What is smoothed away is larger than the statistical errors of the nominal events, which the band shows.",
)


def report(
    results: Results,
    drawn: Sequence[str],
    axes: Mapping[str, Axis],
    style: Style,
    directory: Path,
    others: Sequence[Block],
) -> str:
    """The page as HTML, with the figures that are `drawn` in a directory with these `axes`, and other parts after the results."""
    smoothed = [(name, _RATIOS) for name in drawn if name.startswith(_SMOOTHED)]
    blocks = [
        *_processes(results),
        *_strengths(results),
        *(block for it in results.by_strength for block in _of_strength(it)),
        *others,
        *(Block(name, it.title, "", [(name, it)], True) for name, it, *_ in figures_of(results) if name in drawn),
        *(_channel(each, drawn, axes[each.name]) for each in results.channels),
        *([Block("smoothed", "Smoothed variations", "", smoothed, True)] if smoothed else []),
        Block("parameters", "Parameters", _parameters(results)),
        *unblindings(results.log, results.expected),
    ]
    return _document(results, directory, results.verdict, blocks).html(style, directory)


def unblindings(log: Sequence[Unblinding], expected: str) -> Iterator[Block]:
    """Who looked at which data, when, why, and what was expected then and, if that is one number, is now."""
    rows = [("expected now", expected)] if expected else []
    for it in reversed(log):
        data = [("data", it.events)] * bool(it.events)
        rows = [(f"{it.at[:10]}, {it.who}", f"{it.what}: {it.because}"), *data, ("expected then", it.expected), *rows]
    if log:
        yield Block("unblinding", "Unblinding", table(["", ""], rows))


def no_fit_report(found: NoFit, style: Style, directory: Path) -> str:
    """The page about a hypothesis without a fit, as HTML."""
    return _document(found, directory).html(style, directory)


def _document(
    results: Results | NoFit, directory: Path, answers: Sequence[Answer] = (), blocks: Sequence[Block] = ()
) -> Document:
    title, here = f"Fit of the strength of {listed(results.signals)}", "fit/report.html"
    if isinstance(results, Results) and results.others:
        title = f"Fit of {listed(it.strength.name for it in results.by_strength)}"
    lead = lead_of(results.summary, results.unblinded, results.creator, is_drawn=bool(blocks))
    if results.hypothesis:
        title, here = f"{title} at {results.hypothesis}", f"fit/{directory.name}/report.html"
        lead += '<p><a href="../report.html">All fits</a></p>'
    return Document(title, here, lead, answers, blocks)


def lead_of(summary: str, unblinded: str | None, creator: str, is_drawn: bool = True) -> str:
    """The beginning of a page about fits: the result, which data it is of, and where else the numbers are."""
    state = unblinded or "blind: all data here are expected ones, in all channels"
    more = ", and every figure is next to this page as PDF" if is_drawn else ""
    return (
        f'<p class="result">{escape(summary[:1].upper() + summary[1:])}</p>'
        f'<p class="dim">{escape(state[0].upper() + state[1:])}. All numbers are also in results.json{more}. {escape(creator)}.</p>'
    )


def _processes(results: Results) -> Iterator[Block]:
    """The processes of the fit."""
    rows = []
    for it in results.processes:
        yields = [{each.sample: _total(each) for each in channel.prefit} for channel in results.channels]
        origin = (listed(it.origin.datasets, _MOST), "data" if it.origin.is_from_data else "simulation")
        events = (each.get(it.name, "") for each in yields)
        rows.append((it.name, *origin, *events, listed(it.uncertainties, _MOST)))
    if rows:
        head: tuple[str, ...] = ("process", "datasets", "from", *(it.name for it in results.channels), "uncertainties")
        if not any(it.origin.datasets for it in results.processes):  # nobody knows of those of a workspace
            head, rows = (head[0], *head[3:]), [(row[0], *row[3:]) for row in rows]
        yield Block("processes", "What is in this fit", table(head, rows))


def _total(found: Yields) -> str:
    text = f"{sum(found.events):#.3g}".rstrip(".")  # with zeros at the end
    return f"{sum(found.events):,.0f}" if "e+" in text else text


def _strengths(results: Results) -> Iterator[Block]:
    """All strengths, if there are several, with their correlations."""
    views, names = results.by_strength, [it.name for it in results.parameters]
    places = [names.index(it.strength.name) for it in views]
    rows = []
    for it, place in zip(views, places, strict=True):
        correlations = (f"{results.correlations[place][other]:+.2f}" for other in places)
        rows.append((it.strength.name, listed(it.signals, _MOST), it.strength.measured, *correlations))
    if results.others:
        head = ["", "of", "best fit" if results.unblinded else "expected"]
        head += [f"correlation with {it.strength.name}" for it in views]
        yield Block("strengths", "Signal strengths", table(head, rows))


def _of_strength(results: Results) -> Iterator[Block]:
    of = results.of
    yield Block(f"result{ending(of)}", f"Result{of}", _numbers(results))
    if results.strength.error and results.breakdown:
        numbers = _breakdown(results, results.strength.error)
        yield Block(f"uncertainty{ending(of)}", f"Uncertainty of {called(results)}", numbers)


def _numbers(results: Results) -> str:
    upper, discovery, strength = results.limit, results.significance, results.strength
    rows = [("Limit", f"none: it is above {digits(results.highest, 3)}")]
    if upper:
        lowest, low, median, high, highest = upper.expected
        error = upper.expected_errors[2] if upper.expected_errors else None
        rows = [
            ("Expected limit", _measured(median, error, high - low)),
            ("in 68 % of cases", f"{rounded(low, high - low)} to {rounded(high, high - low)}"),
            ("in 95 % of cases", f"{rounded(lowest, high - low)} to {rounded(highest, high - low)}"),
        ]
    rows.append(("Expected significance", _deviations(discovery.expected, discovery.expected_error)))
    if upper and upper.observed is not None:
        rows.append(("Observed limit", _measured(upper.observed, upper.observed_error, high - low)))
    if discovery.observed is not None:
        rows.append(("Observed significance", _deviations(discovery.observed, discovery.observed_error)))
    name = "Best fit" if results.unblinded else "Expected signal strength"
    rows.append((name, strength.measured))
    rows.append(("Limit by", f"{results.toys} toys of each hypothesis" if results.toys else "asymptotic formulae"))
    return table(["", ""], rows)


def _breakdown(results: Results, whole: float) -> str:
    rows = [
        (it.group, rounded(it.error, it.error), f"{100 * it.error**2 / whole**2:.0f} %") for it in results.breakdown
    ]
    text = (
        "A group's part is what is missing, in quadrature, if its parameters are fixed at their best fit. Groups are correlated by the "
        "fit, so the parts need not add up to the total. Free normalisations belong to the statistics of data."
    )
    numbers = table(["", "error", "of the variance"], [*rows, ("total", rounded(whole, whole), "")])
    return f'<p class="dim">{text}</p>{numbers}'


def _measured(value: float, error: float | None, width: float) -> str:
    """A limit with its error by toys; without, with the digits that the width of its band allows."""
    return with_error(value, error) if error else rounded(value, width)


def _deviations(value: float, error: float | None) -> str:
    """A significance; with toys it may be asymptotic nevertheless, and without error."""
    return with_error(value, error) if error is not None else f"{rounded(round(value, 2))} (asymptotic)"


def _channel(channel: Channel, drawn: Sequence[str], axis: Axis) -> Block:
    postfit = {it.sample: it for it in channel.postfit}
    rows = [(it.sample, _total(it), _total(postfit[it.sample])) for it in channel.prefit]
    if channel.observed is not None:
        rows.append(("data", f"{sum(channel.observed):.0f}", f"{sum(channel.observed):.0f}"))
    rows.sort(key=lambda row: row[0] in (TOTAL, "data"))
    numbers = table(["", "prefit events", "postfit events"], rows)
    notes = (channel.note, axis.note, axis.bins.said)
    note = "".join(f'<p class="dim">{escape(it[0].upper() + it[1:])}</p>' for it in notes if it)
    stages = [it for it in ("prefit", "postfit") if f"{it}_{channel.name}" in drawn]
    figures = [(f"{it}_{channel.name}", replace(_STACK, title=f"{channel.name}, {it}")) for it in stages]
    return Block(f"channel_{channel.name}", f"Channel {channel.name}", note + numbers, figures)


def _parameters(results: Results) -> str:
    """All but those of single bins."""
    rows = [
        (
            it.name,
            replace(it, value=round(it.value, 4) + 0.0).measured,  # without the noise of a minimisation, and -0
            f"{round(it.pull, 2) + 0.0:+.2f}" if it.pull is not None else "",
            f"{it.constraint:.2f}" if it.constraint is not None else "",
        )
        for it in results.parameters
        if it.kind == CONSTRAINED or it.pull is None
    ]
    return table(["", "postfit", "pull", "postfit / prefit uncertainty"], rows)
