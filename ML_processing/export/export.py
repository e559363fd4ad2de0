"""Export of a training to one ONNX file that says of itself what it reads and what it gives, and that computes what the networks do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ML_processing.export.graph import Sample, check_format, convert, results
from ML_processing.export.releases import Target, target
from ML_processing.models.network import Ensemble, one_thread
from ML_processing.training.description import TrainingDescription
from ML_processing.training.directory import Training
from MLTools.NanoML.atomic import file_hash, replacing
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
    from MLTools.NanoML.config.evaluation import Export


_REFERENCE = 8  # real events whose scores travel with the model
_PROVENANCE = ("versions", "created", "git", "device", "config", "folds", "data", "datasets", "notes", "metrics")


def export(
    run: Path,
    output: Path,
    config: Export,
    onnxruntime: str | None = None,
    checks: Sequence[Callable[[Description], object]] = (),
    model: str | None = None,
) -> dict[str, object]:
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
    checks
        Raise a NanoMLError for a model that is not to be written, as one of which something cannot be made that is asked for.
    model
        The network, as for `Training.load`.

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
    return export_networks(Training.load(run, model), output, config.name or output.stem, limits, checks)


def export_networks(
    training: Training, output: Path, name: str, limits: Target, checks: Sequence[Callable[[Description], object]] = ()
) -> dict[str, object]:
    """Write the networks of a training that is in memory; the rest is as in `export`."""
    ensemble, sample = networks_of(training), sample_of(training)
    with replacing(output) as onnx_aside, replacing(twin_of(output)) as twin_aside, one_thread():
        convert(ensemble, training.shape.tensors, sample, onnx_aside, limits)
        model = onnx.load(onnx_aside)
        written = check_format(model, limits)
        description = _describe(training, name, written, ensemble, sample)
        metadata = description.to_json()
        onnx.checker.check_model(model)
        write_described(model, json.dumps(metadata, allow_nan=False), onnx_aside)
        largest = _check(ensemble, onnx_aside, description, sample)
        metadata = {**metadata, "onnx_sha256": file_hash(onnx_aside)}
        twin_aside.write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for check in checks:
            check(description)
    say(f"export: {output} agrees with the networks to {largest:.1g}.")
    return metadata


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
    features, objects = [column.name for column in description.features], []
    for it in description.collections:
        columns = _columns(description, it.columns, it.shape.columns)
        objects.append(ObjectInput(it.name, *columns, f"{it.name}_mask", it.name, it.max, it.order))
    return Description(
        name,
        description.level,
        description.collection,
        Input("features", *_columns(description, description.features, features)) if features else None,
        tuple(objects),
        results(ensemble),
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
    description: TrainingDescription, columns: tuple[ConvertedColumn, ...], names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], str | None, tuple[str, ...]]:
    """Names and types of columns, the selection, and the columns that it makes."""
    made = tuple(name for name, column in zip(names, columns, strict=True) if column.source == "selection")
    return (tuple(names), tuple(column.dtype for column in columns), description.selection if made else None, made)


TOLERANCE = 1e-6
"""How much a probability or a discriminant may differ, unless float32 itself rounds by more; a target, relative to its size above 1."""


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
        try:
            precise = _torch(exact, trial, description, np.float64)
        except NanoMLError:  # a user's network may know float32 alone, as one with `.float()` in front of a layer
            precise = expected
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


def _torch(module: nn.Module, trial: Trial, description: Description, dtype: type[object]) -> list[NDArray[Any]]:
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
