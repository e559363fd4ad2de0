"""The parts of all printed pages: titles, facts, tables, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from MLTools.NanoML.terminal.progress import printable

_KINEMATICS = ("pt", "eta", "phi", "mass")
_UNITS = ("kB", "MB", "GB", "TB")
_INDENT = (0, 0, 0, 2)


@dataclass(frozen=True)
class TableColumn:
    """A column of a table."""

    name: str  # its heading
    # "name" is wrapped only beyond half of the width; "number" is aligned right; "rest" takes the remaining width, over
    # several lines; "cut" does so on one line, and is cut off at its end
    kind: Literal["name", "number", "rest", "cut"] = "name"

    @property
    def is_wide(self) -> bool:
        """Whether it takes the remaining width."""
        return self.kind in ("rest", "cut")


class Page:
    """Prints to a console. Text from files is never taken for markup, and cannot control a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def width(self) -> int:
        """Characters in a line."""
        return self._console.width

    def title(self, text: str) -> None:
        """Print the name of what is shown."""
        self._console.print(Text(printable(text), style="bold"), soft_wrap=True)

    def facts(self, facts: Iterable[tuple[str, Any]]) -> None:
        """Print lines of a label and a value; values that are None are left out."""
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(no_wrap=True, style="cyan")
        grid.add_column(ratio=1, overflow="fold")
        for label, said in facts:
            if said is not None:
                grid.add_row(printable(label), _text(said))
        self._console.print(Padding(grid, _INDENT))

    def heading(self, text: str) -> None:
        """Print a heading."""
        self._console.print()
        self._console.print(Text(printable(text), style="bold"))

    def table(self, title: str, columns: Sequence[TableColumn], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table with a title; nothing if there are no rows."""
        rows = list(rows)
        if not rows:
            return
        expand = any(column.is_wide for column in columns)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=expand, header_style="dim")
        for column in columns:
            table.add_column(
                Text(column.name),
                justify="right" if column.kind == "number" else "left",
                no_wrap=column.kind in ("number", "cut"),
                max_width=self.width // 2 if column.kind == "name" else None,
                overflow="ellipsis" if column.kind == "cut" else "fold",
                ratio=1 if column.is_wide else None,
            )
        for row in rows:
            table.add_row(*map(_text, row))
        self.heading(title)
        self._console.print(Padding(table, _INDENT))

    def line(self, text: Text) -> None:
        """Print a line below a table."""
        self._console.print(Padding(_text(text), _INDENT))

    def warnings(self, warnings: Iterable[str], errors: Iterable[str] = ()) -> None:
        """Print errors, then warnings."""
        lines = [Text.assemble(("error: ", "bold red"), text) for text in errors]
        lines += [Text.assemble(("warning: ", "bold yellow"), text) for text in warnings]
        if lines:
            self._console.print()
        for line in lines:
            self._console.print(_text(line))


def _text(content: Any) -> Text:
    text = content if isinstance(content, Text) else Text(str(content))
    text.plain = printable(text.plain)
    return text


def count(value: int) -> str:
    """A whole number, with commas."""
    return f"{value:,}"


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


def plural(many: int, noun: str) -> str:
    """How many of something: `1 file`, `2 files`."""
    return f"{count(many)} {noun}{'' if many == 1 else 's'}"


def kinematics_first(fields: Sequence[str]) -> list[str]:
    """Fields of a collection, beginning with pt, eta, phi and mass."""
    known = [name for name in _KINEMATICS if name in fields]
    return known + [name for name in fields if name not in known]
