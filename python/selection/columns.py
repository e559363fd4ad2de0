"""The columns that a selection makes, the check of the values that it returns for them, and hints on mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, SELECTED, weight_column
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Weight
from MLTools.NanoML.rootio.lists import Array, Entries, Lists, is_plain, offsets_of, same_lists
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.selection.selected import Shift

# what awkward and numpy say of common errors in selections, and how to correct them
_HINTS = (
    (
        "index out of range",
        "some events have no such object. Cut on the number of objects before, and narrow the objects, too: "
        "events, muons = cutflow.cut(..., ak.num(muons) >= 2, events, muons)",
    ),
    (
        "cannot broadcast records",
        "these are not four-vectors. Read pt, eta, phi and mass of their collection; for a selection of fields use "
        'ak.with_name(objects, "Momentum4D")',
    ),
    (
        r"no field named '(?:deltaR|deltaphi|deltaeta|mass)'",
        "these are not four-vectors, or the branch was not read. Read pt, eta, phi and mass of their collection; for a "
        'selection of fields use ak.with_name(objects, "Momentum4D")',
    ),
    (
        "no field named '(?:nearest|metric_table)'",
        "these are coffea's. Pair the objects: one, other = ak.unzip(ak.cartesian([jets, muons], nested=True)); the distances are "
        "one.deltaR(other), and ak.firsts(other[ak.argmin(one.deltaR(other), axis=2, keepdims=True)], axis=2) is the nearest",
    ),
    ("no field named", "check its spelling, and that its branch is in `branches`"),
    (
        r"(?:too many|not enough) values to unpack",
        "cut returns as many things as follow its mask, and a single one as it is: "
        "events, muons = cutflow.cut(name, mask, events, muons), but events = cutflow.cut(name, mask, events)",
    ),
    (
        "'tuple' object has no attribute",
        "cut returns a tuple of what follows its mask. Take it apart: events, muons = cutflow.cut(name, mask, events, muons)",
    ),
    (
        "cannot broadcast",
        "these two do not have the same events or objects. Narrow both in every cut: "
        "events, muons = cutflow.cut(..., events, muons)",
    ),
    (
        "truth value of an array",
        "`and`, `or`, `not` and `if` take one event. For all at once: `&`, `|`, `~`, with each comparison in parentheses",
    ),
    (
        "ufunc 'bitwise_(?:and|or)' not supported",
        "`&` and `|` bind before `>` and `==`: put each comparison in parentheses",
    ),
)
_PLACE_IN_CODE = re.compile(r" \(in compiled code: [^)]*\)\.?")


@dataclass(frozen=True)
class Column:
    """A column that a selection makes.

    Attributes
    ----------
    dtype
        numpy name of its type: "f4", "i4", "u1", "?", ...
    title
        What it is, with its unit: "mass of the Z candidate [GeV]".
    collection
        The collection, if it has a number for each object of one; a selection declares these in `collections`.
    missing
        The number that stands for "no value", if there is one: networks are told that it is missing, as they are of NaN.
    """

    dtype: str
    title: str
    collection: str = ""
    missing: Optional[float] = None


@dataclass(frozen=True)
class MadeColumns:
    """The columns that a selection makes.

    Attributes
    ----------
    always
        Those for every event: declared, of collections, of weights, and flags.
    varied
        Those that are there if a value differs under a shift, for each shift: groups of columns that are there together, as
        those of a collection; by the names of the columns from which they differ.
    described
        All of them.
    """

    always: dict[str, Column]
    varied: dict[Shift, list[dict[str, str]]]
    described: dict[str, Column]

    @property
    def nominal(self) -> dict[str, str]:
        """The columns that are there if a value differs under a shift, and those from which they differ."""
        return {name: of for groups in self.varied.values() for group in groups for of, name in group.items()}

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Column],
        collections: Mapping[str, Mapping[str, Column]],
        weights: Mapping[str, Weight],
        shifts: Sequence[Shift],
    ) -> MadeColumns:
        """From what a selection declares; an error if a name stands for two things."""
        own = dict(columns)
        for collection, fields in collections.items():
            for name, column in fields.items():
                own[f"{collection}_{name}"] = replace(column, collection=collection)
            if f"n{collection}" in columns:
                raise NanoMLError(
                    f"column n{collection}: is the number of objects of the collection {collection}, which is made anyway."
                )
        given = dict(_columns_of_weights(weights))
        flags = {SELECTED: Column("?", "the event passes the selection")} if shifts else {}
        for shift in shifts:
            flags[shift.column(SELECTED)] = Column("?", f"the event passes the selection under the shift {shift}")
        made, fixed = {**own, **given}, variations_of(weights)
        shared = [[f"{collection}_{name}" for name in fields] for collection, fields in collections.items()]
        single = [[name] for name in (*columns, *given) if name not in fixed]
        varied = {
            shift: [{name: shift.column(name, made[name].collection) for name in group} for group in (*single, *shared)]
            for shift in shifts
        }
        under = {
            name: _under(shift, made[of])
            for shift, groups in varied.items()
            for group in groups
            for of, name in group.items()
        }
        parts = [columns, {name: each for name, each in own.items() if each.collection}, given, flags, under]
        names = [name for part in parts for name in part]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise NanoMLError(
                f"column {twice}: is made twice. Give a column, collection, weight or shift another name."
            )
        always = {**made, **flags}
        return cls(always, varied, {**always, **under})


def _under(shift: Shift, column: Column) -> Column:
    """A column under a shift."""
    collection = shift.column(column.collection) if column.collection else ""
    return replace(column, title=f"{column.title}, under the shift {shift}", collection=collection)


def variations_of(weights: Mapping[str, Weight]) -> list[str]:
    """The columns of the variations of weights: they have no values of their own under shifts."""
    return [column for name, each in weights.items() for key, column in each.columns(name) if key != NOMINAL]


def _columns_of_weights(weights: Mapping[str, Weight]) -> Iterator[tuple[str, Column]]:
    for name, weight in weights.items():
        for variation, column in weight.columns(name):
            what = "" if variation == NOMINAL else f", {variation.replace('_', ' ')}"
            yield column, Column("f4", f"weight of the event: {name}{what}")
        if weight.bins:
            what = f"bin in which the weight {name} keeps the yield: {weight.bins}"
            yield f"{weight_column(name)}_bin", Column("i4", what)


def checked(
    returned: Mapping[str, object],
    columns: Mapping[str, Column],
    collections: Mapping[str, Mapping[str, Column]],
    length: int,
    beside: int = 0,
) -> dict[str, Entries]:
    """The values that `select` returned, in the declared types; arrays of shape (length,), awkward ones for collections.

    Under several shifts side by side, so many as `beside`, arrays may have the shape (beside, length).

    Raises NanoMLError if a column lacks, is not declared, or does not have the right form.
    """
    declared = [*columns, *collections]
    missing = [name for name in declared if name not in returned]
    extra = [name for name in returned if name not in declared]
    if missing or extra:
        wrong = [f"did not return {', '.join(missing)}"] if missing else []
        kinds = "`columns` does not declare" if not collections else "neither `columns` nor `collections` declares"
        wrong += [f"returned {', '.join(extra)}, which {kinds}"] if extra else []
        hint = did_you_mean(extra[0], missing) if extra else ""
        raise NanoMLError(f"select {' and '.join(wrong)}.{hint}")
    found: dict[str, Entries] = {
        name: _numbers(name, column, returned[name], length, beside) for name, column in columns.items()
    }
    for name, fields in collections.items():
        found.update(_objects(name, fields, returned[name], length))
    return found


def _numbers(name: str, column: Column, values: object, length: int, beside: int) -> Array:
    """One number for each event, or one under each of several shifts."""
    try:
        array = ak.to_numpy(values) if isinstance(values, ak.Array) else np.asanyarray(values)
    except (ValueError, TypeError):
        raise NanoMLError(
            f"column {name} has a list for each event, not one number. Pick one of them, as in jets.pt[:, 0]. "
            "Lists go to `collections`."
        ) from None
    if array.shape != (length,) and (not beside or array.shape != (beside, length)):
        raise NanoMLError(
            f"column {name} has shape {array.shape}, but {length} events are left: narrow what it is made from in every cut, "
            "as in events, muons = cutflow.cut(name, mask, events, muons)."
        )
    if type(array) is not np.ndarray and np.ma.getmaskarray(array).any():
        raise NanoMLError(f"column {name} has missing values (None). Use ak.fill_none(column, value).")
    return _typed(name, column, np.asarray(array), "events. Give such events a value, or cut them away")


def _typed(name: str, column: Column, plain: Array, whose: str) -> Array:
    """Numbers in the type of their column."""
    dtype = np.dtype(column.dtype)
    if plain.dtype.kind == "f" and not np.isfinite(plain).all():
        raise NanoMLError(
            f"column {name} is NaN or infinite in {int((~np.isfinite(plain)).sum())} of {len(plain)} {whose}."
        )
    if plain.dtype.kind not in "biuf":
        raise NanoMLError(f"column {name} is of type {plain.dtype}, not numbers.")
    if dtype.kind in "iu" and len(plain):
        limits, least, greatest = np.iinfo(dtype), plain.min().item(), plain.max().item()
        if not limits.min <= least <= greatest <= limits.max:
            raise NanoMLError(
                f"column {name} has values from {least} to {greatest}, which do not fit into its type {dtype.name}."
            )
    return plain.astype(dtype)


def _objects(name: str, fields: Mapping[str, Column], values: object, length: int) -> dict[str, ak.Array]:
    """The fields of a collection, a list for each event, by the names of their branches."""
    offsets = ak.index.Index64(offsets_of(values.counts)) if isinstance(values, Flat) else None
    if isinstance(values, Flat):
        known = values.columns
    elif isinstance(values, Mapping) or (isinstance(values, ak.Array) and values.fields):
        known = list(values) if isinstance(values, Mapping) else values.fields
    else:
        raise NanoMLError(
            f"collection {name} is {type(values).__name__}. Return its objects (events.Jet[mask], a Flat), or a dictionary of fields."
        )
    missing = next((field for field in fields if field not in known), None)
    if missing is not None:
        raise NanoMLError(
            f"collection {name} has no field {missing}.{did_you_mean(missing, known)} Compute it, or declare it no more."
        )
    found: dict[str, ak.Array] = {}
    first: Lists | None = None
    for field, column in fields.items():
        whole = f"{name}_{field}"
        lists = _lists(whole, values[field]) if offsets is None else Lists(offsets, np.asarray(values[field]))
        if len(lists) != length:
            raise NanoMLError(
                f"collection {name} has {len(lists)} events, but {length} are left: narrow it in every cut."
            )
        if first is not None and not same_lists(lists.offsets, first.offsets):
            raise NanoMLError(f"collection {name}: {field} has other numbers of objects than {next(iter(fields))}.")
        first = first or lists
        numbers = _typed(whole, column, lists.numbers, "objects. Give such objects a value, or leave them out")
        found[whole] = Lists(first.offsets, numbers).array()
    return found


def _lists(name: str, values: object) -> Lists:
    if not isinstance(values, ak.Array) or values.ndim != 2:
        raise NanoMLError(f"column {name} is not a list of numbers for each event.")
    if not is_plain(values.layout) and any(ak.any(ak.is_none(values, axis=axis)) for axis in (0, 1)):
        raise NanoMLError(f"column {name} has missing values (None). Use ak.fill_none or ak.drop_none.")
    return Lists.of(values)


def explain(problem: BaseException) -> str:
    """The message of an exception without details of awkward, and a hint for common errors."""
    lines = str(problem).strip().split("\n")
    details = [line.partition("Error details: ")[2] for line in lines if "Error details: " in line]
    message = _PLACE_IN_CODE.sub("", (details or lines)[0])
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, str(problem))), "")
    return f"{type(problem).__name__}: {message}" + (f": {hint}." if hint else "")
