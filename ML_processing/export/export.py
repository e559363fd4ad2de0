"""Export of a training to one ONNX file that says of itself what it reads and what it gives."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from ML_processing.export.parity import Sample, check_parity, networks_of, sample_of
from ML_processing.export.releases import OPSET, Target, target
from ML_processing.training.description import TrainingDescription
from ML_processing.training.directory import Training, one_thread
from MLTools.NanoML.atomic import replacing, write_json
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import (
    Description,
    Input,
    ModelFormat,
    ObjectInput,
    Parameter,
    Reference,
    file_hash,
    open_session,
    twin_of,
    write_described,
)
from MLTools.NanoML.model.trials import run_here, trials
from MLTools.NanoML.model.verification import check_tensors, check_trials
from MLTools.NanoML.nanoaod.folds import RULE
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Export

_REFERENCE = 8  # real events whose scores travel with the model
_LARGEST = 2_000_000_000  # bytes; protobuf holds no more, and the weights would need files of their own
_OTHERS = {"ai.onnx.ml"}  # sets of operators that every ONNX Runtime has beside the standard one, for trees
_NEWEST = 20  # opset that PyTorch's exporter can write
_BOUND = 1e32  # RecoBTag's producers treat values beyond in their own way: the model itself scales and clips
_PROVENANCE = ("versions", "created", "git", "device", "config", "folds", "data", "datasets", "notes", "metrics")


def export(
    run: Path, output: Path, config: Export, onnxruntime: str | None = None, preprocess: bool = False
) -> dict[str, Any]:
    """Write the networks of a training as one ONNX file, and its description beside it.

    The file is compared with PyTorch before it is moved into place: an export that fails leaves an earlier model as it
    was.

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
        The training is not finished, there is no such CMSSW release, the networks use operators that it does not have,
        or the ONNX file does not compute what the networks do.
    """
    if output.suffix != ".onnx":
        raise NanoMLError(f"{output}: the name of a model ends in .onnx.")
    limits = target(config.cmssw, onnxruntime)
    if limits.warning:
        say(f"WARNING: {limits.warning}")
    return export_networks(Training.load(run), output, config.name or output.stem, limits, preprocess)


def export_networks(
    training: Training, output: Path, name: str, limits: Target, preprocess: bool = False
) -> dict[str, Any]:
    """Write the networks of a training that is in memory; the rest is as in `export`."""
    ensemble, sample = networks_of(training), sample_of(training)
    with replacing(output) as onnx_aside, replacing(twin_of(output)) as twin_aside, one_thread():
        _convert(ensemble, training.shape.tensors, sample, onnx_aside, limits)
        model = onnx.load(onnx_aside)
        written = _check_format(model, limits)
        description = _describe(training, name, written, ensemble, sample)
        metadata = description.to_json()
        onnx.checker.check_model(model)
        write_described(model, json.dumps(metadata, allow_nan=False), onnx_aside)
        largest = _check(ensemble, onnx_aside, description, sample)
        metadata = {**metadata, "onnx_sha256": file_hash(onnx_aside)}
        twin_aside.write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if preprocess:
            write_json(preprocess_file(output), preprocess_of(description))
    say(f"export: {output} agrees with the networks to {largest:.1g}.")
    return metadata


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


def _results(ensemble: nn.Module) -> tuple[str, str]:
    """Names of the output tensors."""
    if getattr(ensemble, "has_others", False):
        return "outputs", "fold_outputs"
    is_regression = getattr(ensemble, "task", "") == "regression"
    return ("values", "fold_values") if is_regression else ("probabilities", "fold_probabilities")


def _trace(ensemble: nn.Module, names: list[str], sample: Sample, path: Path, opset: int) -> None:
    results = _results(ensemble)
    axes: dict[str, dict[int, str]] = {name: {0: "events"} for name in [*names, *results]}
    for name in names:
        if name.endswith("_mask") or f"{name}_mask" in names:
            axes[name][1] = f"{name.removesuffix('_mask')}_objects"
    with warnings.catch_warnings():
        # PyTorch's new exporter cannot write an opset that CMSSW up to 14_2 reads. The old one warns that the trace may
        # be valid for one size only; the trials check that it is not.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
        torch.onnx.export(
            ensemble,
            tuple(torch.from_numpy(sample[name][:3]) for name in names),
            str(path),
            input_names=names,
            output_names=list(results),
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )


def _lacking(problem: Exception, opset: int, limits: Target) -> NanoMLError:
    """The error for an operator that cannot be exported."""
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


def _check_format(model: onnx.ModelProto, limits: Target) -> ModelFormat:
    """Versions in the file: an exporter may write something else than it was asked for."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    foreign = sorted(versions.keys() - {"", "ai.onnx", *_OTHERS})
    if foreign:
        raise NanoMLError(
            f"the exporter wrote operators of {', '.join(foreign)}, which ONNX Runtime in CMSSW does not have: replace them in the network."
        )
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise NanoMLError("the exporter wrote weights into files of their own: the networks are too large.")
    opset = max(version for domain, version in versions.items() if domain not in _OTHERS)
    model.ir_version = min(model.ir_version, limits.ir)  # an exporter may write a newer one than is needed
    needed = onnx.helper.find_min_ir_version_for(model.opset_import)
    if opset > limits.opset or needed > limits.ir:
        raise NanoMLError(
            f"the exporter wrote ONNX opset {opset}, IR {needed}, but {limits.name} reads "
            f"opset {limits.opset}, IR {limits.ir} at most. PyTorch {torch.__version__} may be too new."
        )
    return ModelFormat(limits.cmssw, limits.onnxruntime, opset, model.ir_version)


def _check(ensemble: nn.Module, path: Path, description: Description, sample: Sample) -> float:
    """Test the file as it was written; return the largest difference from the networks."""
    session = open_session(str(path))
    tried = trials(description, sample)
    outcomes = run_here(session, tried)
    largest = check_parity(ensemble, tried, outcomes, description)
    check_trials(tried, outcomes, description)
    check_tensors(session, description)
    return largest


def _describe(training: Training, name: str, written: ModelFormat, ensemble: nn.Module, sample: Sample) -> Description:
    description, content = training.description, training.description.to_json()
    events = {tensor: values[:_REFERENCE] for tensor, values in sample.items()}
    with torch.no_grad():
        outputs = ensemble(*(torch.from_numpy(values) for values in events.values()))[0].numpy()
    targets, parameter = tuple(description.targets), description.parameter
    features = [column.name for column in description.features]
    return Description(
        name,
        description.level,
        description.collection,
        Input("features", *_columns(description, description.features, features)) if features else None,
        tuple(
            ObjectInput(
                it.name,
                *_columns(description, it.columns, [f"{it.name}_{field}" for field in it.fields]),
                f"{it.name}_mask",
                it.name,
                it.max,
                it.order,
            )
            for it in description.collections
        ),
        _results(ensemble),
        "targets" if targets else "classes",
        targets or tuple(description.classes),
        description.discriminants,
        len(training.networks),
        RULE,
        Parameter(parameter.column, tuple(parameter.values), training.is_boosted) if parameter else None,
        written,
        {key: content[key] for key in _PROVENANCE if key in content},
        Reference({tensor: values.tolist() for tensor, values in events.items()}, outputs.tolist()),
        heads=training.heads,
    )


def _columns(
    description: TrainingDescription, columns: tuple[ConvertedColumn, ...], names: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...], str | None, tuple[str, ...]]:
    """Names and types of columns, the selection, and the columns that it makes."""
    made = tuple(name for name, column in zip(names, columns, strict=True) if column.source == "selection")
    return (tuple(names), tuple(column.dtype for column in columns), description.selection if made else None, made)


def preprocess_file(model: Path) -> Path:
    """Path, beside a model, of the JSON file from which CMSSW's jet taggers in RecoBTag know what it reads."""
    return model.with_name(f"{model.stem}_preprocess.json")


def preprocess_of(description: Description) -> dict[str, Any]:
    """Content of this file; a NanoMLError if these producers cannot feed such a model.

    The scaling is in the model, so every variable is passed unchanged.
    """
    if description.objects or description.features is None:
        raise NanoMLError(
            "preprocess.json: RecoBTag's producers give objects variable by variable and without a mask, which is not how "
            "this model reads them: only a model of event-level or of object-level columns alone fits."
        )
    if description.parameter is not None:
        raise NanoMLError("preprocess.json: RecoBTag's producers cannot give a model its parameter.")
    tensor = description.features
    info = {
        "median": 0.0,
        "norm_factor": 1.0,
        "replace_inf_value": 0.0,
        "lower_bound": -_BOUND,
        "upper_bound": _BOUND,
        "pad": 0.0,
    }
    return {
        "input_names": [tensor.tensor],
        "output_names": description.output_columns,
        tensor.tensor: {
            "var_names": list(tensor.columns),
            "var_length": 1,
            "var_infos": dict.fromkeys(tensor.columns, info),
        },
    }
