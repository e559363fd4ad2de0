"""Pages: one HTML file each, with a verdict in words, tables and figures."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

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
.dim { color: var(--dim); } .result { font-size: 1.15rem; }
.verdict { list-style: none; margin: 1.2rem 0; padding: 0; display: grid; gap: .6rem; }
.verdict li { border-left: 5px solid; border-radius: 3px; padding: .55rem .9rem; background: var(--soft); }
.verdict b { display: inline-block; margin-right: .4rem; }
.verdict .state { font-size: .8rem; font-weight: 600; padding: .05rem .45rem; border-radius: 1rem; color: #fff;
  margin-right: .5rem; white-space: nowrap; }
.good { border-color: #2f7ed8 !important; } .good .state { background: #2f6fc4; }
.look { border-color: #f89c20 !important; } .look .state { background: #9a5b00; }
.bad { border-color: #e42536 !important; } .bad .state { background: #c01a2a; }
.open { border-color: #9c9ca1 !important; } .open .state { background: #63676e; }
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
.numbers td:first-child, .numbers td:last-child { white-space: normal; min-width: 6.5rem; }
figure { margin: 1rem 0; } figure img { display: block; max-width: 100%; height: auto; }
img.narrow { width: 40rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; } .figures img { max-width: 100%; } .figures img.narrow { width: 31rem; }
.figures img.small { width: 20rem; } .figures img.wide { width: 43rem; }
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
  h2 { break-after: avoid; margin-top: 1.2rem; } section.figure, figure, tr, li { break-inside: avoid; }
  figure img { max-height: 100mm; width: auto !important; max-width: 100%; }
  figure img.wide { max-height: 180mm; }
}
"""

_STATES = {"good": "✓ fine", "look": "! have a look", "bad": "✗ worrying", "open": "? no answer"}


@dataclass(frozen=True)
class Answer:
    """An answer to a question; its state is "good", "look" (at the plots), "bad", or "open" if nothing shows either."""

    question: str
    state: str
    text: str


def state_of(value: float, limits: tuple[float, float]) -> str:
    """By limits of what is to be looked at and of what is worrying; falling ones are lower limits."""
    look, bad = limits
    if bad < look:
        value, look, bad = -value, -look, -bad
    return "bad" if value > bad else "look" if value > look else "good"


def digits(value: float, count: int) -> str:
    """With so many digits, or all of those before the decimal point: "0.012", "12,345"."""
    text = f"{value:.{count}g}"
    return f"{value:,.0f}" if "e+" in text else text


def with_error(value: float, error: float) -> str:
    """A measured number as text, with two digits of its error: "70 ± 18", "1.00 ± 0.41"."""
    return f"{rounded(value, error)} ± {rounded(error, error)}"


def rounded(value: float, error: float) -> str:
    """A number with as many decimals as two digits of its error have, or with three digits if there is no error."""
    if not 0 < error < math.inf:
        return digits(value, 3)
    decimals = max(1 - math.floor(math.log10(float(f"{error:.1e}"))), 0)
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # without -0


def page(title: str, parts: Iterable[str]) -> str:
    """The page as HTML, with its title as text and its parts as HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def verdict_list(answers: Sequence[Answer]) -> str:
    """All answers, with their states."""
    lines = (
        f'<li class="{it.state}"><span class="state">{_STATES[it.state]}</span><b>{escape(it.question)}</b>'
        f"{escape(it.text)}</li>"
        for it in answers
    )
    return f'<ul class="verdict">{"".join(lines)}</ul>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls where it is too wide; cells but the first of a row are numbers."""
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    header = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    kind = "numbers" if header else "facts"
    return f'<div class="scroll"><table class="{kind}">{header}<tbody>{body}</tbody></table></div>'


def figure(image: Path, title: str, kind: str, caption: str = "") -> str:
    """A PNG file as a part of the page; its kind is "wide" or "narrow", the caption is HTML."""
    content = base64.b64encode(image.read_bytes()).decode()
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure><div class="scroll"><img alt="{escape(title)}" class="{kind}" src="data:image/png;base64,{content}"></div>'
        f"{below}</figure>"
    )
