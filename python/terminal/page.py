"""The parts of all printed pages: titles, facts, tables, numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Optional

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Span, Text

from MLTools.NanoML.terminal.progress import printable, wrapped

_KINEMATICS = ("pt", "eta", "phi", "mass")
_UNITS = ("kB", "MB", "GB", "TB")
_INDENT = (0, 0, 0, 2)
_ENDLESS = 10_000  # characters


class TableColumn(str):
    """The heading of a column that is not one of names.

    A column of names, which a plain text heads, is wrapped only beyond half of the width; "number" is aligned right; "rest" takes the
    remaining width, over several lines; "cut" does so on one line, and is cut off at its end.
    """

    kind: str

    def __new__(cls, name: str, kind: Literal["name", "number", "rest", "cut"] = "name") -> TableColumn:
        """Make it of its text and its kind."""
        self = super().__new__(cls, name)
        self.kind = kind
        return self


class Page:
    """Prints to a console, or to standard output, where lines of a file or a pipe are not wrapped.

    Text from files is never taken for markup, and cannot control a terminal.
    """

    def __init__(self, console: Optional[Console] = None) -> None:
        self._is_free = console is None and not sys.stdout.isatty()
        self._console = console or Console(width=_ENDLESS if self._is_free else None)

    @property
    def width(self) -> int:
        """Characters in a line."""
        return self._console.width

    def line(self, text: str | Text = "", style: str = "", indent: Optional[int] = None) -> None:
        """Print a line, the first characters of which may have styles; it is wrapped as `wrapped` does."""
        styled = text if isinstance(text, Text) else Text(text)
        shown = Text(wrapped(printable(styled.plain), None if self._is_free else self.width, indent), style=style)
        shown.spans = [it if it.end < len(styled) else Span(it.start, len(shown), it.style) for it in styled.spans]
        self._console.print(shown, soft_wrap=True)

    def title(self, text: str) -> None:
        """Print the name of what is shown."""
        self.line(text, "bold")

    def facts(self, *facts: tuple[str | Text, Any]) -> None:
        """Print lines of a label and a value; values that are None are left out."""
        shown = [(label, said) for label, said in facts if said is not None]
        indent = max((len(label) for label, _ in shown), default=0) + 4
        for label, said in shown:
            value = said if isinstance(said, Text) else Text(str(said).replace("\n", "\n" + " " * indent))
            head = label if isinstance(label, Text) else Text(label, "cyan")
            self.line(Text.assemble("  ", head, " " * (indent - 2 - len(label)), value), indent=indent)

    def heading(self, text: str) -> None:
        """Print a heading."""
        self._console.print()
        self.line(text, "bold")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table with a title; nothing if there are no rows."""
        shown = [it if isinstance(it, TableColumn) else TableColumn(it) for it in columns]
        rows = list(rows)
        if not rows:
            return
        wide = ("rest", "cut")
        expand = not self._is_free and any(column.kind in wide for column in shown)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=expand, header_style="dim")
        for column in shown:
            table.add_column(
                Text(column),
                justify="right" if column.kind == "number" else "left",
                no_wrap=column.kind in ("number", "cut"),
                max_width=self.width // 2 if column.kind == "name" else None,
                overflow="ellipsis" if column.kind == "cut" else "fold",
                ratio=1 if expand and column.kind in wide else None,
            )
        for row in rows:
            table.add_row(*map(_text, row))
        self.heading(title)
        self._console.print(Padding(table, _INDENT, expand=False))

    def warnings(self, warnings: Iterable[str], errors: Iterable[str] = ()) -> None:
        """Print errors, then warnings."""
        lines = [Text.assemble(("error: ", "bold red"), text) for text in errors]
        lines += [Text.assemble(("warning: ", "bold yellow"), text) for text in warnings]
        if lines:
            self._console.print()
        for line in lines:
            self.line(line)


def _text(content: Any) -> Text:
    text = content if isinstance(content, Text) else Text(str(content))
    text.plain = printable(text.plain)
    return text


def count(value: Optional[int]) -> str:
    """A whole number, with commas; "-" if there is none."""
    return "-" if value is None else f"{value:,}"


def amount(value: float | None) -> str:
    """A sum of weights: whole numbers as such, others with six digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e12 else f"{value:,.6g}"


def number(value: float | None) -> str:
    """A number with four digits; "-" if there is none."""
    return "-" if value is None else f"{value:.4g}"


def share(value: float | None) -> str:
    """A share, in percent."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if value == 0 or abs(value) >= 1e-4 else f"{100 * value:.1e} %"


def file_size(value: int | None) -> str | None:
    """A size in powers of ten, or None."""
    if value is None:
        return None
    if value < 1000:
        return f"{value} bytes"
    power = min((len(str(value)) - 1) // 3, len(_UNITS))
    return f"{value / 1000**power:.3g} {_UNITS[power - 1]}"


def kinematics_first(fields: Sequence[str]) -> list[str]:
    """Fields of a collection, beginning with pt, eta, phi and mass."""
    known = [name for name in _KINEMATICS if name in fields]
    return known + [name for name in fields if name not in known]
