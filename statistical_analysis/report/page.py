"""The page of a fit: the result, a verdict in words, figures and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer, digits, figure, page, rounded, table, verdict_list, with_error
from statistical_analysis.report.plots import FIGURES
from statistical_analysis.results import CONSTRAINED, TOTAL, Channel, NoFit, Results

_MOST = 4  # names in a cell of a table


def report(results: Results, answers: Sequence[Answer], drawn: Sequence[str], directory: Path) -> str:
    """The page as HTML, with the figures that are `drawn` in a directory."""
    parts = [
        *_head(results),
        _processes(results),
        verdict_list(answers),
        f"<h2>Result</h2>{_numbers(results)}",
        f"<h2>Uncertainty of the signal strength</h2>{_breakdown(results)}",
        *(
            f"<h2>{it.title}</h2>"
            f"{figure(directory / f'{name}.png', it.title, 'narrow' if it.is_small else 'wide', it.reading)}"
            for name, (it, _) in FIGURES.items()
            if name in drawn
        ),
        *(_channel(directory, each) for each in results.channels),
        _smoothed(directory, [name for name in drawn if name.startswith("smoothed_")]),
        f"<h2>Parameters</h2>{_parameters(results)}",
        unblindings(results.log, results.expected),
    ]
    return page(_title(results), parts)


def unblindings(log: Sequence[Unblinding], expected: str) -> str:
    """Who looked at which data, when, why, and what was expected then and, if that is one number, is now."""
    rows = [("expected now", expected)] if expected else []
    for it in reversed(log):
        rows = [(f"{it.at[:10]}, {it.who}", f"{it.what}: {it.because}"), ("expected then", it.expected), *rows]
    return f"<h2>Unblinding</h2>{table(['', ''], rows)}" if log else ""


def no_fit_report(found: NoFit) -> str:
    """The page about a hypothesis without a fit, as HTML."""
    return page(_title(found), _head(found))


def _title(results: Results | NoFit) -> str:
    at = f" at {results.hypothesis}" if results.hypothesis else ""
    return f"Fit of the strength of {results.signal}{at}"


def _head(results: Results | NoFit) -> list[str]:
    state = results.unblinded or "blind: all data here are expected ones, in all channels"
    files = "All numbers are also in results.json"
    if isinstance(results, Results):
        files += ", and every figure is next to this page as PDF"
    return [
        f'<p class="result">{escape(results.summary)}</p>',
        f'<p class="dim">{escape(state[0].upper() + state[1:])}. {files}. {escape(results.creator)}.</p>',
        '<p><a href="../report.html">All fits</a></p>' if results.hypothesis else "",
    ]


def _processes(results: Results) -> str:
    """What is in the fit."""
    rows = []
    for it in results.processes:
        yields = [{each.sample: digits(sum(each.events), 4) for each in channel.before} for channel in results.channels]
        origin = (listed(it.origin.datasets, _MOST), "data" if it.origin.is_from_data else "simulation")
        events = (each.get(it.name, "") for each in yields)
        rows.append((it.name, *origin, *events, listed(it.uncertainties, _MOST)))
    head = ["process", "datasets", "from", *(it.name for it in results.channels), "uncertainties"]
    return f"<h2>What is in this fit</h2>{table(head, rows)}" if rows else ""


def _numbers(results: Results) -> str:
    upper, discovery, strength = results.limit, results.significance, results.strength
    rows = [("Limit", f"none: it is above {digits(results.highest, 3)}")]
    if upper:
        lowest, low, median, high, highest = upper.expected
        error = f" ± {upper.expected_errors[2]:.1g}" if upper.expected_errors else ""
        rows = [
            ("Expected limit", f"{rounded(median, high - low)}{error}"),
            ("in 68 % of cases", f"{rounded(low, high - low)} to {rounded(high, high - low)}"),
            ("in 95 % of cases", f"{rounded(lowest, high - low)} to {rounded(highest, high - low)}"),
        ]
    rows.append(("Expected significance", _deviations(discovery.expected, discovery.expected_error)))
    if upper and upper.observed is not None:
        error = f" ± {upper.observed_error:.1g}" if upper.observed_error else ""
        rows.append(("Observed limit", f"{digits(upper.observed, 3)}{error}"))
    if discovery.observed is not None:
        rows.append(("Observed significance", _deviations(discovery.observed, discovery.observed_error)))
    name = "Best fit" if results.unblinded else "Expected signal strength"
    rows.append((name, with_error(strength.value, strength.error)))
    rows.append(("Limit by", f"{results.toys} toys of each hypothesis" if results.toys else "asymptotic formulae"))
    return table(["", ""], rows)


def _breakdown(results: Results) -> str:
    whole = results.strength.error
    rows = [(it.group, digits(it.error, 2), f"{100 * it.error**2 / whole**2:.0f} %") for it in results.breakdown]
    text = (
        "A group's part is what is missing, in quadrature, if its parameters are fixed at their best fit. Groups are correlated by the "
        "fit, so the parts need not add up to the total. Free normalisations belong to the statistics of data."
    )
    numbers = table(["", "error", "of the variance"], [*rows, ("total", digits(whole, 2), "")])
    return f'<p class="dim">{text}</p>{numbers}'


def _deviations(value: float, error: float | None) -> str:
    """A significance; with toys it may be asymptotic nevertheless, and without error."""
    return f"{value:.2f}" + (f" ± {error:.1g}" if error is not None else " (asymptotic)")


def _channel(directory: Path, channel: Channel) -> str:
    after = {it.sample: it for it in channel.after}
    rows = []
    for before in channel.before:
        fitted = after[before.sample]
        rows.append((before.sample, digits(sum(before.events), 4), digits(sum(fitted.events), 4)))
    if channel.observed is not None:
        rows.append(("data", f"{sum(channel.observed):.0f}", f"{sum(channel.observed):.0f}"))
    rows.sort(key=lambda row: row[0] in (TOTAL, "data"))
    names = (f"{stage}_{channel.name}" for stage in ("before", "after"))
    images = "".join(figure(directory / f"{name}.png", name, "narrow") for name in names)
    numbers = table(["", "events before the fit", "events after the fit"], rows)
    note = f'<p class="dim">{escape(channel.note)}</p>' if channel.note else ""
    return f'<h2>Channel {escape(channel.name)}</h2>{note}{numbers}<div class="figures">{images}</div>'


def _smoothed(directory: Path, names: Sequence[str]) -> str:
    text = (
        "Ratios of variations to nominal events, as the fit uses them and before they were smoothed; those that smoothing changes most. "
        "What is smoothed away should be no larger than the statistical errors of the nominal events, which the band shows."
    )
    figures = "".join(figure(directory / f"{name}.png", name, "wide") for name in names)
    return f'<h2>Smoothed variations</h2><p class="dim">{text}</p>{figures}' if names else ""


def _parameters(results: Results) -> str:
    """All but those of single bins."""
    rows = [
        (
            it.name,
            with_error(round(it.value, 4) + 0.0, it.error),  # without the noise of a minimisation, and -0
            f"{round(it.pull, 2) + 0.0:+.2f}" if it.pull is not None else "",
            f"{it.constraint:.2f}" if it.constraint is not None else "",
        )
        for it in results.parameters
        if it.kind == CONSTRAINED or it.pull is None
    ]
    return table(["", "after the fit", "pull", "of the uncertainty is left"], rows)
