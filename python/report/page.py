"""Pages: one HTML file each, with a verdict in words, tables and figures."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from html.entities import html5
from pathlib import Path
from types import MappingProxyType
from typing import Optional
from urllib.parse import quote

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --line: #d5d9e0; --soft: #f5f6f8; --text: #1f2328; --dim: #57606a; --link: #1a56b0;
  --note: #fdf3e3; --alarm: #a3161f; --care: #7d4a00; --shade: #0003; }
@media screen and (prefers-color-scheme: dark) { :root { --back: #14181d; --line: #3b424b; --soft: #1e242b; --text: #e4e7eb; --dim: #a9b2bd;
  --link: #86b7ff; --note: #2e2615; --alarm: #ff9a9f; --care: #f5bd6b; --shade: #fff4; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--text); background: var(--back); max-width: 72rem;
  margin: 0 auto; padding: 1rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p, .more { max-width: 48rem; }
a { color: var(--link); } nav a { text-decoration: none; } a:hover { text-decoration: underline; }
code { font-size: .92em; overflow-wrap: anywhere; }
.dim { color: var(--dim); } .result { font-size: 1.15rem; }
.pages { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: .2rem 0 .5rem; border-bottom: 1px solid var(--line); }
.pages a[aria-current] { color: var(--text); font-weight: 600; }
.first { display: grid; grid-template: auto 1fr / minmax(0, 34rem) minmax(15rem, 1fr); gap: 0 1.5rem; } .first > * { grid-column: 2; }
.first > figure { grid-column: 1; grid-row: 1 / 3; margin: .4rem 0; } .first figure img { width: 100%; }
.first .key { flex-direction: column; gap: .5rem; margin: .6rem 0; } .first .key li { flex: none; padding: .3rem .8rem; }
.first .verdict { margin: .2rem 0; } .first .verdict li { font-size: .92rem; padding: .4rem .7rem; }
.key { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0; padding: 0; list-style: none; }
.key li { flex: 1 1 14rem; background: var(--soft); border-radius: 4px; padding: .7rem 1rem; }
.key b { display: block; font-size: 1.5rem; line-height: 1.3; }
.verdict { list-style: none; margin: 1.2rem 0; padding: 0; display: grid; gap: .6rem; }
.verdict li { border-left: 5px solid; border-radius: 3px; padding: .55rem .9rem; background: var(--soft); }
.verdict b { margin-right: .3rem; }
.state { font-size: .8rem; font-weight: 600; padding: .05rem .45rem; border-radius: 1rem; color: #fff; margin-right: .5rem;
  white-space: nowrap; }
.good { border-color: #2f7ed8 !important; } .good .state { background: #2a66b5; }
.look { border-color: #f89c20 !important; } .look .state { background: #8f5400; }
.bad { border-color: #e42536 !important; } .bad .state { background: #b91927; }
.open { border-color: #9c9ca1 !important; } .open .state { background: #5d6168; }
.more, .more summary { color: var(--dim); } .more p { margin: .2rem 0; } summary { cursor: pointer; }
.note { background: var(--note); border-left: 5px solid #f89c20; border-radius: 3px; padding: .55rem .9rem; margin: .5rem 0;
  max-width: none; }
.contents { background: var(--soft); border-radius: 4px; padding: .7rem 1rem; margin: 1.2rem 0; }
.contents ul { margin: .3rem 0 0; padding: 0; list-style: none; columns: 15rem; } .contents li { padding: .15rem 0; }
/* what is cut off on a side has a shadow there, and a bar below, also where bars are hidden otherwise */
.scroll { overflow-x: auto; margin: .8rem 0; background: linear-gradient(90deg, var(--back) 1rem, transparent) 0 / 2rem 100% local,
  linear-gradient(-90deg, var(--back) 1rem, transparent) 100% / 2rem 100% local, linear-gradient(90deg, var(--shade), transparent)
  0 / .8rem 100%, linear-gradient(-90deg, var(--shade), transparent) 100% / .8rem 100%; background-repeat: no-repeat; }
.scroll::-webkit-scrollbar { height: .6rem; } .scroll::-webkit-scrollbar-thumb { background: var(--dim); border-radius: .3rem; }
.scroll::-webkit-scrollbar-track { background: var(--soft); }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .35rem 1.1rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th, thead td { border-bottom: 1px solid var(--dim); font-weight: 600; }
.numbers td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts td:first-child { white-space: nowrap; color: var(--dim); } .facts td { overflow-wrap: anywhere; }
.numbers td:first-child, .numbers .long { white-space: normal; min-width: 9rem; }
figure { margin: 1rem 0; } figure img, figure svg { display: block; max-width: 100%; height: auto; }
img { background: #fff; border-radius: 3px; }
img.narrow, img.small { width: 34rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; } .figures figure { margin: 0; max-width: 100%; }
.figures .narrow { width: 34rem; } .figures .small { width: 22rem; } .figures img.wide { width: 45.5rem; }
figcaption { max-width: 48rem; margin-top: .6rem; } figcaption p { margin: .3rem 0; }
.watch { color: var(--dim); font-size: .92rem; } .alarm { color: var(--alarm); } .care { color: var(--care); }
@media (min-width: 62rem) {
  section > figure.narrow, section > figure.small { display: grid; grid-template-columns: 34rem minmax(0, 1fr); gap: 1.5rem; }
}
@media (max-width: 62rem) { .first { display: block; } }
@media (max-width: 40rem) {
  body { font-size: 15px; padding: .6rem .8rem 3rem; } h1 { font-size: 1.35rem; } h2 { font-size: 1.12rem; }
  table { font-size: .85rem; } th, td { padding-right: .8rem; }
  figure img.wide { max-width: none; width: 54rem; } figure svg { max-width: none; width: 38rem; }
}
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; max-width: none; padding: 0; } nav.pages, nav.contents, .more summary { display: none; }
  a { color: inherit; text-decoration: none; }
  .more::details-content { content-visibility: visible; }
  .scroll { overflow: visible; } table { font-size: 8.5pt; } .numbers td { white-space: normal; }
  .verdict li, .note, .key li { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2 { break-after: avoid; margin-top: 1.2rem; } section.figure, figure, tr, li { break-inside: avoid; }
  figure img { max-height: 100mm; width: auto !important; max-width: 100%; }
  figure img.wide { max-height: 180mm; }
}
"""

_STATES = {"bad": "✗ worrying", "look": "! have a look", "open": "? no answer", "good": "✓ fine"}
"""The states of answers in words, the most severe first."""
_LONGEST = 120  # characters of the name of a figure, for file systems
_LONG = 30  # characters of a cell that must not break
_TAGS = re.compile(r"(<(style|code|svg)\b.*?</\2>|<[^>]*>)", re.DOTALL)
_POWER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-])0*(\d+)(?![\w.])")
_MINUS = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)")
_PER_CENT = re.compile(r"(?<=\d)\s?%")
_SIGNS = {**html5, "to;": "→"}
"""Signs by their names in HTML, which are mostly those in LaTeX."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])")


@dataclass(frozen=True)
class Answer:
    """An answer to a question; its state is "good", "look" (at the plots), "bad", or "open" if nothing shows either.

    Attributes
    ----------
    link
        Where it is shown: "#pulls" on the same page.
    """

    question: str
    state: str
    text: str
    link: str = ""


@dataclass(frozen=True)
class Digest:
    """The summary of a part of an analysis on its page: a number, what that is, a few sentences, and another number."""

    number: str = ""
    what: str = ""
    text: str = ""
    second: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Site:
    """The pages of an analysis: its name, and the title and place of each in its work directory."""

    name: str = ""
    pages: tuple[tuple[str, str], ...] = ()

    def navigation(self, here: str) -> str:
        """Links to all pages from the one at a place."""
        links = []
        for title, place in self.pages:
            current = ' aria-current="page"' if place == here else ""
            way = os.path.relpath(place, os.path.dirname(here) or ".")
            links.append(f'<a href="{escape(way)}"{current}>{escape(title)}</a>')
        content = "".join(links)
        return content and f'<header><nav class="pages" aria-label="Pages of the analysis">{content}</nav></header>'


def stem_of(name: str) -> str:
    """The name of a figure or of a place on a page as that of a file, and as it stands in an attribute, whatever it is made of."""
    text = re.sub(r"^\.|[^\w.+-]", lambda it: f"%{ord(it[0]):x}", name, flags=re.ASCII)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def _reference(link: str) -> str:
    place, mark, anchor = link.partition("#")
    return f"{escape(place)}{mark}{quote(stem_of(anchor))}"


def state_of(value: float, limits: tuple[float, float]) -> str:
    """By limits of what is to be looked at and of what is worrying; falling ones are lower limits."""
    look, bad = limits
    if bad < look:
        value, look, bad = -value, -look, -bad
    return "bad" if value > bad else "look" if value > look else "good"


def worst_of(*states: str) -> str:
    """The most severe of some states."""
    return min(states, key=[*_STATES].index)


def digits(value: float, count: int) -> str:
    """With so many digits, or all of those before the decimal point: "0.012", "12,345"."""
    text = f"{value:.{count}g}"
    return f"{value:,.0f}" if "e+" in text else text


def with_error(value: float, *errors: float) -> str:
    """A measured number as text, with two digits of its largest error: "70 ± 18", "1.00 ± 0.41", "374 ± 22 ± 9"."""
    return " ± ".join(rounded(it, max(errors)) for it in (value, *errors))


def rounded(value: float, error: float = 0.0) -> str:
    """A number with as many decimals as two digits of its error have, or with three digits if there is no error."""
    if not 0 < error < math.inf:
        return digits(value, 3)
    decimals = max(1 - math.floor(math.log10(float(f"{error:.1e}"))), 0)
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # without -0


def percentage(value: float, error: float = 0.0) -> str:
    """A fraction as text: "3.3 ± 1.0 %"."""
    return f"{with_error(100 * value, 100 * error) if error > 0 else rounded(100 * value)} %"


def without_tex(label: str) -> str:
    """A label as plain text: signs in place of the commands in its formulae."""

    def plain(found: re.Match[str]) -> str:
        text = re.sub(r"\\(?:bar|overline) *\{?(\w)\}?", "\\1\u0304", found[1])
        text = re.sub(r"\\([A-Za-z]+) *", lambda it: _SIGNS.get(f"{it[1]};", ""), text)
        return re.sub(r"\\.|[{}^_]", "", text)

    return re.sub(r"\$([^$]+)\$", plain, label)


def typeset(html: str) -> str:
    """HTML with real minus signs, powers of ten, one form of per cent, and code for what is in backticks."""
    parts = _TAGS.split(html)
    return "".join(it if number % 3 else _typeset(it) for number, it in enumerate(parts) if number % 3 < 2)


def _typeset(text: str) -> str:
    parts = text.split("`")
    for number in range(0, len(parts), 2):
        found = _POWER.sub(lambda it: f"{it[1]} &times; 10<sup>{it[2].strip('+')}{it[3]}</sup>", parts[number])
        parts[number] = _PER_CENT.sub(" %", _MINUS.sub("\u2212", found).replace("<sup>-", "<sup>\u2212"))
    parts[1::2] = [f"<code>{it}</code>" for it in parts[1::2]]
    return "".join(parts)


def page(title: str, parts: Iterable[str], site: Site = Site(), here: str = "") -> str:
    """The page at a place of a work directory as HTML, with its title as text and its parts as HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    found = f"{site.navigation(here)}\n<main>\n{body}\n</main>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{typeset(found)}\n</body></html>\n'


def by_severity(answers: Iterable[Answer]) -> list[Answer]:
    """Answers, the most severe first."""
    return sorted(answers, key=lambda it: [*_STATES].index(it.state))


def verdict_list(
    answers: Iterable[Answer], titles: Mapping[str, str] = MappingProxyType({}), most: Optional[int] = None
) -> str:
    """All answers by severity: of each the first sentence, and a link to where it is shown, with its title; the rest is folded.

    Those beyond the first `most` are folded as a whole.
    """
    lines = []
    for it in by_severity(answers):
        text, *rest = _SENTENCE.split(it.text, maxsplit=1)
        title = titles.get(it.link) or titles.get(it.link.partition("#")[0], "Look")
        link = f' <a href="{_reference(it.link)}">{escape(title)}</a>' if it.link else ""
        lines.append(
            f'<li class="{it.state}"><span class="state">{_STATES[it.state]}</span><b>{escape(it.question)}</b> {escape(text)}{link}'
            f"{folded('More', f'<p>{escape(rest[0])}</p>') if rest else ''}</li>"
        )
    first, others = (lines, []) if most is None else (lines[:most], lines[most:])
    shown, more = (f'<ul class="verdict">{"".join(some)}</ul>' for some in (first, others))
    return shown + (folded(f"{len(others)} more to look at", more) if others else "")


def folded(title: str, content: str) -> str:
    """HTML that is shown on demand, and on paper."""
    return f'<details class="more"><summary>{escape(title)}</summary>{content}</details>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls where it is too wide; cells but the first of a row are numbers, or lists and long texts, which break."""
    titles = "".join(f'<th scope="col">{escape(text)}</th>' if text else "<td></td>" for text in head)
    header = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""

    def cell(at: int, text: str) -> str:
        kind = ' class="long"' if header and at and (", " in text or len(text) > _LONG) else ""
        return f"<td{kind}>{escape(text)}</td>"

    body = "".join(f"<tr>{''.join(cell(*it) for it in enumerate(row))}</tr>" for row in rows)
    kind = "numbers" if header else "facts"
    return f'<div class="scroll" tabindex="0"><table class="{kind}">{header}<tbody>{body}</tbody></table></div>'


def figure(name: str, directory: Optional[Path], alternative: str, kind: str, caption: str = "") -> str:
    """A PNG file as a part of the page, or beside it without a directory, with a text in its place.

    Its kind is "wide", "narrow" or "small", the caption is HTML.
    """
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    source = f"{name}.png"
    if directory is not None:
        source = f"data:image/png;base64,{base64.b64encode((directory / source).read_bytes()).decode()}"
    else:
        source = quote(source)
    image = f'<img alt="{escape(alternative)}" class="{kind}" src="{source}">'
    shown = image if directory is not None else f'<a href="{quote(name)}.pdf">{image}</a>'
    return f'<figure class="{kind}"><div class="scroll" tabindex="0">{shown}</div>{below}</figure>'
