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
from MLTools.NanoML.model import Description, Model, Reference
from MLTools.NanoML.model.file import open_session
from MLTools.NanoML.model.inside import FOLD
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.selection import Events, Selected, Selection

SCORES = 1e-6
"""How much a score may differ."""

_ROWS = 1000  # events that run at once
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
    corrected
        Branches that are corrected.
    """

    selection: Selection
    arrays: Mapping[str, Any]
    collections: Mapping[str, str]
    corrected: frozenset[str] = frozenset()

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
        return f"{self.events} events, of which {self.passed} pass; columns to {self.columns:.1g}, scores to {self.scores:.1g}"


def check_agreement(
    path: str,
    about: Description,
    traced: TracedSelection,
    networks: Model,
    samples: Sequence[Sample],
    used: Sequence[Branches],
) -> Agreement:
    """Compare on real events, and on such that are known to break programs; a NanoMLError says what differs, and in which line."""
    session = open_session(path)
    total = passed = 0
    columns = scores = 0.0
    reference = Reference({}, [])
    for sample in samples:
        for what, events in _trials(sample, used):
            try:
                selected = _engine(events)
            except NanoMLError:
                if what:  # a selection need not stand such events
                    continue
                raise
            feeds = _feeds(events, used, about)
            run, section, event = (np.asarray(events.arrays[name]) for name in versions.IDENTIFIERS)
            fold = fold_of(run, section, event, networks.folds)
            found = _run(session, feeds, fold, about)
            place = f"{sample.selection.dataset.name or 'events'}{f', {what}' if what else ''}"
            problem = _of_selection(found, selected, about)
            if problem:
                raise NanoMLError(
                    f"{place}: the model gives other results than the selection: {_where(traced, events) or problem}"
                )
            columns = max(columns, _columns(found, selected, about, place))
            scores = max(scores, _scores(found, selected, events, networks, fold, about, place))
            if not what:
                total, passed = total + len(events), passed + len(selected.rows)
                if not reference.outputs and len(selected.rows):
                    reference = _reference(session, feeds, selected.rows[:_REFERENCE], about)
    return Agreement(total, passed, columns, scores, reference)


def _engine(sample: Sample) -> Selected:
    return sample.selection.apply(sample.arrays, sample.collections, np.ones(len(sample)), plain=True)


def prepared(selection: Selection, arrays: Mapping[str, Any], collections: Mapping[str, str]) -> Sample:
    """Events as `select` sees them, after the corrections of `prepare`; as float32, which is what a model reads."""
    number = len(next(iter(arrays.values())))
    optional = {**dict.fromkeys(selection.dataset.triggers, False), **selection.optional}
    whole = {**arrays, **{name: np.full(number, value) for name, value in optional.items() if name not in arrays}}
    with selection._explained():
        events = selection.prepare(Events(whole, collections, selection.where()))
        corrected = {name: ak.values_astype(events[name], np.float32) for name in events._replaced}
    plain = copy.copy(selection)
    plain.prepare = lambda events: events  # type: ignore[method-assign]
    return Sample(plain, {**whole, **corrected}, collections, frozenset(corrected))


def _trials(sample: Sample, used: Sequence[Branches]) -> list[tuple[str, Sample]]:
    """The events as they are, without objects, with as many as there is room for, with NaN, and with equal numbers."""
    lists = [each for each in used if each.collection and each.names]
    found = [("", sample)]
    if not len(sample) or not lists:
        return found
    sample = sample.changed({name: array[:_UNUSUAL] for name, array in sample.arrays.items()})
    random = np.random.default_rng(0)
    names = [name for name in sample.collections if name in sample.arrays]
    none = {name: sample.arrays[name][:, :0] for name in names}
    found.append(("without objects", sample.changed(none)))
    for what, change in {"with NaN": _with_nan, "with equal numbers": _with_ties}.items():
        found.append((what, sample.changed({name: change(sample.arrays[name], random) for name in names})))
    full = {}
    for each in lists:
        counts = ak.num(sample.arrays[each.names[0]])
        objects = int(ak.sum(counts))
        if objects:
            drawn = random.integers(0, objects, len(sample) * each.size)
            for name in [name for name in names if sample.collections[name] == each.collection]:
                full[name] = ak.unflatten(ak.flatten(sample.arrays[name])[drawn], each.size)
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


def _feeds(sample: Sample, used: Sequence[Branches], about: Description) -> dict[str, NDArray[np.float32]]:
    parameter = about.parameter
    given = {parameter.column: np.full(len(sample), parameter.values[0])} if parameter is not None else {}
    return padded(used, {**sample.arrays, **given})


def _run(
    session: Any, feeds: Mapping[str, Any], fold: NDArray[np.int64], about: Description
) -> dict[str, NDArray[Any]]:
    """All outputs, an event by the network of its fold."""
    names = [each.name for each in session.get_outputs()]
    given = {each.name for each in session.get_inputs()}
    found: dict[str, NDArray[Any]] = {}
    for number in range(about.folds):
        rows = np.flatnonzero(fold == number)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            feed = {name: values[part] for name, values in feeds.items() if name in given}
            feed[FOLD] = np.full((len(part), 1), number, np.float32)
            for name, values in zip(names, session.run(None, feed), strict=True):
                if name not in found:
                    found[name] = np.zeros((len(fold), *values.shape[1:]), values.dtype)
                found[name][part] = values
    if not found:
        raise NanoMLError("the datasets have no events on which the model could be compared with its selection.")
    return found


def _of_selection(found: Mapping[str, NDArray[Any]], selected: Selected, about: Description) -> str:
    """What differs in the decision and the cut flow; empty if nothing does."""
    assert about.inside is not None
    rows = np.flatnonzero(found["passed"][:, 0] > 0)
    if not np.array_equal(rows, selected.rows):
        return f"{len(rows)} events pass instead of {len(selected.rows)}."
    flow = found["cuts"].sum(axis=0)
    for number, step in enumerate(selected.cutflow.steps[1:]):
        if flow[number] != step.events:
            return f'{flow[number]:.0f} events pass the cut "{step.cut}" instead of {step.events}.'
    if found["failed"].any():
        return f"{int(found['failed'].sum())} events are said to fail."
    return ""


def _where(traced: TracedSelection, sample: Sample) -> str:
    """The first line that differs."""
    again = TracedSelection(sample.selection, sample.arrays, sample.collections, traced.inputs.sizes)
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


def _columns(found: Mapping[str, NDArray[Any]], selected: Selected, about: Description, place: str) -> float:
    """The largest difference of a column; an error if it is more than the last bit of float32."""
    assert about.inside is not None
    largest = 0.0
    given: list[tuple[str, NDArray[Any], Any]] = []
    for number, column in enumerate(about.inside.columns):
        given.append((column.name, found["columns"][selected.rows, number], selected.columns[column.name]))
    for collection in about.inside.collections:
        there = found[f"made_{collection.name}_mask"][selected.rows] > 0
        values = found[f"made_{collection.name}"][selected.rows]
        for number, field in enumerate(collection.fields):
            name = f"{collection.name}_{field.name}"
            array = selected.columns[name]
            if not np.array_equal(there.sum(axis=1), ak.to_numpy(ak.num(array))):
                raise NanoMLError(f"{place}: the model gives other numbers of {collection.name} than the selection.")
            given.append((name, values[there][:, number], ak.to_numpy(ak.flatten(array))))
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
    found: Mapping[str, NDArray[Any]],
    selected: Selected,
    sample: Sample,
    networks: Model,
    fold: NDArray[np.int64],
    about: Description,
    place: str,
) -> float:
    """The largest difference of a score."""
    rows = selected.rows
    if not len(rows):
        return 0.0
    columns = {name: sample.arrays[name][rows] for name in networks.reads if name in sample.arrays}
    columns |= {name: values for name, values in selected.columns.items() if name in networks.reads}
    parameter = about.parameter.values[0] if about.parameter else None
    expected = networks.scores(columns, fold[rows], parameter)
    ours = found[about.output_tensors[0]][rows]
    worst = float(np.abs(ours - expected).max(initial=0.0))
    if not worst <= SCORES * max(1.0, float(np.abs(expected).max(initial=1.0))):
        raise NanoMLError(
            f"{place}: a score differs by {worst:.2g} from that of {networks.path} on the selection's columns."
        )
    return worst


def _reference(
    session: Any, feeds: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], about: Description
) -> Reference:
    """Events with the mean of all networks."""
    few = {name: values[rows] for name, values in feeds.items()}
    few[FOLD] = np.full((len(rows), 1), -1, np.float32)
    (outputs,) = session.run([about.output_tensors[0]], few)
    return Reference({name: few[name].tolist() for name in about.input_tensors}, outputs.tolist())
