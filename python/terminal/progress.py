"""Progress of long work: a bar on a terminal, plain lines elsewhere. All of it goes to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from MLTools.NanoML.terminal import interrupt

__all__ = ["Bar", "notes", "progress", "say", "say_once", "silence"]

_EVERY = 15.0  # seconds between two plain lines: a log stays readable, and a job does not look dead

_silent = False
_notes: dict[str, str] = {}


def silence() -> None:
    """Show no progress and print no notes in this process: it is a worker, and its parent does both."""
    global _silent
    _silent = True


class Bar(Protocol):
    """What a piece of work reports to."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Report that `amount` more is done; `note` is shown beside it."""


class _NoBar:
    def advance(self, amount: float = 1, note: str = "") -> None:
        pass


class _PlainBar:
    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self.start = self.shown = time.monotonic()
        self.note = ""

    def advance(self, amount: float = 1, note: str = "") -> None:
        interrupt.check()
        self.done += amount
        self.note = note or self.note
        if time.monotonic() - self.shown >= _EVERY:
            self.shown = time.monotonic()
            self.line()

    def line(self, end: str = "") -> None:
        of = f" of {self.total:,.0f}" if self.total and not end else ""
        note = f" ({self.note})" if self.note else ""
        say(f"{self.name}: {self.done:,.0f}{of} {self.unit}{note}{end}")


class _RichBar:
    def __init__(self, progress_: object, task: object) -> None:
        self._progress, self._task = progress_, task

    def advance(self, amount: float = 1, note: str = "") -> None:
        interrupt.check()
        fields = {"note": note} if note else {}
        self._progress.update(self._task, advance=amount, **fields)  # type: ignore[attr-defined]


def say(text: str) -> None:
    """Print one line of information to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_once(key: str, text: str) -> None:
    """Print a line to standard error, but only once in a run, for all files and workers.

    Parameters
    ----------
    key
        What the line is about: only the first of several lines with the same key is printed.
    text
        The line.
    """
    if key not in _notes:
        _notes[key] = text
        if not _silent:
            say(text)


def notes() -> dict[str, str]:
    """All lines given to `say_once` so far: a worker passes them to its parent, which prints them."""
    return dict(_notes)


@contextmanager
def progress(name: str, total: float | None, unit: str = "events") -> Iterator[Bar]:
    """Show the progress of some work.

    Parameters
    ----------
    name
        What is being done: "skim".
    total
        How much there is to do; None if that is unknown.
    unit
        What is counted.
    """
    if _silent:
        yield _NoBar()
        return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as shown:
            yield _RichBar(shown, shown.add_task(name, total=total, unit=unit, note=""))
        return
    bar = _PlainBar(name, total, unit)
    yield bar
    seconds = time.monotonic() - bar.start
    bar.line(end=f" in {seconds:.1f} s")
