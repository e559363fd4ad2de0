"""Checks HDF5 files of the schema in doc/hdf5.md: against their metadata, and the events against the accounting.

The order of events does not matter. If there are several datasets, those of the same label are checked together.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.columns import IDENTIFIER_TYPES, VALID
from MLTools.NanoML.contracts.hdf5 import (
    CORRECTION,
    EVENTS,
    METADATA,
    PARAMETER,
    RESERVED,
    SHIFTS,
    ConvertedCollection,
    ConvertedDataset,
    HDF5Metadata,
    blocks,
    content_of,
    metadata_content,
    open_hdf5,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.plain import misfits, plain

_COMPARED_AT_ONCE = 1 << 23  # events
_KEYS = 1 << 62
_WEIGHTS = ("weight", "genWeight")
_ROUNDING = 3e-7  # relative, of a product in float32
_SMALLEST = 2e-45  # no float32 is nearer to zero


def validate_file(path: str | os.PathLike[str], allow_nan: bool = False) -> Findings:
    """Check an HDF5 file; its faults are returned, not raised.

    `allow_nan` accepts NaN in features and in fields of objects; in parameters it is always accepted. Infinite numbers,
    and weights that are NaN, are faults.
    """
    found = Findings(os.fspath(path), allow_nan)
    try:
        content = metadata_content(path)
        with open_hdf5(path) as file, np.errstate(invalid="ignore", over="ignore"):
            _check(found, file, content)
            for shift in content.get(SHIFTS, ()):
                under = Findings(f"{found.path}, {SHIFTS}/{shift}", allow_nan)
                group = file[f"{SHIFTS}/{shift}"]
                _check(under, group, content_of(group, under.path))
                found.faults |= {
                    (check, f"{shift}: {where}", what): it for (check, where, what), it in under.faults.items()
                }
    except NanoMLError as problem:
        found.add("file", "", str(problem))
    except MemoryError:
        raise
    except Exception as problem:  # the type of h5py's errors depends on the damage
        reason = f"{type(problem).__name__}: {problem}".split("\n")[0]
        what = f"is damaged, or was not written by `nanoml convert` ({reason}). Convert again."
        found.add("file", "", f"{found.path}: {what}")
    return found


def _check(found: Findings, file: h5py.File, content: dict[str, object]) -> None:
    events = file[EVENTS]
    if not isinstance(events, h5py.Dataset) or events.dtype.names is None or events.ndim != 1:
        raise NanoMLError(f"{found.path}: was not written by `nanoml convert`: its `{EVENTS}` is not a table.")
    found.events = len(events)
    for where, what in misfits(content, HDF5Metadata, METADATA):
        found.add("metadata", where, what)
    if found.faults:
        return
    metadata = HDF5Metadata.from_json(content, found.path)
    found.is_data = any(dataset.is_data for dataset in metadata.datasets)
    for where, what in _contradictions(file, metadata):
        found.add("metadata", where, what)
    for dataset in metadata.datasets:
        _check_accounting(found, dataset)
    for name in sorted({*file} - {EVENTS, METADATA, *metadata.objects, *([SHIFTS] if metadata.shifts else [])}):
        found.add("collections", name, "is not in the metadata")
    for name, described in metadata.objects.items():
        _check_collection(found, file.get(name), name, described)
    _check_types(found, "columns", events, _event_types(metadata, events.dtype.names))
    _check_events(found, events, metadata)
    if not metadata.objects:
        found.skip("there are no collections", "collections", "padding", "order", "truncated")
    elif not any(one.order for one in metadata.objects.values()):
        found.skip("collections are in the order of their files", "order")
    found.complete = True


def _contradictions(file: h5py.File, metadata: HDF5Metadata) -> Iterator[tuple[str, str]]:
    """Where and why the metadata contradict themselves or the file."""
    if str(file.attrs.get("schema")) != str(metadata.schema):
        yield "attribute schema", f"is {file.attrs.get('schema')}, not {metadata.schema}"
    classes = metadata.classes
    if len(set(classes)) < len(classes):
        yield f"{METADATA}.classes", "has a class twice"
    tables = {name: (one.fields, (VALID,)) for name, one in metadata.objects.items()}
    own = (*RESERVED, *(region.column for region in metadata.regions))
    for name, (columns, reserved) in {EVENTS: (metadata.features, own), **tables}.items():
        names = Counter([*reserved, *(column.name for column in columns)])
        for key in (key for key, times in names.items() if times > 1):
            yield f"{name}/{key}", "is in the metadata twice, or has a name of the schema's own"
    for name, one in metadata.objects.items():
        if one.order and one.order.lstrip("-") not in [column.name for column in one.fields]:
            yield name, f"is sorted by {one.order}, which is not one of its fields"
    if not metadata.datasets:
        yield f"{METADATA}.datasets", "has none"
    for dataset in metadata.datasets:
        where, class_ = f"dataset {dataset.name}", dataset.class_
        if class_ is not None and class_ not in classes:
            yield where, f"is of class {class_}, which is not one of the classes"
        elif dataset.label != (-1 if class_ is None else classes.index(class_)):
            yield where, f"has label {dataset.label}, which is not that of class {class_}"
        if any(one.is_data != dataset.is_data for one in dataset.accounting.files):
            yield where, "differs from the accounting of its files in is_data"
        if not math.isfinite(dataset.weight_per_genweight or 0):
            yield where, "has a sum of weights that is not positive"


def _check_accounting(found: Findings, dataset: ConvertedDataset) -> None:
    where = f"dataset {dataset.name}"
    recorded, summed = plain(dataset.accounting), Accounting(dataset.accounting.files).to_json()
    for key, total in summed.items():
        if not _same(recorded[key], total):
            found.add("books", where, f"{key} in total is not the sum over its files")
    for one in dataset.accounting.files:
        steps = [one.entries, *(step.events for step in one.cutflow), one.selected + one.duplicates]
        falling = steps == sorted(steps, reverse=True)
        if not falling or steps[1] != one.entries or steps[-2] != steps[-1]:
            flow = ", ".join(map(str, steps[1:-1])) or "empty"
            what = f"has {one.entries} events and {steps[-1]} kept, but its cut flow is {flow}"
            found.add("cutflow", f"{where}, {one.file}", what)


def _same(a: object, b: Any) -> bool:
    """Whether two parts of the accounting are the same but for the rounding of sums."""
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return all(_same(a[key], b[key]) for key in b)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) if isinstance(a, float) else a == b


def _event_types(metadata: HDF5Metadata, there: Sequence[str]) -> dict[str, str]:
    """Fields of `events`; if only some datasets have a weight, the field may be there or not."""
    types = {name: np.dtype(dtype).name for name, dtype in IDENTIFIER_TYPES.items()}
    types["label"] = "int32"
    datasets = metadata.datasets
    weighted = {one.weight_per_genweight is not None for one in datasets}
    generated = {one.has_generator_weights for one in datasets}
    for name, known in (("weight", weighted), ("genWeight", generated)):
        if known == {True} or (known == {True, False} and name in there):
            types[name] = "float32"
    if metadata.weights or CORRECTION in there:
        types[CORRECTION] = "float32"
    if "weight" in types:
        types |= {column: "float32" for one in metadata.weights for column in one.variations.values()}
    types |= {region.column: "bool" for region in metadata.regions}
    return {**types, **{one.name: one.dtype for one in metadata.features}}


@dataclass
class Findings:
    """The faults of a file."""

    path: str
    allow_nan: bool
    events: int | None = None  # their number; None if the file cannot be read
    is_data: bool = False  # whether some are data, which may be blind: then their number is not told
    # (check, where, what) to [first row, how many times]; [-1, 0] for faults that do not belong to rows
    faults: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # why a check was left out, by its name
    complete: bool = False  # whether all checks were made: the file can be read, and its metadata can be understood

    def add(self, check: str, where: str, what: str, row: int = -1, times: int = 0) -> None:
        """Add a fault, or more of it from a later block."""
        self.faults.setdefault((check, where, what), [row, 0])[1] += times

    def skip(self, why: str, *checks: str) -> None:
        """Say why checks are left out."""
        self.skipped.update(dict.fromkeys(checks, why))

    def add_rows(self, check: str, where: str, what: str, bad: NDArray[np.bool_], start: int) -> None:
        """Add the bad values of a block whose first row is `start`; shape (rows,) or (rows, max)."""
        if bad.any():
            row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
            self.add(check, where, what, start + row, int(np.count_nonzero(bad)))


def _check_types(found: Findings, check: str, dataset: h5py.Dataset, wanted: Mapping[str, str]) -> None:
    """Compare the types of a dataset's fields with those in the metadata."""
    name, there = dataset.name.rpartition("/")[2], {key: str(dataset.dtype[key]) for key in dataset.dtype.names}
    for key in {**wanted, **there}:
        if key not in there:
            found.add(check, f"{name}/{key}", "is missing")
        elif key not in wanted:
            found.add(check, f"{name}/{key}", "is not in the metadata")
        elif there[key] != wanted[key]:
            found.add(check, f"{name}/{key}", f"is {there[key]}, but {wanted[key]} in the metadata")
    if sorted(there) == sorted(wanted) and list(there) != list(wanted):
        found.add(check, name, f"has its fields in another order than the metadata: {', '.join(there)}")


def _numbers(dataset: h5py.Dataset) -> list[str]:
    return [key for key in dataset.dtype.names if dataset.dtype[key].kind in "biuf"]


def _check_finite(found: Findings, where: str, values: NDArray[Any], use: object, start: int, allow_nan: bool) -> None:
    """Check the values for which `use` is true."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        found.add_rows("finite", where, "is infinite", np.isinf(values) & use, start)
        if not allow_nan:
            found.add_rows("finite", where, "is NaN", np.isnan(values) & use, start)


def _check_collection(found: Findings, dataset: object, name: str, described: ConvertedCollection) -> None:
    """Check a collection: its types, padding, order, how many objects were cut off, and that numbers are finite."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.names is None:
        found.add("collections", name, "is missing, or not a table")
        return
    if dataset.shape != (found.events, described.max):
        found.add("collections", name, f"has shape {dataset.shape}, not {(found.events, described.max)}")
    types = {one.name: one.dtype for one in described.fields}
    _check_types(found, "collections", dataset, {**types, VALID: "bool"})
    names, order = _numbers(dataset), described.order or ""
    key_of_order = order.lstrip("-")
    if VALID not in names or dataset.ndim != 2:
        return
    stored, full = 0, False
    for start, block in blocks(dataset, names):
        valid = block[VALID].astype(bool)
        stored, full = stored + int(valid.sum()), full or bool(valid.all(axis=1).any())
        gaps = valid[:, 1:] & ~valid[:, :-1]
        found.add_rows("padding", f"{name}/{VALID}", "an object comes after padding", gaps, start)
        for key in names:
            where, filled = f"{name}/{key}", (block[key] != 0) & ~valid
            found.add_rows("padding", where, "is not zero in padding", filled, start)
            _check_finite(found, where, block[key], valid, start, found.allow_nan)
        if key_of_order in names:
            first, second = block[key_of_order][:, :-1], block[key_of_order][:, 1:]
            wrong = (first < second if order.startswith("-") else first > second) & valid[:, 1:] & valid[:, :-1]
            found.add_rows("order", f"{name}/{key_of_order}", f"is not sorted by {order}", wrong, start)
    objects, lost = described.truncated.objects, described.truncated.lost
    if stored != objects - lost or lost < 0 or (lost and not full):
        what = f"{stored:,} objects are stored, but the metadata count {objects:,}, of which {lost:,} cut off"
        found.add("truncated", name, what)


def _check_events(found: Findings, events: h5py.Dataset, metadata: HDF5Metadata) -> None:
    """Check the events: finite numbers, labels, weights, sums of weights, and that no event appears twice."""
    names, datasets = _numbers(events), metadata.datasets
    parameters = [one.name for one in metadata.features if one.source == PARAMETER]
    labels = sorted({one.label for one in datasets})
    groups = [_Group(label, [one for one in datasets if one.label == label], names) for label in labels]
    labelled = "label" in names
    for start, block in blocks(events, names):
        for name in names:
            may_be_nan = name in parameters or (found.allow_nan and name not in _WEIGHTS)
            _check_finite(found, f"{EVENTS}/{name}", block[name], True, start, may_be_nan)
        if labelled:
            foreign = ~np.isin(block["label"], labels)
            what = f"is not the label of the datasets, {' or '.join(map(str, labels))}"
            found.add_rows("labels", f"{EVENTS}/label", what, foreign, start)
            for group in groups:
                group.add(found, block, start)
    if not labelled:
        found.skip("events have no label", "labels", "unique", "events", "weights", "sums")
        return
    for group in groups:
        group.close(found)
    if not any(group.weighted for group in groups):
        found.skip("there is no weight", "weights")
    if not any(group.has_cutflow for group in groups):
        found.skip("there is no cut flow", "sums")
    if {*IDENTIFIERS} <= {*names}:
        _check_unique(found, events, {group.label: group.many for group in groups})
    else:
        found.skip("events have no identifiers", "unique")


class _Group:
    """The datasets of one label; only the weights of their events differ."""

    def __init__(self, label: int, datasets: Sequence[ConvertedDataset], names: Sequence[str]) -> None:
        simulated = sum(not one.is_data for one in datasets)
        self.label, self.many = label, simulated + any(one.is_data for one in datasets)
        self.selected = sum(one.accounting.selected for one in datasets)
        factors = [one.weight_per_genweight for one in datasets]
        self.weighted = "weight" in names and None not in factors
        self.corrected = CORRECTION in names
        estimates = [one.data_driven.sum_of_weights for one in datasets if one.data_driven]
        self.estimated = math.fsum(estimates) if len(estimates) == len(datasets) else None
        self.factors = [(factor or 0.0, one.is_data) for factor, one in zip(factors, datasets)]
        flows = [[file.cutflow for file in one.accounting.files] for one in datasets]
        self.has_cutflow = all(flow for files in flows for flow in files)
        # copies are left out of data only, where each event has weight 1
        self.left = [
            math.fsum(flow[-1].weights for flow in files if flow) - one.accounting.duplicates
            for files, one in zip(flows, datasets)
        ]
        data = {one.is_data for one in datasets}
        self.generated = "genWeight" in names and data != {True}
        self.has_generator = self.generated or data == {True}
        self.alike = len(data) == 1
        self.sums = np.zeros(5)  # events, genWeight, |genWeight|, weight, |weight|

    def add(self, found: Findings, block: NDArray[Any], start: int) -> None:
        here = block["label"] == self.label
        ones = np.ones(len(block))
        generator = block["genWeight"].astype("f8") if self.generated else ones
        weight = block["weight"].astype("f8") if self.weighted else ones
        correction = block[CORRECTION].astype("f8") if self.corrected else ones
        if self.weighted and self.has_generator:
            wrong = here.copy()
            for factor, is_data in self.factors:
                right = correction * (ones if is_data else generator * factor)
                wrong &= ~np.isclose(weight, right, rtol=_ROUNDING, atol=_SMALLEST)
            formula = " or ".join("1" if is_data else f"genWeight x {factor:.7g}" for factor, is_data in self.factors)
            formula += f", times {CORRECTION}" if self.corrected else ""
            found.add_rows("weights", f"{EVENTS}/weight", f"is not {formula}", wrong, start)
        parts = (ones, generator, abs(generator), weight, abs(weight))
        self.sums += [part[here].sum() for part in parts]

    def close(self, found: Findings) -> None:
        events, generator, generator_size, weight, weight_size = self.sums
        if events != self.selected:
            what = f"has {events:,.0f} events of label {self.label}, but the accounting says {self.selected:,}"
            found.add("events", EVENTS, what)
        if self.weighted and self.estimated is not None and not abs(weight - self.estimated) <= _ROUNDING * weight_size:
            what = f"weight of label {self.label} adds up to {weight:.9g}, but to {self.estimated:.9g} in its datasets"
            found.add("sums", EVENTS, what)
        if not self.has_cutflow:
            return
        pairs = []
        if self.has_generator and self.alike:
            pairs.append(("genWeight", generator, math.fsum(self.left), generator_size))
        if self.weighted and not self.corrected:
            weights = math.fsum(factor * left for (factor, _), left in zip(self.factors, self.left))
            pairs.append(("weight", weight, weights, weight_size))
        for name, total, wanted, size in pairs:
            if not abs(total - wanted) <= _ROUNDING * size:
                what = f"{name} of label {self.label} adds up to {total:.9g}, but to {wanted:.9g} after the last cut"
                found.add("sums", EVENTS, what)


def _check_unique(found: Findings, events: h5py.Dataset, allowed: Mapping[int, int]) -> None:
    """Find repeated events; each simulated dataset of a label may have an event of the same numbers, which count from 1."""
    parts, numbers = -(-len(events) // _COMPARED_AT_ONCE), events.fields(IDENTIFIERS)
    repeated: list[tuple[int, int]] = []
    times = 0
    for part in range(parts):
        keys: dict[int, list[NDArray[np.int64]]] = {label: [] for label in allowed}
        rows: dict[int, list[NDArray[np.int64]]] = {label: [] for label in allowed}
        for start, block in blocks(events, [*IDENTIFIERS, "label"]):
            hashes = fold_of(block["run"], block["luminosityBlock"], block["event"], _KEYS)
            mine = hashes % parts == part
            for label in allowed:
                here = np.flatnonzero(mine & (block["label"] == label))
                keys[label].append(hashes[here])
                rows[label].append(here + start)
        for label, many in allowed.items():
            pairs = _repeated(np.concatenate(keys.pop(label)), np.concatenate(rows.pop(label)), many)
            times += len(pairs)
            for first, row in pairs.tolist():
                if numbers[first] == numbers[row]:  # a hash may be the same by chance
                    repeated.append((row, first))
                    break
    if repeated:
        row, first = min(repeated)
        event = ", ".join(f"{name} {number}" for name, number in zip(IDENTIFIERS, numbers[row]))
        found.add("unique", EVENTS, f"{event} is also in row {first}", row, times)


def _repeated(keys: NDArray[np.int64], rows: NDArray[np.int64], many: int) -> NDArray[np.int64]:
    """Rows of the same key, the second `many` places after the first, shape (n, 2), in the order of the second."""
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    again = np.flatnonzero(keys[many:] == keys[:-many])
    pairs = np.stack([rows[again], rows[again + many]], axis=1)
    return pairs[np.argsort(pairs[:, 1])]
