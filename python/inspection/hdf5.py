"""What is in an HDF5 file: one of the pipeline's, or any other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import h5py

from MLTools.NanoML.books import Books
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.hdf5 import EVENTS, METADATA, open_hdf5, read_metadata
from MLTools.NanoML.inspection.records import describe_books
from MLTools.NanoML.inspection.summary import Counts, summarise

__all__ = ["inspect_hdf5"]


def inspect_hdf5(path: str) -> dict[str, Any]:
    """What is in an HDF5 file.

    Returns
    -------
    Beside what `inspect_file` promises, for a file of `nanoml convert` (`own` is true): `creator`, `events`,
    `selection`, `weight` (the column of weights, or None), `classes` (name, label, events, weights), `features`
    (name, dtype, title, source, min, mean, max, nan, infinite), `objects` (name, max, order, fields, objects,
    lost) and `datasets` (name, class, cross_section [pb], luminosity [/fb], is_data, books). For any other
    file: `datasets` (name, shape, dtype, fields) and `attributes` (name to text).

    Raises
    ------
    NanoMLError
        The file is damaged, of a newer schema, or its metadata do not describe it.
    """
    with open_hdf5(path) as file:
        content = {"kind": "hdf5", "path": path, "size": os.path.getsize(path), "warnings": []}
        try:
            if not _is_own(file):
                return {**content, "own": False, **_foreign(file)}
            metadata = _metadata(path)
            return {**content, "own": True, **_own(file, metadata, content["warnings"])}
        except OSError as problem:  # as h5py raises for damaged data
            reason = str(problem).split("\n")[0]
            raise NanoMLError(f"{path}: is damaged ({reason}). Make it again with `nanoml convert`.") from None


def _is_own(file: h5py.File) -> bool:
    described, events = file.get(METADATA), file.get(EVENTS)
    return (
        isinstance(described, h5py.Dataset)
        and described.shape == ()
        and h5py.check_string_dtype(described.dtype) is not None
        and isinstance(events, h5py.Dataset)
        and events.dtype.names is not None
    )


def _metadata(path: str) -> dict[str, Any]:
    try:
        return read_metadata(path)
    except (ValueError, AttributeError) as problem:
        raise _not_understood(path, problem) from None


def _not_understood(path: str, problem: Exception) -> NanoMLError:
    return NanoMLError(
        f"{path}: its `{METADATA}` cannot be understood ({type(problem).__name__}: {problem}). "
        "Make it again with `nanoml convert`."
    )


def _own(file: h5py.File, metadata: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    events = file[EVENTS]
    try:
        described = {
            "creator": metadata["creator"],
            "events": len(events),
            "selection": metadata["selection"],
            "classes": list(metadata["classes"]),
            "features": [_column(column) for column in metadata["features"]],
            "objects": [_objects(name, one) for name, one in metadata["objects"].items()],
            "datasets": [_dataset(one) for one in metadata["datasets"]],
        }
    except (KeyError, TypeError, AttributeError) as problem:
        raise _not_understood(file.filename, problem) from None
    _check(file, described, warnings)
    weight = next((name for name in ("weight", "genWeight") if name in events.dtype.names), None)
    summaries, counts = summarise(events, [one["name"] for one in described["features"]], weight)
    for feature in described["features"]:
        feature.update(summaries[feature["name"]].as_dict())
    return {**described, "weight": weight, "classes": _classes(described["classes"], counts)}


def _classes(names: Sequence[str], counts: Mapping[int, Counts]) -> list[dict[str, Any]]:
    """All classes, also those without events, then the events that belong to none."""
    found = [{"name": name, "label": label, **asdict(counts.get(label, Counts()))} for label, name in enumerate(names)]
    others = sorted(label for label in counts if not 0 <= label < len(names))
    return found + [{"name": None, "label": label, **asdict(counts[label])} for label in others]


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    return {key: column[key] for key in ("name", "dtype", "title", "source")}


def _objects(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    truncated = content["truncated"]
    return {
        "name": name,
        "max": content["max"],
        "order": content["order"],
        "fields": [_column(column) for column in content["fields"]],
        "objects": truncated["objects"],
        "lost": truncated["lost"],
    }


def _dataset(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: content[key] for key in ("name", "class", "cross_section", "luminosity", "is_data")},
        "books": describe_books(Books.from_dict(content["books"])),
    }


def _check(file: h5py.File, described: Mapping[str, Any], warnings: list[str]) -> None:
    """Metadata and data must fit together: they may have been changed apart by another program."""
    columns = file[EVENTS].dtype.names
    lacking = [one["name"] for one in described["features"] if one["name"] not in columns]
    lacking += [one["name"] for one in described["objects"] if not isinstance(file.get(one["name"]), h5py.Dataset)]
    if lacking:
        raise NanoMLError(
            f"{file.filename}: its `{METADATA}` names {', '.join(lacking)}, which the file lacks. Make it again with `nanoml convert`."
        )
    selected = sum(one["books"]["selected"] for one in described["datasets"])
    if selected != described["events"]:
        warnings.append(
            f"The file has {described['events']:,} events, but its books say {selected:,}: it was changed after the conversion. "
            "Convert again."
        )


def _foreign(file: h5py.File) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names = item.dtype.names or ()
            fields = {field: _type_name(item.dtype[field]) for field in names}
            dtype = "compound" if names else _type_name(item.dtype)
            found.append({"name": name, "shape": item.shape and list(item.shape), "dtype": dtype, "fields": fields})

    file.visititems(visit)
    return {"datasets": found, "attributes": {name: str(file.attrs[name]) for name in file.attrs}}


def _type_name(dtype: Any) -> str:
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    content = h5py.check_vlen_dtype(dtype)
    if content is not None:
        return f"list of {_type_name(content)}"
    return "reference" if h5py.check_ref_dtype(dtype) is not None else str(dtype)
