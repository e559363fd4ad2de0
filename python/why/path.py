"""From one state to another by one change at a time, in both orders: how far each change moved each quantity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from MLTools.NanoML.errors import listed
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.why.measure import Measured, Shift, shift
from MLTools.NanoML.why.state import notes, same_events
from MLTools.NanoML.why.states import Between, Sample, sampled


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
