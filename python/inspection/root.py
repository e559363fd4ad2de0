"""What is in a ROOT file: NanoAOD, a skim or scores."""

from __future__ import annotations

from typing import Any

from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection.branches import group_branches
from MLTools.NanoML.inspection.records import describe_accounting, describe_criteria, finite
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of
from MLTools.NanoML.rootio.rootfile import PROVENANCE, Branch, RootFile

__all__ = ["inspect_root"]


def inspect_root(path: str) -> dict[str, Any]:
    """What is in a ROOT file.

    Returns
    -------
    Beside what `inspect_file` promises: `format` ("TTree" or "RNTuple"), `events`, `is_data` (None if mixed),
    `sum_of_weights` with its `sum_of_weights_sources`, `branches` (a list of name, dtype, shape, title,
    collection, typename), `collections` (name to fields), `event_level` (group to branches), `objects` (all
    else at the top of the file, with class and, for strings, text) and `record`: what NanoML wrote of it, or None.

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
            warnings.append(
                "The sum of weights is not a finite number: some events have bad generator weights."
            )
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
            "objects": _objects(file, provenance),
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
    """The record knows better than the events: those that were cut away count too, and scores have no weights."""
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
        errors.append(
            f"The record names columns that the file lacks: {', '.join(lacking)}. Make the file again."
        )


def _describe(branch: Branch, made: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "name": branch.name,
        "dtype": branch.dtype,
        "shape": branch.shape,
        "title": made[branch.name]["title"] if branch.name in made else branch.title,
        "collection": branch.collection,
        "typename": branch.typename,
    }


def _collections(file: RootFile) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for branch in file.branches.values():
        if branch.collection is not None:
            found.setdefault(branch.collection, []).append(branch.field)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _event_level(file: RootFile, made: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    lists = [branch for branch in file.branches.values() if branch.collection is not None]
    counters = {f"n{branch.collection}" for branch in lists} | {f"n{branch.name}" for branch in lists}
    names = [
        branch.name
        for branch in file.branches.values()
        if branch.collection is None and branch.name not in made
    ]
    return group_branches(names, counters)


def _objects(file: RootFile, provenance: Provenance | None) -> dict[str, dict[str, str | None]]:
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
        "criteria": describe_criteria(provenance.criteria),
        "columns": provenance.columns,
        "model": provenance.model,
        "not_copied": provenance.not_copied,
        "books": describe_accounting(provenance.accounting),
    }
