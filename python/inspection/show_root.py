"""Prints what is in a ROOT file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from MLTools.NanoML.inspection.branches import COUNTERS, SINGLE, matching_branches
from MLTools.NanoML.inspection.show_records import (
    criteria_facts,
    duplicates_fact,
    kind_of_events,
    only_file,
    show_cutflow,
    show_files,
    sum_of_weights,
)
from MLTools.NanoML.nanoaod.accounting import UNWEIGHTED
from MLTools.NanoML.terminal.page import Column, Page, count, file_size, kinematics_first, plural

__all__ = ["show_branches", "show_root"]

_GROUPS = {
    "HLT": "trigger bits",
    "L1": "trigger bits of the first level",
    "DST": "scouting trigger bits",
    "Flag": "event filters",
}
_SHAPES = {"flat": "number", "jagged": "list", "fixed": "array", "other": "other"}
_TEXT_SHOWN = 60


def show_root(content: Mapping[str, Any], console: Console) -> None:
    """Print all but the single branches; `content` is that of `inspect_root`."""
    page = Page(console)
    record = content["record"]
    page.title(content["path"])
    page.facts(_facts(content))
    if record is not None:
        _show_record(page, record)
    columns = [Column("name"), Column("number", "number"), Column("fields", "cut")]
    rows = [
        (name, count(len(fields)), _fields(name, fields)) for name, fields in content["collections"].items()
    ]
    page.table("Collections: lists of numbers per event", columns, rows)
    columns = [Column("prefix"), Column("number", "number"), Column("branches", "cut")]
    groups = content["event_level"].items()
    page.table(
        "Numbers per event",
        columns,
        [(_label(group), count(len(names)), _members(group, names)) for group, names in groups],
    )
    page.warnings(content["warnings"], content["errors"])


def show_branches(content: dict[str, Any], console: Console, pattern: str) -> None:
    """Print the branches that match a glob, or those of a collection, with type and title."""
    page = Page(console)
    found = matching_branches(content, pattern)
    titled = any(branch["title"] for branch in found)
    columns = [Column("branch"), Column("type"), Column("per event")]
    columns += [Column("title", "rest")] if titled else []
    rows = [
        (
            branch["name"],
            branch["dtype"] or branch["typename"],
            _SHAPES[branch["shape"]],
            *([branch["title"]] if titled else []),
        )
        for branch in found
    ]
    many = (
        "1 branch matches"
        if len(found) == 1
        else f"{count(len(found))} of {count(len(content['branches']))} branches match"
    )
    page.title(content["path"])
    page.table(f"{many} {pattern}", columns, rows)


def _facts(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    record = content["record"]
    what = [record["kind"]] if record else []
    what += [kind_of_events(content["is_data"]), content["format"]]
    return [
        ("events", count(content["events"])),
        ("what", ", ".join(what)),
        ("size", file_size(content["size"])),
        ("sum of weights", _sum_of_weights(content)),
        ("branches", _branches(content)),
        ("other objects", _objects(content["objects"])),
        *(_record_facts(record) if record else []),
    ]


def _sum_of_weights(content: Mapping[str, Any]) -> str:
    text = sum_of_weights(content)
    if any(source.startswith(("genWeight", UNWEIGHTED)) for source in content["sum_of_weights_sources"]):
        text += ". Right only if no events were cut away before: there is no Runs tree to tell"
    return text


def _branches(content: Mapping[str, Any]) -> str:
    bits = [f"{len(names):,} {group}" for group, names in content["event_level"].items() if group in _GROUPS]
    collections = content["collections"]
    lists = (
        [f"{sum(map(len, collections.values())):,} in {plural(len(collections), 'collection')}"]
        if collections
        else []
    )
    return ", ".join([count(len(content["branches"])), *lists, *bits])


def _objects(objects: Mapping[str, Mapping[str, Any]]) -> str | None:
    described = []
    for name, one in objects.items():
        text = one["text"]
        said = (
            f': "{text if len(text) <= _TEXT_SHOWN else text[:_TEXT_SHOWN] + "..."}"'
            if text is not None
            else ""
        )
        described.append(f"{name} ({one['class']}){said}")
    return ", ".join(described) or None


def _record_facts(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    model = record["model"]
    return [
        ("made from", only_file(record["books"])),
        duplicates_fact(record["books"]),
        ("selection", record["selection"]),
        *criteria_facts(record["criteria"]),
        ("model", model["name"] if model else None),
        ("SHA-256", model["sha256"] if model else None),
        ("not copied", ", ".join(record["not_copied"]) or None),
    ]


def _show_record(page: Page, record: Mapping[str, Any]) -> None:
    if record["columns"]:
        rows = [(name, column["dtype"], column["title"]) for name, column in record["columns"].items()]
        maker = "model" if record["kind"] == "scores" else "selection"
        page.table(f"Columns of the {maker}", [Column("name"), Column("type"), Column("title", "rest")], rows)
    show_cutflow(page, record["books"]["cutflow"])
    show_files(page, record["books"])


def _fields(collection: str, fields: Sequence[str]) -> Text:
    if list(fields) == [collection]:
        return Text("(a list by itself)", style="dim")
    return Text(", ".join(kinematics_first(fields)))


def _label(group: str) -> str:
    return {COUNTERS: "(counters)", SINGLE: "(none)"}.get(group, f"{group}_")


def _members(group: str, names: Sequence[str]) -> str:
    lead = f"{_GROUPS[group]}: " if group in _GROUPS else ""
    short = names if group in (COUNTERS, SINGLE) else [name[len(group) + 1 :] or name for name in names]
    return lead + ", ".join(short)
