"""What is in an HDF5 file, one of the pipeline's or any other: as content, and printed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np
from rich.text import Text

from MLTools.NanoML.contracts.hdf5 import EVENTS, METADATA, ConvertedDataset, HDF5Metadata, open_hdf5, read_metadata
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection.records import (
    describe_accounting,
    duplicates_fact,
    finite,
    kind_of_events,
    only_file,
    show_cutflow,
    show_files,
    sum_of_weights,
)
from MLTools.NanoML.inspection.summary import ClassCounts, summarise
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.terminal.page import (
    Page,
    TableColumn,
    amount,
    count,
    file_size,
    kinematics_first,
    number,
    plural,
    share,
)

__all__ = ["inspect", "show"]

_WIDE = 110  # characters; a wider console has room for less important columns
_MUCH_LOST = 0.1
_FIELDS_SHOWN = 10


def inspect(path: str) -> dict[str, Any]:
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
            {"name": name, **{key: value for key, value in asdict(one).items() if key != "quantile"}}
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


def _classes(names: Sequence[str], counts: Mapping[int, ClassCounts]) -> list[dict[str, Any]]:
    """All classes, also those without events, then the events that belong to none."""
    labels = [*range(len(names)), *sorted(label for label in counts if not 0 <= label < len(names))]
    found = []
    for label in labels:
        many = counts.get(label, ClassCounts())
        name = names[label] if 0 <= label < len(names) else None
        found.append({"name": name, "label": label, "events": many.events, "weights": finite(many.weights)})
    return found


def _dataset(path: str, dataset: ConvertedDataset) -> dict[str, Any]:
    accounting = describe_accounting(Accounting(dataset.accounting.files))
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
    """Check that metadata and data agree: another program may have changed one of them."""
    columns = file[EVENTS].dtype.names
    lacking = [name for name in ("label", *(one["name"] for one in described["features"])) if name not in columns]
    lacking += [one["name"] for one in described["objects"] if not isinstance(file.get(one["name"]), h5py.Dataset)]
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
            found.append({"name": _text(name), "shape": shape, "dtype": _type_name(item.dtype), "fields": fields})

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


def show(content: Mapping[str, Any], page: Page) -> None:
    """Print what `inspect` returns, between the title and the warnings."""
    (_show_own if content["own"] else _show_foreign)(page, content)


def _show_own(page: Page, content: Mapping[str, Any]) -> None:
    page.facts(
        [
            ("events", count(content["events"])),
            ("what", "events for training, one row each"),
            ("size", file_size(content["size"])),
            ("made by", content["creator"]),
            ("selection", content["selection"]),
        ]
    )
    _show_classes(page, content)
    _show_features(page, content["features"])
    _show_objects(page, content["objects"])
    for dataset in content["datasets"]:
        _show_dataset(page, dataset)


def _show_classes(page: Page, content: Mapping[str, Any]) -> None:
    total = "sum of genWeight" if content["weight"] == "genWeight" else "sum of weights"
    columns = [
        TableColumn("label", "number"),
        TableColumn("class"),
        TableColumn("events", "number"),
        TableColumn(total, "number"),
    ]
    rows = [
        (
            str(one["label"]),
            one["name"] if one["name"] is not None else Text("(none)", style="dim"),
            count(one["events"]),
            amount(one["weights"]),
        )
        for one in content["classes"]
    ]
    page.table("Classes", columns, rows)


def _show_features(page: Page, features: Sequence[Mapping[str, Any]]) -> None:
    missing = any(one["nan"] or one["infinite"] for one in features)
    wide = page.width >= _WIDE
    columns = [
        TableColumn("name"),
        TableColumn("type"),
        *([TableColumn("from")] if wide else []),
        *(TableColumn(name, "number") for name in ("min", "mean", "max")),
        *([TableColumn("NaN", "number"), TableColumn("infinite", "number")] if missing else []),
        TableColumn("title", "rest"),
    ]
    rows = [
        (
            one["name"],
            one["dtype"] if wide else _short(one["dtype"]),
            *([one["source"]] if wide else []),
            *(number(one[key]) for key in ("min", "mean", "max")),
            *((_alarming(one["nan"]), _alarming(one["infinite"])) if missing else ()),
            one["title"],
        )
        for one in features
    ]
    page.table("Features: one number per event", columns, rows)


def _short(dtype: str) -> str:
    return np.dtype(dtype).str[1:]


def _alarming(many: int) -> Text:
    return Text(count(many), style="yellow" if many else "")


def _show_objects(page: Page, objects: Sequence[Mapping[str, Any]]) -> None:
    columns = [
        TableColumn("name"),
        TableColumn("stored", "number"),
        TableColumn("order"),
        TableColumn("in the files", "number"),
        TableColumn("cut off", "number"),
        TableColumn("fields", "rest"),
    ]
    rows = [
        (
            one["name"],
            f"{one['max']} per event",
            one["order"] or "as in the file",
            count(one["objects"]),
            _lost(one),
            _fields([column["name"] for column in one["fields"]]),
        )
        for one in objects
    ]
    page.table("Objects", columns, rows)
    for one in objects:
        if one["lost"] > _MUCH_LOST * one["objects"]:
            part = f"{100 * one['lost'] / one['objects']:.0f} % of {one['name']} lost"
            page.line(Text.assemble((part, "bold red"), f": only {one['max']} per event are stored."))


def _fields(names: Sequence[str]) -> str:
    some = kinematics_first(names)[:_FIELDS_SHOWN]
    more = len(names) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def _lost(one: Mapping[str, Any]) -> Text:
    if not one["lost"]:
        return Text("0")
    return Text(
        share(one["lost"] / one["objects"]), style="red" if one["lost"] > _MUCH_LOST * one["objects"] else "yellow"
    )


def _show_dataset(page: Page, dataset: Mapping[str, Any]) -> None:
    accounting = dataset["books"]
    kept = f", {count(accounting['selected'])} kept" if accounting["cutflow"] or accounting["duplicates"] else ""
    page.heading(f"Dataset {dataset['name']}" if dataset["name"] else "Source")
    page.facts(
        [
            ("what", kind_of_events(dataset["is_data"])),
            ("class", dataset["class"]),
            ("cross section", _with_unit(dataset["cross_section"], "pb")),
            ("luminosity", _with_unit(dataset["luminosity"], "/fb")),
            ("made from", only_file(accounting) or plural(len(accounting["files"]), "file")),
            ("left out", plural(len(dataset["missing"]), "file") if dataset["missing"] else None),
            ("events", f"{count(accounting['entries'])}{kept}"),
            duplicates_fact(accounting, dataset["name"], dataset["duplicates"]),
            ("sum of weights", sum_of_weights(accounting)),
        ]
    )
    show_cutflow(page, accounting["cutflow"])
    show_files(page, accounting)
    if dataset["missing"]:
        rows = [(one["file"], one["reason"], one["date"]) for one in dataset["missing"]]
        page.table("Left out", [TableColumn("file", "rest"), TableColumn("reason", "cut"), TableColumn("since")], rows)


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def _show_foreign(page: Page, content: Mapping[str, Any]) -> None:
    page.facts([("what", "HDF5, not written by nanoml convert"), ("size", file_size(content["size"]))])
    rows = [
        (
            one["name"],
            "empty" if one["shape"] is None else " x ".join(map(count, one["shape"])) or "single",
            one["dtype"],
            ", ".join(f"{name} {dtype}" for name, dtype in one["fields"].items()),
        )
        for one in content["datasets"]
    ]
    columns = [TableColumn("name", "rest"), TableColumn("shape"), TableColumn("type")]
    if any(one["fields"] for one in content["datasets"]):
        page.table("Datasets", [*columns, TableColumn("fields", "rest")], rows)
    else:
        page.table("Datasets", columns, [row[:-1] for row in rows])
    page.table(
        "Attributes",
        [TableColumn("name"), TableColumn("value", "cut")],
        [(name, " ".join(text.split())) for name, text in content["attributes"].items()],
    )
