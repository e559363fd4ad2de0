"""A model with its selection inside against the selection and the model apart: the same events, cuts, columns and scores."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing.proof import first_difference
from MLTools.NanoML.extensions.compiled.tracing.selection import Branches, TracedSelection, padded
from MLTools.NanoML.model import Description, Model, ObjectInput, Reference
from MLTools.NanoML.model.inside import FOLD, Decisions, decide
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.lists import Arrays
from MLTools.NanoML.selection import Events, Selection

SCORES = COLUMNS = 1e-6
"""How much a score may differ, and a column, relative above 1."""

_UNUSUAL = 1000  # events of each kind that may break programs
_REFERENCE = 8
_CHANGE = 1e-13  # of a number: far more than rounding does in a selection, and far less than anything that is measured
_DRAWS = 20  # of two that are equal, each comes first in some of so many
_ROUNDED = 0.01  # of real events, that may differ by rounding

_ROUNDING = (
    f"They do so too if all numbers change by {_CHANGE:g} of themselves: the line decides by what rounding leaves of numbers that cancel, "
    "or by numbers that are equal. Let it compare rounded numbers, as np.rint(x * 1000) / 1000."
)
_USUAL = "Write this line with other functions of awkward or numpy, or leave the selection out: `export: {selection: false}`."
_ADVICE = {
    "with NaN": "Give NaN a value before this line, as in ak.where(np.isnan(x), -1, x).",
    "with equal numbers": "Do not let this line depend on the order of equal numbers: sort by the file's order, or by a branch.",
}


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
        The values of branches that files may lack.
    corrected
        Branches that are corrected.
    cut
        A cut before the selection.
    """

    selection: Selection
    arrays: Arrays
    collections: Mapping[str, str]
    defaults: Mapping[str, Any]
    corrected: frozenset[str]
    cut: Formula | None = None

    def __len__(self) -> int:
        """Number of events."""
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    def changed(self, arrays: Arrays) -> Sample:
        """The same with other values."""
        return replace(self, arrays={**self.arrays, **arrays})

    def only(self, rows: NDArray[np.generic]) -> Sample:
        """Some of the events."""
        return self.changed({name: array[rows] for name, array in self.arrays.items()})


@dataclass(frozen=True)
class Agreement:
    """The result of a comparison.

    Attributes
    ----------
    events, passed
        How many events, and how many of them pass.
    columns, scores
        The largest difference of a column, relative above 1, and of a score.
    reference
        A few events that pass, with their scores.
    rounded
        How many further events differ as far as the selection itself does, if its inputs are rounded in another way.
    """

    events: int
    passed: int
    columns: float
    scores: float
    reference: Reference
    rounded: int

    def __str__(self) -> str:
        more = f"; {self.rounded} more depend on the last bits of their numbers" if self.rounded else ""
        return f"columns to {self.columns:.1g}, scores to {self.scores:.1g}{more}"


@dataclass(frozen=True)
class _Outcome:
    """The result of a selection for some events."""

    depth: NDArray[np.int64]  # how many cuts each event passes, one after the other; -1 if that is not known
    rows: NDArray[np.int64]  # the events that pass all
    columns: Arrays  # of these: numbers, or lists


def check_agreement(model: Model, traced: TracedSelection, networks: Model, samples: Sequence[Sample]) -> Agreement:
    """Compare on real events, and on such that are known to break programs; a NanoMLError says what differs, and in which line.

    Where two numbers are compared that only rounding tells apart, as the masses of pairs of equal momenta, both results are right:
    an event may differ if the selection itself makes something else of it when its numbers change by 1e-13 of themselves.

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
    total = passed = rounded = 0
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
            events, fold, found, expected = both
            place = f"{sample.selection.dataset.name or 'events'}{f', {what}' if what else ''}"
            distance = _distances(_of_model(found, about), expected)
            differing = np.flatnonzero(~(distance <= COLUMNS))
            is_rounding = _rounding(events, differing[:_UNUSUAL])
            most = len(events) if what else max(1, int(_ROUNDED * len(events)))
            if not is_rounding.all() or len(differing) > min(most, _UNUSUAL):
                line = _where(traced, events.only(differing)) or "in none of its lines alone"
                advice = _ROUNDING if is_rounding.mean() > 0.5 else _ADVICE.get(what, _USUAL)
                raise NanoMLError(
                    f"{place}: the model gives other results than the selection: {line}. "
                    f"So it is in {len(differing)} of {len(events)} events. {advice}"
                )
            known = np.delete(np.arange(len(events)), differing)
            rows = np.intersect1d(expected.rows, known)
            columns = max(columns, float(distance[known].max(initial=0.0)))
            scores = max(scores, _scores(found, rows, events, networks, fold, parameter, place))
            if not what:
                total, passed, rounded = total + len(known), passed + len(rows), rounded + len(differing)
                if not reference.outputs and len(rows):
                    reference = _reference(model, events, rows[:_REFERENCE], parameter)
    return Agreement(total, passed, columns, scores, reference, rounded)


def _both(
    model: Model, events: Sample, parameter: float | None, is_usual: bool
) -> tuple[Sample, NDArray[np.int64], Decisions, _Outcome] | None:
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
    return _both(model, events.only(rows), parameter, is_usual)


def _engine(sample: Sample) -> _Outcome:
    depth: NDArray[np.int64] = np.zeros(len(sample), np.int64)
    rows: NDArray[np.int64] = np.arange(len(sample))
    if sample.cut is not None:
        rows = np.flatnonzero(sample.cut.mask(sample.arrays, len(sample)))
        depth[rows] = 1
    arrays = sample.only(rows).arrays
    selected = sample.selection.apply(arrays, sample.collections, np.ones(len(rows)), plain=True)
    depth[rows] += selected.cutflow.depth
    weights = selected.cutflow.columns  # which no model has
    columns = {name: each for name, each in selected.columns.items() if name not in weights}
    return _Outcome(depth, rows[selected.rows], columns)


def _of_model(found: Decisions, about: Description) -> _Outcome:
    assert about.inside is not None
    depth = np.where(found.failed > 0, -1, np.sum([*found.cuts.values()], axis=0))
    rows = np.flatnonzero(found.passed)
    made = {**{each.name: found.columns[each.name] for each in about.inside.columns}, **found.collections}
    return _Outcome(depth, rows, {name: values[rows] for name, values in made.items()})


def _rounding(sample: Sample, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For which of some events the selection makes something else of almost the same numbers."""
    if not len(rows):
        return np.zeros(0, bool)
    random, again = np.random.default_rng(1), sample.only(np.repeat(rows, _DRAWS))

    def moved(array: Any) -> Any:
        flat = np.asarray(ak.flatten(array, axis=None))
        if flat.dtype.kind != "f":
            return array
        flat = flat * (1 + random.uniform(-_CHANGE, _CHANGE, len(flat)))
        return flat if array.ndim == 1 else ak.unflatten(flat, ak.num(array))

    try:
        other = again.changed({name: moved(array) for name, array in again.arrays.items()})
        distance = _distances(_engine(other), _engine(again))
    except NanoMLError:  # it stops at some of these events
        return np.zeros(len(rows), bool)
    return np.asarray((~(distance <= COLUMNS)).reshape(len(rows), _DRAWS).any(axis=1))


def prepared(selection: Selection, arrays: Arrays, collections: Mapping[str, str], cut: Formula | None) -> Sample:
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


def _distances(ours: _Outcome, theirs: _Outcome) -> NDArray[np.float64]:
    """How far apart the columns of each event are, relative above 1; infinite if it does not pass the same cuts."""
    found = np.where(ours.depth == theirs.depth, 0.0, np.inf)
    both = np.intersect1d(ours.rows, theirs.rows)
    for name in theirs.columns:
        one, other = (each.columns[name][np.searchsorted(each.rows, both)] for each in (ours, theirs))
        if not isinstance(one, ak.Array):
            found[both] = np.maximum(found[both], _relative(name, one, other))
            continue
        counts = ak.to_numpy(ak.num(one))
        same = counts == ak.to_numpy(ak.num(other))
        found[both[~same]] = np.inf
        flat = [ak.to_numpy(ak.flatten(each[same])) for each in (one, other)]
        np.maximum.at(found, np.repeat(both[same], counts[same]), _relative(name, *flat))
    return found


def _relative(name: str, ours: object, theirs: object) -> NDArray[np.float64]:
    expected = np.asarray(theirs, np.float64)
    difference = np.abs(np.asarray(ours, np.float64) - expected)
    if name.endswith("phi"):
        difference = np.minimum(difference, np.abs(difference - 2 * np.pi))
    return difference / np.maximum(np.abs(expected), 1)


def _scores(
    found: Decisions,
    rows: NDArray[np.int64],
    sample: Sample,
    networks: Model,
    fold: NDArray[np.int64],
    parameter: float | None,
    place: str,
) -> float:
    """The largest difference of a score, of events that pass, from that of the columns that the model itself gives."""
    if not len(rows):
        return 0.0
    made = {**sample.arrays, **found.columns, **found.collections}
    columns = {name: made[name][rows] for name in networks.reads if name in made}
    expected = networks.scores(columns, fold[rows], parameter)
    worst = float(np.abs(found.scores[rows] - expected).max(initial=0.0))
    if not worst <= SCORES * max(1.0, float(np.abs(expected).max(initial=1.0))):
        raise NanoMLError(
            f"{place}: a score differs by {worst:.2g} from that of {networks.path} on the same columns: the networks do not give the "
            "same behind a selection. Use the model after a skim: `export: {selection: false}`."
        )
    return worst


def _reference(model: Model, sample: Sample, rows: NDArray[np.int64], parameter: float | None) -> Reference:
    """Events with the mean of all networks."""
    feeds = model.tensors({name: sample.arrays[name][rows] for name in model.reads}, parameter)
    feeds[FOLD] = np.full((len(rows), 1), -1, np.float32)
    (outputs,) = model.session.run([model.description.output_tensors[0]], feeds)
    return Reference({name: feeds[name].tolist() for name in model.description.input_tensors}, outputs.tolist())
