"""The files that are merged: what they contain, and which branches the trees of the merged file have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import DuplicateEvents
from data_processing.merge.content import TREES
from MLTools.NanoML.contracts.accounting import FileAccounting
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.histograms import add_histogram, is_histogram
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile
from MLTools.NanoML.terminal.progress import progress

# without these, an event cannot be identified or weighted
_NEEDED = (*versions.IDENTIFIERS, "genWeight", *versions.SUM_OF_WEIGHTS)


@dataclass(frozen=True)
class SourceTree:
    """A tree of a file to be merged: the path of the file, the number of rows, and the branches."""

    path: str
    rows: int
    branches: Mapping[str, Branch]


@dataclass
class MergeInputs:
    """What the files contain, but for the values of their events."""

    # `Events`, and those of `TREES` that a file has, as they are in each file
    trees: dict[str, list[SourceTree]] = field(default_factory=dict)
    # the values of the trees beside the events, for the files in `trees`
    rows: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)  # texts, by name
    histograms: dict[str, Any] = field(default_factory=dict)  # sums of histograms, by name
    not_merged: dict[str, str] = field(default_factory=dict)  # what is left out, with the reason
    # the accounting of each file without its record: from its Runs tree or, without it, from its events
    own: list[FileAccounting] = field(default_factory=list)
    records: list[Provenance] = field(default_factory=list)  # the record of each file
    # for data, the events that occur more than once, all files being one part; None as long as this is not
    # known
    duplicates: DuplicateEvents | None = None
    _described: list[dict[str, Branch]] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Sequence[str]) -> MergeInputs:
        """Read all but the values of events.

        Raises NanoMLError if one cannot be read, or was changed after it was made, or they do not belong together: data and
        simulation, different selections, the same events twice.
        """
        found = cls()
        with progress("look into", len(paths), "files") as bar:
            for path in paths:
                with RootFile(path) as file:
                    found._add(file)
                bar.advance()
        for name in found.not_merged:
            found.strings.pop(name, None)
            found.histograms.pop(name, None)
        found._check_agreement()
        return found

    @property
    def paths(self) -> list[str]:
        """The files."""
        return [events.path for events in self.trees["Events"]]

    @property
    def entries(self) -> int:
        """Number of events."""
        return sum(events.rows for events in self.trees["Events"])

    @property
    def copies(self) -> int:
        """Number of events that are left out because an earlier file has them."""
        return sum(self.duplicates.copies(0).values()) if self.duplicates else 0

    @property
    def accounting(self) -> Accounting:
        """The accounting of all files."""
        return Accounting([file for record in self.records for file in record.accounting.files])

    def without(self, tree: str) -> list[str]:
        """Files with events or weights that lack a tree.

        If nanoAOD-tools reads a file in ranges of entries, the first range has the tree for all.
        """
        having = {source.path for source in self.trees[tree]}
        return [
            events.path
            for events, record in zip(self.trees["Events"], self.records)
            if events.path not in having
            and (events.rows or record.accounting.sum_of_weights)
            and any(file.has_beginning for file in record.accounting.files)
        ]

    def _add(self, file: RootFile) -> None:
        own = all_events_of(file)
        if not math.isfinite(own.sum_of_weights):
            raise NanoMLError(
                f"{file.path}: the sum of its weights ({own.sum_of_weights_source}) is not a finite number: make it again."
            )
        record = Provenance.of(file) or Provenance("skim", Accounting([own]))
        problem = record.contradiction(file)
        if problem is not None:
            raise NanoMLError(f"{file.path}: {problem}: it was changed after the skim. Skim it again.")
        self.records.append(record)
        self.own.append(own)
        self._add_tree("Events", file, file.entries, file.branches)
        for name, kind in file.keys.items():
            if name in TREES:
                self._add_rows(name, kind, file)
            elif is_histogram(kind):
                self._add_histogram(name, file.object(name))
            elif kind == "TObjString":
                text = file.string(name) or ""
                if self.strings.setdefault(name, text) != text:
                    self.not_merged[name] = "differs from file to file"
            elif name not in ("Events", PROVENANCE):
                self.not_merged[name] = kind

    def _add_tree(self, name: str, file: RootFile, rows: int, branches: Mapping[str, Branch]) -> None:
        # most files have the same branches: these are held once, as there may be thousands of files
        described = dict(branches)
        same = next((known for known in self._described if known == described), None)
        if same is None:
            self._described.append(described)
        source = SourceTree(file.path, rows, described if same is None else same)
        self.trees.setdefault(name, []).append(source)

    def _add_rows(self, name: str, kind: str, file: RootFile) -> None:
        if kind != "TTree":
            raise NanoMLError(f"{file.path}: {name} is a {kind}, which cannot be merged, only a TTree.")
        branches = {}
        for key, branch in file.branches_of(name).items():
            if branch.is_flat or branch.is_jagged:
                branches[key] = branch
            else:
                self.not_merged[f"{name}/{key}"] = branch.typename
        arrays = file.other_tree(name, list(branches)) or {}
        self._add_tree(name, file, len(next(iter(arrays.values()), ())), branches)
        self.rows.setdefault(name, []).append(arrays)

    def _add_histogram(self, name: str, histogram: Any) -> None:
        if name not in self.histograms:
            self.histograms[name] = histogram
            return
        problem = add_histogram(self.histograms[name], histogram)
        if problem is not None:
            self.not_merged[name] = problem

    def _check_agreement(self) -> None:
        first, first_path = self.records[0], self.paths[0]
        for path, record in zip(self.paths, self.records):
            if record.kind != first.kind:
                raise _apart(path, f"has {record.kind} in it", first_path, first.kind)
            difference = record.difference(first)
            if difference is not None:
                raise _apart(path, f"was {difference[0]}", first_path, f"was {difference[1]}")
            if record.model != first.model:
                raise _apart(path, "has the scores of a model", first_path, "those of another")
            if record.accounting.is_data != first.accounting.is_data:
                kinds = ["data" if each.accounting.is_data else "simulation" for each in (record, first)]
                raise _apart(path, f"is {kinds[0]}", first_path, f"is {kinds[1]}")
        owners = [path for path, record in zip(self.paths, self.records) for _ in record.accounting.files]
        self.accounting.check(owners, allow_gaps=True)


def _apart(path: str, what: str, first_path: str, but: str) -> NanoMLError:
    return NanoMLError(f"{path}: {what}, but {first_path} {but}. Merge them apart.")


@dataclass(frozen=True)
class TreePlan:
    """A tree of the merged file."""

    branches: Mapping[str, Branch]  # all branches, with the counters of collections
    filled: Mapping[str, Sequence[str]]  # branches that some files lack, and these files
    dropped: Sequence[str]  # branches that are left out because they are not the same in all files

    @property
    def columns(self) -> dict[str, Branch]:
        """The branches without the counters of collections."""
        counters = {f"n{branch.collection}" for branch in self.branches.values() if branch.is_jagged}
        return {name: branch for name, branch in self.branches.items() if name not in counters}

    def reads(self, branches: Mapping[str, Branch]) -> list[str]:
        """The branches to be read of a file that has `branches`: columns, and counters of lists that it lacks."""
        columns = self.columns
        lacking = {f"n{branch.collection}": None for name, branch in columns.items() if name not in branches}
        return [name for name in (*columns, *lacking) if name in branches]

    def fit(self, branches: Mapping[str, Branch], arrays: Mapping[str, Any], length: int) -> dict[str, Any]:
        """All columns, in their types, for `length` rows of a file with `branches`; `arrays` are what `reads` names."""
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
        """Lengths of the lists that a file lacks: those of others of the collection, or 0 if it lacks all of them."""
        for name, array in arrays.items():
            if name == f"n{collection}":
                return np.asarray(array, np.int64)
            if self.branches[name].is_jagged and self.branches[name].collection == collection:
                return np.asarray(ak.num(array), np.int64)
        return np.zeros(length, np.int64)


def plan_tree(name: str, sources: Sequence[SourceTree], fill: bool = False, common: bool = False) -> TreePlan:
    """The branches of a tree of the merged file, as in the first file with rows. A file without rows may lack any of them.

    With `fill`, the branches of any file; with `common`, only those that are the same in all files. Raises NanoMLError, with
    branches and files, if the files differ in a way that was not allowed or cannot be merged.
    """
    _refuse_unsupported(name, sources)
    ordered = sorted(sources, key=lambda source: not source.rows)  # those with rows first, otherwise in order
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
    """Names for a sentence; the last ones are only counted if there are more than `most`."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _counters(branches: Iterable[Branch]) -> tuple[set[str], set[str]]:
    """Counters of the collections of these branches, and counters of single branches, as some writers make them."""
    lists = [branch for branch in branches if branch.is_jagged]
    return {f"n{branch.collection}" for branch in lists}, {f"n{branch.name}" for branch in lists}


def _with_counters(kept: Mapping[str, Branch], known: Mapping[str, Branch]) -> dict[str, Branch]:
    shared, own = _counters(kept.values())
    found = {key: branch for key, branch in kept.items() if key not in shared | own}
    # counts are small: the type of the first file holds them, whatever the others have
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
    """The numpy type for all values of a branch; None if there is none. Files with rows come first."""
    found = [(source.rows, source.branches[key]) for source in sources if key in source.branches]
    with_rows = [branch for rows, branch in found if rows] or [found[0][1]]
    if len({branch.shape for branch in with_rows}) > 1:
        return None
    types = {np.dtype(branch.dtype) for branch in with_rows}
    joined: np.dtype[Any] = np.result_type(*types)
    return joined.name if all(_holds(joined, each) for each in types) else None


def _holds(joined: np.dtype[Any], each: np.dtype[Any]) -> bool:
    """Whether a type has each value of another one; numpy would say that float64 has those of int64."""
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
