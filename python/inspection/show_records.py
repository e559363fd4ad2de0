"""Prints what files of the pipeline say of the events they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from MLTools.NanoML.inspection.page import Column, Page, amount, count, share

__all__ = ["kind_of_events", "show_cutflow", "show_files"]

_FILES_SHOWN = 8


def kind_of_events(is_data: bool | None) -> str:
    """In words."""
    return {True: "data", False: "simulation"}.get(is_data, "data and simulation, mixed")  # type: ignore[arg-type]


def show_cutflow(page: Page, steps: Sequence[Mapping[str, Any]], title: str = "Cut flow") -> None:
    """A table of events, weights and efficiencies; nothing if there was no selection."""
    if not steps:
        return
    columns = [
        Column("cut", "rest"),
        Column("events", "number"),
        Column("of previous", "number"),
        Column("of all", "number"),
        Column("sum of weights", "number"),
        Column("of all", "number"),
    ]
    rows = [
        (
            step["cut"],
            count(step["events"]),
            "" if number == 0 else share(step["of_previous"]),
            "" if number == 0 else share(step["of_all"]),
            amount(step["weights"]),
            "" if number == 0 else share(step["weights_of_all"]),
        )
        for number, step in enumerate(steps)
    ]
    page.table(title, columns, rows)


def show_files(page: Page, books: Mapping[str, Any], title: str = "Made from") -> None:
    """A table of the files that events were read from, the first of them if there are many."""
    files = books["files"]
    if not files:
        return
    directory = _common_directory([file["file"] for file in files])
    columns = [Column("file", "rest"), Column("events", "number"), Column("kept", "number"), Column("sum of weights", "number")]
    rows = [
        (file["file"][len(directory) :], count(file["entries"]), count(file["selected"]), amount(file["sum_of_weights"]))
        for file in files[:_FILES_SHOWN]
    ]
    if len(files) > _FILES_SHOWN:
        rows.append((f"... and {len(files) - _FILES_SHOWN:,} more", "", "", ""))
    if len(files) > 1:
        rows.append((f"all {len(files):,} files", count(books["entries"]), count(books["selected"]), amount(books["sum_of_weights"])))
    page.table(f"{title}{f' {directory}' if directory else ''}", columns, rows)


def _common_directory(files: Sequence[str]) -> str:
    """What all files' names begin with, up to a slash."""
    first, last = min(files), max(files)
    same = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]
