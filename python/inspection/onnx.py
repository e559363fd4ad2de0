"""What is in an ONNX file, a model of the pipeline or any other: as content, and printed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import onnxruntime
from rich.text import Text

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description, Input, ObjectInput, file_hash, metadata_text, open_session, twin_of
from MLTools.NanoML.model.file import read_header
from MLTools.NanoML.model.trials import Outcome
from MLTools.NanoML.model.verification import TOLERANCE, check_reference, check_tensors, reference_of
from MLTools.NanoML.terminal.page import Page, TableColumn, amount, count, file_size

__all__ = ["inspect", "show"]

_STATES = {
    "matches": "belongs to this file",
    "missing": "missing",
    "of another file": "belongs to another file",
    "edited": "was edited",
    "unreadable": "cannot be read",
}
_SHOWN_APART = {"created", "git", "device", "versions", "metrics", "data", "datasets", "notes", "config", "folds"}
"""Parts of the provenance that are printed in their own way, or not again."""


def inspect(path: str) -> dict[str, Any]:
    """What is in an ONNX file.

    Returns
    -------
    Beside what `inspect_file` promises: `sha256`, `producer`, `ir`, `opset`, `domains`, `onnxruntime` (the
    version that loaded it), `inputs` and `outputs` (each with tensor, dtype, shape), `own`. For a model of
    `nanoml export` (`own` is true) also `name`, `level`, `collection` (of a model of objects), `columns` (what the
    inputs read), `collections` (which objects), `classes` or `targets`, `parameter`, `folds`, `target`, `training`,
    `twin` (path and state) and `reference` (the recomputed events).

    Raises
    ------
    NanoMLError
        The file is damaged, ONNX Runtime cannot load it, or its metadata are of a newer schema or do not describe it.
    """
    header = read_header(path)
    session = open_session(path)
    text = metadata_text(session, path)
    try:
        inputs, outputs = ([_tensor(one) for one in many] for many in (session.get_inputs(), session.get_outputs()))
    except UnicodeDecodeError as problem:
        raise NanoMLError(
            f"{path}: is damaged (a name in it is not text: {problem}). Export or fetch it again."
        ) from None
    content: dict[str, Any] = {
        "kind": "onnx",
        "path": path,
        "size": os.path.getsize(path),
        "sha256": file_hash(path),
        "producer": header.producer,
        "ir": header.ir,
        "opset": header.opset,
        "domains": header.domains,
        "onnxruntime": onnxruntime.__version__,
        "inputs": inputs,
        "outputs": outputs,
        "own": text is not None,
        "warnings": [],
        "errors": [],
    }
    if text is None:
        return {**content, "errors": _stray_twin(path)}
    description = Description.of_text(text, path)
    content.update(_describe(description))
    content["twin"] = _twin(path, json.loads(text), content["sha256"])
    content["reference"] = _reference(session, description)
    content["errors"] = [*_tensors_complaint(session, description), *_errors(content)]
    content["warnings"] = _warnings(content)
    return content


def _tensor(tensor: Any) -> dict[str, Any]:
    # a dynamic axis has a name, or none at all
    shape = [axis if isinstance(axis, (int, str)) else None for axis in tensor.shape]
    return {"tensor": tensor.name, "dtype": tensor.type, "shape": shape}


def _describe(description: Description) -> dict[str, Any]:
    parameter = description.parameter
    names = {"classes": None, "targets": None, description.kind: list(description.outputs)}
    return {
        "name": description.name,
        "level": description.level,
        "collection": description.collection,
        "columns": [column for tensor in description.inputs for column in _columns(tensor, description)],
        "collections": [
            {"name": it.collection, "max": it.max, "order": it.order, "tensor": it.tensor, "mask": it.mask}
            for it in description.objects
        ],
        **names,
        "parameter": parameter and {"column": parameter.column, "values": list(parameter.values)},
        "folds": {"k": description.folds, "hash": description.fold_rule},
        "target": asdict(description.format),
        "training": description.training,
    }


def _columns(tensor: Input, description: Description) -> list[dict[str, Any]]:
    made, given = set(tensor.selection_columns), description.parameter and description.parameter.column
    collection = tensor.collection if isinstance(tensor, ObjectInput) else None

    def source(name: str) -> str:
        if name in made:
            return "selection"
        return "parameter" if name == given and collection is None else "branch"

    return [
        {
            "tensor": tensor.tensor,
            "name": name,
            "dtype": dtype,
            "collection": collection,
            "source": source(name),
            "selection": tensor.selection if name in made else None,
        }
        for name, dtype in zip(tensor.columns, tensor.dtypes)
    ]


def _stray_twin(path: str) -> list[str]:
    """A file that was cut off between two fields loads in ONNX Runtime: only its twin shows what is lost."""
    twin = twin_of(path)
    try:
        described = "onnx_sha256" in json.loads(twin.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        described = False
    return (
        [f"{twin} describes a model of `nanoml export`, but this file is not one: copy both again."]
        if described
        else []
    )


def _twin(path: str, metadata: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """The JSON beside the model: whether it is of this file (by its hash), and says the same."""
    twin = twin_of(path)
    if not twin.is_file():
        return {"path": str(twin), "state": "missing"}
    try:
        said = json.loads(twin.read_text(encoding="utf-8"))
        if said.get("onnx_sha256") != sha256:
            return {"path": str(twin), "state": "of another file"}
    except (OSError, ValueError, AttributeError):
        return {"path": str(twin), "state": "unreadable"}
    # as text, since NaN is not equal to itself
    same = all(
        key in said and json.dumps(said[key], sort_keys=True) == json.dumps(metadata[key], sort_keys=True)
        for key in metadata
    )
    return {"path": str(twin), "state": "matches" if same else "edited"}


def _reference(session: Any, description: Description) -> dict[str, Any] | None:
    """Compute the events that the model carries, and compare with the outputs that it carries."""
    found: dict[str, Any] = {"events": None, "difference": None, "tolerance": TOLERANCE, "agrees": False}
    try:
        reference = reference_of(description)
        if reference is None:
            return None
        outcome: Outcome = session.run(None, reference.feeds)
        found["events"] = len(outcome[0])
        difference = check_reference(outcome, description)
    except Exception as problem:  # whatever is raised, it is what is wrong
        return {**found, "problem": str(problem).strip().split("\n")[0] or type(problem).__name__}
    return {**found, "difference": difference, "agrees": True, "problem": None}


def _tensors_complaint(session: Any, description: Description) -> list[str]:
    try:
        check_tensors(session, description)
    except NanoMLError as problem:
        return [f"The metadata are not of this model: {problem} Export it again."]
    return []


def _errors(content: Mapping[str, Any]) -> list[str]:
    """Why the model must not be used."""
    found = []
    state, twin, reference = content["twin"]["state"], content["twin"]["path"], content["reference"]
    if state == "of another file":
        found.append(
            f"{twin}: belongs to another version of this model, or the model is damaged. Copy or export both again."
        )
    elif state == "unreadable":
        found.append(f"{twin}: cannot be read. Copy or export both again.")
    if reference is not None and reference["events"] is None:
        found.append(
            f"Its reference events cannot be computed: {reference['problem']} Do not use the model: export it again."
        )
    elif reference is not None and not reference["agrees"]:
        found.append(
            f"It does not compute here what it computed where it was made: {reference['problem']} "
            f"It is damaged, or must not be used with ONNX Runtime {content['onnxruntime']}."
        )
    return found


def _warnings(content: Mapping[str, Any]) -> list[str]:
    found = []
    for key in ("opset", "ir"):
        said, actual = content["target"][key], content[key]
        if said is not None and actual is not None and said != actual:
            found.append(f"The metadata say {key} {said}, but the file has {actual}: it was changed. Export it again.")
    state, twin = content["twin"]["state"], content["twin"]["path"]
    if state == "missing":
        found.append(
            f"There is no {twin}: CMSSW's C++ modules read it beside the model. Copy it there, or export again."
        )
    elif state == "edited":
        found.append(f"{twin}: was edited. Export both again.")
    if content["reference"] is None:
        found.append("The model has no reference events: whether it computes the same here cannot be checked.")
    return found


def show(content: Mapping[str, Any], page: Page) -> None:
    """Print what `inspect` returns, between the title and the warnings."""
    (_show_own if content["own"] else _show_foreign)(page, content)


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
            ("JSON twin", _twin_state(content["twin"])),
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


def _twin_state(twin: Mapping[str, Any]) -> Text:
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
            f"{runtime} gives the scores of all {events} again, to {reference['difference']:.1g}", style="green"
        )
    return Text(f"{runtime} gives other scores for {events}", style="bold red")


def _show_columns(page: Page, content: Mapping[str, Any]) -> None:
    columns = [TableColumn("column"), TableColumn("type"), TableColumn("from", "rest")]
    level = "object" if content["level"] == "object" else "event"
    groups = [(None, f"What it reads of each {level}")]
    groups += [(it["name"], f"What it reads of {_objects(it)}") for it in content["collections"]]
    for collection, title in groups:
        rows = [
            (one["name"], one["dtype"], _source(one)) for one in content["columns"] if one["collection"] == collection
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
        (way, one["tensor"], one["dtype"], ", ".join("?" if axis is None else str(axis) for axis in one["shape"]))
        for way, tensors in (("input", content["inputs"]), ("output", content["outputs"]))
        for one in tensors
    ]
    page.table(
        "Tensors", [TableColumn(""), TableColumn("name"), TableColumn("type"), TableColumn("shape", "rest")], rows
    )


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
            *((key, _inline(value)) for key, value in training.items() if key not in _SHOWN_APART),
            ("notes", _inline(training.get("notes"))),
        ]
    )
    datasets = training.get("datasets")
    if isinstance(datasets, list) and all(isinstance(one, Mapping) for one in datasets):
        _show_datasets(page, datasets)


def _show_datasets(page: Page, datasets: Sequence[Mapping[str, Any]]) -> None:
    numbers = ("cross\nsection", "events", "kept", "sum of\nweights")
    columns = [TableColumn("dataset", "rest"), TableColumn("class"), *(TableColumn(name, "number") for name in numbers)]
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
    """Plain content on one line; None if there is nothing."""
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
