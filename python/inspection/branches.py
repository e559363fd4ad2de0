"""Branches of a ROOT file, as content: looked up by name, and grouped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions

__all__ = ["COUNTERS", "SINGLE", "group_branches", "matching_branches"]

COUNTERS = "counters"
SINGLE = "single"
"""Names of the groups of the collections' counters, and of branches that share their prefix with no other."""


def group_branches(names: Iterable[str], counters: Iterable[str]) -> dict[str, list[str]]:
    """Event-level branches by the part of their names before the first underscore.

    Parameters
    ----------
    names
        The branches, in the file's order.
    counters
        Names that may be counters of collections.

    Returns
    -------
    Group to branches: first `SINGLE`, then `COUNTERS`, then the prefixes in alphabetical order; none is empty.
    """
    known = set(counters)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(COUNTERS if name in known else name.split("_")[0], []).append(name)
    alone = [
        name
        for group, members in groups.items()
        if len(members) == 1 and group != COUNTERS
        for name in members
    ]
    named = {group: members for group, members in groups.items() if len(members) > 1 and group != COUNTERS}
    first = {SINGLE: alone, COUNTERS: groups.get(COUNTERS, [])}
    return {**{group: members for group, members in first.items() if members}, **dict(sorted(named.items()))}


def matching_branches(content: dict[str, Any], pattern: str) -> list[dict[str, Any]]:
    """The branches of an inspected ROOT file that a glob names, or that belong to the collection of that name.

    Parameters
    ----------
    content
        As `inspect_file` returns it.
    pattern
        "Muon_*", "MET_pt", "Muon", ...

    Returns
    -------
    Entries of `content["branches"]`.

    Raises
    ------
    NanoMLError
        There is none.
    """
    branches = {branch["name"]: branch for branch in content["branches"]}
    names = versions.expand(pattern, list(branches))
    if not names:
        names = [branch["name"] for branch in content["branches"] if branch["collection"] == pattern]
    if not names:
        hint = versions.did_you_mean(pattern, [*branches, *content["collections"]])
        raise NanoMLError(f'{content["path"]}: no branch matches "{pattern}".{hint}')
    return [branches[name] for name in names]
