"""The changes that moved a result, as a page, as JSON, and on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.report.page import digits, rounded, table, with_error
from MLTools.NanoML.report.section import Block, Document
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.page import Page, TableColumn
from MLTools.NanoML.why.measure import AUC, LIMIT, SPREAD, Shift
from MLTools.NanoML.why.path import Answer, Part
from MLTools.NanoML.why.state import State
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout

_NOISE = 1e-6  # what rounding leaves
_MOST, _EACH = 4, 2  # quantities on the terminal, and of a table
_READING = "Changes are made one after the other, {}, each time with the whole analysis on the same events, not on data. A part is {}"
_ONE = "from the first to the last", "± its statistical error. The parts add up to NEW - OLD."
_BOTH = (
    "from the first to the last and from the last to the first",
    "the mean of both orders, ± its statistical error, ± half of the difference between the orders. The parts add up to NEW - OLD.",
)


def _cell(shift: Optional[Shift]) -> str:
    """A shift with its errors: "+0.31 ± 0.12 ± 0.01"."""
    if shift is None:
        return "-"
    if max(abs(shift.value), shift.error, shift.order) < _NOISE:
        return "0"
    errors = [it for it in (shift.error, shift.order) if it >= _NOISE]
    text = with_error(shift.value, *errors) if errors else rounded(shift.value)
    return text if shift.value < 0 else f"+{text}"


def _blocks(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Titles and quantities: limits, AUC, and the events of each region."""
    limits = [it for it in answer.total if it.startswith(LIMIT)]
    spreads = [
        it for it in answer.total if it.startswith(SPREAD) and answer.total.get(it.replace(SPREAD, LIMIT)) is None
    ]
    areas = [it for it in answer.total if it.startswith(AUC)]
    if limits or spreads or areas:
        yield "Limit and AUC", [*limits, *spreads, *areas]
    counts = [it for it in answer.total if not it.startswith((LIMIT, SPREAD, AUC))]
    for region in dict.fromkeys(it.rpartition(" in ")[2] for it in counts):
        yield f"Events in {region}", [it for it in counts if it.endswith(f" in {region}")]


def _rows(answer: Answer, names: Sequence[str]) -> Iterator[list[str]]:
    """OLD, each part, what they add up to, and NEW."""
    yield ["OLD", *(_number(answer.old.get(it)) for it in names)]
    for number, part in enumerate(answer.parts, 1):
        yield [f"{number}  {' and '.join(part.changes)}", *(_cell(part.shifts[it]) for it in names)]
    yield ["NEW - OLD", *(_cell(answer.total[it]) for it in names)]
    yield ["NEW", *(_number(answer.new.get(it)) for it in names)]


def _number(value: Optional[float]) -> str:
    return "-" if value is None else digits(value, 4)


def _about(part: Part) -> str:
    """How the changes of a part differ, and why they are one."""
    texts = [f"{name}: {about}" for name, about in zip(part.changes, part.about)]
    return "; ".join(texts) + (f" (not one by one: {part.together})" if part.together else "")


def write(answer: Answer, states: Sequence[State], directory: Path) -> None:
    """Write why.html and why.json."""
    old, new = (str(it.config.document.name) for it in states)
    rows = ([str(number), _about(it)] for number, it in enumerate(answer.parts, 1))
    blocks = [Block("changes", "Changes", table(["", "what"], rows))]
    for number, (title, names) in enumerate(_blocks(answer)):
        blocks.append(Block(f"block_{number}", title, table(["", *names], _rows(answer, names))))
    reading = _READING.format(*(_BOTH if answer.is_both else _ONE))
    lead = f'<p>From {escape(old)} (OLD) to {escape(new)} (NEW).</p><p class="dim">{reading}</p>'
    here = os.path.relpath(directory / "why.html", Layout.of(states[0].config).workdir)
    said = [f"{it[0].upper()}{it[1:]}." for it in answer.notes]
    document = Document("What moved the result", here, lead, (), blocks, said)
    write_text(directory / "why.html", document.html(Analysis(states[0].config).style(), None))
    write_json(directory / "why.json", {"from": old, "to": new, **plain(answer)})


def show(answer: Answer) -> None:
    """Print the changes, and how far each moved the limit, the AUC, and the events in one region."""
    page = Page()
    for number, part in enumerate(answer.parts, 1):
        page.line(f"{number}  {_about(part)}", indent=3)
    names = [it for _, found in _blocks(answer) for it in found[:_EACH]][:_MOST]
    page.table("Shifts", ["change", *(TableColumn(it, "number") for it in names)], _rows(answer, names))
    for text in answer.notes:
        page.line(f"NOTE: {text}.")
