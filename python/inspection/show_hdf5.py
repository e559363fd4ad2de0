"""Prints what is in an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from MLTools.NanoML.inspection.show_records import (
    duplicates_fact,
    kind_of_events,
    only_file,
    show_cutflow,
    show_files,
    sum_of_weights,
)
from MLTools.NanoML.terminal.page import (
    Column,
    Page,
    amount,
    count,
    file_size,
    kinematics_first,
    number,
    plural,
    share,
)

__all__ = ["show_hdf5"]

_WIDE = 110  # characters; from here on there is room for what is nice to know
_MUCH_LOST = 0.1
_FIELDS_SHOWN = 10


def show_hdf5(content: Mapping[str, Any], console: Console) -> None:
    """Print all of it; `content` is that of `inspect_hdf5`."""
    page = Page(console)
    page.title(content["path"])
    if content["own"]:
        _show_own(page, content)
    else:
        _show_foreign(page, content)
    page.warnings(content["warnings"], content["errors"])


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
        Column("label", "number"),
        Column("class"),
        Column("events", "number"),
        Column(total, "number"),
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
        Column("name"),
        Column("type"),
        *([Column("from")] if wide else []),
        *(Column(name, "number") for name in ("min", "mean", "max")),
        *([Column("NaN", "number"), Column("infinite", "number")] if missing else []),
        Column("title", "rest"),
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
        Column("name"),
        Column("stored", "number"),
        Column("order"),
        Column("in the files", "number"),
        Column("cut off", "number"),
        Column("fields", "rest"),
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
        share(one["lost"] / one["objects"]),
        style="red" if one["lost"] > _MUCH_LOST * one["objects"] else "yellow",
    )


def _show_dataset(page: Page, dataset: Mapping[str, Any]) -> None:
    accounting = dataset["books"]
    kept = (
        f", {count(accounting['selected'])} kept" if accounting["cutflow"] or accounting["duplicates"] else ""
    )
    page.heading(f"Dataset {dataset['name']}" if dataset["name"] else "Source")
    page.facts(
        [
            ("what", kind_of_events(dataset["is_data"])),
            ("class", dataset["class"]),
            (
                "cross section",
                None if dataset["cross_section"] is None else f"{dataset['cross_section']:g} pb",
            ),
            ("luminosity", None if dataset["luminosity"] is None else f"{dataset['luminosity']:g} /fb"),
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
        page.table("Left out", [Column("file", "rest"), Column("reason", "cut"), Column("since")], rows)


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
    columns = [Column("name", "rest"), Column("shape"), Column("type")]
    if any(one["fields"] for one in content["datasets"]):
        page.table("Datasets", [*columns, Column("fields", "rest")], rows)
    else:
        page.table("Datasets", columns, [row[:-1] for row in rows])
    page.table(
        "Attributes",
        [Column("name"), Column("value", "cut")],
        [(name, " ".join(text.split())) for name, text in content["attributes"].items()],
    )
