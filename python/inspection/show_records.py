"""Prints what files of the pipeline say of the events they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from MLTools.NanoML.terminal.page import Column, Page, amount, count, share

__all__ = [
    "criteria_facts",
    "duplicates_fact",
    "kind_of_events",
    "only_file",
    "show_cutflow",
    "show_files",
    "sum_of_weights",
]

_FILES_SHOWN = 8


def kind_of_events(is_data: bool | None) -> str:
    """In words."""
    return {True: "data", False: "simulation"}.get(is_data, "data and simulation, mixed")  # type: ignore[arg-type]


def sum_of_weights(content: Mapping[str, Any]) -> str:
    """The sum, and where it comes from; `content` is of a ROOT file, or accounting."""
    return f"{amount(content['sum_of_weights'])} by {', '.join(content['sum_of_weights_sources'])}"


def criteria_facts(criteria: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What decided beside the selection which events and branches a skim has; a fact is None where nothing did."""
    certified = criteria["certified"]
    return [
        ("certified by", certified and f"{certified['file']} (SHA-256 {certified['sha256'][:8]})"),
        ("cut", criteria["cut"] or None),
        ("modules", ", ".join(criteria["modules"]) or None),
        ("code", criteria["code"] or None),
        ("branches kept", ", ".join(criteria["keep"]) or None),
    ]


def duplicates_fact(
    accounting: Mapping[str, Any], own: str = "", owners: Mapping[str, int] = MappingProxyType({})
) -> tuple[str, str | None]:
    """How many events of a dataset were left out as copies, and how many of them each of the `owners` has."""
    if not accounting["duplicates"]:
        return "duplicates", None
    also = "".join(
        f", {many:,} which {owner} has" if owner != own else f", {many:,} copies of its own events"
        for owner, many in owners.items()
    )
    return "duplicates", f"{accounting['duplicates']:,} left out{also}"


def only_file(accounting: Mapping[str, Any]) -> str | None:
    """The file that events were read from, if it is one; `show_files` tells of more."""
    return _named(accounting["files"][0]) if len(accounting["files"]) == 1 else None


def show_cutflow(page: Page, steps: Sequence[Mapping[str, Any]]) -> None:
    """A table of events, weights and efficiencies; nothing if there was no selection."""
    if not steps:
        return
    columns = [
        Column("cut", "rest"),
        Column("events", "number"),
        Column("of\nprevious", "number"),
        Column("of all", "number"),
        Column("sum of\nweights", "number"),
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
    page.table("Cut flow", columns, rows)


def show_files(page: Page, accounting: Mapping[str, Any]) -> None:
    """A table of the files that events were read from if there are several; the first of them if there are many."""
    files = accounting["files"]
    if len(files) < 2:
        return
    directory = _common_directory([file["file"] for file in files])
    rows = [(_named(file)[len(directory) :], *_numbers(file)) for file in files[:_FILES_SHOWN]]
    if len(files) > _FILES_SHOWN:
        rows.append((f"... and {len(files) - _FILES_SHOWN:,} more", "", "", ""))
    rows.append((f"all {len(files):,} files", *_numbers(accounting)))
    columns = [
        Column("file", "rest"),
        Column("events", "number"),
        Column("kept", "number"),
        Column("sum of\nweights", "number"),
    ]
    page.table(f"Made from {directory}".rstrip(), columns, rows)


def _named(file: Mapping[str, Any]) -> str:
    """The file, with its range of entries where it was not read whole."""
    part = file["part"]
    if part is None:
        return str(file["file"])
    if part["first"] is None:
        return f"{file['file']}, some entries"
    return f"{file['file']}, entries {part['first']:,} to {part['first'] + file['entries'] - 1:,}"


def _numbers(accounting: Mapping[str, Any]) -> tuple[str, str, str]:
    """Events and weights of a file. A range of entries shows the sum of its own events; the file's sum counts once in all."""
    part = accounting.get("part")
    weights = part["weights"] if part else accounting["sum_of_weights"]
    return count(accounting["entries"]), count(accounting["selected"]), amount(weights)


def _common_directory(files: Sequence[str]) -> str:
    """What all files' names begin with, up to a slash."""
    first, last = min(files), max(files)
    same = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]
