"""What files of the pipeline say about the events they were made from, accounting and cut flows: as content, and printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.selection import Step
from MLTools.NanoML.terminal.page import Page, TableColumn, amount, count, share

__all__ = [
    "criteria_facts",
    "describe_accounting",
    "duplicates_fact",
    "finite",
    "kind_of_events",
    "only_file",
    "show_cutflow",
    "show_files",
    "sum_of_weights",
]

_FILES_SHOWN = 8


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def describe_accounting(accounting: Accounting) -> dict[str, Any]:
    """Accounting with its sums, and each file's numbers without its cut flow."""
    return {
        "entries": accounting.entries,
        "selected": accounting.selected,
        "duplicates": accounting.duplicates,
        "is_data": accounting.is_data,
        "sum_of_weights": finite(accounting.sum_of_weights),
        "sum_of_weights_sources": sorted({file.sum_of_weights_source for file in accounting.files}),
        "cutflow": describe_cutflow(accounting.cutflow),
        "files": [
            {
                "file": file.file,
                "entries": file.entries,
                "selected": file.selected,
                "duplicates": file.duplicates,
                "sum_of_weights": finite(file.sum_of_weights),
                "sum_of_weights_source": file.sum_of_weights_source,
                "part": None if file.part is None else asdict(file.part),
            }
            for file in accounting.files
        ],
    }


def describe_cutflow(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Each step with the shares of the events that the step before left, of all events, and of all weights."""
    return [
        {
            "cut": step.cut,
            "events": step.events,
            "of_previous": _share(step.events, steps[max(number - 1, 0)].events),
            "of_all": _share(step.events, steps[0].events),
            "weights": step.weights,
            "weights_of_all": _share(step.weights, steps[0].weights),
        }
        for number, step in enumerate(steps)
    ]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def kind_of_events(is_data: bool | None) -> str:
    """Data or simulation, in words."""
    return {True: "data", False: "simulation"}.get(is_data, "data and simulation, mixed")  # type: ignore[arg-type]


def sum_of_weights(content: Mapping[str, Any]) -> str:
    """The sum, and where it comes from; `content` is of a ROOT file, or accounting."""
    return f"{amount(content['sum_of_weights'])} by {', '.join(content['sum_of_weights_sources'])}"


def criteria_facts(criteria: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What decided beside the selection which events and branches a skim has; a fact is None if nothing did."""
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
    """The file that events were read from, if it is one; `show_files` prints several."""
    return _named(accounting["files"][0]) if len(accounting["files"]) == 1 else None


def show_cutflow(page: Page, steps: Sequence[Mapping[str, Any]]) -> None:
    """A table of events, weights and efficiencies; nothing if there was no selection."""
    if not steps:
        return
    numbers = ("events", "of\nprevious", "of all", "sum of\nweights", "of all")
    columns = [TableColumn("cut", "rest"), *(TableColumn(name, "number") for name in numbers)]
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
    numbers = ("events", "kept", "sum of\nweights")
    columns = [TableColumn("file", "rest"), *(TableColumn(name, "number") for name in numbers)]
    page.table(f"Made from {directory}".rstrip(), columns, rows)


def _named(file: Mapping[str, Any]) -> str:
    """The file, with its range of entries if it was not read whole."""
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
