"""Prints what is in an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from MLTools.NanoML.terminal.page import Column, Page, amount, count, file_size

__all__ = ["show_onnx"]

_STATES = {
    "matches": "belongs to this file",
    "missing": "missing",
    "of another file": "belongs to another file",
    "edited": "was edited",
    "unreadable": "cannot be read",
}
_BROUGHT_OUT = (
    "created",
    "git",
    "device",
    "versions",
    "metrics",
    "data",
    "datasets",
    "notes",
    "config",
    "folds",
)
"""Parts of the provenance that are printed in their own way, or told already."""


def show_onnx(content: Mapping[str, Any], console: Console) -> None:
    """Print all of it; `content` is that of `inspect_onnx`."""
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
            ("model", content["name"]),
            ("scores", _scored(content)),
            ("classes", content["classes"] and ", ".join(content["classes"])),
            ("targets", content["targets"] and ", ".join(content["targets"])),
            ("parameter", _parameter(content["parameter"])),
            ("networks", _networks(content)),
            ("for", _target(content["target"])),
            ("format", _format(content)),
            ("size", file_size(content["size"])),
            ("SHA-256", content["sha256"]),
            ("JSON twin", _twin(content["twin"])),
            ("check", _check(content)),
        ]
    )
    _show_columns(page, content)
    _show_tensors(page, content)
    _show_training(page, content["training"])


def _scored(content: Mapping[str, Any]) -> str:
    names = content["classes"] or content["targets"]
    prefix = f"{content['collection']}_" if content["collection"] else ""
    what = f"every object of {content['collection']}" if content["collection"] else "every event"
    return f"{what}, as branches {prefix}{content['name']}_{names[0]} and so on"


def _parameter(parameter: Mapping[str, Any] | None) -> str | None:
    if parameter is None:
        return None
    return f"{parameter['column']}, trained at {', '.join(f'{value:g}' for value in parameter['values'])}"


def _networks(content: Mapping[str, Any]) -> str:
    number = content["folds"]["k"]
    if number == 1:
        return "1"
    mean, each = (tensor["tensor"] for tensor in content["outputs"])
    return f"{number}, one per fold: {mean} is their mean, {each} has each"


def _target(target: Mapping[str, Any]) -> str:
    runtime = f" (ONNX Runtime {target['onnxruntime']} or newer)" if target["onnxruntime"] else ""
    return f"{target['cmssw'] or 'any CMSSW release'}{runtime}"


def _format(content: Mapping[str, Any]) -> str:
    opsets = {"opset": content["opset"], "IR": content["ir"], **content["domains"]}
    parts = [f"{what} {version}" for what, version in opsets.items() if version is not None]
    return ", ".join(parts) + (f", written by {content['producer']}" if content["producer"] else "")


def _twin(twin: Mapping[str, Any]) -> Text:
    return Text(_STATES[twin["state"]], style="green" if twin["state"] == "matches" else "bold red")


def _check(content: Mapping[str, Any]) -> Text:
    reference = content["reference"]
    if reference is None:
        return Text("impossible: there are no reference events", style="yellow")
    runtime = f"ONNX Runtime {content['onnxruntime']}"
    if reference["events"] is None:
        return Text(f"failed with {runtime}", style="bold red")
    events = f"{reference['events']} reference events"
    if reference["agrees"]:
        return Text(
            f"{runtime} gives the scores of all {events} again, to {reference['difference']:.1g}",
            style="green",
        )
    return Text(f"{runtime} gives other scores for {events}", style="bold red")


def _show_columns(page: Page, content: Mapping[str, Any]) -> None:
    columns = [Column("column"), Column("type"), Column("from", "rest")]
    level = "object" if content["level"] == "object" else "event"
    groups = [(None, f"What it reads of each {level}")]
    groups += [(it["name"], f"What it reads of {_objects(it)}") for it in content["collections"]]
    for collection, title in groups:
        rows = [
            (one["name"], one["dtype"], _source(one))
            for one in content["columns"]
            if one["collection"] == collection
        ]
        if rows:
            page.table(title, columns, rows)


def _objects(collection: Mapping[str, Any]) -> str:
    order = collection["order"]
    name, field = collection["name"], (order or "").lstrip("-")
    way = "largest" if (order or "").startswith("-") else "smallest"
    of = f"the {way} {name}_{field} first" if order else "in the file's order"
    return f"up to {collection['max']} objects of {name}, {of}"


def _source(column: Mapping[str, Any]) -> str:
    if column["source"] == "selection":
        return f"selection {column['selection']}"
    return "parameter: you give it" if column["source"] == "parameter" else "NanoAOD branch"


def _show_tensors(page: Page, content: Mapping[str, Any]) -> None:
    rows = [
        (
            way,
            one["tensor"],
            one["dtype"],
            ", ".join("?" if axis is None else str(axis) for axis in one["shape"]),
        )
        for way, tensors in (("input", content["inputs"]), ("output", content["outputs"]))
        for one in tensors
    ]
    page.table("Tensors", [Column(""), Column("name"), Column("type"), Column("shape", "rest")], rows)


def _show_training(page: Page, training: Mapping[str, Any]) -> None:
    page.heading("Training")
    data = training.get("data")
    page.facts(
        [
            ("date", training.get("created")),
            ("code", training.get("git")),
            ("versions", _inline(training.get("versions"))),
            ("device", training.get("device")),
            ("settings", _inline(training.get("config"))),
            ("metrics", _inline(training.get("metrics"))),
            ("data SHA-256", data.get("sha256") if isinstance(data, Mapping) else None),
            *((key, _inline(value)) for key, value in training.items() if key not in _BROUGHT_OUT),
            ("notes", _inline(training.get("notes"))),
        ]
    )
    datasets = training.get("datasets")
    if isinstance(datasets, list) and all(isinstance(one, Mapping) for one in datasets):
        _show_datasets(page, datasets)


def _show_datasets(page: Page, datasets: Sequence[Mapping[str, Any]]) -> None:
    columns = [
        Column("dataset", "rest"),
        Column("class"),
        Column("cross\nsection", "number"),
        Column("events", "number"),
        Column("kept", "number"),
        Column("sum of\nweights", "number"),
    ]
    rows = []
    for one in datasets:
        section, accounting = one.get("cross_section"), one.get("books") or {}
        rows.append(
            (
                one.get("name", ""),
                one.get("class") or "-",
                "-" if section is None else f"{section:g} pb",
                count(accounting.get("entries", 0)),
                count(accounting.get("selected", 0)),
                amount(accounting.get("sum_of_weights")),
            )
        )
    page.table("Trained on", columns, rows)


def _inline(value: Any) -> str | None:
    """Plain content on a line; None for nothing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inline(one)}" for key, one in value.items() if one is not None) or None
    if isinstance(value, list):
        return ("; " if any(isinstance(one, str) for one in value) else ", ").join(
            str(_inline(one)) for one in value
        ) or None
    if isinstance(value, float):
        return f"{value:.4g}"
    return None if value is None else str(value)


def _show_foreign(page: Page, content: Mapping[str, Any]) -> None:
    page.facts(
        [
            ("what", "ONNX, not written by nanoml export"),
            ("format", _format(content)),
            ("size", file_size(content["size"])),
            ("SHA-256", content["sha256"]),
        ]
    )
    _show_tensors(page, content)
