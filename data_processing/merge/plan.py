"""The files that are merged: what they contain, and which branches the trees of the merged file have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import DuplicateEvents
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch, counters_in
from MLTools.NanoML.rootio.histograms import add_histogram, is_histogram
from MLTools.NanoML.rootio.lists import Arrays, Lists, of_type, offsets_of, plain
from MLTools.NanoML.rootio.rootfile import PROVENANCE, TREES, RootFile, is_tree
from MLTools.NanoML.terminal.progress import progress

# without these, an event cannot be identified or weighted
_NEEDED = (*versions.IDENTIFIERS, "genWeight", *versions.SUM_OF_WEIGHTS)


@dataclass(frozen=True)
class SourceTree:
    """A tree of a file to be merged."""

    path: str  # of the file
    rows: int
    branches: Mapping[str, Branch]
    arrays: Arrays = field(default_factory=dict)  # its values, but for those of `Events`


@dataclass
class MergeInputs:
    """The content of the files, but for the values of their events."""

    # `Events`, and those of `TREES` that a file has, as they are in each file
    trees: dict[str, list[SourceTree]] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)  # texts, by name
    histograms: dict[str, Any] = field(default_factory=dict)  # sums of histograms, by name
    not_merged: dict[str, str] = field(default_factory=dict)  # what is left out, with the reason
    format: str = ""  # "TTree" or "RNTuple", as the first file has it
    # the accounting of each file without its record: from its Runs tree or, without it, from its events
    own: list[FileAccounting] = field(default_factory=list)
    records: list[Provenance] = field(default_factory=list)  # the record of each file
    # for data, the events that occur more than once, all files being one part; None as long as this is not known
    duplicates: DuplicateEvents | None = None

    @classmethod
    def of(cls, paths: Sequence[str]) -> MergeInputs:
        """Read all but the values of events.

        It is an error if a file was changed after it was made, or if they do not belong together: data and simulation,
        different selections, the same events twice.
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
        """Paths of the files."""
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
    def shifted(self) -> dict[str, str]:
        """The branches of events with the values of others under a shift, and those; not all files need to have them."""
        return self.records[0].shifted(name for events in self.trees["Events"] for name in events.branches)

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
            raise NanoMLError(f"{file.path}: {problem}")
        self.format = self.format or file.format
        self.records.append(record)
        self.own.append(own)
        self._add_tree("Events", file.path, file.entries, file.branches, {})
        for name, kind in file.keys.items():
            if name in TREES:
                self._add_rows(name, kind, file)
            elif is_histogram(kind):
                added = file.object(name)
                problem = add_histogram(self.histograms[name], added) if name in self.histograms else None
                self.histograms.setdefault(name, added)
                if problem is not None:
                    self.not_merged[name] = problem
            elif kind == "TObjString":
                text = file.string(name) or ""
                if self.strings.setdefault(name, text) != text:
                    self.not_merged[name] = "differs from file to file"
            elif name not in ("Events", PROVENANCE):
                self.not_merged[name] = kind

    def _add_tree(self, name: str, path: str, rows: int, branches: Mapping[str, Branch], arrays: Arrays) -> None:
        known = self.trees.setdefault(name, [])
        # most files have the same branches: these are held once, as there may be thousands of files
        branches = next((source.branches for source in known if source.branches == branches), dict(branches))
        known.append(SourceTree(path, rows, branches, arrays))

    def _add_rows(self, name: str, kind: str, file: RootFile) -> None:
        if not is_tree(kind):
            raise NanoMLError(f"{file.path}: {name} is a {kind}, which cannot be merged, only a TTree.")
        branches = {}
        for key, branch in file.branches_of(name).items():
            if branch.is_flat or branch.is_jagged:
                branches[key] = branch
            else:
                self.not_merged[f"{name}/{key}"] = branch.typename
        arrays = {key: plain(array) for key, array in (file.other_tree(name, list(branches)) or {}).items()}
        self._add_tree(name, file.path, len(next(iter(arrays.values()), ())), branches, arrays)

    def _check_agreement(self) -> None:
        first, first_path = self.records[0], self.paths[0]
        for path, record in zip(self.paths, self.records):
            if record.kind != first.kind:
                what, other = f"has {record.kind} in it", first.kind
            elif (difference := record.difference(first)) is not None:
                what, other = (f"was {each}" for each in difference)
            elif record.model != first.model:
                what, other = "has the scores of a model", "those of another"
            elif record.accounting.is_data != first.accounting.is_data:
                pair = (record, first)
                what, other = (f"is {'data' if each.accounting.is_data else 'simulation'}" for each in pair)
            else:
                continue
            raise NanoMLError(f"{path}: {what}, but {first_path} {other}. Merge them separately.")
        owners = [path for path, record in zip(self.paths, self.records) for _ in record.accounting.files]
        self.accounting.check(owners, allow_gaps=True)


@dataclass(frozen=True)
class TreePlan:
    """A tree of the merged file."""

    branches: Mapping[str, Branch]  # all branches, with the counters of collections
    filled: Mapping[str, Sequence[str]]  # branches that some files lack, and these files
    dropped: Sequence[str]  # branches that are left out because they are not the same in all files
    # branches with the values of others under a shift, and those, which stand in for them where a file lacks them
    shifted: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Branch]:
        """The branches without the counters of collections."""
        counters = {f"n{branch.collection}" for branch in self.branches.values() if branch.is_jagged}
        return {name: branch for name, branch in self.branches.items() if name not in counters}

    def takes(self, branches: Mapping[str, Branch]) -> list[str]:
        """For each column, the branch of a file with `branches` that it is taken from, if there is one."""
        return [taken for name in self.columns if (taken := _taken(name, branches, self.shifted)) in branches]

    def reads(self, branches: Mapping[str, Branch]) -> list[str]:
        """The branches to be read of a file that has `branches`: what columns take, and counters of lists that it lacks."""
        lacking = [f"n{branch.collection}" for name, branch in self.columns.items() if name not in branches]
        return list(dict.fromkeys([*self.takes(branches), *(name for name in lacking if name in branches)]))

    def fit(self, branches: Mapping[str, Branch], arrays: Arrays, length: int) -> dict[str, object]:
        """All columns, in their types, for `length` rows of a file with `branches`; `arrays` are what `reads` names."""
        found: dict[str, object] = {}
        for name, branch in self.columns.items():
            dtype, taken = np.dtype(branch.dtype), _taken(name, branches, self.shifted)
            if taken in arrays:
                found[name] = of_type(plain(arrays[taken]), dtype)
            elif branch.is_flat:
                found[name] = np.zeros(length, dtype)
            else:
                counts = self._counts(branch.collection, arrays, length)
                found[name] = Lists(ak.index.Index64(offsets_of(counts)), np.zeros(int(counts.sum()), dtype))
        return found

    def _counts(self, collection: Optional[str], arrays: Arrays, length: int) -> NDArray[np.int64]:
        """Lengths of the lists that a file lacks: those of others of the collection, or 0 if it lacks all of them."""
        for name, array in arrays.items():
            values = plain(array)
            if name == f"n{collection}":
                return np.asarray(values, np.int64)
            if isinstance(values, Lists) and self.branches[name].collection == collection:
                return np.diff(np.asarray(values.offsets.data))
        return np.zeros(length, np.int64)


def plan_tree(
    name: str,
    sources: Sequence[SourceTree],
    fill: bool = False,
    common: bool = False,
    shifted: Mapping[str, str] = MappingProxyType({}),
) -> TreePlan:
    """The branches of a tree of the merged file, as in the first file with rows. A file without rows may lack any of them.

    With `fill`, the branches of any file; with `common`, only those that are the same in all files. Branches that are
    `shifted` may be lacking, too: there the ones that they are shifted from stand in. An error names branches and files that
    differ in a way that was not allowed or cannot be merged.
    """
    for source in sources:
        for branch in source.branches.values():
            if not (branch.is_flat or branch.is_jagged):
                raise NanoMLError(
                    f"{source.path}: {name}/{branch.name} is of type {branch.typename}, which cannot be merged. "
                    f"Skim the files first, with `drop {branch.name}` in what is kept."
                )
    ordered = sorted(sources, key=lambda source: not source.rows)  # those with rows first, otherwise in order
    known: dict[str, Branch] = {}
    for source in ordered:
        for key, branch in source.branches.items():
            known.setdefault(key, branch)
    with_rows = [source for source in sources if source.rows]
    lacking = {
        key: [each.path for each in with_rows if _taken(key, each.branches, shifted) not in each.branches]
        for key in known
    }
    lacking = {key: paths for key, paths in lacking.items() if paths}
    types = {key: _joined_type(key, ordered, shifted) for key in known}
    _refuse_differences(name, sources, lacking, types, fill, common)
    kept = {
        key: replace(branch, dtype=types[key])
        for key, branch in known.items()
        if not (common and (key in lacking or types[key] is None))
    }
    kept_counters = counters_in(kept.values())
    shared = {f"n{branch.collection}" for branch in kept.values() if branch.is_jagged}
    # counts are small: the type of the first file holds them, whatever the others have
    branches = {key: branch for key, branch in kept.items() if key not in kept_counters}
    branches.update({key: branch for key, branch in known.items() if key in shared})
    counters = counters_in(known.values())
    filled = {key: paths for key, paths in lacking.items() if key in kept and key not in counters}
    return TreePlan(branches, filled, [key for key in known if key not in {*branches, *counters}], shifted)


def _taken(name: str, branches: Mapping[str, Branch], shifted: Mapping[str, str]) -> str:
    """The branch of a file from which a column is taken; if the file does not have it either, the column is lacking."""
    return name if name in branches else shifted.get(name, name)


def _joined_type(key: str, sources: Sequence[SourceTree], shifted: Mapping[str, str]) -> Optional[str]:
    """The numpy type for all values of a branch; None if there is none. Files with rows come first."""
    taken = ((source, _taken(key, source.branches, shifted)) for source in sources)
    found = [(source.rows, source.branches[name]) for source, name in taken if name in source.branches]
    with_rows = [branch for rows, branch in found if rows] or [found[0][1]]
    if len({branch.shape for branch in with_rows}) > 1:
        return None
    types = {np.dtype(branch.dtype) for branch in with_rows}
    joined: np.dtype[np.generic] = np.result_type(*types)
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
    counters = counters_in(branch for source in sources for branch in source.branches.values())
    missing = {key: paths for key, paths in lacking.items() if key not in counters}
    clashing = [key for key, kind in types.items() if kind is None and key not in counters]
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
    lines = [f"{name}: the files differ in their branches."]
    groups: dict[tuple[str, ...], list[str]] = {}  # branches by the files that lack them
    for key, paths in missing.items():
        groups.setdefault(tuple(paths), []).append(key)
    for absent, keys in groups.items():
        having = [source.path for source in sources if keys[0] in source.branches]
        lines.append(f"  {listed(keys)}: not in {listed(absent, 3)}, but in {listed(having, 3)}")
    for key in clashing:
        kinds: dict[str, list[str]] = {}
        for source in sources:
            if key in source.branches:
                branch = source.branches[key]
                kind = f"lists of {branch.dtype}" if branch.is_jagged else str(branch.dtype)
                kinds.setdefault(kind, []).append(source.path)
        lines.append(f"  {key}: {'; '.join(f'{kind} in {listed(paths, 3)}' for kind, paths in kinds.items())}")
    raise NanoMLError("\n".join([*lines, advice]))
