"""What the trees of merged files have: branches, their types, and what fills those that a file lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.rootio.branches import Branch

__all__ = ["SourceTree", "TreePlan", "listed", "plan_tree"]

# without these nobody can tell an event, or what it weighs
_NEEDED = (*versions.IDENTIFIERS, "genWeight", *versions.SUM_OF_WEIGHTS)


@dataclass(frozen=True)
class SourceTree:
    """A tree of a file to be merged.

    Attributes
    ----------
    path
        Of the file.
    rows
        Of the tree.
    branches
        Of the tree.
    """

    path: str
    rows: int
    branches: Mapping[str, Branch]


@dataclass(frozen=True)
class TreePlan:
    """A tree of the merged file.

    Attributes
    ----------
    branches
        All that it has, with the counters of collections.
    filled
        Branches that some files lack, with these files.
    dropped
        Branches that are left out, as they are not the same in all files.
    """

    branches: Mapping[str, Branch]
    filled: Mapping[str, Sequence[str]]
    dropped: Sequence[str]

    @property
    def columns(self) -> dict[str, Branch]:
        """The branches without the counters of collections."""
        counters = {f"n{branch.collection}" for branch in self.branches.values() if branch.is_jagged}
        return {name: branch for name, branch in self.branches.items() if name not in counters}

    def reads(self, branches: Mapping[str, Branch]) -> list[str]:
        """What is to be read of a file with these branches: its columns, and counters of lists that it lacks."""
        columns = self.columns
        lacking = {f"n{branch.collection}": None for name, branch in columns.items() if name not in branches}
        return [name for name in (*columns, *lacking) if name in branches]

    def fit(self, branches: Mapping[str, Branch], arrays: Mapping[str, Any], length: int) -> dict[str, Any]:
        """Rows of a file with all columns, in their types.

        Parameters
        ----------
        branches
            Of the file.
        arrays
            What `reads` names, of these rows.
        length
            Number of rows.
        """
        found = {}
        for name, branch in self.columns.items():
            dtype = np.dtype(branch.dtype)
            if name in arrays:
                same = branches[name].dtype == branch.dtype
                found[name] = arrays[name] if same else ak.values_astype(arrays[name], dtype)
            elif branch.is_flat:
                found[name] = np.zeros(length, dtype)
            else:
                counts = self._counts(branch.collection, arrays, length)
                found[name] = ak.unflatten(np.zeros(int(counts.sum()), dtype), counts)
        return found

    def _counts(self, collection: Optional[str], arrays: Mapping[str, Any], length: int) -> NDArray[np.int64]:
        """Lengths of a list that a file lacks: those of the others of its collection, or 0 if it lacks them too."""
        for name, array in arrays.items():
            if name == f"n{collection}":
                return np.asarray(array, np.int64)
            if self.branches[name].is_jagged and self.branches[name].collection == collection:
                return np.asarray(ak.num(array), np.int64)
        return np.zeros(length, np.int64)


def plan_tree(name: str, sources: Sequence[SourceTree], fill: bool = False, common: bool = False) -> TreePlan:
    """The branches of a tree of the merged file, as the first file with rows has them.

    A file without rows may lack any of them.

    Parameters
    ----------
    name
        Of the tree, for messages.
    sources
        The tree in each file.
    fill
        Take the branches of any file.
    common
        Take the branches that are the same in all files.

    Raises
    ------
    NanoMLError
        The files differ in a way that was not allowed, or that cannot be: with the branches and files.
    """
    _refuse_unsupported(name, sources)
    ordered = sorted(sources, key=lambda source: not source.rows)  # those with rows first, else as they were
    known: dict[str, Branch] = {}
    for source in ordered:
        for key, branch in source.branches.items():
            known.setdefault(key, branch)
    lacking = {
        key: paths
        for key in known
        if (paths := [source.path for source in sources if source.rows and key not in source.branches])
    }
    types = {key: _joined_type(key, ordered) for key in known}
    _refuse_differences(name, sources, lacking, types, fill, common)
    kept = {
        key: replace(branch, dtype=types[key])
        for key, branch in known.items()
        if not (common and (key in lacking or types[key] is None))
    }
    branches = _with_counters(kept, known)
    counters = set().union(*_counters(known.values()))
    filled = {key: paths for key, paths in lacking.items() if key in kept and key not in counters}
    return TreePlan(branches, filled, [key for key in known if key not in {*branches, *counters}])


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names in a sentence: those that are too many are counted."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _counters(branches: Iterable[Branch]) -> tuple[set[str], set[str]]:
    """Counters of the collections that branches are of, and counters of their own, as some writers make them."""
    lists = [branch for branch in branches if branch.is_jagged]
    return {f"n{branch.collection}" for branch in lists}, {f"n{branch.name}" for branch in lists}


def _with_counters(kept: Mapping[str, Branch], known: Mapping[str, Branch]) -> dict[str, Branch]:
    shared, own = _counters(kept.values())
    found = {key: branch for key, branch in kept.items() if key not in shared | own}
    # a count is small: the first file's type holds it, whatever those of the others are
    return {**found, **{key: branch for key, branch in known.items() if key in shared}}


def _refuse_unsupported(name: str, sources: Sequence[SourceTree]) -> None:
    for source in sources:
        for branch in source.branches.values():
            if not (branch.is_flat or branch.is_jagged):
                raise NanoMLError(
                    f"{source.path}: {name}/{branch.name} is of type {branch.typename}, which cannot be merged. "
                    f"Skim the files first, with `drop {branch.name}` in what is kept."
                )


def _joined_type(key: str, sources: Sequence[SourceTree]) -> Optional[str]:
    """The numpy type that holds all values of a branch; None if there is none. Files with rows are first."""
    found = [(source.rows, source.branches[key]) for source in sources if key in source.branches]
    with_rows = [branch for rows, branch in found if rows] or [found[0][1]]
    if len({branch.shape for branch in with_rows}) > 1:
        return None
    types = {np.dtype(branch.dtype) for branch in with_rows}
    joined: np.dtype[Any] = np.result_type(*types)
    return joined.name if all(_holds(joined, each) for each in types) else None


def _holds(joined: np.dtype[Any], each: np.dtype[Any]) -> bool:
    """Whether a type has each value of another one. To numpy, float64 has those of int64."""
    if joined.kind == "f" and each.kind in "iu":
        return np.iinfo(each).bits <= np.finfo(joined).nmant + 1
    return bool(np.can_cast(each, joined, "safe"))


def _refuse_differences(
    name: str,
    sources: Sequence[SourceTree],
    lacking: Mapping[str, Sequence[str]],
    types: Mapping[str, Optional[str]],
    fill: bool,
    common: bool,
) -> None:
    shared, own = _counters(branch for source in sources for branch in source.branches.values())
    missing = {key: paths for key, paths in lacking.items() if key not in shared | own}
    clashing = [key for key, kind in types.items() if kind is None and key not in shared | own]
    needed = [key for key in (*missing, *clashing) if key in _NEEDED]
    if needed:
        advice = f"Nothing can stand in for {listed(needed)}: merge these files apart."
    elif clashing and not common:
        advice = "--common leaves out what is not the same in all files."
    elif missing and not (fill or common):
        advice = (
            "--fill puts zeros, false or empty lists where a file lacks a branch; --common takes the branches that all "
            "files have."
        )
    else:
        return
    lines = [*_missing_lines(missing, sources), *(_clash_line(key, sources) for key in clashing)]
    raise NanoMLError("\n".join([f"{name}: the files differ in their branches.", *lines, advice]))


def _missing_lines(missing: Mapping[str, Sequence[str]], sources: Sequence[SourceTree]) -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, paths in missing.items():
        groups.setdefault(tuple(paths), []).append(key)
    lines = []
    for paths, keys in groups.items():
        having = [source.path for source in sources if keys[0] in source.branches]
        lines.append(f"  {listed(keys)}: not in {listed(paths, 3)}, but in {listed(having, 3)}")
    return lines


def _clash_line(key: str, sources: Sequence[SourceTree]) -> str:
    kinds: dict[str, list[str]] = {}
    for source in sources:
        if key in source.branches:
            kinds.setdefault(_described(source.branches[key]), []).append(source.path)
    return f"  {key}: {'; '.join(f'{kind} in {listed(paths, 3)}' for kind, paths in kinds.items())}"


def _described(branch: Branch) -> str:
    return f"lists of {branch.dtype}" if branch.is_jagged else str(branch.dtype)
