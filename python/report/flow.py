"""The flow of events through files, cuts and regions, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Optional

from MLTools.NanoML.report.page import rounded, table
from MLTools.NanoML.report.section import Style

_LEFT, _RIGHT, _BAR, _GAP, _TEXT = 230, 30, 9, 12, 14  # lengths in the picture
_WIDTH = 900
_LONGEST = 32  # name of a cut that fits beside its bars


@dataclass(frozen=True)
class Count:
    """Events, and their statistical error; that of data is none."""

    events: float
    error: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.events + other.events, math.hypot(self.error, other.error))

    def __str__(self) -> str:
        return rounded(self.events, self.error)


@dataclass(frozen=True)
class FlowStep:
    """The events of each process after a cut, or in a region; None where they are blind, nothing where they are not known."""

    name: str
    counts: Mapping[str, Optional[Count]]
    is_region: bool = False


@dataclass(frozen=True)
class EventFlow:
    """The events of each process in files, after each cut, and in regions."""

    processes: tuple[str, ...]
    signal: Optional[str]
    steps: tuple[FlowStep, ...]
    is_expected: bool  # by cross sections and luminosity; else events are counted as they are in files

    @property
    def unit(self) -> str:
        """The unit of the numbers."""
        return "expected events" if self.is_expected else "events in files"

    def table(self) -> str:
        """All numbers, as HTML."""
        rows = []
        for step in self.steps:
            known = (step.counts.get(name, "") for name in self.processes)
            name = f"in {step.name}" if step.is_region else step.name
            rows.append([name, *("blind" if it is None else str(it) for it in known)])
        return table([self.unit, *self.processes], rows)

    def picture(self, style: Style) -> str:
        """A bar for each process at each step, on a logarithmic axis: SVG."""
        known = [it.events for step in self.steps for it in step.counts.values() if it is not None and it.events > 0]
        if not known:
            return ""
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)) + 1e-9)
        scale = (_WIDTH - _LEFT - _RIGHT) / max(high - low, 1)
        row = _BAR * len(self.processes) + _GAP
        bottom = 2 * _TEXT + row * len(self.steps)
        content = [*self._legend(style), *_axis(low, high, scale, bottom)]
        for number, step in enumerate(self.steps):
            content += self._bars(style, step, 2 * _TEXT + row * number, low, scale)
        texts = "; ".join(self._in_words())
        return (
            f'<figure class="wide"><div class="scroll" tabindex="0"><svg viewBox="0 0 {_WIDTH} {bottom + 2 * _TEXT}" width="{_WIDTH}" '
            f'role="img" aria-label="{escape(self.unit)} by process, on a logarithmic axis. {escape(texts)}" font-size="{_TEXT - 1}" '
            f'fill="currentColor">{"".join(content)}</svg></div></figure>'
        )

    def _in_words(self) -> Iterator[str]:
        for name in self.processes:
            counts = [(step.name, step.counts[name]) for step in self.steps if step.counts.get(name) is not None]
            if counts:
                yield f"{name}: " + ", ".join(f"{it} {step}" for step, it in counts)

    def _legend(self, style: Style) -> Iterator[str]:
        at = _LEFT
        for name in self.processes:
            yield f'<rect x="{at}" y="2" width="12" height="12" fill="{_color(style, name)}"/>'
            yield f'<text x="{at + 17}" y="13">{escape(name)}</text>'
            at += 40 + 8 * len(name)

    def _bars(self, style: Style, step: FlowStep, top: int, low: int, scale: float) -> Iterator[str]:
        name = step.name if len(step.name) <= _LONGEST else f"{step.name[: _LONGEST - 2]}…"
        middle, weight = top + _BAR * len(self.processes) / 2 + _TEXT / 3, "600" if step.is_region else "400"
        yield f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end" font-weight="{weight}">{escape(name)}</text>'
        for number, process in enumerate(self.processes):
            found, y = step.counts.get(process), top + _BAR * number
            if found is not None and found.events > 0:
                length = max((math.log10(found.events) - low) * scale, 1)
                yield f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 1}" fill="{_color(style, process)}"/>'
            elif process in step.counts and found is None:
                yield f'<text x="{_LEFT + 4}" y="{y + _BAR - 1}" font-size="{_BAR}">blind</text>'


def _color(style: Style, process: str) -> str:
    """The colour of a process; data are black, or white in the dark."""
    return "currentColor" if process == "data" else style.color(process)


def _axis(low: int, high: int, scale: float, bottom: int) -> Iterator[str]:
    for decade in range(low, high + 1):
        x, sign = _LEFT + (decade - low) * scale, "\u2212" if decade < 0 else ""
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{1.5 * _TEXT}" y2="{bottom}" stroke="currentColor" stroke-opacity=".2"/>'
        power = f'10<tspan dy="-5" font-size="{_TEXT - 4}">{sign}{abs(decade)}</tspan>'
        yield f'<text x="{x:.1f}" y="{bottom + _TEXT + 3}" text-anchor="middle">{power}</text>'
