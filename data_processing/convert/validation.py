"""Checks HDF5 files of the schema in doc/hdf5.md: against their metadata, and the events against the accounting.

The order of events does not matter. If there are several datasets, those of the same label are checked together.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from data_processing.convert.columns import IDENTIFIER_TYPES, VALID
from data_processing.convert.valuechecks import Findings, check_collection, check_events, check_types
from MLTools.NanoML.contracts.hdf5 import (
    CORRECTION,
    EVENTS,
    METADATA,
    PARAMETER,
    RESERVED,
    SCHEMA,
    ConvertedDataset,
    HDF5Metadata,
    metadata_content,
    open_hdf5,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.schema.plain import plain

_KINDS: dict[str, Any] = {"integer": int, "number": (int, float), "text": str, "boolean": bool, "null": type(None)}
_COLUMN = dict.fromkeys(("name", "dtype", "title", "source"), "text")
_STEP = {"cut": "text", "events": "integer", "weights": "number"}
_SUMS = {
    "entries": "integer",
    "selected": "integer",
    "duplicates": "integer",
    "sum_of_weights": "number",
    "cutflow": [_STEP],
}
_FILE = {"file": "text", "sum_of_weights_source": "text", "is_data": "boolean", **_SUMS}
_TRUNCATED = {"objects": "integer", "lost": "integer"}
_OBJECTS = {"max": "integer", "order": "text or null", "fields": [_COLUMN], "truncated": _TRUNCATED}
_NORM = {"cross_section": "number or null", "luminosity": "number or null", "is_data": "boolean"}
_ACCOUNTING = {"files": [_FILE], **_SUMS}
_DATASET = {"name": "text", "class": "text or null", "label": "integer", **_NORM, "books": _ACCOUNTING}
_LISTS = {"classes": ["text"], "features": [_COLUMN], "objects": {"*": _OBJECTS}, "datasets": [_DATASET]}
_CONTENT = {"creator": "text", "selection": "text or null", **_LISTS}


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
    except NanoMLError as problem:
        found.add("file", "", str(problem))
    except MemoryError:
        raise
    except Exception as problem:  # the type of h5py's errors depends on the damage
        reason = f"{type(problem).__name__}: {problem}".split("\n")[0]
        what = f"is damaged, or was not written by `nanoml convert` ({reason}). Convert again."
        found.add("file", "", f"{found.path}: {what}")
    return found


def _check(found: Findings, file: h5py.File, content: dict[str, Any]) -> None:
    events = file[EVENTS]
    if not isinstance(events, h5py.Dataset) or events.dtype.names is None or events.ndim != 1:
        raise NanoMLError(f"{found.path}: was not written by `nanoml convert`: its `{EVENTS}` is not a table.")
    found.events = len(events)
    for where, what in _misfits(content, _CONTENT, METADATA):
        found.add("metadata", where, what)
    if found.faults:
        return
    metadata = HDF5Metadata.from_json(content, found.path)
    found.is_data = any(dataset.is_data for dataset in metadata.datasets)
    for where, what in _contradictions(file, metadata):
        found.add("metadata", where, what)
    for dataset in metadata.datasets:
        _check_accounting(found, dataset)
    for name in sorted({*file} - {EVENTS, METADATA, *metadata.objects}):
        found.add("collections", name, "is not in the metadata")
    for name, described in metadata.objects.items():
        check_collection(found, file.get(name), name, described)
    check_types(found, "columns", events, _event_types(metadata, events.dtype.names))
    parameters = [one.name for one in metadata.features if one.source == PARAMETER]
    check_events(found, events, metadata.datasets, parameters)
    if not metadata.objects:
        found.skip("there are no collections", "collections", "padding", "order", "truncated")
    elif not any(one.order for one in metadata.objects.values()):
        found.skip("collections are in the order of their files", "order")
    found.complete = True


def _misfits(value: Any, wanted: Any, where: str) -> Iterator[tuple[str, str]]:
    """Where and why a part of the metadata does not have the form that is wanted."""
    if isinstance(wanted, str):
        kinds = [_KINDS[kind] for kind in wanted.split(" or ")]
        right = any(
            isinstance(value, kind) and (kind is bool or (value is not True and value is not False)) for kind in kinds
        )
        if not right or (isinstance(value, float) and not math.isfinite(value)):
            yield where, f"is {str(value)[:60]}, not {wanted}"
    elif not isinstance(value, type(wanted)):
        yield where, f"is {str(value)[:60]}, not {'a list' if isinstance(wanted, list) else 'an object'}"
    elif isinstance(wanted, list):
        for number, item in enumerate(value):
            yield from _misfits(item, wanted[0], f"{where}.{number}")
    else:
        for key in value if "*" in wanted else wanted:
            if key in value:
                yield from _misfits(value[key], wanted.get("*") or wanted[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}", "is missing"


def _contradictions(file: h5py.File, metadata: HDF5Metadata) -> Iterator[tuple[str, str]]:
    """Where and why the metadata contradict themselves or the file."""
    if str(file.attrs.get("schema")) != str(SCHEMA):
        yield "attribute schema", f"is {file.attrs.get('schema')}, not {SCHEMA}"
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


def _same(a: Any, b: Any) -> bool:
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
