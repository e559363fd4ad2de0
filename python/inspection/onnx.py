"""What is in an ONNX file: a model of the pipeline, or any other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import (
    KEY,
    Description,
    Input,
    Objects,
    file_hash,
    metadata_text,
    open_session,
    parse_metadata,
    twin_of,
)
from MLTools.NanoML.model.file import read_header
from MLTools.NanoML.model.trials import Outcome
from MLTools.NanoML.model.verification import TOLERANCE, check_reference, check_tensors, reference_of

__all__ = ["inspect_onnx"]


def inspect_onnx(path: str) -> dict[str, Any]:
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
        inputs, outputs = (
            [_tensor(one) for one in many] for many in (session.get_inputs(), session.get_outputs())
        )
    except UnicodeDecodeError as problem:
        raise NanoMLError(
            f"{path}: is damaged (a name in it is no text: {problem}). Export or fetch it again."
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
        "onnxruntime": _version(),
        "inputs": inputs,
        "outputs": outputs,
        "own": text is not None,
        "warnings": [],
        "errors": [],
    }
    if text is None:
        return {**content, "errors": _stray_twin(path)}
    metadata = parse_metadata(text, path)
    description = Description.of(metadata, path)
    try:
        content.update(_describe(metadata, description))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise NanoMLError(
            f"{path}: its `{KEY}` metadata cannot be understood ({type(problem).__name__}: {problem}). Export it again."
        ) from None
    content["twin"] = _twin(path, metadata, content["sha256"])
    content["reference"] = _reference(session, metadata)
    content["errors"] = [*_tensors_complaint(session, description), *_errors(content)]
    content["warnings"] = _warnings(content)
    return content


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _tensor(tensor: Any) -> dict[str, Any]:
    # a dynamic axis has a name, or none at all
    shape = [axis if isinstance(axis, (int, str)) else None for axis in tensor.shape]
    return {"tensor": tensor.name, "dtype": tensor.type, "shape": shape}


def _describe(metadata: Mapping[str, Any], description: Description) -> dict[str, Any]:
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
        "folds": {"k": description.folds, "hash": metadata["folds"]["hash"]},
        "target": {key: metadata["target"].get(key) for key in ("cmssw", "onnxruntime", "opset", "ir")},
        "training": dict(metadata["training"]),
    }


def _columns(tensor: Input, description: Description) -> list[dict[str, Any]]:
    made, given = set(tensor.selection_columns), description.parameter and description.parameter.column
    collection = tensor.collection if isinstance(tensor, Objects) else None

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
    """A file that was cut off between two fields is whole for ONNX Runtime: only its twin tells what is lost."""
    twin = twin_of(path)
    try:
        described = "onnx_sha256" in json.loads(twin.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        described = False
    return (
        [f"{twin} describes a model of `nanoml export`, but this file is none: copy both again."]
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


def _reference(session: Any, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compute the events that the model carries, and compare with the outputs that it carries."""
    found: dict[str, Any] = {"events": None, "difference": None, "tolerance": TOLERANCE, "agrees": False}
    try:
        reference = reference_of(metadata)
        if reference is None:
            return None
        outcome: Outcome = session.run(None, reference.feeds)
        found["events"] = len(outcome[0])
        difference = check_reference(outcome, metadata)
    except Exception as problem:  # whatever is raised for whatever stands there: it is the finding
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
            f"It does not compute here what it did where it was made: {reference['problem']} "
            f"It is damaged, or must not be used with ONNX Runtime {content['onnxruntime']}."
        )
    return found


def _warnings(content: Mapping[str, Any]) -> list[str]:
    found = []
    for key in ("opset", "ir"):
        told, actual = content["target"][key], content[key]
        if told is not None and actual is not None and told != actual:
            found.append(
                f"The metadata say {key} {told}, but the file has {actual}: it was changed. Export it again."
            )
    state, twin = content["twin"]["state"], content["twin"]["path"]
    if state == "missing":
        found.append(
            f"There is no {twin}: CMSSW's C++ modules read it beside the model. Copy it there, or export again."
        )
    elif state == "edited":
        found.append(f"{twin}: was edited. Export both again.")
    if content["reference"] is None:
        found.append(
            "The model carries no reference events: it cannot be checked that it computes the same here."
        )
    return found
