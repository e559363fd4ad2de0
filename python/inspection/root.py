"""What is in a ROOT file, NanoAOD, a skim or scores: as content, and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from MLTools.NanoML.contracts.provenance import MadeColumn, Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection.records import (
    criteria_facts,
    describe_accounting,
    duplicates_fact,
    finite,
    kind_of_events,
    only_file,
    show_cutflow,
    show_files,
    sum_of_weights,
)
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.accounting import UNWEIGHTED, Accounting, accounting_of
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile
from MLTools.NanoML.terminal.page import Page, TableColumn, count, file_size, kinematics_first, plural

__all__ = ["group_branches", "inspect", "matching_branches", "show", "show_branches"]

_COUNTERS, _SINGLE = "counters", "single"  # groups of branches whose names have no prefix of their own
_GROUPS = {
    "HLT": "trigger bits",
    "L1": "trigger bits of the first level",
    "DST": "scouting trigger bits",
    "Flag": "event filters",
}
_SHAPES = {"flat": "number", "jagged": "list", "fixed": "array", "other": "other"}
_TEXT_SHOWN = 60


def inspect(path: str) -> dict[str, Any]:
    """What is in a ROOT file.

    Returns
    -------
    Beside what `inspect_file` promises: `format` ("TTree" or "RNTuple"), `events`, `is_data` (None if mixed),
    `sum_of_weights` with its `sum_of_weights_sources`, `branches` (a list of name, dtype, shape, title,
    collection, typename), `collections` (name to fields), `event_level` (group to branches), `objects` (all
    else at the top of the file, with class and, for strings, text) and `record`: what NanoML wrote about it, or None.

    Raises
    ------
    NanoMLError
        The file cannot be read, or has no tree of events.
    """
    warnings: list[str] = []
    errors: list[str] = []
    with RootFile(path) as file:
        provenance = _provenance(file, errors)
        accounting = _accounting(file, provenance)
        warnings += [f"The file lacks {gap}." for gap in accounting.gaps]
        made = provenance.columns if provenance else {}
        branches = [_describe(branch, made) for branch in file.branches.values()]
        _check_record(file, provenance, errors)
        if finite(accounting.sum_of_weights) is None:
            warnings.append("The sum of weights is not a finite number: some events have bad generator weights.")
        return {
            "kind": "root",
            "path": path,
            "size": file.size,
            "format": "RNTuple" if file.is_rntuple else "TTree",
            "events": file.entries,
            "is_data": accounting.is_data,
            "sum_of_weights": finite(accounting.sum_of_weights),
            "sum_of_weights_sources": sorted({one.sum_of_weights_source for one in accounting.files}),
            "collections": _collections(file),
            "event_level": _event_level(file, made),
            "branches": branches,
            "objects": _other_objects(file, provenance),
            "record": _record(provenance),
            "warnings": warnings,
            "errors": errors,
        }


def _provenance(file: RootFile, errors: list[str]) -> Provenance | None:
    try:
        return Provenance.of(file)
    except NanoMLError as problem:
        errors.append(str(problem))
        return None


def _accounting(file: RootFile, provenance: Provenance | None) -> Accounting:
    """From the record, if there is one: events that were cut away count too, and scores have no weights."""
    if provenance is not None and provenance.accounting.files:
        return provenance.accounting
    return Accounting([accounting_of(file)])


def _check_record(file: RootFile, provenance: Provenance | None, errors: list[str]) -> None:
    if provenance is None:
        return
    problem = provenance.contradiction(file)
    if problem is not None:
        errors.append(f"The file {problem}: it was changed after the skim. Skim it again.")
    try:
        provenance.accounting.check([file.path] * len(provenance.accounting.files), allow_gaps=True)
    except NanoMLError as wrong:
        errors.append(str(wrong))
    lacking = [name for name in provenance.columns if name not in file.branches]
    if lacking:
        errors.append(f"The record names columns that the file lacks: {', '.join(lacking)}. Make the file again.")


def _describe(branch: Branch, made: dict[str, MadeColumn]) -> dict[str, Any]:
    return {
        "name": branch.name,
        "dtype": branch.dtype,
        "shape": branch.shape,
        "title": made[branch.name].title if branch.name in made else branch.title,
        "collection": branch.collection,
        "typename": branch.typename,
    }


def _collections(file: RootFile) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for branch in file.branches.values():
        if branch.collection is not None:
            found.setdefault(branch.collection, []).append(branch.field)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _event_level(file: RootFile, made: dict[str, MadeColumn]) -> dict[str, list[str]]:
    lists = [branch for branch in file.branches.values() if branch.collection is not None]
    counters = {f"n{branch.collection}" for branch in lists} | {f"n{branch.name}" for branch in lists}
    names = [branch.name for branch in file.branches.values() if branch.collection is None and branch.name not in made]
    return group_branches(names, counters)


def _other_objects(file: RootFile, provenance: Provenance | None) -> dict[str, dict[str, str | None]]:
    own = {"Events"} if provenance is None else {"Events", PROVENANCE}
    return {
        name: {"class": kind, "text": file.string(name) if kind == "TObjString" else None}
        for name, kind in file.keys.items()
        if name not in own
    }


def _record(provenance: Provenance | None) -> dict[str, Any] | None:
    if provenance is None:
        return None
    return {
        "kind": provenance.kind,
        "selection": provenance.selection,
        "criteria": asdict(provenance.criteria),
        "columns": {name: asdict(column) for name, column in provenance.columns.items()},
        "model": provenance.model and provenance.model.to_json(),
        "not_copied": provenance.not_copied,
        "books": describe_accounting(provenance.accounting),
    }


def group_branches(names: Iterable[str], counters: Iterable[str]) -> dict[str, list[str]]:
    """Event-level branches, in the file's order, by the part of their names before the first underscore.

    First come the branches that share their prefix with no other, then the counters, then the prefixes in
    alphabetical order; no group is empty.
    """
    known = set(counters)
    counted: list[str] = []
    prefixes: dict[str, list[str]] = {}
    for name in names:
        (counted if name in known else prefixes.setdefault(name.split("_")[0], [])).append(name)
    single = [members[0] for members in prefixes.values() if len(members) == 1]
    several = {prefix: members for prefix, members in sorted(prefixes.items()) if len(members) > 1}
    return {group: members for group, members in {_SINGLE: single, _COUNTERS: counted, **several}.items() if members}


def matching_branches(content: dict[str, Any], pattern: str) -> list[dict[str, Any]]:
    """The branches of an inspected ROOT file that a glob names, or that belong to the collection of that name.

    Raises
    ------
    NanoMLError
        There are none.
    """
    branches = {branch["name"]: branch for branch in content["branches"]}
    names = versions.expand(pattern, list(branches))
    if not names:
        names = [branch["name"] for branch in content["branches"] if branch["collection"] == pattern]
    if not names:
        hint = versions.did_you_mean(pattern, [*branches, *content["collections"]])
        raise NanoMLError(f'{content["path"]}: no branch matches "{pattern}".{hint}')
    return [branches[name] for name in names]


def show(content: Mapping[str, Any], page: Page) -> None:
    """Print what `inspect` returns, but for the single branches, between the title and the warnings."""
    record = content["record"]
    page.facts(_facts(content))
    if record is not None:
        _show_record(page, record)
    columns = [TableColumn("name"), TableColumn("number", "number"), TableColumn("fields", "cut")]
    rows = [(name, count(len(fields)), _fields(name, fields)) for name, fields in content["collections"].items()]
    page.table("Collections: lists of numbers per event", columns, rows)
    columns = [TableColumn("prefix"), TableColumn("number", "number"), TableColumn("branches", "cut")]
    groups = content["event_level"].items()
    page.table(
        "Numbers per event",
        columns,
        [(_label(group), count(len(names)), _members(group, names)) for group, names in groups],
    )


def show_branches(content: dict[str, Any], console: Console, pattern: str) -> None:
    """Print the branches that match a glob, or those of a collection, with type and title."""
    page = Page(console)
    found = matching_branches(content, pattern)
    titled = any(branch["title"] for branch in found)
    columns = [TableColumn("branch"), TableColumn("type"), TableColumn("per event")]
    columns += [TableColumn("title", "rest")] if titled else []
    rows = [
        (
            branch["name"],
            branch["dtype"] or branch["typename"],
            _SHAPES[branch["shape"]],
            *([branch["title"]] if titled else []),
        )
        for branch in found
    ]
    number = len(found)
    many = "1 branch matches" if number == 1 else f"{count(number)} of {count(len(content['branches']))} branches match"
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
    if collections:
        bits = [f"{sum(map(len, collections.values())):,} in {plural(len(collections), 'collection')}", *bits]
    return ", ".join([count(len(content["branches"])), *bits])


def _objects(objects: Mapping[str, Mapping[str, Any]]) -> str | None:
    described = []
    for name, one in objects.items():
        text = one["text"]
        if text is not None and len(text) > _TEXT_SHOWN:
            text = text[:_TEXT_SHOWN] + "..."
        described.append(f"{name} ({one['class']})" + ("" if text is None else f': "{text}"'))
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
        page.table(
            f"Columns of the {maker}", [TableColumn("name"), TableColumn("type"), TableColumn("title", "rest")], rows
        )
    show_cutflow(page, record["books"]["cutflow"])
    show_files(page, record["books"])


def _fields(collection: str, fields: Sequence[str]) -> Text:
    if list(fields) == [collection]:
        return Text("(a list by itself)", style="dim")
    return Text(", ".join(kinematics_first(fields)))


def _label(group: str) -> str:
    return {_COUNTERS: "(counters)", _SINGLE: "(none)"}.get(group, f"{group}_")


def _members(group: str, names: Sequence[str]) -> str:
    lead = f"{_GROUPS[group]}: " if group in _GROUPS else ""
    short = names if group in (_COUNTERS, _SINGLE) else [name[len(group) + 1 :] or name for name in names]
    return lead + ", ".join(short)
