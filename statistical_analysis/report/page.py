"""The page of a fit: the result, a verdict in words, figures and numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from statistical_analysis.report.verdict import Answer
from statistical_analysis.results import CONSTRAINED, TOTAL, Channel, Results

_CAPTIONS = {
    "limit": (
        "Limit",
        "The upper limit on the signal strength by CLs, with the bands in which it is expected without a signal. The dotted line is the "
        "strength of one: left of it, the signal as given is excluded.",
    ),
    "scan": (
        "Likelihood",
        "Twice the negative logarithm of the profile likelihood ratio. It crosses the dashed lines at one and two standard deviations.",
    ),
    "impacts": (
        "Impacts",
        "Left: pulls, with what the fit leaves of the uncertainty as error bars. Right: change of the signal strength if the parameter is "
        "moved by its uncertainty after the fit (filled) and before it (open), and all others are fitted again. The impacts of "
        "statistical uncertainties of single bins (mcstat) follow from the covariance matrix.",
    ),
    "pulls": (
        "Pulls",
        "Shift of each parameter by the fit and its uncertainty, in units of the uncertainty before the fit. Data that are expected pull "
        "nothing; an error bar well inside the inner band is a parameter that the fit constrains.",
    ),
    "correlations": ("Correlations", "Correlation coefficients in per cent, of the parameters with the largest ones."),
}
_STATES = {"good": "✓ fine", "look": "! have a look", "bad": "✗ worrying", "open": "? no answer"}
_SMALL = ("limit", "scan", "before", "after")
_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1f2328; max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid #d5d9e0; }
p, figcaption { max-width: 48rem; } .dim, figcaption { color: #57606a; } .result { font-size: 1.15rem; }
.verdict { list-style: none; margin: 1.2rem 0; padding: 0; display: grid; gap: .6rem; }
.verdict li { border-left: 5px solid; border-radius: 3px; padding: .55rem .9rem; background: #f5f6f8; }
.verdict b { margin-right: .4rem; } .state { font-size: .8rem; font-weight: 600; padding: .05rem .45rem; border-radius: 1rem;
  color: #fff; margin-right: .5rem; white-space: nowrap; }
.good { border-color: #2f7ed8 !important; } .good .state { background: #2f6fc4; }
.look { border-color: #f89c20 !important; } .look .state { background: #9a5b00; }
.bad { border-color: #e42536 !important; } .bad .state { background: #c01a2a; }
.open { border-color: #9c9ca1 !important; } .open .state { background: #63676e; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; border-bottom: 1px solid #e8eaee; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; } .side { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 1rem 0; } img { max-width: 100%; } img.small { width: 31rem; }
"""


def report(results: Results, answers: Sequence[Answer], drawn: Sequence[str], directory: Path) -> str:
    """The page as HTML, with the figures that are `drawn` in a directory."""
    state = results.unblinded or "blind: all data here are expected ones, in all channels"
    title = f"Fit of the strength of {results.signal}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="result">{escape(results.summary)}</p>',
        f'<p class="dim">{escape(state[0].upper() + state[1:])}. All numbers are also in results.json, and every figure is next to this '
        f"page as PDF. {escape(results.creator)}.</p>",
        _verdict(answers),
        f"<h2>Result</h2>{_numbers(results)}",
        *(
            f"<h2>{title}</h2>{_figure(directory, name, text)}"
            for name, (title, text) in _CAPTIONS.items()
            if name in drawn
        ),
        *(_channel(directory, each) for each in results.channels),
        f"<h2>Parameters</h2>{_parameters(results)}",
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _verdict(answers: Sequence[Answer]) -> str:
    lines = (
        f'<li class="{it.state}"><span class="state">{_STATES[it.state]}</span><b>{escape(it.question)}</b>{escape(it.text)}</li>'
        for it in answers
    )
    return f'<ul class="verdict">{"".join(lines)}</ul>'


def _numbers(results: Results) -> str:
    upper, discovery, strength = results.limit, results.significance, results.strength
    lowest, low, median, high, highest = upper.expected
    rows = [
        ("Expected limit", f"{median:.3g}"),
        ("in 68 % of cases", f"{low:.3g} to {high:.3g}"),
        ("in 95 % of cases", f"{lowest:.3g} to {highest:.3g}"),
        ("Expected significance", f"{discovery.expected:.2f}"),
    ]
    if upper.observed is not None and discovery.observed is not None:
        rows += [("Observed limit", f"{upper.observed:.3g}"), ("Observed significance", f"{discovery.observed:.2f}")]
    name = "Best fit" if results.unblinded else "Expected signal strength"
    rows.append((name, f"{strength.value:.3g} ± {strength.error:.2g}"))
    return _table(["", ""], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{escape(it)}</th>' for it in head)}</tr>" if any(head) else ""
    lines = "".join(f"<tr>{''.join(f'<td>{escape(it)}</td>' for it in row)}</tr>" for row in rows)
    return f"<table>{top}{lines}</table>"


def _channel(directory: Path, channel: Channel) -> str:
    after = {it.sample: it for it in channel.after}
    rows = []
    for before in channel.before:
        fitted = after[before.sample]
        rows.append((before.sample, f"{sum(before.events):.4g}", f"{sum(fitted.events):.4g}"))
    if channel.observed is not None:
        rows.append(("data", f"{sum(channel.observed):.0f}", f"{sum(channel.observed):.0f}"))
    rows.sort(key=lambda row: row[0] in (TOTAL, "data"))
    images = "".join(_figure(directory, f"{stage}_{channel.name}", "") for stage in ("before", "after"))
    table = _table(["", "events before the fit", "events after the fit"], rows)
    return f'<h2>Channel {escape(channel.name)}</h2>{table}<div class="side">{images}</div>'


def _parameters(results: Results) -> str:
    """All but those of single bins."""
    rows = [
        (
            it.name,
            f"{it.value:.3g} ± {it.error:.2g}",
            f"{it.pull:+.2f}" if it.pull is not None else "",
            f"{it.constraint:.2f}" if it.constraint is not None else "",
        )
        for it in results.parameters
        if it.kind == CONSTRAINED or it.pull is None
    ]
    return _table(["", "after the fit", "pull", "of the uncertainty is left"], rows)


def _figure(directory: Path, name: str, text: str) -> str:
    image = base64.b64encode((directory / f"{name}.png").read_bytes()).decode()
    kind = ' class="small"' if name.partition("_")[0] in _SMALL else ""
    return f'<figure><img alt="{escape(name)}"{kind} src="data:image/png;base64,{image}"><figcaption>{text}</figcaption></figure>'
