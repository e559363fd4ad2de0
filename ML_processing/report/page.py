"""The page of the report: its order, its style, its figures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ML_processing.report.captions import CAPTIONS
from ML_processing.report.tables import numbers, provenance

__all__ = ["report"]

_STYLE = """
:root { --line: #d5d9e0; --soft: #f5f6f8; --text: #1f2328; --dim: #57606a; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--text); max-width: 66rem;
  margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p { max-width: 48rem; }
a { color: #1f5fbf; text-decoration: none; } a:hover { text-decoration: underline; }
.dim { color: var(--dim); }
.verdict { list-style: none; margin: 1.2rem 0; padding: 0; display: grid; gap: .6rem; }
.verdict li { border-left: 5px solid; border-radius: 3px; padding: .55rem .9rem; background: var(--soft); }
.verdict b { display: inline-block; margin-right: .4rem; }
.verdict .state { font-size: .8rem; font-weight: 600; padding: .05rem .45rem; border-radius: 1rem; color: #fff;
  margin-right: .5rem; white-space: nowrap; }
.good { border-color: #2f7ed8 !important; } .good .state { background: #2f6fc4; }
.look { border-color: #f89c20 !important; } .look .state { background: #9a5b00; }
.bad { border-color: #e42536 !important; } .bad .state { background: #c01a2a; }
.note { background: #fdf3e3; border-left: 5px solid #f89c20; border-radius: 3px; padding: .55rem .9rem; margin: .5rem 0;
  max-width: none; }
nav { background: var(--soft); border-radius: 4px; padding: .7rem 1rem; margin: 1.2rem 0; }
nav ul { margin: .3rem 0 0; padding: 0; list-style: none; columns: 15rem; } nav li { padding: .15rem 0; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .35rem 1.1rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e8eaee; }
th { border-bottom: 1px solid #8b949e; font-weight: 600; }
.numbers td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts td:first-child { white-space: nowrap; color: var(--dim); } .facts td { overflow-wrap: anywhere; }
.numbers td:first-child { white-space: normal; min-width: 6.5rem; }
figure { margin: 1rem 0; } figure img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 48rem; margin-top: .6rem; } figcaption p { margin: .3rem 0; }
.worry b { color: #a3161f; }
@media (max-width: 40rem) {
  body { font-size: 15px; padding: 1rem .8rem 3rem; } h1 { font-size: 1.35rem; } h2 { font-size: 1.12rem; }
  table { font-size: .85rem; } th, td { padding-right: .8rem; }
  figure img.wide { max-width: none; width: 54rem; }
}
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; max-width: none; padding: 0; } nav { display: none; } a { color: inherit; }
  .scroll { overflow: visible; } table { font-size: 8.5pt; } .numbers td { white-space: normal; }
  .verdict li, .note, nav { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2 { break-after: avoid; margin-top: 1.2rem; } section.figure, tr, li { break-inside: avoid; }
  section.figure img { max-height: 100mm; width: auto !important; max-width: 100%; }
  section.figure img.wide { max-height: 180mm; }
}
"""

_STATES = {"good": "fine", "look": "have a look", "bad": "worrying"}
_SINGLE = (
    "roc",
    "scores",
    "confusion",
    "calibration",
    "significance",
    "loss",
    "predictions",
)  # plots, not panels


def report(
    description: dict[str, Any], content: dict[str, Any], drawn: Sequence[str], directory: Path
) -> str:
    """The report as HTML.

    Parameters
    ----------
    description
        Content of training.json.
    content
        Content of metrics.json.
    drawn
        Names of the figures that there are.
    directory
        Where they are, as PNG files.
    """
    title = _title(content)
    shown = [name for name in CAPTIONS if name in drawn]
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="dim">All numbers and plots, but for those marked as training, are of events that the network in '
        "question has not seen in its training. Everything shown is in metrics.json, too, and every plot beside "
        "this page as PDF.</p>",
        _verdict(content),
        *(f'<p class="note">{escape(text)}</p>' for text in content["notes"]),
        _contents(shown),
        f'<section id="numbers"><h2>Numbers</h2>{numbers(content)}</section>',
        *(_figure(directory, name) for name in shown),
        f'<section id="provenance"><h2>Where this comes from</h2>{provenance(description, content)}</section>',
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _title(content: dict[str, Any]) -> str:
    if content["task"] == "regression":
        return f"Training report: regression of {', '.join(content['targets'])}"
    return f"Training report: {content['signal']} among {', '.join(content['classes'])}"


def _verdict(content: dict[str, Any]) -> str:
    lines = (
        f'<li class="{it["state"]}"><span class="state">{_STATES[it["state"]]}</span><b>{escape(it["question"])}</b>'
        f"{escape(it['text'])}</li>"
        for it in content["verdict"]
    )
    return f'<ul class="verdict">{"".join(lines)}</ul>'


def _contents(shown: Sequence[str]) -> str:
    titles = {"numbers": "Numbers", **{name: CAPTIONS[name][0] for name in shown}}
    titles["provenance"] = "Where this comes from"
    lines = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in titles.items())
    return f"<nav><b>Contents</b><ul>{lines}</ul></nav>"


def _figure(directory: Path, name: str) -> str:
    title, reading, worrying = CAPTIONS[name]
    image = base64.b64encode((directory / f"{name}.png").read_bytes()).decode()
    style = 'style="width: 40rem"' if name in _SINGLE else 'class="wide"'
    return (
        f'<section id="{name}" class="figure"><h2>{title}</h2>\n<figure>'
        f'<div class="scroll"><img alt="{title}" {style} src="data:image/png;base64,{image}"></div>'
        f'<figcaption><p>{reading}</p><p class="worry"><b>Worrying:</b> {worrying}</p></figcaption></figure></section>'
    )
