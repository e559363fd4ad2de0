"""From tables to what one network learns from: its training events in batches, scaled, and its validation events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.data import Table, TrainingFiles
from ML_processing.events.flattening import Flattening
from ML_processing.events.inputs import Batches, EventTensors, Inputs, ObjectTensors
from ML_processing.events.reweighting import PositiveWeights, Reweighted
from ML_processing.events.survey import Survey, factors_of_split
from ML_processing.models import Network
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import mixed

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

_BLOCK = 1 << 17  # events that are shuffled together
_MOST_VALIDATION = 1 << 16  # events that are enough for a loss: the same ones in each epoch
_MOST_SAMPLE = 1 << 13


@dataclass(frozen=True)
class ParameterGrid:
    """The values of the parameter of a network, such as the mass of a signal.

    Events without the parameter get a value at random. Every value counts the same in the training, however large its
    cross section, and is equally frequent among the events without one. So the parameter alone tells nothing about the
    class, and the network learns to separate the classes at any value of it (Baldi et al., Eur. Phys. J. C 76 (2016)
    235).
    """

    column: str  # the last feature
    values: tuple[float, ...]  # in increasing order
    shares: tuple[float, ...]  # of each among the events that have the parameter, by weight; they sum to 1

    @classmethod
    def of(cls, survey: Survey) -> ParameterGrid | None:
        """The parameter of a training, if it has one; a NanoMLError if the weights of a value are not positive."""
        if survey.about.parameter is None:
            return None
        values = sorted(survey.parameters)
        total = sum(survey.parameters.values())
        for value in values:
            if survey.parameters[value] <= 0:
                raise NanoMLError(
                    f"the weights of the events with {survey.about.parameter} {value:g} sum to "
                    f"{survey.parameters[value]:.4g}, so they cannot be scaled to the total of the others. Use more events."
                )
        return cls(survey.about.parameter, tuple(values), tuple(survey.parameters[it] / total for it in values))

    def filled(self, table: Table) -> NDArray[np.float32]:
        """The features of a table, with a value where there is none: always the same for an event."""
        features = table.features.copy()
        free = np.isnan(features[:, -1])
        run, block, event = (ids[free] for ids in table.identifiers)
        uniform = mixed(block, event, run).astype(np.float64) / 2.0**64
        chosen = (uniform * len(self.values)).astype(np.int64).clip(max=len(self.values) - 1)
        features[free, -1] = np.array(self.values, np.float32)[chosen]
        return features

    def balance(self, table: Table) -> NDArray[np.float64]:
        """Factors that give every value the same total weight, float64 of shape (N,); 1 for events without one."""
        values = table.features[:, -1]
        places = np.searchsorted(np.array(self.values, np.float32), values).clip(max=len(self.values) - 1)
        factors = 1 / (len(self.values) * np.array(self.shares))
        return np.where(np.isnan(values), 1.0, factors[places])

    def measured(self, table: Table) -> Table:
        """The events as a training is measured on them: all with a value, and every value with the same total weight.

        With physical weights the value alone would tell signal from background, since one with a large cross section is
        frequent among the signal: a BDT learns this, which says nothing of any single signal.
        """
        weights = (table.weights * self.balance(table)).astype(np.float32)
        return replace(table, features=self.filled(table), weights=weights)

    def redraw(self, events: EventTensors, column: int, scaled: Tensor, generator: torch.Generator) -> None:
        """Give new values to the events that are free, in place in their column, from the values as scaled, (values,)."""
        count = int(events.free.sum())
        if count:
            drawn = torch.randint(len(self.values), (count,), generator=generator)
            events.inputs.features[events.free, column] = scaled[drawn.to(scaled.device)]


@dataclass(frozen=True)
class TrainingData:
    """What a network learns from."""

    batches: Batches  # the training events
    events: int  # their number
    sample: EventTensors  # some of them, on which the training loss is measured
    validation: EventTensors  # the events that decide when to stop
    reweighted: dict[str, Reweighted] = field(default_factory=dict)  # classes whose weights were made positive


def inputs_of(table: Table, features: NDArray[np.float32] | None = None) -> Inputs:
    """The events of a table as a network reads them, before scaling; with other features, if they are given."""
    objects = {
        name: ObjectTensors(torch.from_numpy(values), torch.from_numpy(mask))
        for name, (values, mask) in table.objects.items()
    }
    return Inputs(torch.from_numpy(table.features if features is None else features), objects)


def make_training_data(
    files: TrainingFiles, table: Table, survey: Survey, network: Network, fold: int, config: Train, device: torch.device
) -> TrainingData:
    """What the network that tests on `fold` learns from, on `device`; the scaling of this fresh network is fitted here.

    If `table`, the result of `TrainingFiles.sample`, has all events, no file is read again. A NanoMLError says that the
    weights of the events that are kept do not sum to something positive.
    """
    k = survey.counts.shape[1]
    of = table.folds(k)
    held_out = (of == fold) | (of == (fold + 1) % k)
    training = table[~held_out]
    network.fit(training.features, training.objects, training.targets())
    parameter = ParameterGrid.of(survey)
    if parameter is not None and not network.has_scale:
        network.scaling.fit_parameter(parameter.values)
    factors, positive = factors_of_split(survey, fold), None
    if config.negative_weights == "reweight":
        positive = PositiveWeights.learn(training, config.seed, threads=1 if device.type == "cpu" else None)
        training, factors = positive.of(training), factors_of_split(positive.counted(survey), fold)
    flat = Flattening.learn(training, config.flatten) if config.flatten else None
    estimate = 0.5 if config.estimate == "median" else config.estimate
    prepare = partial(_prepared, network, factors, parameter, device, estimate, flat)
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
        batches = Batches(blocks, lambda i: events[edges[i] : edges[i + 1]], size, seed, False, redraw, config.sampler)
    else:

        def block(number: int) -> EventTensors:
            read = files.block(number)
            of = read.folds(k)
            learnt = read[(of != fold) & (of != (fold + 1) % k)]
            return prepare(learnt if positive is None else positive.of(learnt))

        batches = Batches(files.blocks, block, size, seed, True, redraw, config.sampler)
    learnt = sum(survey.counts[:, i].sum() for i in range(k) if i not in (fold, (fold + 1) % k))
    return TrainingData(batches, int(learnt), sample, validation, {} if positive is None else positive.classes)


@torch.no_grad()
def _prepared(
    network: Network,
    factors: NDArray[np.float64],
    parameter: ParameterGrid | None,
    device: torch.device,
    estimate: float | str,
    flat: Flattening | None,
    table: Table,
) -> EventTensors:
    """The events of a table as tensors: scaled inputs, weights of the training, standardized targets."""
    about, nothing = table.about, torch.empty(0)
    weights = (flat.of(table) if flat else table).weights * factors[table.labels]
    if parameter is not None:
        weights *= parameter.balance(table)
    found = torch.from_numpy(table.targets())
    targets = network.standardize(found) if found.shape[1] else found
    events = EventTensors(
        network.scaling(inputs_of(table)),
        torch.from_numpy(table.labels),
        torch.from_numpy(weights.astype(np.float32)),
        targets,
        nothing if about.spectator is None else torch.from_numpy(table.extras[about.spectator]),
        nothing.bool() if about.parameter is None else torch.from_numpy(np.isnan(table.features[:, -1])),
        estimate,
    )
    return events.map(lambda tensor: tensor.to(device))


@torch.no_grad()
def _redraw(
    network: Network, parameter: ParameterGrid | None, device: torch.device
) -> Callable[[EventTensors, torch.Generator], None] | None:
    if parameter is None:
        return None
    scaled = network.scaling.of_parameter(parameter.values).to(device)
    column = len(network.shape.features) - 1  # indicators of missing values may follow
    return lambda events, generator: parameter.redraw(events, column, scaled, generator)


def _at_most(table: Table, most: int, seed: int) -> Table:
    if len(table) <= most:
        return table
    return table[np.sort(np.random.default_rng(seed).permutation(len(table))[:most])]
