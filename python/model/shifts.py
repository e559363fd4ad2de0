"""Scores of a skim under shifts of objects, which give some inputs of a model other values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.model.entries import outside_of
from MLTools.NanoML.model.model import Model, ScoreColumn
from MLTools.NanoML.model.padding import Jagged, N
from MLTools.NanoML.nanoaod.fileaccounting import under_shift
from MLTools.NanoML.rootio.lists import Arrays, Entries, Picker


def shifted_inputs(
    model: Model, names: Sequence[str], shifts: Iterable[str], known: Collection[str]
) -> dict[str, dict[str, str]]:
    """By shift, the columns with other values of some inputs of a model; none for a shift that changes none of them.

    `names` are those of the inputs, and `known` all columns that there are.
    """
    collections = {name: tensor.collection for tensor in model.objects for name in tensor.branches}
    found = {}
    for shift in shifts:
        others = {name: under_shift(name, shift, collections.get(name, "")) for name in names}
        found[shift] = {name: other for name, other in others.items() if other in known}
    return {shift: inputs for shift, inputs in found.items() if inputs}


class ShiftedScores:
    """The scores of a model, nominally and under each shift under which one of its inputs may differ.

    A model of objects has scores of the nominal objects.

    Parameters
    ----------
    inputs
        By shift, as the ending of columns ("jesUp"), the columns with other values of inputs, as `shifted_inputs` finds them.
    ending
        What the names of the scores end with, but for shifts.

    Attributes
    ----------
    reads
        The columns that it reads beside the inputs of the model.
    columns
        The columns that it makes: the scores, the folds, and the scores under each shift.
    outside
        Of what was scored last, which nominal inputs lie outside of the model's domain, bool, shape (rows, inputs).
    """

    def __init__(
        self,
        model: Model,
        parameter: Optional[float],
        inputs: Optional[Mapping[str, Mapping[str, str]]] = None,
        ending: str = "",
    ) -> None:
        self._model, self._parameter, self._inputs = model, parameter, inputs or {}
        self.outside: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self.reads = [other for each in self._inputs.values() for other in each.values()]
        *scores, fold = model.score_columns(parameter, ending)
        self._names = [each.name for each in scores]
        self.columns: list[ScoreColumn] = [*scores, fold]
        for shift in self._inputs:
            self.columns += [
                replace(each, name=f"{each.name}_{shift}", title=f"{each.title}, under the shift {shift}")
                for each in scores
            ]

    def __call__(self, columns: Arrays, others: Arrays, fold: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """The scores of events, or of their objects, by their columns.

        These are the inputs of the model, numbers of shape (events,) and lists as awkward arrays; `others` are the columns that it
        `reads` beside them.
        """
        feeds = self._model.tensors(columns, self._parameter)
        self.outside = outside_of(self._model.description.domain, feeds)
        nominal = self._model.scores_of(feeds, self._of_each(columns, fold)).T
        found = dict(zip(self._names, nominal))
        for shift, inputs in self._inputs.items():
            shifted = {name: others[other] for name, other in inputs.items()}
            scores = self._scores_again(nominal, columns, shifted, fold)
            found.update((f"{name}_{shift}", values) for name, values in zip(self._names, scores))
        return found

    def _scores_again(
        self, nominal: NDArray[np.float32], columns: Arrays, shifted: Arrays, fold: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The scores with other values of some columns: computed again only for the events that these change."""
        changed = np.zeros(len(fold), bool)
        for name, values in shifted.items():
            changed |= _differ(values, columns[name])
        if not changed.any():
            return nominal
        pick = Picker(np.flatnonzero(changed))
        some = {name: pick(shifted.get(name, values)) for name, values in columns.items()}
        scores = nominal.copy()
        scores[:, self._of_each(columns, changed)] = self._model.scores(
            some, self._of_each(some, fold[changed]), self._parameter
        ).T
        return scores

    def _of_each(self, columns: Arrays, values: NDArray[N]) -> NDArray[N]:
        """Values of events for all that is scored, an event or an object."""
        if self._model.description.collection is None:
            return values
        return np.repeat(values, object_counts(columns))


def _differ(one: Entries, other: Entries) -> NDArray[np.bool_]:
    """In which events two columns have other values."""
    if one.ndim == 1:
        return np.asarray(one) != np.asarray(other)
    counts = ak.num(one)
    differ = np.asarray(counts != ak.num(other))
    event = np.repeat(np.flatnonzero(~differ), counts[~differ])
    differ[event[np.asarray(ak.flatten(one[~differ]) != ak.flatten(other[~differ]))]] = True
    return differ


def object_counts(columns: Arrays) -> NDArray[np.int64]:
    """The number of objects of each event that a model of objects scores, by its inputs."""
    return next(Jagged.of(values).counts for values in columns.values() if values.ndim > 1)
