"""The content of a ROOT file: NanoAOD, a skim or scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from MLTools.NanoML.errors import NanoMLError, listed, plural
from MLTools.NanoML.inspection import (
    BEFORE_CUTS,
    Inspection,
    accounting_content,
    before_cuts,
    criteria_facts,
    duplicates_fact,
    finite,
    kind_of_events,
    only_file,
    shift_facts,
    show_accounting,
    sum_of_weights,
    weight_sources,
)
from MLTools.NanoML.inspection.histograms import of_root
from MLTools.NanoML.nanoaod.accounting import BY_EVENTS, UNWEIGHTED, Accounting, accounting_of
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import PROVENANCE, NoTreeError, RootFile
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.page import Page, TableColumn, count, file_size, kinematics_first

_COUNTERS, _SINGLE = "counters", "single"  # groups of branches whose names have no prefix of their own
_GROUPS = {
    "HLT": "trigger bits",
    "L1": "trigger bits of the first level",
    "DST": "scouting trigger bits",
    "Flag": "event filters",
}
_SHAPES = {"flat": "number", "jagged": "list", "fixed": "array", "other": "other"}
_TEXT_SHOWN = 60


@dataclass(frozen=True)
class TopObject:
    """Another object at the top of the file: the name of its class, and its text if it is a string."""

    class_: str
    text: str | None

    def __str__(self) -> str:
        if self.text is None:
            return f"({self.class_})"
        return f'({self.class_}): "{self.text[:_TEXT_SHOWN]}{"..." if len(self.text) > _TEXT_SHOWN else ""}"'


@dataclass
class RootInspection(Inspection):
    """The content of a ROOT file."""

    kind = "root"
    format: str  # "TTree" or "RNTuple"
    events: int | None  # None if they are blind
    accounting: Accounting  # of the record, if there is one, else of the file
    branches: dict[str, Branch]
    objects: dict[str, TopObject]  # all else at the top of the file
    record: Provenance | None  # what NanoML wrote about it

    @property
    def collections(self) -> dict[str, list[str]]:
        """The fields of each collection."""
        found: dict[str, list[str]] = {}
        for branch in self.branches.values():
            if branch.collection is not None:
                found.setdefault(branch.collection, []).append(branch.field)
        return dict(sorted(found.items(), key=lambda item: item[0].lower()))

    @property
    def event_level(self) -> dict[str, list[str]]:
        """The other branches of the input, in groups."""
        made = self.record.columns if self.record else {}
        lists = [branch for branch in self.branches.values() if branch.collection is not None]
        counters = {f"n{name}" for branch in lists for name in (branch.collection, branch.name)}
        names = [
            branch.name for branch in self.branches.values() if branch.collection is None and branch.name not in made
        ]
        return group_branches(names, counters)

    def matching(self, pattern: str) -> list[Branch]:
        """The branches that a glob names, or that belong to the collection of that name.

        Raises NanoMLError if there are none.
        """
        names = versions.expand(pattern, list(self.branches))
        found = [self.branches[name] for name in names]
        found = found or [branch for branch in self.branches.values() if branch.collection == pattern]
        if not found:
            hint = versions.did_you_mean(pattern, [*self.branches, *self.collections])
            raise NanoMLError(f'{self.path}: no branch matches "{pattern}".{hint}')
        return found

    def _content(self) -> dict[str, object]:
        keys, record = ("name", "dtype", "shape", "title", "collection", "typename"), self.record
        return {
            "format": self.format,
            "events": self.events,
            "is_data": self.accounting.is_data,
            "sum_of_weights": finite(self.accounting.sum_of_weights),
            "sum_of_weights_sources": weight_sources(self.accounting),
            "collections": self.collections,
            "event_level": self.event_level,
            "branches": [{key: getattr(branch, key) for key in keys} for branch in self.branches.values()],
            "objects": {name: {"class": each.class_, "text": each.text} for name, each in self.objects.items()},
            "record": record
            and {
                "kind": record.kind,
                "selection": record.selection,
                "criteria": plain(record.criteria),
                "columns": plain(record.columns),
                "model": plain(record.model),
                "not_copied": record.not_copied,
                "books": accounting_content(record.accounting, self.events is None),
            },
        }

    def _show_content(self, page: Page) -> None:
        record, collections, groups = self.record, self.collections, self.event_level
        shifted = record.shifted(self.branches) if record else {}
        what = [record.kind] if record else []
        others = ", ".join(f"{name} {each}" for name, each in self.objects.items())
        facts = [
            ("events", "blind" if self.events is None else count(self.events)),
            ("what", ", ".join([*what, kind_of_events(self.accounting.is_data), self.format])),
            ("size", file_size(self.size)),
            ("sum of weights", self._sum_of_weights()),
            ("branches", self._number_of_branches()),
            ("other objects", others or None),
        ]
        if record is not None:
            facts += [
                ("made from", only_file(record.accounting)),
                duplicates_fact(record.accounting),
                *shift_facts(record.accounting),
                ("columns under shifts", listed(shifted, 3) or None),
                ("selection", record.selection),
                *criteria_facts(record.criteria),
                ("model", record.model.name if record.model else None),
                ("SHA-256", record.model.sha256 if record.model else None),
                ("not copied", ", ".join(record.not_copied) or None),
            ]
        page.facts(*facts)
        if record is not None:
            made = {
                name: column for name, column in record.columns.items() if name not in {*shifted, *record.flags[1:]}
            }
            rows = [(name, column.dtype, column.title) for name, column in made.items()]
            titles = {"scores": "Columns of the model", "attached": "Attached columns"}
            columns = ["name", "type", TableColumn("title", "rest")]
            page.table(titles.get(record.kind, "Columns of the selection"), columns, rows)
            show_accounting(page, record.accounting, self.events is None)
        columns = ["name", TableColumn("number", "number"), TableColumn("fields", "cut")]
        page.table(
            "Collections: lists of numbers per event",
            columns,
            [(name, count(len(fields)), _fields(name, fields)) for name, fields in collections.items()],
        )
        columns = ["prefix", TableColumn("number", "number"), TableColumn("branches", "cut")]
        labels = {_COUNTERS: "(counters)", _SINGLE: "(none)"}
        page.table(
            "Numbers per event",
            columns,
            [
                (labels.get(group, f"{group}_"), count(len(names)), _members(group, names))
                for group, names in groups.items()
            ],
        )

    def _show_branches(self, page: Page, pattern: str) -> None:
        found = self.matching(pattern)
        titles = [[branch.title] if any(each.title for each in found) else [] for branch in found]
        columns = ["branch", "type", "per event", TableColumn("title", "rest")]
        rows = [
            (branch.name, branch.dtype or branch.typename, _SHAPES[branch.shape], *title)
            for branch, title in zip(found, titles)
        ]
        many = f"{count(len(found))} of {count(len(self.branches))} branches match"
        page.title(self.path)
        page.table(f"{'1 branch matches' if len(found) == 1 else many} {pattern}", columns[: 3 + len(titles[0])], rows)

    def _sum_of_weights(self) -> str:
        text = sum_of_weights(self.accounting)
        if any(source.startswith((BY_EVENTS, UNWEIGHTED)) for source in weight_sources(self.accounting)):
            text += ". Right only if no events were cut away before: there is no Runs tree to tell"
        return text

    def _number_of_branches(self) -> str:
        collections = self.collections
        numbers = [count(len(self.branches))]
        if collections:
            inside = sum(map(len, collections.values()))
            numbers.append(f"{inside:,} in {plural(len(collections), 'collection')}")
        groups = self.event_level.items()
        return ", ".join([*numbers, *(f"{len(names):,} {group}" for group, names in groups if group in _GROUPS)])


def inspect(path: str, show_data: bool = True) -> Inspection:
    """Inspect a ROOT file; of data after a cut only if they are to be shown.

    Raises NanoMLError if the file cannot be read, or has neither a tree of events nor histograms of channels.
    """
    try:
        events = _inspect_events(path)
        if show_data or events.record is None or events.accounting.is_data is False or not events.accounting.cutflow:
            return events
        accounting, warnings = before_cuts(events.accounting), [*events.warnings, BEFORE_CUTS]
        record = replace(events.record, accounting=accounting)
        return replace(events, events=None, accounting=accounting, record=record, warnings=warnings)
    except NoTreeError:
        found = of_root(path)
        if found is None:
            raise
        return found


def _inspect_events(path: str) -> RootInspection:
    warnings: list[str] = []
    errors: list[str] = []
    with RootFile(path) as file:
        record = None
        try:
            record = Provenance.of(file)
        except NanoMLError as problem:
            errors.append(str(problem))
        # events that were cut away count too, and scores have no weights
        accounting = record.accounting if record and record.accounting.files else Accounting([accounting_of(file)])
        warnings += [f"The file lacks {gap}." for gap in accounting.gaps]
        if finite(accounting.sum_of_weights) is None:
            warnings.append("The sum of weights is not a finite number: some events have bad generator weights.")
        if record is not None:
            errors += _contradictions(file, record)
        made = record.columns if record else {}
        branches = {
            branch.name: replace(branch, title=made[branch.name].title) if branch.name in made else branch
            for branch in file.branches.values()
        }
        own = ("Events",) if record is None else ("Events", PROVENANCE)
        objects = {name: TopObject(kind, file.string(name)) for name, kind in file.keys.items() if name not in own}
        return RootInspection(
            path, file.size, warnings, errors, file.format, file.entries, accounting, branches, objects, record
        )


def _contradictions(file: RootFile, record: Provenance) -> list[str]:
    """How the file and its record contradict each other."""
    found = []
    problem = record.contradiction(file)
    if problem is not None:
        found.append(f"The file {problem}")
    try:
        record.accounting.check([file.path] * len(record.accounting.files), allow_gaps=True)
    except NanoMLError as wrong:
        found.append(str(wrong))
    lacking = [name for name in record.columns if name not in file.branches]
    if lacking:
        found.append(f"The record names columns that the file lacks: {', '.join(lacking)}. Make the file again.")
    return found


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


def _fields(collection: str, fields: Sequence[str]) -> Text:
    if list(fields) == [collection]:
        return Text("(a list of its own)", style="dim")
    return Text(", ".join(kinematics_first(fields)))


def _members(group: str, names: Sequence[str]) -> str:
    lead = f"{_GROUPS[group]}: " if group in _GROUPS else ""
    short = names if group in (_COUNTERS, _SINGLE) else [name[len(group) + 1 :] or name for name in names]
    return lead + ", ".join(short)
