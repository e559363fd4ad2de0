"""From tables to what one network learns from: its training events in batches, scaled, and its validation events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.batches import Batches, Events
from ML_processing.events.data import Data
from ML_processing.events.inputs import Inputs, Objects
from ML_processing.events.parameter import Parameter
from ML_processing.events.splits import factors_of_split
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from ML_processing.models import Network
from ML_processing.training.loop import Course
from MLTools.NanoML.errors import NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["inputs_of", "make_course"]

_BLOCK = 1 << 17  # events that are shuffled together
_MOST_VALIDATION = 1 << 16  # events that are enough for a loss: the same ones in each epoch
_MOST_SAMPLE = 1 << 13


def inputs_of(table: Table, features: NDArray[np.float32] | None = None) -> Inputs:
    """The events of a table as a network reads them, before scaling; with other features, if they are given."""
    objects = {
        name: Objects(torch.from_numpy(values), torch.from_numpy(mask))
        for name, (values, mask) in table.objects.items()
    }
    return Inputs(torch.from_numpy(table.features if features is None else features), objects)


def make_course(
    data: Data,
    table: Table,
    survey: Survey,
    network: Network,
    fold: int,
    config: Train,
    device: torch.device,
) -> Course:
    """What the network that tests on `fold` learns from; its scaling is fitted here.

    Parameters
    ----------
    data
        The files.
    table, survey
        The events of `Data.sample`. If they are all, nothing is read again.
    network
        A fresh network.
    fold
        Its number.
    config
        The section `train`.
    device
        Where the events are to be.

    Raises
    ------
    NanoMLError
        The weights of the events that are kept do not sum to something positive.
    """
    k = survey.counts.shape[1]
    of = table.folds(k)
    held_out = (of == fold) | (of == (fold + 1) % k)
    training = table[~held_out]
    network.fit(training.features, training.objects, training.targets() if table.about.targets else None)
    parameter = Parameter.of(survey)
    prepare = _Preparation(network, factors_of_split(survey, fold), parameter, device)
    size, complete = config.batch_size, len(table) == survey.counts.sum()
    seed = config.seed * 1000 + fold
    redraw, fixed = _redraw(network, parameter, device), torch.Generator().manual_seed(seed)
    validation = prepare(_at_most(table[of == (fold + 1) % k], _MOST_VALIDATION, config.seed))
    sample = prepare(_at_most(training, min(len(validation), _MOST_SAMPLE), config.seed))
    for events in (validation, sample):
        if not events.weights.sum() > 0:
            raise NanoMLError(
                f"training of network {fold}: the weights of {len(events):,} events on which its loss is measured do not "
                "sum to something positive. Use more events, or a larger train.memory."
            )
        if redraw is not None:
            redraw(events, fixed)
    if complete:
        events = prepare(training)
        blocks = max(round(len(events) / _BLOCK), 1)
        edges = [len(events) * i // blocks for i in range(blocks + 1)]
        batches = Batches(
            blocks, lambda i: events[edges[i] : edges[i + 1]], size, seed, ahead=False, redraw=redraw
        )
    else:
        batches = Batches(data.blocks, _Reader(data, prepare, k, fold), size, seed, ahead=True, redraw=redraw)
    learnt = sum(survey.counts[:, i].sum() for i in range(k) if i not in (fold, (fold + 1) % k))
    return Course(batches, int(learnt), sample, validation)


@dataclass(frozen=True)
class _Reader:
    """Reads a block of the files, and takes the training events from it."""

    data: Data
    prepare: _Preparation
    k: int
    fold: int

    def __call__(self, number: int) -> Events:
        table = self.data.block(number)
        of = table.folds(self.k)
        return self.prepare(table[(of != self.fold) & (of != (self.fold + 1) % self.k)])


@dataclass(frozen=True)
class _Preparation:
    network: Network
    factors: NDArray[np.float64]
    parameter: Parameter | None
    device: torch.device

    @torch.no_grad()
    def __call__(self, table: Table) -> Events:
        nothing = torch.empty(0)
        about = table.about
        free, spectator = nothing.bool(), nothing
        if about.parameter is not None:
            free = torch.from_numpy(np.isnan(table.features[:, -1]))
        if about.spectator is not None:
            spectator = torch.from_numpy(table.extras[about.spectator])
        weights = table.weights * self.factors[table.labels]
        if self.parameter is not None:
            weights *= self.parameter.balance(table)
        events = Events(
            self.network.scaling(inputs_of(table)),
            torch.from_numpy(table.labels),
            torch.from_numpy(weights.astype(np.float32)),
            self.network.standardize(torch.from_numpy(table.targets()))
            if about.targets
            else torch.empty(len(table), 0),
            spectator,
            free,
        )
        return events.map(lambda tensor: tensor.to(self.device))


@torch.no_grad()
def _redraw(
    network: Network, parameter: Parameter | None, device: torch.device
) -> Callable[[Events, torch.Generator], None] | None:
    if parameter is None:
        return None
    rows = torch.zeros(len(parameter.values), len(network.shape.features))
    rows[:, -1] = torch.tensor(parameter.values)
    scaled: Tensor = network.scaling.features(rows)[0][:, -1].to(device)
    return lambda events, generator: parameter.redraw(events, scaled, generator)


def _at_most(table: Table, most: int, seed: int) -> Table:
    if len(table) <= most:
        return table
    return table[np.sort(np.random.default_rng(seed).permutation(len(table))[:most])]
