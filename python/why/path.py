"""From one state to another by one change at a time, in both orders: how far each change moved each quantity; and the page about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import digits, rounded, table, with_error
from MLTools.NanoML.report.section import Block, Document
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.page import Page, TableColumn
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.why.measure import AUC, LIMIT, SPREAD, Measured, Shift, shift
from MLTools.NanoML.why.state import State, notes, same_events
from MLTools.NanoML.why.states import Between, Sample, sampled
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout

_NOISE = 1e-6  # what rounding leaves
_MOST, _EACH = 4, 2  # quantities on the terminal, and of a table
_READING = "Changes are made one after the other, {}, each time with the whole analysis on the same events, not on data. A part is {}"
_ONE = "from the first to the last", "± its statistical error. The parts add up to NEW - OLD."
_BOTH = (
    "from the first to the last and from the last to the first",
    "the mean of both orders, ± its statistical error, ± half of the difference between the orders: where this is as large as the part, "
    "the part depends on the order alone. The parts add up to NEW - OLD.",
)
_BETTER = " Better are parts of a limit or an error below zero, and of an AUC above zero."


@dataclass(frozen=True)
class Part:
    """The moves by some changes, by one alone where that is possible: shifts by quantity, None where there is none between the states."""

    changes: tuple[str, ...]
    about: tuple[str, ...]
    shifts: dict[str, Optional[Shift]]
    together: str = ""  # why these changes cannot be made one by one


@dataclass(frozen=True)
class Answer:
    """The moves of a result: the quantities of both states, NEW - OLD, the parts, which add up to that, and what else is to be said."""

    old: dict[str, float]
    new: dict[str, float]
    total: dict[str, Optional[Shift]]
    parts: tuple[Part, ...]
    is_both: bool  # whether parts are means of both orders
    notes: tuple[str, ...]


def orders(count: int, is_both: bool) -> Iterator[list[frozenset[int]]]:
    """The states on the way, as the changes that they have: first to last, and last to first."""
    yield [frozenset(range(it)) for it in range(count + 1)]
    if is_both:
        yield [frozenset(range(count - it, count)) for it in range(count + 1)]


def answer(between: Between, events: int, is_both: bool) -> Answer:
    """Run all states, first both ends; a state that cannot be run joins the changes before and after it."""
    count = len(between.changes)
    both, between = list(orders(count, is_both)), replace(between, samples=_samples(between, events))
    ends = [both[0][0], both[0][-1]]
    wanted = dict.fromkeys([*ends, *(it for order in both for it in order)])
    done, failed = dict[frozenset[int], Measured](), dict[frozenset[int], str]()
    with progress("why", len(wanted), "states") as bar:
        for made in wanted:
            try:
                done[made] = between.run(made, done)
            except Exception as problem:  # whatever code of one state raises with settings of the other
                if made in ends:
                    raise
                failed[made] = f"{problem}".partition("\n")[0]
            bar.advance()
    names = dict.fromkeys(name for it in ends for name in done[it].values)
    parts, begin, reasons = list[Part](), 0, list[str]()
    for end in range(1, count + 1):
        # the states between two changes: with all those before, and with all those after
        states = [order[end if first else count - end] for first, order in zip((True, False), both)]
        reasons += [failed[it] for it in states if it in failed]
        if any(it in failed for it in states):
            continue
        steps = [(both[0][begin], both[0][end]), *((order[count - end], order[count - begin]) for order in both[1:])]
        mine, pairs = between.changes[begin:end], [(done[one], done[other]) for one, other in steps]
        shifts = {name: shift(pairs, name) for name in names}
        parts.append(Part(tuple(it.name for it in mine), tuple(it.about for it in mine), shifts, "; ".join(reasons)))
        begin, reasons = end, []
    pair = (done[ends[0]], done[ends[1]])
    total = {name: shift([pair], name) for name in names}
    return Answer(pair[0].values, pair[1].values, total, tuple(parts), is_both, tuple(_notes(between)))


def _samples(between: Between, events: int) -> dict[tuple[str, bool], Sample]:
    """The samples of both states; one if they have the same files. Data are read whole where classes are estimated from them."""
    found: dict[tuple[str, bool], Sample] = {}
    for is_new, state in enumerate((between.old, between.new)):
        for name, files in state.events.items():
            is_same = is_new and name in between.old.events and same_events(between.old.events[name], files)
            if is_same:
                found[name, True] = found[name, False]
            elif state.config.datasets[name].is_data and state.config.data_driven:
                found[name, bool(is_new)] = Sample(tuple(files))
            else:
                found[name, bool(is_new)] = sampled(files, events, between.directory / "samples")
    return found


def _notes(between: Between) -> Iterator[str]:
    yield from notes(between.old, between.new)
    parts = [name for (name, _), it in between.samples.items() if it.is_part]
    if parts:
        yield f"a sample of {listed(dict.fromkeys(parts))} is read, which stands for all events"
    if not between.is_trained:
        yield "networks are trained on the sample, since they are not there for both states as they are now"


def _cell(shift: Optional[Shift], is_both: bool = False) -> str:
    """A shift with its error, or of both orders with both errors: "+0.31 ± 0.12 ± 0.01"."""
    if shift is None:
        return "-"
    if max(abs(shift.value), shift.error, shift.order) < _NOISE:
        return "0"
    errors = (shift.error, shift.order)[: 1 + is_both]
    text = with_error(shift.value, *errors) if max(errors) >= _NOISE else rounded(shift.value)
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
        yield [f"{number}  {' and '.join(part.changes)}", *(_cell(part.shifts[it], answer.is_both) for it in names)]
    yield ["NEW - OLD", *(_cell(answer.total[it]) for it in names)]
    yield ["NEW", *(_number(answer.new.get(it)) for it in names)]


def _number(value: Optional[float]) -> str:
    return "-" if value is None else digits(value, 4)


def _about(part: Part) -> str:
    """How the changes of a part differ, and why they are one."""
    texts = [f"{name}: {about}" for name, about in zip(part.changes, part.about)]
    return "; ".join(texts) + (f" (not one by one: {part.together})" if part.together else "")


def _reading(answer: Answer) -> str:
    """How the parts are to be read."""
    is_judged = any(it.startswith((LIMIT, SPREAD, AUC)) for it in answer.total)
    return _READING.format(*(_BOTH if answer.is_both else _ONE)) + _BETTER * is_judged


def write(answer: Answer, states: Sequence[State], directory: Path) -> None:
    """Write why.html and why.json."""
    old, new = (str(it.config.document.name) for it in states)
    rows = ([str(number), _about(it)] for number, it in enumerate(answer.parts, 1))
    blocks = [Block("changes", "Changes", table(["", "what"], rows))]
    for number, (title, names) in enumerate(_blocks(answer)):
        blocks.append(Block(f"block_{number}", title, table(["", *names], _rows(answer, names))))
    lead = f'<p>From {escape(old)} (OLD) to {escape(new)} (NEW).</p><p class="dim">{_reading(answer)}</p>'
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
    page.line()
    page.line(_reading(answer))
    for text in answer.notes:
        page.line(f"NOTE: {text}.")
