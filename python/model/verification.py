"""Does a model do what it says? It is tried on its own reference events and on inputs that are known to break models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.description import Description
from MLTools.NanoML.model.inside import FOLD, shapes_of
from MLTools.NanoML.model.model import Model
from MLTools.NanoML.model.trials import SIZES, Outcome, Outcomes, SubprocessRuntime, Trial, run_here, trials
from MLTools.NanoML.schema.plain import DAMAGE

REFERENCE = "reference events"
TOLERANCE = 1e-5
"""How much results for real events may differ, relative to those above 1: other versions compute in another order."""
# far outside the training events a network may react so strongly that float32 rounds by so much
_LOOSE = 1e-3

Floats = NDArray[np.float32]


class Networks(Protocol):
    """The networks that a model was made from."""

    def sample(self, description: Description) -> Mapping[str, NDArray[np.float32]]:
        """Real events of the training, as tensors."""

    def compare(self, trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> float:
        """The largest difference; an error if it is too large."""


def verify_model(path: Path, version: Optional[str], networks: Optional[Networks]) -> Iterator[str]:
    """Verify a model with a version of ONNX Runtime (None for the installed one) and the networks of its training.

    Yields what was found to be right, line by line; the first thing that is wrong is raised as a NanoMLError.
    """
    model = Model(path)
    description = model.description
    yield f"{path}: model {model.name}, SHA-256 {model.sha256[:12]}"
    try:
        reference = reference_of(description)
        if reference is None:
            raise NanoMLError("carries no reference events. Export it again.")
        if description.inside is not None and networks is not None:
            raise NanoMLError(
                "has its selection inside, which its training has not: verify the model without it by --run."
            )
        sample = networks.sample(description) if networks else reference.feeds
        check_tensors(model.session, description)
        yield "tensors: as the metadata say, for any number of events"
        # the graph of a selection was compared with the selection itself on unusual events when it was made
        tried = [reference, *([] if description.inside else trials(description, sample))]
        if version is None:
            import onnxruntime

            version, outcomes = str(onnxruntime.__version__), run_here(model.session, tried)
        else:
            with SubprocessRuntime.of(version) as there:
                outcomes = there.run(model.path, tried)
        runtime = f"ONNX Runtime {version}"
        difference = check_reference(outcomes[reference.name, max(SIZES)], description)
        yield f"reference events: {runtime} gives the outputs again, to {difference:.1g}"
        if description.inside is not None:
            return
        check_trials(tried[1:], outcomes, description)
        sizes = ", ".join(map(str, sorted(SIZES)))
        yield f"{len(tried) - 1} kinds of inputs, {sizes} {description.level}s of each: all outputs are finite and consistent"
        if networks is not None:
            largest = networks.compare(tried[1:], outcomes, description)
            yield f"networks of the training: PyTorch gives the same, to {largest:.1g}"
    except (NanoMLError, *DAMAGE) as problem:
        text = str(problem)
        raise NanoMLError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def reference_of(description: Description) -> Optional[Trial]:
    """The real events that a model carries; None if it has none."""
    reference = description.reference
    inputs = {name: np.asarray(values, np.float32) for name, values in reference.inputs.items()}
    return Trial(REFERENCE, inputs) if reference.outputs else None


def check_reference(outcome: Outcome, description: Description) -> float:
    """The largest difference of the outputs for the reference events, relative to those in the metadata above 1."""
    expected = np.asarray(description.reference.outputs, np.float64)
    output = description.output_tensors[0]
    if isinstance(outcome, str):
        raise NanoMLError(f"reference events: ONNX Runtime fails: {outcome}")
    found = outcome[0].astype(np.float64)
    if found.shape != expected.shape:
        raise NanoMLError(f"reference events: {output} has shape {found.shape}, but {expected.shape} is expected.")
    difference = float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())
    if not difference <= TOLERANCE:
        row = int(np.argmax(np.where(np.isfinite(found), np.abs(found - expected), np.inf).max(axis=1)))
        raise NanoMLError(
            f"reference events: {output} of number {row} is {found[row].tolist()}, not {expected[row].tolist()}."
        )
    return difference


def check_tensors(session: Any, description: Description) -> None:
    """Compare names, types and shapes of a model's tensors with its metadata: numbers of rows and objects must be free."""
    inputs: dict[str, tuple[Optional[int], ...]] = {}  # shapes; None for an axis of any length
    if description.features:
        inputs[description.features.tensor] = (None, len(description.features.columns))
    for tensor in description.objects:
        room = tensor.max if description.inside else None  # a selection inside works on lists of fixed length
        inputs[tensor.tensor] = (None, room, len(tensor.columns))
        inputs[tensor.mask] = (None, room)
    (mean, each), size = description.output_tensors, len(description.output_columns)
    outputs: dict[str, tuple[Optional[int], ...]] = {mean: (None, size), each: (None, description.folds, size)}
    if description.inside is not None:
        inputs[FOLD], outputs = (None, 1), {mean: (None, size), **shapes_of(description.inside, description.domain)}
    for what, wanted, found in (("inputs", inputs, session.get_inputs()), ("outputs", outputs, session.get_outputs())):
        names = [tensor.name for tensor in found]
        if list(wanted) != names:
            raise NanoMLError(
                f"the metadata name the {what} {', '.join(wanted)}, but the model has {', '.join(names)}."
            )
    for tensor, shape in zip(session.get_inputs(), inputs.values()):
        if tensor.type != "tensor(float)":
            raise NanoMLError(f"input {tensor.name} is of type {tensor.type}, not tensor(float).")
        if len(tensor.shape) != len(shape) or any(
            isinstance(axis, int) if length is None else axis != length for axis, length in zip(tensor.shape, shape)
        ):
            raise NanoMLError(f"input {tensor.name} has shape {tensor.shape}, not {_axes(shape)}.")
    for tensor, shape in zip(session.get_outputs(), outputs.values()):
        # shapes of outputs are not always written; the trials look at what comes
        if len(tensor.shape) != len(shape) or isinstance(tensor.shape[0], int):
            raise NanoMLError(f"output {tensor.name} has shape {tensor.shape}, not {_axes(shape)}.")


def _axes(shape: tuple[Optional[int], ...]) -> str:
    return "[" + ", ".join("any" if axis is None else str(axis) for axis in shape) + "]"


def where(trial: Trial, size: int, what: str) -> str:
    """Which trial a message is about."""
    return f'"{trial.name}", {size} {what}{"" if size == 1 else "s"}'


def check_trials(trials: Sequence[Trial], outcomes: Outcomes, description: Description) -> None:
    """Check that outputs are consistent; an error names the trial, the number of events and the event.

    All must be finite. The first rows must not depend on the number of rows. The mean output must be the mean of the
    networks, probabilities must add up to one, and discriminants must follow from them, those of the mean from the mean
    probabilities. Content and length of the padding must make no difference.
    """
    count, last = len(description.outputs), len(description.outputs) + len(description.discriminants)
    whole: dict[str, list[Floats]] = {}
    for trial in trials:
        for size in sorted(SIZES, reverse=True):
            what = where(trial, size, description.level)
            found = _outputs(outcomes[trial.name, size], size, description, what)
            plain = [values[..., :count] for values in found]
            for part in (slice(count), slice(last, None)):  # discriminants are not those of each network
                mean = [found[1][..., part].mean(axis=1)]
                _compare([found[0][..., part]], mean, description, f"{what}: the mean of the networks")
            if description.kind == "classes":
                ones = np.ones(size, np.float32)
                _compare([plain[0].sum(axis=1)], [ones], description, f"{what}: the sum of the probabilities")
            for number, discriminant in enumerate(description.discriminants, count):
                expected = [discriminant.of(values, description.outputs) for values in plain]
                given = [values[..., number] for values in found]
                _compare(given, expected, description, f"{what}: the discriminant {discriminant.name}", TOLERANCE)
            if size == max(SIZES):
                whole[trial.name] = found
                if trial.same_as is not None:
                    same = f'{what} must give the same as "{trial.same_as}"'
                    _compare(found, whole[trial.same_as], description, same)
            _compare(found, [values[:size] for values in whole[trial.name]], description, f"{what} of {max(SIZES)}")


def _outputs(outcome: Outcome, size: int, description: Description, what: str) -> list[Floats]:
    if isinstance(outcome, str):
        raise NanoMLError(f"{what}: ONNX Runtime fails: {outcome}")
    count = len(description.output_columns)
    shapes = ((size, count), (size, description.folds, count))
    for name, values, shape in zip(description.output_tensors, outcome, shapes):
        if values.shape != shape:
            raise NanoMLError(f"{what}: {name} has the shape {values.shape} instead of {shape}.")
        bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if bad.any():
            row = int(np.argmax(bad))
            raise NanoMLError(f"{what}: {name} of {description.level} {row} is {values[row].ravel().tolist()}.")
    return outcome


def _compare(
    found: Sequence[Floats], expected: Sequence[Floats], description: Description, what: str, allowed: float = _LOOSE
) -> None:
    for name, ours, theirs in zip(description.output_tensors, found, expected):
        if not ours.size:
            continue
        distance = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)
        rows = distance.reshape(len(ours), -1).max(axis=1)
        row = int(np.argmax(rows))
        if not rows[row] <= allowed:
            raise NanoMLError(
                f"{what}: {name} of {description.level} {row} is {np.ravel(ours[row]).tolist()} "
                f"instead of {np.ravel(theirs[row]).tolist()}."
            )
