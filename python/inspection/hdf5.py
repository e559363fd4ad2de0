"""What is in an HDF5 file: one of the pipeline's, or any other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import h5py

from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    METADATA,
    ConvertedDataset,
    HDF5Metadata,
    open_hdf5,
    read_metadata,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection.records import describe_accounting, finite
from MLTools.NanoML.inspection.summary import Counts, summarise
from MLTools.NanoML.nanoaod.accounting import Accounting

__all__ = ["inspect_hdf5"]


def inspect_hdf5(path: str) -> dict[str, Any]:
    """What is in an HDF5 file.

    Returns
    -------
    Beside what `inspect_file` promises, for a file of `nanoml convert` (`own` is true): `creator`, `events`,
    `selection`, `weight` (the column of weights, or None), `classes` (name, label, events, weights), `features`
    (name, dtype, title, source, min, mean, max, nan, infinite), `objects` (name, max, order, fields, objects,
    lost) and `datasets` (name, class, cross_section [pb], luminosity [/fb], is_data, books, missing, duplicates). For any other
    file: `datasets` (name, shape, dtype, fields) and `attributes` (name to text).

    Raises
    ------
    NanoMLError
        The file is damaged, of a newer schema, or its metadata do not describe it.
    """
    with open_hdf5(path) as file:
        warnings: list[str] = []
        errors: list[str] = []
        size = os.path.getsize(path)
        content = {"kind": "hdf5", "path": path, "size": size, "warnings": warnings, "errors": errors}
        try:
            if not _is_own(file):
                return {**content, "own": False, **_foreign(file)}
            metadata = read_metadata(path)
            return {**content, "own": True, **_own(file, metadata, warnings, errors)}
        except (NanoMLError, MemoryError):
            raise
        except Exception as problem:  # what h5py raises for a damaged file depends on the damage
            reason = str(problem).strip("'").split("\n")[0]
            raise NanoMLError(f"{path}: is damaged ({reason}). Make or fetch it again.") from problem


def _is_own(file: h5py.File) -> bool:
    described, events = file.get(METADATA), file.get(EVENTS)
    return (
        isinstance(described, h5py.Dataset)
        and described.shape == ()
        and h5py.check_string_dtype(described.dtype) is not None
        and isinstance(events, h5py.Dataset)
        and events.dtype.names is not None
    )


def _own(file: h5py.File, metadata: HDF5Metadata, warnings: list[str], errors: list[str]) -> dict[str, Any]:
    events = file[EVENTS]
    described: dict[str, Any] = {
        "creator": metadata.creator,
        "events": len(events),
        "selection": metadata.selection,
        "classes": metadata.classes,
        "features": [asdict(column) for column in metadata.features],
        "objects": [
            {
                "name": name,
                "max": one.max,
                "order": one.order,
                "fields": [asdict(column) for column in one.fields],
                "objects": one.objects,
                "lost": one.lost,
            }
            for name, one in metadata.objects.items()
        ],
        "datasets": [_dataset(file.filename, one) for one in metadata.datasets],
    }
    _check(file, described, errors)
    weight = next((name for name in ("weight", "genWeight") if name in events.dtype.names), None)
    summaries, counts = summarise(events, [one["name"] for one in described["features"]], weight)
    for feature in described["features"]:
        feature.update(summaries[feature["name"]].as_dict())
    if any(finite(one.weights) is None for one in counts.values()):
        warnings.append(f"A sum of weights is not a finite number: some events have a bad {weight}.")
    return {**described, "weight": weight, "classes": _classes(described["classes"], counts)}


def _classes(names: Sequence[str], counts: Mapping[int, Counts]) -> list[dict[str, Any]]:
    """All classes, also those without events, then the events that belong to none."""
    labels = [*range(len(names)), *sorted(label for label in counts if not 0 <= label < len(names))]
    found = []
    for label in labels:
        many = counts.get(label, Counts())
        name = names[label] if 0 <= label < len(names) else None
        found.append({"name": name, "label": label, "events": many.events, "weights": finite(many.weights)})
    return found


def _dataset(path: str, dataset: ConvertedDataset) -> dict[str, Any]:
    try:
        accounting = describe_accounting(Accounting.from_dict(dataset.accounting))
    except (KeyError, TypeError, AttributeError) as problem:
        raise NanoMLError(
            f"{path}: the accounting of dataset {dataset.name} cannot be understood ({type(problem).__name__}: {problem}). "
            "Make it again with `nanoml convert`."
        ) from None
    return {
        "name": dataset.name,
        "class": dataset.class_,
        "cross_section": dataset.cross_section,
        "luminosity": dataset.luminosity,
        "is_data": dataset.is_data,
        "books": accounting,
        "missing": [asdict(each) for each in dataset.missing],
        "duplicates": dataset.duplicates,
    }


def _check(file: h5py.File, described: Mapping[str, Any], errors: list[str]) -> None:
    """Metadata and data must fit together: another program may have changed one of them."""
    columns = file[EVENTS].dtype.names
    lacking = [
        name for name in ("label", *(one["name"] for one in described["features"])) if name not in columns
    ]
    lacking += [
        one["name"] for one in described["objects"] if not isinstance(file.get(one["name"]), h5py.Dataset)
    ]
    if lacking:
        raise NanoMLError(
            f"{file.filename}: lacks {', '.join(lacking)}, which it should have by its `{METADATA}`. "
            "Make it again with `nanoml convert`."
        )
    selected = sum(one["books"]["selected"] for one in described["datasets"])
    if selected != described["events"]:
        errors.append(
            f"The file has {described['events']:,} events, but its accounting says {selected:,}: "
            "it was changed after the conversion. Convert again."
        )


def _foreign(file: h5py.File) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            fields = {field: _type_name(item.dtype[field]) for field in item.dtype.names or ()}
            shape = None if item.shape is None else list(item.shape)
            found.append(
                {"name": _text(name), "shape": shape, "dtype": _type_name(item.dtype), "fields": fields}
            )

    file.visititems(visit)
    return {"datasets": found, "attributes": {_text(name): str(file.attrs[name]) for name in file.attrs}}


def _text(name: str | bytes) -> str:
    """A name; h5py gives one that is not in UTF-8 as bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _type_name(dtype: Any) -> str:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return f"{_type_name(base)}[{', '.join(map(str, shape))}]"
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    content = h5py.check_vlen_dtype(dtype)
    if content is not None:
        return f"list of {_type_name(content)}"
    if h5py.check_ref_dtype(dtype) is not None:
        return "reference"
    return "compound" if dtype.names else str(dtype)
