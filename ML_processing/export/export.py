"""Export of a training to one ONNX file that says of itself what it reads and what it gives, and that computes what the networks do."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.jit._trace import TracerWarning

from ML_processing.export.releases import OPSET, Target, target
from ML_processing.export.servers import preprocess_file, preprocess_of
from ML_processing.models.network import Ensemble
from ML_processing.training.description import TrainingDescription
from ML_processing.training.directory import Training, one_thread
from MLTools.NanoML.atomic import file_hash, replacing, write_json
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import (
    Description,
    Input,
    ModelFormat,
    ObjectInput,
    Parameter,
    Reference,
    open_session,
    twin_of,
    write_described,
)
from MLTools.NanoML.model.trials import SIZES, Outcomes, Trial, run_here, trials
from MLTools.NanoML.model.verification import check_tensors, check_trials, where
from MLTools.NanoML.nanoaod.folds import RULE
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Export


_REFERENCE = 8  # real events whose scores travel with the model
_LARGEST = 2_000_000_000  # bytes; protobuf holds no more, and the weights would need files of their own
_OTHERS = {"ai.onnx.ml"}  # sets of operators that every ONNX Runtime has beside the standard one, for trees
_NEWEST = 20  # opset that PyTorch's exporter can write
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
        domain=description.domain,
    )


def _columns(
    description: TrainingDescription, columns: tuple[ConvertedColumn, ...], names: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...], str | None, tuple[str, ...]]:
    """Names and types of columns, the selection, and the columns that it makes."""
    made = tuple(name for name, column in zip(names, columns, strict=True) if column.source == "selection")
    return (tuple(names), tuple(column.dtype for column in columns), description.selection if made else None, made)


TOLERANCE = 1e-6
"""How much a probability or a discriminant may differ, unless float32 itself rounds by more; a target, relative to its size above 1."""

Sample = dict[str, NDArray[np.float32]]


def networks_of(training: Training) -> Ensemble:
    """The networks of a training as one module on tensors."""
    about = training.description
    task: Literal["classification", "regression"] = "regression" if about.targets else "classification"
    return Ensemble(training.networks, training.shape, task, about.discriminants, about.classes).eval()


def sample_of(training: Training) -> Sample:
    """A few real events of a training, as tensors; values that are not finite are 0."""
    found = {
        name: np.nan_to_num(np.array(values, np.float32), posinf=0, neginf=0)
        for name, values in training.description.sample.items()
    }
    return {name: found[name] for name in training.shape.tensors}


class TrainedNetworks:
    """The networks that `nanoml verify` compares with, as a module on tensors, and real events as tensors."""

    def __init__(self, module: nn.Module, sample: Mapping[str, NDArray[np.float32]]) -> None:
        self._module, self._sample = module, sample

    @classmethod
    def of(cls, directory: Path) -> TrainedNetworks:
        """The networks of the training in a directory."""
        training = Training.load(directory)
        return cls(networks_of(training), sample_of(training))

    def sample(self, description: Description) -> Mapping[str, NDArray[np.float32]]:
        """Real events; a NanoMLError if the model reads other tensors than the networks."""
        if list(self._sample) != description.input_tensors:
            raise NanoMLError(
                f"the model reads {', '.join(description.input_tensors)}, but the networks of the training "
                f"{', '.join(self._sample)}: it was made from another one."
            )
        return self._sample

    def compare(self, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
        """The largest difference between the model and the networks; a NanoMLError if it is too large."""
        with one_thread():
            try:
                return check_parity(self._module, trials, outcomes, description)
            except NanoMLError as problem:
                raise NanoMLError(f"{problem} Was it exported from this training?") from None


def check_parity(ensemble: nn.Module, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
    """Compare what ONNX Runtime gave with PyTorch, for every trial and size; returns the largest difference.

    Far outside the training events probabilities can react so strongly that float32 itself rounds by more than
    `TOLERANCE`. This rounding is measured with PyTorch in float64, and ten times as much is allowed. A NanoMLError says
    that they differ by more, in shape, or in which values are finite, or that ONNX Runtime failed.
    """
    exact = deepcopy(ensemble).double()
    largest = 0.0
    for trial in trials:
        expected = _torch(ensemble, trial, description, np.float32)
        precise = _torch(exact, trial, description, np.float64)
        for number, name in enumerate(description.output_tensors):
            ours = expected[number]
            rounding = float(np.abs(ours - precise[number]).max(initial=0.0))
            size_of = max(1.0, float(np.abs(ours).max(initial=0.0)))
            allowed = max(TOLERANCE * size_of, 10 * rounding)
            for size in SIZES:
                place = where(trial, size, description.level)
                message = f"the exported model differs from the network on {place}"
                outcome = outcomes[trial.name, size]
                if isinstance(outcome, str):
                    raise NanoMLError(f"{message}: ONNX Runtime fails: {outcome}")
                difference = _difference(ours[:size], outcome[number], allowed, message, name, description.level)
                largest = max(largest, difference)
    return largest


def _torch(module: nn.Module, trial: Trial, description: Description, dtype: type[Any]) -> list[NDArray[Any]]:
    tensors = [torch.from_numpy(trial.feeds[name].astype(dtype)) for name in description.input_tensors]
    try:
        with torch.no_grad():
            return [output.numpy() for output in module(*tensors)]
    except Exception as problem:  # a network may be a user's own
        raise NanoMLError(
            f'the network fails on "{trial.name}", {max(SIZES)} {description.level}s: {str(problem).splitlines()[0]}'
        ) from problem


def _difference(ours: NDArray[Any], theirs: NDArray[Any], allowed: float, message: str, name: str, level: str) -> float:
    """The largest difference of one output."""
    if ours.shape != theirs.shape:
        raise NanoMLError(f"{message}: {name} has the shape {theirs.shape} instead of {ours.shape}.")
    if not ours.size:
        return 0.0
    distance = np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1)
    row = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    if not distance[row] <= allowed:
        raise NanoMLError(
            f"{message}: {name} of {level} {row} is {theirs[row].ravel().tolist()} instead of {ours[row].ravel().tolist()}; "
            f"a difference of {allowed:.1g} is allowed."
        )
    return float(distance[row])
