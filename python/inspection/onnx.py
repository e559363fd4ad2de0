"""The content of an ONNX file, a model of the pipeline or any other."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import yaml
from rich.text import Text

from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import Inspection
from MLTools.NanoML.model import Description, ObjectInput, metadata_text, open_session, twin_of
from MLTools.NanoML.model.entries import SHARES, inputs_of
from MLTools.NanoML.model.file import OnnxHeader, is_whole, read_header
from MLTools.NanoML.model.verification import TOLERANCE, check_reference, check_tensors, reference_of
from MLTools.NanoML.schema.plain import content_of, parsed, plain
from MLTools.NanoML.terminal.page import Page, TableColumn, amount, count, file_size, share

_SHOWN_APART = {"created", "git", "device", "versions", "metrics", "data", "datasets", "notes", "config", "folds"}
"""Parts of the provenance that are printed in their own way, or not again."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the graph."""

    tensor: str
    dtype: str
    shape: list[int | str | None]  # a free axis has a name, or none at all


@dataclass
class OnnxInspection(Inspection):
    """The content of an ONNX file of any origin."""

    kind = "onnx"
    sha256: str
    header: OnnxHeader
    inputs: list[Tensor]
    outputs: list[Tensor]

    def _content(self) -> dict[str, object]:
        return {
            "sha256": self.sha256,
            **plain(self.header),
            "onnxruntime": onnxruntime.__version__,
            "inputs": plain(self.inputs),
            "outputs": plain(self.outputs),
            "own": False,
        }

    def _show_content(self, page: Page) -> None:
        page.facts(
            ("what", "ONNX, not written by nanoml export"),
            ("format", self._format()),
            ("size", file_size(self.size)),
            ("SHA-256", self.sha256),
        )
        self._show_tensors(page)

    def _format(self) -> str:
        header = self.header
        versions = {"opset": header.opset, "IR": header.ir, **header.domains}
        parts = [f"{what} {version}" for what, version in versions.items() if version is not None]
        return ", ".join(parts) + (f", written by {header.producer}" if header.producer else "")

    def _show_tensors(self, page: Page) -> None:
        rows = [
            (way, each.tensor, each.dtype, ", ".join("?" if axis is None else str(axis) for axis in each.shape))
            for way, tensors in (("input", self.inputs), ("output", self.outputs))
            for each in tensors
        ]
        page.table("Tensors", ["", "name", "type", TableColumn("shape", "rest")], rows)


@dataclass(frozen=True)
class Twin:
    """The JSON beside a model."""

    path: str
    state: str  # a key of `_TWINS`


@dataclass(frozen=True)
class _TwinState:
    fact: str
    error: str = ""
    warning: str = ""


_TWINS = {
    "matches": _TwinState("belongs to this file"),
    "missing": _TwinState(
        "missing",
        warning="There is no {}: CMSSW's C++ modules read it beside the model. Copy it there, or export again.",
    ),
    "of another file": _TwinState(
        "belongs to another file",
        "{}: belongs to another version of this model, or the model is damaged. Copy or export both again.",
    ),
    "edited": _TwinState("was edited", warning="{}: was edited. Export both again."),
    "unreadable": _TwinState("cannot be read", "{}: cannot be read. Copy or export both again."),
}


@dataclass(frozen=True)
class RecomputedEvents:
    """The events that a model carries, computed here, and compared with the outputs that it carries."""

    events: int | None = None  # None if they cannot be computed
    difference: float | None = None
    tolerance: float = TOLERANCE
    agrees: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class ReadColumn:
    """A column that a model reads."""

    tensor: str
    name: str
    dtype: str
    collection: str | None
    source: str  # "selection", "parameter" or "branch"
    selection: str | None

    def __str__(self) -> str:
        known = {"selection": f"selection {self.selection}", "parameter": "parameter: you give it"}
        return known.get(self.source, "NanoAOD branch")


@dataclass
class ModelInspection(OnnxInspection):
    """The content of a model of `nanoml export`."""

    description: Description
    twin: Twin
    reference: RecomputedEvents | None  # None if the model carries no events

    @property
    def columns(self) -> list[ReadColumn]:
        """The columns that the inputs read."""
        given, found = self.description.parameter and self.description.parameter.column, []
        for tensor in self.description.inputs:
            collection = tensor.collection if isinstance(tensor, ObjectInput) else None
            for name, dtype in zip(tensor.columns, tensor.dtypes):
                made = name in tensor.selection_columns
                source = "selection" if made else "parameter" if name == given and collection is None else "branch"
                selection = tensor.selection if made else None
                found.append(ReadColumn(tensor.tensor, name, dtype, collection, source, selection))
        return found

    def _content(self) -> dict[str, object]:
        model = self.description
        return {
            **super()._content(),
            "own": True,
            "name": model.name,
            "level": model.level,
            "collection": model.collection,
            "columns": plain(self.columns),
            "collections": [
                {"name": it.collection, "max": it.max, "order": it.order, "tensor": it.tensor, "mask": it.mask}
                for it in model.objects
            ],
            "classes": None,
            "targets": None,
            model.kind: list(model.outputs),
            "discriminants": plain(model.discriminants),
            "heads": plain(model.heads),
            "parameter": plain(model.parameter),
            "folds": {"k": model.folds, "hash": model.fold_rule},
            "target": plain(model.format),
            "domain": plain(inputs_of(model.domain)),
            "training": model.training,
            "twin": plain(self.twin),
            "reference": plain(self.reference),
        }

    def _show_content(self, page: Page) -> None:
        model = self.description
        (mean, each), target, parameter = model.output_tensors, model.format, model.parameter
        what, prefix = f"every object of {model.collection}", f"{model.collection}_"
        if model.collection is None:
            what, prefix = "every event", ""
        runtime = f" (ONNX Runtime {target.onnxruntime} or newer)" if target.onnxruntime else ""
        every = "any release with this runtime" if runtime else "any release from CMSSW_12_4 on"
        networks = f"{model.folds}, one per fold: {mean} is their mean, {each} has each" if model.folds > 1 else "1"
        page.facts(
            ("model", model.name),
            ("scores", f"{what}, as branches {prefix}{model.name}_{model.outputs[0]} and so on"),
            (model.kind, ", ".join(model.outputs)),
            *((f"discriminant {each.name}", each.formula(model.outputs)) for each in model.discriminants),
            *((f"head {each.name}", ", ".join(each.outputs)) for each in model.heads),
            ("parameter", parameter and f"{parameter.column}, trained at {_inline(list(parameter.values), 'g')}"),
            ("networks", networks),
            ("for", f"{target.cmssw or every}{runtime}"),
            ("format", self._format()),
            ("size", file_size(self.size)),
            ("SHA-256", self.sha256),
            ("JSON twin", Text(_TWINS[self.twin.state].fact, "green" if self.twin.state == "matches" else "bold red")),
            ("check", _check(self.reference)),
        )
        columns = ["column", "type", TableColumn("from", "rest")]
        titles: dict[str | None, str] = {None: f"What it reads of each {model.level}"}
        titles.update({it.collection: f"What it reads of {_objects(it)}" for it in model.objects})
        for collection, title in titles.items():
            read = [column for column in self.columns if column.collection == collection]
            page.table(title, columns, [(column.name, column.dtype, str(column)) for column in read])
        names = ["from", "to", *(f"{100 * it:g} %" for it in SHARES), "outside"]
        numbers = ["input", *(TableColumn(name, "number") for name in names)]
        ranges = [
            (it.name, *(f"{value:.4g}" for value in (it.low, it.high, *it.quantiles)), share(it.outside))
            for it in inputs_of(model.domain)
            if it.quantiles
        ]
        page.table("What the networks were trained on", numbers, ranges)
        self._show_tensors(page)
        _show_training(page, model.training)


def inspect(path: str) -> OnnxInspection:
    """Inspect an ONNX file.

    Raises NanoMLError if the file is damaged, ONNX Runtime cannot load it, or its metadata are of a newer schema or do
    not describe it.
    """
    header = read_header(path)
    session = open_session(path)
    text = metadata_text(session, path)
    try:
        inputs, outputs = (list(map(_tensor, many)) for many in (session.get_inputs(), session.get_outputs()))
    except UnicodeDecodeError as problem:
        raise NanoMLError(
            f"{path}: is damaged (a name in it is not text: {problem}). Export or fetch it again."
        ) from None
    content = Path(path).read_bytes()
    sha256, size = hashlib.sha256(content).hexdigest(), len(content)
    if text is None:
        return OnnxInspection(path, size, [], _stray_twin(path), sha256, header, inputs, outputs)
    description, twin = Description.of_text(text, path), _twin(path, parsed(text), sha256)
    reference = _recomputed(session, description)
    form = description.format
    warnings = [
        f"The metadata say {key} {said}, but the file has {actual}: it was changed. Export it again."
        for key, said, actual in (("opset", form.opset, header.opset), ("ir", form.ir, header.ir))
        if said is not None and actual is not None and said != actual
    ]
    errors = []
    try:
        check_tensors(session, description)
    except NanoMLError as problem:
        errors.append(f"The metadata are not of this model: {problem} Export it again.")
    state = _TWINS[twin.state]
    errors += [state.error.format(twin.path)] if state.error else []
    warnings += [state.warning.format(twin.path)] if state.warning else []
    is_as_written = is_whole(content)
    if is_as_written is None and twin.state == "missing":
        warnings.append("The model has no hash inside: without its JSON, damage would not be noticed. Export it again.")
    elif is_as_written is False:
        errors.append(
            "It does not have the hash that stands in it: it is damaged, or was changed. Export or copy it again."
        )
    if reference is None:
        warnings.append("The model has no reference events: whether it computes the same here cannot be checked.")
    elif reference.events is None:
        errors.append(
            f"Its reference events cannot be computed: {reference.problem} Do not use the model: export it again."
        )
    elif not reference.agrees:
        errors.append(
            f"It does not compute here what it computed where it was made: {reference.problem} "
            f"It is damaged, or must not be used with ONNX Runtime {onnxruntime.__version__}."
        )
    return ModelInspection(path, size, warnings, errors, sha256, header, inputs, outputs, description, twin, reference)


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, tensor.type, [axis if isinstance(axis, (int, str)) else None for axis in tensor.shape])


def _stray_twin(path: str) -> list[str]:
    """A file that was cut off between two fields loads in ONNX Runtime: only its twin shows what is lost."""
    twin = twin_of(path)
    with contextlib.suppress(OSError, ValueError, TypeError):
        if "onnx_sha256" in content_of(twin):
            return [f"{twin} describes a model of `nanoml export`, but this file is not one: copy both again."]
    return []


def _twin(path: str, metadata: Mapping[str, object], sha256: str) -> Twin:
    """The JSON beside the model: whether it is of this file (by its hash), and says the same."""
    twin = twin_of(path)
    if not twin.is_file():
        return Twin(str(twin), "missing")
    try:
        said = content_of(twin)
        if said.get("onnx_sha256") != sha256:
            return Twin(str(twin), "of another file")
    except (OSError, ValueError, AttributeError):
        return Twin(str(twin), "unreadable")
    said = {key: it for key, it in said.items() if key in metadata}
    # as text, since NaN is not equal to itself
    same = json.dumps(said, sort_keys=True) == json.dumps(metadata, sort_keys=True)
    return Twin(str(twin), "matches" if same else "edited")


def _recomputed(session: Any, description: Description) -> RecomputedEvents | None:
    events = None
    try:
        reference = reference_of(description)
        if reference is None:
            return None
        outcome = session.run(None, reference.feeds)
        events = len(outcome[0])
        return RecomputedEvents(events, check_reference(outcome, description), agrees=True)
    except Exception as problem:  # whatever is raised, it is what is wrong
        return RecomputedEvents(events, problem=str(problem).strip().split("\n")[0] or type(problem).__name__)


def _check(reference: RecomputedEvents | None) -> Text:
    if reference is None:
        return Text("impossible: there are no reference events", style="yellow")
    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    if reference.events is None:
        return Text(f"failed with {runtime}", style="bold red")
    events = f"{reference.events} reference events"
    if reference.agrees:
        return Text(f"{runtime} gives the scores of all {events} again, to {reference.difference:.1g}", style="green")
    return Text(f"{runtime} gives other scores for {events}", style="bold red")


def _objects(collection: ObjectInput) -> str:
    way = "largest" if collection.descending else "smallest"
    order = f"the {way} {collection.order_branch} first" if collection.order else "in the file's order"
    return f"up to {collection.max} objects of {collection.collection}, {order}"


def _show_training(page: Page, training: Mapping[str, object]) -> None:
    """Print what training.json said, which may be that of another version."""
    data = training.get("data")
    page.heading("Training")
    page.facts(
        ("date", training.get("created")),
        ("code", training.get("git")),
        ("versions", _inline(training.get("versions"))),
        ("device", training.get("device")),
        ("settings", _settings(training.get("config"))),
        ("metrics", _inline(training.get("metrics"))),
        ("data SHA-256", data.get("sha256") if isinstance(data, Mapping) else None),
        *((key, _inline(value)) for key, value in training.items() if key not in _SHOWN_APART),
        ("notes", _inline(training.get("notes"))),
    )
    datasets = training.get("datasets")
    if not isinstance(datasets, list) or not all(isinstance(each, Mapping) for each in datasets):
        return
    numbers = ("cross\nsection", "events", "kept", "sum of\nweights")
    columns = [TableColumn("dataset", "rest"), "class", *(TableColumn(name, "number") for name in numbers)]
    rows = []
    for each in datasets:
        section, accounting = each.get("cross_section"), each.get("books") or {}
        kept = "-" if each.get("is_data") else count(accounting.get("selected", 0))  # data may be blind
        counts = [count(accounting.get("entries", 0)), kept]
        section = "-" if section is None else f"{_inline(section, 'g')} pb"
        weights = amount(accounting.get("sum_of_weights"))
        rows.append((each.get("name", ""), each.get("class") or "-", section, *counts, weights))
    page.table("Trained on", columns, rows)


def _settings(config: object) -> str | None:
    """The settings of a training that are not the defaults of this NanoML for its model, as they stand in a YAML file."""
    if not isinstance(config, Mapping):
        return None
    model = str(config.get("model"))
    # the last one is the share of events that is trained on
    defaults = {**plain(Train(model).with_defaults((), Path())), "share": 1.0}
    differing = {key: value for key, value in config.items() if value != defaults.get(key)}
    content = {"model": model, **differing}
    return yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=1 << 20).strip()[1:-1]


def _inline(value: object, form: str = ".4g") -> str | None:
    """Plain content on one line; None if there is nothing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inline(one)}" for key, one in value.items() if one is not None) or None
    if isinstance(value, list):
        separator = "; " if any(isinstance(one, str) for one in value) else ", "
        return separator.join(str(_inline(one, form)) for one in value) or None
    if isinstance(value, float):
        return format(value, form)
    return None if value is None else str(value)
