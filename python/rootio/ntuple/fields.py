"""The fields of an RNTuple under the names that they have in a TTree, whichever program wrote it.

CMSSW has a record for a table with one row, a list of records for others, or, in older versions, for both; beside them it
may have their members as fields of their own, which are other names of the same columns. ROOT's importer has such fields
of a collection named "_collectionN".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple, Optional

from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.ntuple.header import Description

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
        """What a collection has several of."""
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
