"""What is in an ONNX file: a model of the pipeline, or any other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection.protobuf import read_header
from MLTools.NanoML.model import KEY, file_hash, metadata_text, open_session, parse_metadata, twin_of

__all__ = ["inspect_onnx"]

TOLERANCE = 1e-5
"""Largest difference between a probability computed here and where the model was made, for rounding."""


def inspect_onnx(path: str) -> dict[str, Any]:
    """What is in an ONNX file.

    Returns
    -------
    Beside what `inspect_file` promises: `sha256`, `producer`, `ir`, `opset`, `domains`, `onnxruntime` (the
    version that loaded it), `inputs` and `outputs` (each with tensor, dtype, shape), `own`. For a model of
    `nanoml export` (`own` is true) also `name`, `level`, `columns` (what the inputs read), `classes`, `folds`,
    `target`, `training`, `twin` (path and state) and `reference` (the recomputed events).

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
    }
    if text is None:
        return {**content, "warnings": _stray_twin(path)}
    metadata = parse_metadata(text, path)
    try:
        described = _describe(metadata)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        raise _not_understood(path, problem) from None
    content.update(described)
    content["twin"] = _twin(path, metadata, content["sha256"])
    content["reference"] = _reference(session, metadata)
    content["warnings"] += _complaints(content)
    return content


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _tensor(tensor: Any) -> dict[str, Any]:
    # a dynamic axis has a name, or none at all
    shape = [axis if isinstance(axis, (int, str)) else None for axis in tensor.shape]
    return {"tensor": tensor.name, "dtype": tensor.type, "shape": shape}


def _not_understood(path: str, problem: Exception) -> NanoMLError:
    return NanoMLError(
        f"{path}: its `{KEY}` metadata cannot be understood ({type(problem).__name__}: {problem}). Export it again."
    )


def _describe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": metadata["name"],
        "level": metadata["level"],
        "columns": [column for tensor in metadata["inputs"] for column in _columns(tensor)],
        "classes": list(metadata["outputs"][0]["classes"]),
        "folds": {"k": metadata["folds"]["k"], "hash": metadata["folds"]["hash"]},
        "target": {key: metadata["target"].get(key) for key in ("cmssw", "onnxruntime", "opset", "ir")},
        "training": dict(metadata["training"]),
    }


def _columns(tensor: Mapping[str, Any]) -> list[dict[str, Any]]:
    made = set(tensor["selection_columns"])
    return [
        {
            "tensor": tensor["tensor"],
            "name": name,
            "dtype": dtype,
            "source": "selection" if name in made else "branch",
            "selection": tensor["selection"] if name in made else None,
        }
        for name, dtype in zip(tensor["columns"], tensor["dtypes"])
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
    """Score the events that the model carries, and compare with the scores that it carries."""
    try:
        events = np.asarray(metadata["reference"]["events"], np.float32)
        expected = np.asarray(metadata["reference"]["scores"], np.float64)
        if not len(events):
            return None
        output = metadata["outputs"][0]["tensor"]
        found = session.run([output], _feeds(events, metadata["inputs"]))[0].astype(np.float64)
        if found.shape != expected.shape:
            raise ValueError(f"scores of shape {found.shape}, not {expected.shape}")
    except Exception as problem:  # whatever ONNX Runtime raises: it is the finding
        reason = str(problem).strip().split("\n")[0] or type(problem).__name__
        return {
            "events": None,
            "difference": None,
            "tolerance": TOLERANCE,
            "agrees": False,
            "problem": reason,
        }
    difference = float(np.abs(found - expected).max())
    return {
        "events": len(events),
        "difference": difference if np.isfinite(difference) else None,
        "tolerance": TOLERANCE,
        "agrees": bool(difference <= TOLERANCE),
        "problem": None,
    }


def _feeds(
    events: NDArray[np.float32], inputs: Sequence[Mapping[str, Any]]
) -> dict[str, NDArray[np.float32]]:
    """Columns of the reference events, shape (events, columns), shared out to the tensors in their order."""
    ends = np.cumsum([len(tensor["columns"]) for tensor in inputs])
    if events.ndim != 2 or events.shape[1] != ends[-1]:
        raise ValueError(f"reference events of shape {events.shape} for {ends[-1]} columns")
    return {
        tensor["tensor"]: np.ascontiguousarray(part)
        for tensor, part in zip(inputs, np.split(events, ends[:-1], axis=1))
    }


def _complaints(content: Mapping[str, Any]) -> list[str]:
    complaints = []
    for key in ("opset", "ir"):
        told, found = content["target"][key], content[key]
        if told is not None and found is not None and told != found:
            complaints.append(
                f"The metadata say {key} {told}, but the file has {found}: it was changed. Export it again."
            )
    state, twin = content["twin"]["state"], content["twin"]["path"]
    if state == "missing":
        complaints.append(
            f"There is no {twin}: CMSSW's C++ modules read it beside the model. Copy it there, or export again."
        )
    elif state != "matches":
        advice = "It is not of this model" if state == "of another file" else f"It is {state}"
        complaints.append(f"{twin}: {advice}. Export both again.")
    reference = content["reference"]
    if reference is None:
        complaints.append(
            "The model carries no reference events: it cannot be checked that it computes the same here."
        )
    elif reference["problem"] is not None:
        complaints.append(
            f"Its reference events cannot be scored: {reference['problem']}. Do not use the model: export it again."
        )
    elif not reference["agrees"]:
        complaints.append(
            f"It does not compute here what it did where it was made: reference scores differ by "
            f"{_number(reference['difference'])}. Do not use it with ONNX Runtime {content['onnxruntime']}."
        )
    return complaints


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.2g}"
