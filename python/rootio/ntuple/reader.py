"""The fields of an RNTuple under the names that they have in a TTree, whichever program wrote it, and its rows.

CMSSW has a record for a table with one row, a list of records for others, or, in older versions, for both; beside them it
may have their members as fields of their own, which are other names of the same columns. ROOT's importer has such fields
of a collection named "_collectionN".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional

import awkward as ak
import numpy as np
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.baskets import Take
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Array, Lists, Values
from MLTools.NanoML.rootio.ntuple.pages import TYPES, Description, numbers_of

_COLLECTION, _RECORD = 1, 2
_CARDINALITY = "ROOT::RNTupleCardinality<"
_TYPES = {
    "bool": "bool",
    "float": "float32",
    "double": "float64",
    **{f"std::{sign}int{bits}_t": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"{_CARDINALITY}std::uint{bits}_t>": f"uint{bits}" for bits in (32, 64)},
}
_TRIGGERS = ("HLT", "Flag", "L1")  # records of CMSSW; a path without this prefix and "_" keeps its whole name


class Field(NamedTuple):
    """Where the numbers of a branch are."""

    branch: Branch
    lists: Optional[int]  # the column that says where lists end
    numbers: Optional[int]  # the column with the numbers; None for their count


class Fields:
    """The fields of an RNTuple.

    Raises Exception if they contradict each other.
    """

    def __init__(self, description: Description) -> None:
        self._records, self._late = description.fields, set[int]()
        self._columns: dict[int, list[int]] = {}
        self.several: set[int] = set()
        """Columns whose numbers may be in others."""
        for number, column in enumerate(description.columns):
            if column.representation:
                self.several.update(self._columns[column.field])
            else:
                self._columns.setdefault(column.field, []).append(number)
            if column.first:
                self._late.add(number)
        self._children: dict[int, list[int]] = {}
        self._top: dict[str, int] = {}
        for number, record in enumerate(self._records):
            if record.parent != number:
                self._children.setdefault(record.parent, []).append(number)
            elif not record.name.startswith("_"):
                self._top[record.name] = number
        self._tables = {
            name: number
            for name, number in self._top.items()
            if self._is_record(number) or self._is_record(self._item(number))
        }

    @property
    def lists_of_records(self) -> dict[str, tuple[int, int]]:
        """Tables with any number of rows: the column that says where lists end, and that of a member."""
        found = {}
        for name, number in self._tables.items():
            item = self._item(number)
            columns = [self._columns_of(member) for member in self._children.get(item, [])] if item is not None else []
            first = next((each[0] for each in columns if len(each) == 1), None)
            if first is not None:
                found[name] = (self._columns_of(number)[0], first)
        return found

    def named(self, single: Collection[str]) -> dict[str, Field]:
        """The fields by the names in a TTree; `single` are the lists of records that have one record in each event."""
        names = {*self._top, *(f"n{name}" for name in self._tables)}
        found: dict[str, Field] = {}
        for name, number in self._top.items():
            if name not in self._tables:
                found.setdefault(name, self._plain(name, number, names))
                continue
            item = self._item(number)
            collection, lists = None, None
            if item is not None and name not in single:
                collection, [lists] = name, self._columns_of(number)
                title = self._records[number].title
                counter = Branch(f"n{name}", "int32", "flat", title, None, "std::int32_t")
                found.setdefault(counter.name, Field(counter, lists, None))
            for member in self._children.get(number if item is None else item, []):
                short = self._records[member].name
                full = short if name in _TRIGGERS and short.startswith(name) else f"{name}_{short}"
                found.setdefault(full, self._member(full, member, collection, lists))
        return found

    def _item(self, number: int) -> Optional[int]:
        """The field that a collection has several of."""
        children = self._children.get(number, [])
        return children[0] if self._records[number].role == _COLLECTION and len(children) == 1 else None

    def _is_record(self, number: Optional[int]) -> bool:
        return number is not None and self._records[number].role == _RECORD

    def _columns_of(self, number: int) -> list[int]:
        source = self._records[number].source
        return self._columns.get(number if source is None else source, [])

    def _plain(self, name: str, number: int, names: Collection[str]) -> Field:
        item, lists = self._item(number), self._columns_of(number)
        if item is None or len(lists) != 1:
            return self._member(name, number, None, None)
        field = self._member(name, item, versions.collection_of(name, None, names), lists[0])
        record = self._records[number]
        return field._replace(branch=replace(field.branch, title=record.title, typename=record.kind))

    def _member(self, name: str, number: int, collection: Optional[str], lists: Optional[int]) -> Field:
        record, columns, size = self._records[number], self._columns_of(number), 1
        kind = record.kind
        if kind.startswith(_CARDINALITY):
            return Field(Branch(name, _TYPES[kind], "flat", record.title, None, kind), columns[0], None)
        if record.repetition and lists is None and number in self._children:
            [item] = self._children[number]
            columns, size, kind = self._columns_of(item), int(record.repetition), self._records[item].kind
        dtype = _TYPES.get(kind)
        if dtype is None or len(columns) != 1 or (lists is not None and columns[0] in self._late):
            return Field(Branch(name, None, "other", record.title, None, record.kind), None, None)
        shape = "jagged" if lists is not None else "fixed" if record.repetition else "flat"
        branch = Branch(name, dtype, shape, record.title, collection, record.kind, size)
        return Field(branch, lists, columns[0])


_OLDEST = (5, 7)  # uproot that reads and writes what ROOT and CMSSW do

TakeOf = Callable[[Iterable[tuple[int, int]]], Take]


def check_version(what: str) -> None:
    """Raise NanoMLError if uproot is too old for `what`, such as "a.root: has an RNTuple"."""
    if tuple(int(number) for number in uproot.__version__.split(".")[:2]) < _OLDEST:
        raise NanoMLError(
            f"{what}. That takes uproot 5.7 or newer, and this is {uproot.__version__}, as in CMSSW up to 14_2: use "
            "an environment of your own, with Python 3.10 or newer."
        )


class _Span(NamedTuple):
    """A range within a cluster: of its entries, or of the elements of one of its columns."""

    cluster: int
    start: int
    stop: int


@dataclass(frozen=True)
class _Pages:
    """The pages of a column in a cluster."""

    # the first element of each, and the number of elements; those before the first page are zero
    begins: Sequence[int]
    places: Sequence[tuple[int, int]]  # where each is in the file, and its bytes

    def among(self, span: _Span) -> range:
        """The pages that have the elements of a range."""
        if span.start >= span.stop:
            return range(0)
        first = max(bisect_right(self.begins, span.start) - 1, 0)
        return range(first, bisect_right(self.begins, span.stop - 1))


class NTuple:
    """An RNTuple in an open file, as uproot has read it. `take` gives pieces of the file, see `Access.take`."""

    def __init__(self, model: Any, take: TakeOf) -> None:
        self._model, self._take = model, take
        self._pages: dict[tuple[int, int], _Pages] = {}
        self._cut: dict[int, tuple[int, int, Array]] = {}
        self._description = Description.read(model.all_members, lambda *place: take([place])(*place))
        clusters = self._description.clusters
        self.entries = sum(cluster.entries for cluster in clusters)
        """Number of rows."""
        self.starts = [cluster.first for cluster in clusters] + [self.entries]
        """The first row of each cluster, and the number of rows."""
        fields = Fields(self._description)
        self._several = fields.several
        self._fields = fields.named(self._single(fields.lists_of_records))
        self.branches: Mapping[str, Branch] = {name: field.branch for name, field in self._fields.items()}
        """The branches by their names in a TTree."""

    def _single(self, tables: Mapping[str, tuple[int, int]]) -> list[str]:
        """The tables that have exactly one row in each event: older versions of CMSSW write these as lists, too."""
        counts = [stop - start for start, stop in zip(self.starts, self.starts[1:])]
        likely = {name: lists for name, (lists, member) in tables.items() if self._elements_of(member) == counts}
        spans = list(self._spans(0, self.entries))
        ends = self._read_columns(dict.fromkeys(likely.values(), spans)) if spans else {}
        return [
            name
            for name, column in likely.items()
            if spans and all(np.array_equal(each, np.arange(1, len(each) + 1)) for each in ends[column])
        ]

    def _elements_of(self, column: int) -> list[int]:
        """The numbers of elements of a column in each cluster."""
        return [self._pages_of(cluster, column).begins[-1] for cluster in range(len(self.starts) - 1)]

    def bytes_of(self, name: str) -> int:
        """Number of bytes that a branch takes in memory."""
        branch, lists, numbers = self._fields[name]
        size = np.dtype(branch.dtype).itemsize * sum(self._elements_of(numbers)) if numbers is not None else 0
        return size + (4 * self.entries if lists is not None else 0)

    def _pages_of(self, cluster: int, column: int) -> _Pages:
        known = self._pages.get((cluster, column))
        if known is None:
            pages = self._description.clusters[cluster].pages(column)
            # a column that was added later has no pages for the rows before
            late = self._description.columns[column].first - self.starts[cluster]
            lead = min(max(late, 0), self.starts[cluster + 1] - self.starts[cluster])
            # a negative number of elements says that a checksum follows the page
            begins = np.cumsum([lead, *np.abs(pages["elements"])]).tolist()
            known = _Pages(begins, list(zip(pages["seek"].tolist(), pages["size"].tolist())))
            self._pages[cluster, column] = known
        return known

    def pieces(self, names: Sequence[str], ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The pieces of the file that ranges of rows need, as places and numbers of bytes, as far as they are whole clusters.

        Where the pages are that have the lists of a part, is not known before.
        """
        columns = {column for name in names for column in self._fields[name][1:] if column is not None}
        for start, stop in ranges:
            for cluster, first, last in self._spans(start, stop):
                if last - first == self.starts[cluster + 1] - self.starts[cluster]:
                    for column in columns:
                        yield from self._pages_of(cluster, column).places

    def read(
        self, names: Sequence[str], start: int, stop: int, pick: Callable[[Values], Values] = lambda values: values
    ) -> dict[str, Values]:
        """Rows of branches, by their names; of each only what `pick` returns is kept while the next is read.

        Numbers, lists of numbers (`Lists`), or an awkward array for arrays of fixed size. Raises Exception if the file is damaged.
        """
        fields = {name: self._fields[name] for name in names}
        spans = list(self._spans(start, stop))
        before = [_Span(cluster, max(first - 1, 0), last) for cluster, first, last in spans]
        lists = {field.lists for field in fields.values() if field.lists is not None}
        ends = self._read_columns(dict.fromkeys(lists, before))
        known = {column: _limits(spans, ends[column]) for column in lists}
        wanted = {}
        for branch, column, numbers in fields.values():
            if numbers is not None:
                scaled = [_Span(cluster, first * branch.size, last * branch.size) for cluster, first, last in spans]
                wanted[numbers] = known[column].spans if column is not None else scaled
        take = self._take(place for column, parts in wanted.items() for place in self._places(column, parts))
        found = {}
        for name, (branch, column, numbers) in fields.items():
            dtype = np.dtype(branch.dtype)
            if numbers is None:
                assert column is not None
                found[name] = pick(np.diff(np.asarray(known[column].offsets.data)).astype(dtype))
                continue
            parts = [self._elements(numbers, span, take) for span in wanted[numbers]]
            values = _joined(parts, dtype)
            if column is not None:
                found[name] = pick(Lists(known[column].offsets, values))
            elif branch.is_fixed:
                found[name] = pick(ak.Array(ak.contents.NumpyArray(values.reshape(-1, branch.size))))
            else:
                found[name] = pick(values)
        return found

    def _spans(self, start: int, stop: int) -> Iterator[_Span]:
        """The entries of a range, cluster by cluster."""
        for cluster, (begin, end) in enumerate(zip(self.starts, self.starts[1:])):
            if begin < stop and end > start and begin < end:
                yield _Span(cluster, max(start - begin, 0), min(stop, end) - begin)

    def _places(self, column: int, spans: Iterable[_Span]) -> Iterator[tuple[int, int]]:
        for span in spans:
            pages = self._pages_of(span.cluster, column)
            yield from (pages.places[page] for page in pages.among(span))

    def _read_columns(self, spans: Mapping[int, Sequence[_Span]]) -> dict[int, list[Array]]:
        take = self._take(place for column, parts in spans.items() for place in self._places(column, parts))
        return {column: [self._elements(column, span, take) for span in parts] for column, parts in spans.items()}

    def _elements(self, column: int, span: _Span, take: Take) -> Array:
        """A range of the elements of a column in a cluster."""
        kind = self._description.columns[column].kind
        if kind not in TYPES or column in self._several:
            return self._of_uproot(column, span)
        pages = self._pages_of(span.cluster, column)
        parts: list[Array] = []
        if span.stop > pages.begins[-1]:
            raise ValueError(f"a column of cluster {span.cluster} has {pages.begins[-1]} of {span.stop} elements")
        if span.start < pages.begins[0]:
            lacking = min(span.stop, pages.begins[0]) - span.start
            parts.append(np.zeros(lacking, TYPES[kind]))
        for page in pages.among(span):
            begin, after = pages.begins[page], pages.begins[page + 1]
            cut = self._cut.get(column)
            if cut is not None and cut[:2] == (span.cluster, page):
                values = cut[2]
            else:
                values = numbers_of(take(*pages.places[page]), pages.places[page], after - begin, kind)
            if span.stop < after:  # the next range begins with this page
                self._cut[column] = (span.cluster, page, values)
            parts.append(values[max(span.start - begin, 0) : span.stop - begin])
        return _joined(parts, np.dtype(TYPES[kind]))

    def _of_uproot(self, column: int, span: _Span) -> Array:
        """The same by uproot, which knows all ways to store numbers."""
        values = self._model.read_cluster_range(column, span.cluster, span.cluster + 1)
        is_index = self._description.columns[column].kind in uproot.const.rntuple_index_types
        found: Array = values[1:] if is_index else values  # it puts a 0 before the ends of lists
        return found[span.start : span.stop]


class _Limits(NamedTuple):
    """Where the lists of some rows are."""

    offsets: ak.index.Index64  # where each begins, and the last ends, from 0
    spans: Sequence[_Span]  # their numbers


def _limits(spans: Sequence[_Span], ends: Sequence[Array]) -> _Limits:
    """From the ends of the lists in each cluster, with the one before the first row if it has any."""
    offsets = np.zeros(sum(stop - start for _, start, stop in spans) + 1, np.int64)
    found, position = [], 1
    for (cluster, start, stop), each in zip(spans, ends):
        begin, last = int(each[0]) if start else 0, int(each[-1])
        part = offsets[position : position + stop - start]
        part[:] = each[1:] if start else each
        part += offsets[position - 1] - begin
        position += stop - start
        found.append(_Span(cluster, begin, last))
    if (offsets[1:] < offsets[:-1]).any():
        raise ValueError("lists begin before others end")
    return _Limits(ak.index.Index64(offsets), found)


def _joined(parts: Sequence[Array], dtype: np.dtype[np.generic]) -> Array:
    if len(parts) == 1:
        return parts[0].astype(dtype, copy=False)
    return np.concatenate(parts, dtype=dtype, casting="unsafe") if parts else np.empty(0, dtype)
