"""The ratios of densities in an unbinned channel: networks are trained, compared with the events, and written as one model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import chdtrc

from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.metrics.measured import Floats, bin_of, effective_events, quantile_edges
from ML_processing.models.network import Network, one_thread
from ML_processing.training.description import Epoch
from ML_processing.training.fold import device_of, prepare
from ML_processing.training.ratios import RatioTraining, check_events, description_of, ending
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.config.fit import axes_of
from MLTools.NanoML.contracts.closure import RATIO, ClosureTest, RatioClosure
from MLTools.NanoML.contracts.densities import ratios_model, varied_output
from MLTools.NanoML.terminal.progress import progress, say

if TYPE_CHECKING:
    from MLTools.NanoML.config.fit import FitTarget
    from MLTools.NanoML.config.training import Train


_BINS = 10
_SMALLEST = 1e-12  # of a ratio, for its logarithm
_RANK = 1e-9  # of the largest eigenvalue of a covariance: what is smaller is rounding


@dataclass(frozen=True)
class _Ratio:
    """An output of the networks, and weights of all rows of a channel: of the true events, and of those that the output reweights."""

    process: str
    variation: str | None
    output: int
    true: Floats
    base: Floats


def closure_of(training: RatioTraining, networks: Sequence[Sequence[Network]]) -> RatioClosure:
    """That of the networks of each fold; every event is reweighted by those that have not seen it."""
    channel, table = training.events.channels[0], training.events.table
    event, labels = np.unique(table.hashes(), return_inverse=True)[1], table.labels

    def outputs(of: Sequence[Sequence[Network]]) -> Floats:
        return np.maximum(training.joined(of).all_out_of_fold(table)[1].astype(np.float64), _SMALLEST)

    means, seeds = outputs(networks), len(networks[0])
    others = [outputs([[fold[seed]] for fold in networks]) for seed in range(seeds)] if seeds > 1 else []
    quantities = dict(zip(table.names, table.features.T.astype(np.float64), strict=True))
    factors, spread, tests = dict[str, float](), dict[str, float](), list[ClosureTest]()
    for it in _ratios(training):
        name = it.process if it.variation is None else varied_output(it.process, it.variation)
        values = means[:, it.output]
        factors[name] = float(1 / (it.base @ values))
        if others:
            own = it.base * (labels == table.classes.index(it.process))
            squares = sum(own @ (each[:, it.output] / values - 1) ** 2 for each in others) / own.sum()
            spread[name] = float(max(squares / (seeds - 1), 0.0) ** 0.5)
        rows = np.flatnonzero((it.true != 0) | (it.base != 0))
        true, base, reweighted = (each[rows] for each in (it.true, it.base, factors[name] * it.base * values))
        change = _Change(true, reweighted, base, np.unique(event[rows], return_inverse=True)[1], labels[rows])
        for quantity, x in {**quantities, RATIO: np.log(values)}.items():
            edges = quantile_edges(x[it.true != 0], _BINS)
            if edges.size:
                tests.append(change.test(it, quantity, edges, bin_of(x[rows], edges)))
    nominal = training.events.varied[:, 0]
    effective = {name: effective_events(nominal[labels == label]) for label, name in enumerate(table.classes)}
    return RatioClosure(channel.region, channel.era or None, effective, factors, seeds, spread, tuple(tests))


def _ratios(training: RatioTraining) -> Iterator[_Ratio]:
    """The ratio of each class to the mixture of all, in which they have the same weight, and of each variation to nominal events."""
    events, loss = training.events, training.loss
    labels, classes, columns = events.table.labels, events.table.classes, events.columns
    totals = np.where(loss.totals > 0, loss.totals, np.inf)
    shares = events.varied[:, : len(columns)] / totals[labels]
    for label in np.flatnonzero(loss.totals[:, 0] > 0).tolist():
        yield _Ratio(classes[label], None, label, shares[:, 0] * (labels == label), shares[:, 0])
    for number, (label, column) in enumerate(loss.pairs, len(classes)):
        mine = labels == label
        yield _Ratio(classes[label], ending(columns[column]), number, shares[:, column] * mine, shares[:, 0] * mine)


@dataclass(frozen=True)
class _Change:
    """Weights of rows, true and reweighted ones, each normalised, and those of the sample that is reweighted; their events and classes."""

    true: Floats
    reweighted: Floats
    base: Floats
    event: NDArray[np.int64]
    labels: NDArray[np.int64]

    def test(self, of: _Ratio, quantity: str, edges: Floats, place: NDArray[np.int64]) -> ClosureTest:
        """The test in bins of a quantity."""
        bins, count = len(edges) - 1, int(self.event.max()) + 1
        expected, found = (np.bincount(place, it, bins) for it in (self.true, self.reweighted))
        # what each event adds to the difference, in all its rows: the samples have it in common
        change = np.bincount(self.event * bins + place, self.reweighted - self.true, count * bins).reshape(count, bins)
        change -= change.sum(axis=1, keepdims=True) * expected  # both are normalised
        size, label = np.bincount(self.event, np.abs(self.base), count), np.zeros(count, np.int64)
        label[self.event] = self.labels
        for each in np.unique(self.labels):  # and so is each class of the sample
            mine = label == each
            change[mine] -= np.outer(size[mine] / size[mine].sum(), change[mine].sum(axis=0))
        scale, axes = np.linalg.eigh(covariance := change.T @ change)
        known = scale > _RANK * scale[-1]
        chi2, ndf = float((((found - expected) @ axes[:, known]) ** 2 / scale[known]).sum()), int(known.sum())
        probability = float(chdtrc(ndf, chi2)) if ndf else 1.0
        true, errors = expected.tolist(), np.sqrt(np.diagonal(covariance)).tolist()
        sides = tuple(edges.tolist()), tuple(true), tuple(found.tolist()), tuple(errors)
        return ClosureTest(of.process, of.variation, quantity, *sides, chi2, ndf, probability)


def learn_ratios(
    files: Sequence[Path], config: Train, channel: FitTarget, seeds: int, cmssw: str | None, output: Path
) -> RatioClosure:
    """Write the model of a channel, and return its closure.

    Its name is that of the `output`, and the `channel` a fit with it alone; there are networks of each fold with several `seeds`. Those
    that are finished wait in a directory beside the model, from which an interrupted training goes on. A NanoMLError says that the
    events do not allow it, or what `export` says.
    """
    limits, device, aside = target(cmssw), device_of(config), output.with_suffix("")
    quantities = {axes_of(*it)[0] for it in channel.histograms.items()}  # which no column need have
    events = ResultEvents.read(replace(config, target=channel), quantities)
    check_events(events)
    training = RatioTraining(config, description_of(events, files, config, device), events, device)
    folds = range(training.description.folds.k)
    networks: list[list[Network]] = [[] for _ in folds]
    prepare(aside, training.description)
    name, seeded = f"ratios of {output.stem}", [(fold, seed) for seed in range(seeds) for fold in folds]
    with one_thread(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        with progress(name, config.epochs * len(seeded), "epochs") as bar:

            def report(epochs: list[Epoch], note: str) -> None:
                bar.advance(len(epochs), note)

            for fold, seed in seeded:
                networks[fold].append(training.train(fold, seed, aside, report))
        closure = closure_of(training, networks)
    described = {"seeds": seeds, "closure": dict(closure.factors), "outcome": closure.text}
    about = replace(training.description, complete=True, metrics=described)
    export_networks(replace(training.joined(networks), description=about), output, ratios_model(output.stem), limits)
    shutil.rmtree(aside)
    say(f"{name}: {closure.text}")
    return closure
