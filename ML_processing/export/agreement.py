"""A model with its selection inside against the selection and the model apart: the same events, cuts, columns and scores."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ML_processing.compiled.proof import first_difference
from ML_processing.compiled.selection import Branches, TracedSelection, padded
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description, Model, ObjectInput, Reference
from MLTools.NanoML.model.inside import FOLD, Decisions, decide
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.selection import Events, Selected, Selection, Step

SCORES = 1e-6
"""How much a score may differ."""

_UNUSUAL = 1000  # events of each kind that may break programs
_REFERENCE = 8


@dataclass(frozen=True)
class Sample:
    """Events of a dataset.

    Attributes
    ----------
    selection
        The selection, of the dataset, without its `prepare`.
    arrays
        The branches by the names that the selection and the model have for them, corrected.
    collections
        For those that are lists, the collection that each belongs to.
    defaults
        What stands for branches that files may lack.
    corrected
        Branches that are corrected.
    cut
        A cut before the selection.
    """

    selection: Selection
    arrays: Mapping[str, Any]
    collections: Mapping[str, str]
    defaults: Mapping[str, Any]
    corrected: frozenset[str]
    cut: Formula | None = None

    def __len__(self) -> int:
        """Number of events."""
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    def changed(self, arrays: Mapping[str, Any]) -> Sample:
        """The same with other values."""
        return replace(self, arrays={**self.arrays, **arrays})


@dataclass(frozen=True)
class Agreement:
    """What was compared.

    Attributes
    ----------
    events, passed
        How many events, and how many of them pass.
    columns, scores
        The largest difference of a column, relative above 1, and of a score.
    reference
        A few events that pass, with their scores.
    """

    events: int
    passed: int
    columns: float
    scores: float
    reference: Reference

    def __str__(self) -> str:
        return f"columns to {self.columns:.1g}, scores to {self.scores:.1g}"


def check_agreement(model: Model, traced: TracedSelection, networks: Model, samples: Sequence[Sample]) -> Agreement:
    """Compare on real events, and on such that are known to break programs; a NanoMLError says what differs, and in which line.

    Parameters
    ----------
    model
        The model with its selection inside.
    traced
        The selection as it was compiled.
    networks
        The model without it.
    samples
        The events.
    """
    total = passed = 0
    columns = scores = 0.0
    reference = Reference({}, [])
    about = model.description
    parameter = about.parameter.values[0] if about.parameter else None
    for sample in samples:
        if not len(sample):
            raise NanoMLError("the datasets have no events on which the model could be compared with its selection.")
        for what, events in _trials(sample, about.objects):
            both = _both(model, events, parameter, is_usual=not what)
            if both is None:
                continue
            events, fold, found, selected = both
            place = f"{sample.selection.dataset.name or 'events'}{f', {what}' if what else ''}"
            problem = _of_selection(found, selected)
            if problem:
                raise NanoMLError(
                    f"{place}: the model gives other results than the selection: {_where(traced, events) or problem}"
                )
            columns = max(columns, _columns(found, selected, about, place))
            scores = max(scores, _scores(found, selected, events, networks, fold, parameter, place))
            if not what:
                total, passed = total + len(events), passed + len(selected.rows)
                if not reference.outputs and len(selected.rows):
                    reference = _reference(model, events, selected.rows[:_REFERENCE], parameter)
    return Agreement(total, passed, columns, scores, reference)


def _both(
    model: Model, events: Sample, parameter: float | None, is_usual: bool
) -> tuple[Sample, NDArray[np.int64], Decisions, Selected] | None:
    """Events, their folds, and what the model and the selection make of them.

    A selection need not stand unusual events: then they are those of which the model has a result, or None if it has one of all.
    """
    run, section, event = (np.asarray(events.arrays[name]) for name in versions.IDENTIFIERS)
    fold = fold_of(run, section, event, model.folds)
    found = decide(model, events.arrays, fold, parameter)
    try:
        return events, fold, found, _engine(events)
    except NanoMLError:
        if is_usual:
            raise
    rows = np.flatnonzero(found.failed == 0)
    if len(rows) in (0, len(events)):
        return None
    some = events.changed({name: array[rows] for name, array in events.arrays.items()})
    return _both(model, some, parameter, is_usual)


def _engine(sample: Sample) -> Selected:
    rows = np.arange(len(sample))
    if sample.cut is not None:
        rows = np.flatnonzero(sample.cut.mask(sample.arrays, len(sample)))
    arrays = {name: array[rows] for name, array in sample.arrays.items()}
    selected = sample.selection.apply(arrays, sample.collections, np.ones(len(rows)), plain=True)
    if sample.cut is not None:
        selected.cutflow.steps.insert(1, Step("cut", len(rows), float(len(rows))))
    return replace(selected, rows=rows[selected.rows])


def prepared(
    selection: Selection, arrays: Mapping[str, Any], collections: Mapping[str, str], cut: Formula | None
) -> Sample:
    """Events as `select` sees them, after the corrections of `prepare`; as float32, which is what a model reads."""
    number = len(next(iter(arrays.values())))
    defaults = {**dict.fromkeys(selection.dataset.triggers, False), **selection.optional}
    triggers = {name: np.full(number, False) for name in selection.dataset.triggers if name not in arrays}
    whole, collections = selection.with_optional({**arrays, **triggers}, collections, number)
    with selection._explained():
        events = selection.prepare(Events(whole, collections, selection.where()))
        corrected = {name: ak.values_astype(events[name], np.float32) for name in events._replaced}
    plain = copy.copy(selection)
    plain.prepare = lambda events: events  # type: ignore[method-assign]
    return Sample(plain, {**whole, **corrected}, collections, defaults, frozenset(corrected), cut)


def _trials(sample: Sample, objects: Sequence[ObjectInput]) -> list[tuple[str, Sample]]:
    """The events as they are, without objects, with as many as there is room for, with NaN, and with equal numbers."""
    found = [("", sample)]
    if not objects:
        return found
    sample = sample.changed({name: array[:_UNUSUAL] for name, array in sample.arrays.items()})
    random = np.random.default_rng(0)
    names = [name for name in sample.collections if name in sample.arrays]
    none = {name: sample.arrays[name][:, :0] for name in names}
    found.append(("without objects", sample.changed(none)))
    for what, change in {"with NaN": _with_nan, "with equal numbers": _with_ties}.items():
        found.append((what, sample.changed({name: change(sample.arrays[name], random) for name in names})))
    full = {}
    for each in objects:
        number = int(ak.sum(ak.num(sample.arrays[each.columns[0]])))
        if number:
            drawn = random.integers(0, number, len(sample) * each.max)
            for name in [name for name in names if sample.collections[name] == each.collection]:
                full[name] = ak.unflatten(ak.flatten(sample.arrays[name])[drawn], np.full(len(sample), each.max))
    found.append(("with as many objects as there is room for", sample.changed(full)))
    return found


def _with_nan(array: Any, random: np.random.Generator) -> Any:
    flat = np.array(ak.to_numpy(ak.flatten(array)))
    if flat.dtype.kind == "f":
        flat[random.random(len(flat)) < 0.02] = np.nan
    return ak.unflatten(flat, ak.num(array))


def _with_ties(array: Any, random: np.random.Generator) -> Any:
    flat = ak.to_numpy(ak.flatten(array))
    values = flat[random.integers(0, len(flat), 3)] if len(flat) else flat
    return ak.unflatten(values[random.integers(0, 3, len(flat))] if len(flat) else flat, ak.num(array))


def _of_selection(found: Decisions, selected: Selected) -> str:
    """What differs in the decision and the cut flow; empty if nothing does."""
    rows = np.flatnonzero(found.passed)
    if not np.array_equal(rows, selected.rows):
        return f"{len(rows)} events pass instead of {len(selected.rows)}."
    for step, passed in zip(selected.cutflow.steps[1:], found.cuts.values(), strict=True):
        if passed.sum() != step.events:
            return f'{passed.sum()} events pass the cut "{step.cut}" instead of {step.events}.'
    if found.failed.any():
        return f"{int((found.failed > 0).sum())} events are said to fail."
    return ""


def _where(traced: TracedSelection, sample: Sample) -> str:
    """The first line that differs."""
    again = TracedSelection(sample.selection, sample.arrays, sample.collections, traced.inputs.sizes, sample.cut)
    branches = [
        Branches(tuple(each), (), name, traced.inputs.sizes[name])
        for name, each in traced.inputs.objects.items()
        if each
    ]
    names = tuple(name for name in traced.inputs.events if name in sample.arrays)
    if names:
        branches.append(Branches(names, ()))
    if len(again.trace.steps) != len(traced.trace.steps):
        return ""
    return first_difference(traced.trace, again.trace.steps, padded(branches, sample.arrays))


def _columns(found: Decisions, selected: Selected, about: Description, place: str) -> float:
    """The largest difference of a column; an error if it is more than the last bit of float32."""
    assert about.inside is not None
    largest = 0.0
    names = [column.name for column in about.inside.columns]
    given: list[tuple[str, Any, Any]]
    given = [(name, found.columns[name][selected.rows], selected.columns[name]) for name in names]
    for collection in about.inside.collections:
        for field in collection.fields:
            name = f"{collection.name}_{field.name}"
            mine, array = found.collections[name][selected.rows], selected.columns[name]
            if not np.array_equal(ak.num(mine), ak.num(array)):
                raise NanoMLError(f"{place}: the model gives other numbers of {collection.name} than the selection.")
            given.append((name, ak.to_numpy(ak.flatten(mine)), ak.to_numpy(ak.flatten(array))))
    for name, ours, theirs in given:
        expected = np.asarray(theirs, np.float64)
        difference = np.abs(ours - expected)
        if name.endswith("phi"):
            difference = np.minimum(difference, np.abs(difference - 2 * np.pi))
        relative = difference / np.maximum(np.abs(expected), 1)
        worst = float(relative.max(initial=0.0))
        if not worst <= 1e-6:
            row = int(np.argmax(relative))
            raise NanoMLError(
                f"{place}: column {name} is {ours[row]!r} in the model, but {expected[row]!r} by the selection."
            )
        largest = max(largest, worst)
    return largest


def _scores(
    found: Decisions,
    selected: Selected,
    sample: Sample,
    networks: Model,
    fold: NDArray[np.int64],
    parameter: float | None,
    place: str,
) -> float:
    """The largest difference of a score."""
    rows = selected.rows
    if not len(rows):
        return 0.0
    columns = {name: sample.arrays[name][rows] for name in networks.reads if name in sample.arrays}
    columns |= {name: values for name, values in selected.columns.items() if name in networks.reads}
    expected = networks.scores(columns, fold[rows], parameter)
    worst = float(np.abs(found.scores[rows] - expected).max(initial=0.0))
    if not worst <= SCORES * max(1.0, float(np.abs(expected).max(initial=1.0))):
        raise NanoMLError(
            f"{place}: a score differs by {worst:.2g} from that of {networks.path} on the selection's columns."
        )
    return worst


def _reference(model: Model, sample: Sample, rows: NDArray[np.int64], parameter: float | None) -> Reference:
    """Events with the mean of all networks."""
    feeds = model.tensors({name: sample.arrays[name][rows] for name in model.reads}, parameter)
    feeds[FOLD] = np.full((len(rows), 1), -1, np.float32)
    (outputs,) = model.session.run([model.description.output_tensors[0]], feeds)
    return Reference({name: feeds[name].tolist() for name in model.description.input_tensors}, outputs.tolist())
