"""A training on events: what several sections of its report start from, each measured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.baseline import baseline
from ML_processing.evaluation.scored import (
    EFFICIENCIES,
    MOST_EVENTS,
    EventCounts,
    OutOfFold,
    Scored,
    sampled,
    scored_files,
    scores_in,
)
from ML_processing.events.data import Table
from ML_processing.events.survey import Split, Survey, make_splits
from ML_processing.metrics.roc import Bootstrap, bootstrap
from ML_processing.requests import NO_DATA, DataRequest
from ML_processing.training.data import TrainingFiles
from ML_processing.training.directory import Training
from MLTools.NanoML.config.evaluation import Evaluate

T = TypeVar("T")


@dataclass(frozen=True)
class RepeatedTraining:
    """A finished training with another seed, on a share of the events, or without a value of the parameter."""

    training: Training
    seed: int
    share: float = 1.0
    left_out: float | None = None


@dataclass(frozen=True)
class Measurement:
    """A training, the events that it is measured on, and what is to be compared with them.

    Attributes
    ----------
    files, compare, wanted, eras
        As those of `evaluate`.
    again
        The trainings that were done again.
    settings
        The section `evaluate` for what extensions have added to it: `settings_of` gives it to them.
    """

    training: Training
    files: Sequence[Path]
    compare: Sequence[Path] = ()
    wanted: DataRequest = NO_DATA
    eras: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    again: Sequence[RepeatedTraining] = ()
    settings: Evaluate = field(default_factory=Evaluate)
    _done: dict[Callable[[Measurement], Any], Any] = field(default_factory=dict)

    def once(self, compute: Callable[[Measurement], T]) -> T:
        """The result of a function of this; it is called only once, whichever section asks first."""
        if compute not in self._done:
            self._done[compute] = compute(self)
        return cast(T, self._done[compute])

    @cached_property
    def data(self) -> TrainingFiles:
        """The files, opened."""
        opened = TrainingFiles.open(self.files, self.training.description.config, everything=True)
        return scored_files(self.training, opened)

    @cached_property
    def _sample(self) -> tuple[Table, Survey]:
        settings = self.training.description.config
        table, survey = self.data.sample(settings.memory, max(settings.folds, 1))
        self.training.check(table)
        return table, survey

    @property
    def survey(self) -> Survey:
        """The survey of the files."""
        return self._sample[1]

    @property
    def events(self) -> Table:
        """All events, or as many as fit into the memory."""
        return self._sample[0]

    @cached_property
    def table(self) -> Table:
        """The same with the weights that they have in what is measured."""
        parameter = self.training.parameter
        return parameter.measured(self.events) if parameter else self.events

    @property
    def physical(self) -> bool:
        """Whether the weights are expected numbers of events."""
        return self.table.about.physical

    @cached_property
    def splits(self) -> list[Split]:
        """The folds."""
        return make_splits(self.table, self.training.description.config.folds)

    @cached_property
    def _out_of_fold(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return scores_in(self.training, self.table)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of `table` that are tested, rising."""
        return self._out_of_fold[0]

    @cached_property
    def tested(self) -> OutOfFold:
        """The events of these rows, with their scores."""
        return OutOfFold(self.training, self.table[self.rows], self._out_of_fold[1])

    @cached_property
    def _sampled(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return sampled(self.tested.table.labels, MOST_EVENTS, self.tested.seed)

    @cached_property
    def part(self) -> OutOfFold:
        """Some of them, for diagnostics that need much memory or time."""
        return self.tested.select(*self._sampled)

    @cached_property
    def counts(self) -> EventCounts:
        """Numbers of events."""
        return EventCounts.of(self.tested, self.part, self.survey)

    @property
    def totals(self) -> list[float]:
        """Sums of weights of each class, of all events."""
        return [it.total.sum_of_weights for it in self.counts.classes.values()]

    @cached_property
    def baseline(self) -> NDArray[np.float32] | None:
        """The outputs of a BDT for the events of `tested`, or for those of `part` in a regression; None beside trees."""
        if self.training.is_boosted:
            return None
        found = baseline(self.table, self.splits, self.tested.seed)[self.rows]
        return found[self._sampled[0]] if self.training.targets else found

    @cached_property
    def scored(self) -> Scored:
        """The events of `tested` in a classification."""
        table = self.tested.table
        return Scored(table.labels, table.weights, self.tested.scores, self.baseline, self.training.discriminant)

    @cached_property
    def some(self) -> Scored:
        """The events of `part`, in a classification."""
        return replace(self.scored.select(self._sampled[0]), weights=self.part.table.weights)

    @cached_property
    def resampled(self) -> Bootstrap | None:
        """ROC curves of `some` after resampling."""
        few = self.some.counted()
        return bootstrap(few.score, few.truth, few.weights, EFFICIENCIES, self.tested.seed)

    @cached_property
    def learned_from(self) -> list[OutOfFold]:
        """For each network events that it was trained on, or some of them."""
        found = []
        for split in self.splits:
            chosen, factors = sampled(self.table.labels[split.training], MOST_EVENTS, self.tested.seed)
            some = self.table[split.training[chosen]]
            some = replace(some, weights=some.weights * factors)
            scores = self.training.scores(self.training.networks[split.fold], some)
            found.append(OutOfFold(self.training, some, scores))
        return found

    @cached_property
    def seen(self) -> list[Scored]:
        """The same in a classification."""
        judge = self.training.discriminant
        return [Scored(it.table.labels, it.table.weights, it.scores, None, judge) for it in self.learned_from]

    @cached_property
    def unseen(self) -> list[Scored]:
        """For each network the events that it is tested on."""
        return [self.scored.select(np.searchsorted(self.rows, split.test)) for split in self.splits]
