"""Export of a training to one ONNX file that says of itself what it reads and what it gives."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.jit._trace import TracerWarning

from ML_processing.events.inputs import Shape
from ML_processing.export.parity import check_parity
from ML_processing.export.preprocess import preprocess_file, write_preprocess
from ML_processing.export.releases import OPSET, Target, target
from ML_processing.models import Ensemble, Network
from ML_processing.training.run import Run, one_thread
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import KEY, SCHEMA, Description, file_hash, open_session, twin_of
from MLTools.NanoML.model.trials import run_here, trials
from MLTools.NanoML.model.verification import check_tensors, check_trials
from MLTools.NanoML.nanoaod.folds import RULE
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Export

__all__ = ["export", "export_networks", "networks_of", "sample_of"]

_REFERENCE = 8  # real events whose scores travel with the model
_LARGEST = (
    2_000_000_000  # bytes; protobuf holds no more, and the weights would have to stand in files of their own
)
_NEWEST = 20  # opset that PyTorch's exporter can write
_PROVENANCE = (
    "versions",
    "created",
    "git",
    "device",
    "config",
    "folds",
    "data",
    "datasets",
    "notes",
    "metrics",
)

Sample = dict[str, NDArray[np.float32]]


class Trained(Protocol):
    """What is exported: networks, what they read and give, and what the training says of itself."""

    @property
    def description(self) -> dict[str, Any]:
        """As in training.json."""

    @property
    def networks(self) -> Sequence[Network]:
        """One for each fold."""

    @property
    def shape(self) -> Shape:
        """What they read and give."""


def export(
    run: Path, output: Path, config: Export, onnxruntime: str | None = None, preprocess: bool = False
) -> dict[str, Any]:
    """Write the networks of a training as one ONNX file, and its description beside it.

    The file is compared with PyTorch before it takes its place: an export that fails leaves an earlier model
    as it was.

    Parameters
    ----------
    run
        Directory of the training.
    output
        The ONNX file; its JSON twin has the suffix .json.
    config
        The section `export` of the configuration.
    onnxruntime
        Instead of a release: the version of ONNX Runtime that must be able to run it.
    preprocess
        Also write the JSON file that CMSSW's producers in RecoBTag read, NAME_preprocess.json.

    Returns
    -------
    The metadata, as in the twin.

    Raises
    ------
    NanoMLError
        The training is not finished, this is no CMSSW release, the networks use what it does not know, or the ONNX file
        does not compute what the networks do.
    """
    if output.suffix != ".onnx":
        raise NanoMLError(f"{output}: the name of a model ends in .onnx.")
    limits = target(config.cmssw, onnxruntime)
    if limits.warning:
        say(f"WARNING: {limits.warning}")
    return export_networks(Run.load(run), output, config.name or output.stem, limits, preprocess)


def export_networks(
    training: Trained, output: Path, name: str, limits: Target, preprocess: bool = False
) -> dict[str, Any]:
    """Write the networks of a training that was loaded; the rest is as in `export`."""
    ensemble, sample = networks_of(training), sample_of(training)
    with replacing(output) as onnx_aside, replacing(twin_of(output)) as twin_aside, one_thread():
        _convert(ensemble, training.shape.tensors, sample, onnx_aside, limits)
        model = onnx.load(onnx_aside)
        written = _check_format(model, limits)
        metadata = _describe(training, name, written, ensemble, sample)
        onnx.helper.set_model_props(model, {KEY: json.dumps(metadata, allow_nan=False)})
        onnx.checker.check_model(model)
        onnx.save(model, onnx_aside)
        largest = _check(ensemble, onnx_aside, metadata, sample)
        metadata = {**metadata, "onnx_sha256": file_hash(onnx_aside)}
        twin_aside.write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if preprocess:
            write_preprocess(Description.of(metadata, str(output)), preprocess_file(output))
    say(f"export: {output} agrees with the networks to {largest:.1g}.")
    return metadata


def networks_of(training: Trained) -> Ensemble:
    """The networks of a training as one module on tensors."""
    task: Literal["classification", "regression"] = (
        "regression" if training.description.get("targets") else "classification"
    )
    return Ensemble(training.networks, training.shape, task).eval()


def sample_of(training: Trained) -> Sample:
    """A few real events of a training, as tensors; what is no finite number is 0."""
    found = {
        name: np.nan_to_num(np.array(values, np.float32), posinf=0, neginf=0)
        for name, values in training.description["sample"].items()
    }
    return {name: found[name] for name in training.shape.tensors}


def _convert(ensemble: nn.Module, names: list[str], sample: Sample, path: Path, limits: Target) -> None:
    size = sum(parameter.numel() * parameter.element_size() for parameter in ensemble.parameters())
    if size > _LARGEST:
        raise NanoMLError(
            f"the networks have {size / 1e9:.1f} GB of weights, but one ONNX file holds 2 GB: train smaller ones, or fewer folds."
        )
    opset = min(OPSET, limits.opset)
    try:
        _trace(ensemble, names, sample, path, opset)
    except Exception as problem:  # what the exporter raises depends on what it does not know
        newest = min(limits.opset, _NEWEST)
        if newest <= opset:
            raise _lacking(problem, opset, limits) from None
        try:
            _trace(ensemble, names, sample, path, newest)
        except Exception as again:
            raise _lacking(again, newest, limits) from None


def _trace(ensemble: nn.Module, names: list[str], sample: Sample, path: Path, opset: int) -> None:
    regression = getattr(ensemble, "task", "") == "regression"
    results = ["values", "fold_values"] if regression else ["probabilities", "fold_probabilities"]
    axes: dict[str, dict[int, str]] = {name: {0: "events"} for name in [*names, *results]}
    for name in names:
        if name.endswith("_mask") or f"{name}_mask" in names:
            axes[name][1] = f"{name.removesuffix('_mask')}_objects"
    with warnings.catch_warnings():
        # The exporter that is the default now cannot write an opset that CMSSW up to 14_2 reads; of what it traces it
        # warns that it may be of one size only, and whether it is, is tried.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
        torch.onnx.export(
            ensemble,
            tuple(torch.from_numpy(sample[name][:3]) for name in names),
            str(path),
            input_names=names,
            output_names=results,
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )


def _lacking(problem: Exception, opset: int, limits: Target) -> NanoMLError:
    """What to do about an operator that cannot be exported."""
    text = " ".join(str(problem).split())
    operator = re.search(r"operator '([^']+)'", text)
    since = re.search(r"added in version (\d+)", text)
    what = f"`{operator[1]}`" if operator else f"something that cannot be written ({text[:200]})"
    newer = f", which there is from opset {since[1]} on" if since else ""
    advice = (
        "Export for a release that reads it (export.cmssw), or replace it"
        if since and int(since[1]) <= _NEWEST
        else "Replace it"
    )
    return NanoMLError(
        f"the network uses {what}{newer}: ONNX opset {opset}, the newest that can be written for {limits.name}, lacks it. "
        f"{advice} in the network by simpler operations."
    )


def _check_format(model: onnx.ModelProto, limits: Target) -> dict[str, Any]:
    """What the file really is, since an exporter may write something else than it was asked for."""
    foreign = sorted({entry.domain for entry in model.opset_import} - {"", "ai.onnx"})
    if foreign:
        raise NanoMLError(
            f"the exporter wrote operators of {', '.join(foreign)}, which ONNX Runtime in CMSSW has not: replace them in the network."
        )
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise NanoMLError("the exporter wrote weights into files of their own: the networks are too large.")
    opset = max(entry.version for entry in model.opset_import)
    model.ir_version = min(model.ir_version, limits.ir)  # an exporter may write a newer one than is needed
    needed = onnx.helper.find_min_ir_version_for(model.opset_import)
    if opset > limits.opset or needed > limits.ir:
        raise NanoMLError(
            f"the exporter wrote ONNX opset {opset}, IR {needed}, but {limits.name} reads "
            f"opset {limits.opset}, IR {limits.ir} at most. PyTorch {torch.__version__} may be too new."
        )
    return {
        "cmssw": limits.cmssw,
        "onnxruntime": limits.onnxruntime,
        "opset": opset,
        "ir": model.ir_version,
    }


def _check(ensemble: nn.Module, path: Path, metadata: dict[str, Any], sample: Sample) -> float:
    """Try the file as it was written; return the largest difference to the networks."""
    description = Description.of(metadata, str(path))
    session = open_session(str(path))
    tried = trials(description, sample)
    outcomes = run_here(session, tried)
    largest = check_parity(ensemble, tried, outcomes, description)
    check_trials(tried, outcomes, description)
    check_tensors(session, description)
    return largest


def _describe(
    training: Trained, name: str, written: dict[str, Any], ensemble: nn.Module, sample: Sample
) -> dict[str, Any]:
    """The model's metadata."""
    description = training.description
    events = {tensor: values[:_REFERENCE] for tensor, values in sample.items()}
    with torch.no_grad():
        outputs = ensemble(*(torch.from_numpy(values) for values in events.values()))[0].numpy()
    targets, parameter = description.get("targets"), description.get("parameter")
    named = {"targets": targets} if targets else {"classes": description["classes"]}
    mean, each = ("values", "fold_values") if targets else ("probabilities", "fold_probabilities")
    return {
        "schema": SCHEMA,
        "name": name,
        "level": description.get("level", "event"),
        "collection": description.get("collection"),
        "inputs": _inputs(description),
        "outputs": [
            {"tensor": mean, **named},
            {"tensor": each, **named, "folds": len(training.networks)},
        ],
        "parameter": parameter and {key: parameter[key] for key in ("column", "values")},
        "target": written,
        "folds": {"k": len(training.networks), "hash": RULE},
        "training": {key: description[key] for key in _PROVENANCE if key in description},
        "reference": {
            "inputs": {tensor: values.tolist() for tensor, values in events.items()},
            "outputs": outputs.tolist(),
        },
    }


def _inputs(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The tensors that go in, in order."""
    selection, found = description["selection"], []
    if description["features"]:
        columns = description["features"]
        found.append(
            {
                "tensor": "features",
                "columns": [column["name"] for column in columns],
                "dtypes": [column["dtype"] for column in columns],
                **_made([column["name"] for column in columns if column["source"] == "selection"], selection),
            }
        )
    for it in description["collections"]:
        names = [f"{it['name']}_{field}" for field in it["fields"]]
        made = [
            name for name, column in zip(names, it["columns"], strict=True) if column["source"] == "selection"
        ]
        found.append(
            {
                "tensor": it["name"],
                "mask": f"{it['name']}_mask",
                "collection": it["name"],
                "columns": names,
                "dtypes": [column["dtype"] for column in it["columns"]],
                "max": it["max"],
                "order": it["order"],
                **_made(made, selection),
            }
        )
    return found


def _made(columns: list[str], selection: str | None) -> dict[str, Any]:
    """The columns that a selection makes."""
    return {"selection": selection if columns else None, "selection_columns": columns}
