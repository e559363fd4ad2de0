"""Lines as a terminal may show them, the progress of long work, and signals that are never lost.

Lines are wrapped at words, coloured, and without what a terminal would execute. Progress is a bar on a terminal, plain lines elsewhere,
and goes to standard error.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Optional, TextIO

from MLTools.NanoML.errors import in_words

if TYPE_CHECKING:
    from rich.progress import Progress

# what a terminal would execute, and what cannot be encoded: a file can hold, and have, any name
_CONTROLS = {code: "?" for code in (*range(32), *range(127, 160), *range(0xD800, 0xE000)) if chr(code) not in "\n\t"}
_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}
# a word, or what stays on one line to be copied: a command with its arguments, and what stands in quotes or backticks
_PIECE = re.compile(
    r"""(\s*)((?:
        `[^`\n]*` | "[^"\n]*"
        | (?<![\w./-])(?:cd\ (?:'[^'\n]*'|\S+)\ &&\ )?(?:nanoml(?:\ config|\ proxy|\ submit|\ accept)?|pip|source|export)\ [\w./~=-]+
          (?:\ (?:--?\w[\w-]*(?:\ [^\s-]\S*)?|'[^'\n]*'|[^\s,;]*[^\s,;\w][^\s,;]*(?=\s|$|[,;])))*
        | (?<=\d)\ (?:%|±\ (?=\d)) | \S
    )+)""",
    re.VERBOSE,
)
_EVERY = 15.0  # seconds between two plain lines: a log stays readable, and a job does not look dead
_GRACE = 5.0  # seconds that a library may go on after SIGTERM: a batch system kills soon after
_SHORT = 1.0  # seconds that a part of other work may take without a bar of its own

_silent = False
_notes: dict[str, str] = {}
_ends: Optional[Callable[[], BaseException]] = None  # what a signal raised
_outer: Optional[Bar] = None  # the bar of the work that the next bar's is a part of


def printable(text: str) -> str:
    """A text as a terminal may show it: with a question mark for each character that cannot be shown, and as long as it was."""
    return text.translate(_CONTROLS)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is shown by a terminal that can change what it has shown."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def width_of(stream: TextIO) -> Optional[int]:
    """Characters in a line of a terminal; None for a file or a pipe, whose lines are not wrapped."""
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    try:
        return (int(given) if given.isdigit() else os.get_terminal_size(stream.fileno()).columns) or 80
    except OSError:
        return 80


def wrapped(text: str, width: Optional[int], indent: Optional[int] = None) -> str:
    """A text with lines of this width, if there is one, broken between words; no path or command is broken.

    What continues a line is indented: by so many characters, or by two more than the line.
    """
    return text if width is None else "\n".join(_folded(line, width, indent) for line in text.split("\n"))


def _folded(line: str, width: int, indent: Optional[int]) -> str:
    if len(line) <= width:
        return line
    begin = len(line) - len(line.lstrip()) + 2 if indent is None else indent
    lines, current = [], ""
    for space, piece in _PIECE.findall(line):
        if current.strip() and len(current) + len(space) + len(piece) > width:
            lines.append(current)
            current = " " * begin + piece
        else:
            current += space + piece
    return "\n".join([*lines, current])


def show(text: str, stream: Optional[TextIO] = None, style: str = "", indent: Optional[int] = None) -> None:
    """Print a text to standard output or another stream, wrapped, and "bold" or in a colour, as far as a terminal shows it."""
    stream = stream or sys.stdout
    text = wrapped(printable(text), width_of(stream), indent)
    if style and is_terminal(stream) and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{_CODES[style]}m{text}\x1b[0m"
    stream.write(text + "\n")
    stream.flush()


def silence() -> None:
    """Show no progress and print no notes in this process: it is a worker, and its parent does both."""
    global _silent
    _silent = True


class Bar:
    """The bar that a piece of work reports to; this one shows nothing."""

    scale = 1.0  # what is shown for each unit of work
    has_failed = False  # whether the work ends without an exception, but has not done all

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Report that `amount` more is done; `note` is shown beside it."""


class _PlainBar(Bar):
    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self.start = self.shown = time.monotonic()
        self.note = ""

    def advance(self, amount: float = 1, note: str = "") -> None:
        check_interrupt()
        self.done += amount * self.scale
        self.note = note or self.note
        if time.monotonic() - self.shown >= _EVERY:
            self.shown = time.monotonic()
            self.line(f" of {self.total:,.0f}" if self.total else "")

    def line(self, of: str = "", end: str = "") -> None:
        note = f" ({self.note})" if self.note else ""
        say(f"{self.name}: {self.done:,.0f}{of} {self.unit}{note}{end}")


class _RichBar(Bar):
    def __init__(self, shown: Progress, name: str, total: float | None, unit: str, is_part: bool = False) -> None:
        self.shown = shown
        self.task = shown.add_task(printable(name), total=total, unit=unit, note="", visible=not is_part)
        self.start = time.monotonic()
        self.begins = self.start + is_part * _SHORT

    def advance(self, amount: float = 1, note: str = "") -> None:
        check_interrupt()
        fields: dict[str, Any] = {"note": printable(note)} if note else {}
        self.shown.update(self.task, advance=amount * self.scale, visible=time.monotonic() >= self.begins, **fields)

    def end(self) -> None:
        """Show the work as done, also if it was less than expected, and how long it took."""
        (task,) = (it for it in self.shown.tasks if it.id == self.task)
        took = in_words(time.monotonic() - self.start)
        self.shown.update(self.task, total=task.completed, note=", ".join(filter(None, (task.fields["note"], took))))


def say(text: str) -> None:
    """Print information to standard error."""
    if isinstance(_outer, _RichBar):  # above the bar, and with paths in one piece
        from rich.text import Text

        console = _outer.shown.console  # older versions of rich hide from sys.stderr that there is a terminal
        console.print(Text(wrapped(printable(text), console.width)), soft_wrap=True)
    else:
        show(text, sys.stderr)


def say_once(key: str, text: str) -> None:
    """Print a line to standard error, but only once in a run, for all files and workers: the first one with this key."""
    if key not in _notes:
        _notes[key] = text
        if not _silent:
            say(text)


def notes() -> dict[str, str]:
    """All lines given to `say_once` so far: a worker passes them to its parent, which prints them."""
    return dict(_notes)


@contextmanager
def progress(name: str, total: float | None, unit: str = "events", is_share: bool = False) -> Iterator[Bar]:
    """Show the progress of work, "skim" for instance; the total is None if it is unknown how much there is to do.

    In the progress of other work, such as the skim of ten thousand files, a part that takes long shows while it does. With `is_share`
    it is in per cent: how many events of data there are may be blind.
    """
    global _outer
    if is_share and total is not None:
        with progress(name, 100, "%") as bar:
            bar.scale = 100 / total if total else 1
            bar.advance(0 if total else 100)
            yield bar
        return
    if _silent:
        yield Bar()
        return
    outer = _outer
    has_bars = isinstance(outer, _RichBar) or is_terminal(sys.stderr)
    with (_rich if has_bars else _plain)(name, total, unit) as bar:
        _outer = bar
        try:
            yield bar
        finally:
            _outer = outer


@contextmanager
def _plain(name: str, total: float | None, unit: str) -> Iterator[Bar]:
    bar = _PlainBar(name, total, unit)
    yield bar
    if _outer is None or bar.shown > bar.start:
        bar.line(end=f" in {time.monotonic() - bar.start:.1f} s")


@contextmanager
def _rich(name: str, total: float | None, unit: str) -> Iterator[Bar]:
    if isinstance(_outer, _RichBar):
        bar = _RichBar(_outer.shown, name, total, unit, is_part=True)
        try:
            yield bar
        finally:
            bar.shown.remove_task(bar.task)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            return Text() if task.finished else super().render(task)

    # gives way on a narrow terminal
    blue_or_red = BarColumn(bar_width=30, complete_style="blue", finished_style="green")
    columns = (
        TextColumn("{task.description}"),
        blue_or_red,
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[unit]}"),
        Left(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bar = _RichBar(shown, name, total, unit)
        try:
            yield bar
        except Exception:
            blue_or_red.complete_style = "red"
            raise
        if bar.has_failed:
            blue_or_red.finished_style = "red"
        bar.end()


def _dropped(what: Any) -> None:
    """Print nothing about what a signal raised and Python drops: `check_interrupt` raises it again."""
    if _ends is None or not issubclass(what.exc_type, (KeyboardInterrupt, SystemExit)):
        sys.__unraisablehook__(what)


def end_at_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that temporary files are removed.

    Python sees it only when a library that computes returns; a thread does not wait for that longer than some seconds.
    """
    heed_signal(signal.SIGTERM, lambda: SystemExit(128 + signal.SIGTERM))
    _watch_sigterm()


@functools.cache
def _watch_sigterm() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a signal to a child is not ours

    def watch() -> None:
        while signal.SIGTERM not in os.read(reading, 1):
            pass
        time.sleep(_GRACE)
        if _ends is None:
            os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def heed_signal(number: int, ends: Callable[[], BaseException]) -> None:
    """Raise `ends()` at a signal, and remember it for `check_interrupt`; a process in the background keeps ignoring Ctrl-C."""

    def raised(number: int, frame: Optional[FrameType]) -> NoReturn:
        global _ends
        _ends = ends
        raise ends()

    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, raised)
        sys.unraisablehook = _dropped


def check_interrupt() -> None:
    """Raise again what the last Ctrl-C, or another signal, raised.

    Python only prints an exception that is raised while an object is being collected; long work calls this every now
    and then, so that it ends nevertheless.
    """
    if _ends is not None:
        raise _ends()
