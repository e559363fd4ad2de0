"""The files that are merged: all that they hold but for the values of their events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_processing.convert.duplicateevents import DuplicateEvents
from data_processing.merge.content import TREES
from data_processing.merge.plan import SourceTree
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting, FileAccounting, all_events_of
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.histograms import add_histogram, is_histogram
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile
from MLTools.NanoML.terminal.progress import progress

__all__ = ["Inputs"]


@dataclass
class Inputs:
    """What is in the files.

    Attributes
    ----------
    trees
        `Events`, and those of `TREES` that a file has: what they are in each file.
    rows
        The values of the trees beside the events, of the files in `trees`.
    strings
        Texts, by name.
    histograms
        Sums of histograms, by name.
    not_merged
        What is left out, with the reason.
    own
        The accounting of each file as if it had no record: by its Runs tree or, without it, by its events.
    records
        The record of each file.
    duplicates
        Of data: which events are there more than once, all files being one part; None as long as that is not known.
    """

    trees: dict[str, list[SourceTree]] = field(default_factory=dict)
    rows: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    histograms: dict[str, Any] = field(default_factory=dict)
    not_merged: dict[str, str] = field(default_factory=dict)
    own: list[FileAccounting] = field(default_factory=list)
    records: list[Provenance] = field(default_factory=list)
    duplicates: DuplicateEvents | None = None
    _described: list[dict[str, Branch]] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Sequence[str]) -> Inputs:
        """Look into files.

        Raises
        ------
        NanoMLError
            One cannot be read, or was changed after it was made, or they do not belong together: data and simulation,
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
        found._check_alike()
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
        """Number of events that are left out, since an earlier file has them."""
        return sum(self.duplicates.copies(0).values()) if self.duplicates else 0

    @property
    def accounting(self) -> Accounting:
        """The accounting of all files."""
        return Accounting([file for record in self.records for file in record.accounting.files])

    def without(self, tree: str) -> list[str]:
        """Files with events or weights that lack a tree.

        Of a file that nanoAOD-tools reads in ranges of entries, the first one has the tree for all.
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
        # most files have the same: it is held once, as there may be thousands of files
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

    def _check_alike(self) -> None:
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
