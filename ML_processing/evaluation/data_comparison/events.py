"""Data and simulation in a region, with scores; data of a region that is blind are never kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.scored import OutOfFold
from ML_processing.events.data import EventSample, Table, TrainingFiles
from ML_processing.requests import DataRequest
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.hdf5 import EVENTS, ConvertedRegion, read_metadata
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.versions import did_you_mean
from MLTools.NanoML.terminal.progress import progress


def is_data(file: Path) -> bool:
    """Whether an HDF5 file has collision data without a class."""
    return any(dataset.is_data and dataset.class_ is None for dataset in read_metadata(file).datasets)


@dataclass(frozen=True)
class RegionEvents:
    """The events of a region that are not in one that is blind."""

    region: ConvertedRegion
    expected: OutOfFold  # weights stand for all simulated events, those that are not tested as well
    data: OutOfFold  # each with weight 1; their labels mean nothing
    counted: int  # events of data, of which `data` may be a part


def region_events(training: Training, compared: DataRequest, name: str) -> RegionEvents:
    """The events of a region outside all those that are blind.

    Networks that have not seen an event score it, as in the files of `nanoml score`. A NanoMLError says that the files do not
    fit together, a ConfigError that they have no such region, or that it is a blind one.
    """
    settings = replace(training.description.config, regions=[])
    simulation, data = (TrainingFiles.open(files, settings) for files in (compared.simulation, compared.data))
    blind = compared.blind
    regions, others = ({it.name: it for it in each.columns.regions} for each in (simulation, data))
    if name not in regions:
        hint = did_you_mean(name, regions) or f" They have: {', '.join(regions) or 'none'}."
        raise ConfigError(f'evaluate.data_in: "{name}" is not a region of the HDF5 files.{hint}')
    if name in blind:
        raise ConfigError(f"evaluate.data_in: data in {name} are blind. Name another region.")
    for wanted in (name, *blind):
        if others.get(wanted) != regions.get(wanted):
            raise NanoMLError(
                f"{compared.data[0]}: has another region {wanted} than {compared.simulation[0]}, or none. Convert both with the "
                "same configuration."
            )
    left_out = [regions[it] for it in blind]
    table, counts = _gathered(simulation, regions[name], left_out, settings.memory, f"read what is expected in {name}")
    training.check(table)
    rows, scores = training.out_of_fold(table)
    table = table[rows]
    here = np.bincount(table.labels, minlength=len(counts))
    factors = np.divide(counts, here, out=np.ones(len(counts)), where=here > 0)
    table = replace(table, weights=(table.weights * factors[table.labels]).astype(np.float32))
    data = replace(data, columns=replace(data.columns, is_labelled=False))  # else they would be left out
    observed, counted = _gathered(data, regions[name], left_out, settings.memory, f"read data in {name}")
    training.check(observed)
    return RegionEvents(
        regions[name],
        OutOfFold(training, table, scores),
        OutOfFold(training, observed, _scores_of_data(training, observed)),
        int(counted.sum()),
    )


def _gathered(
    files: TrainingFiles, region: ConvertedRegion, blind: Sequence[ConvertedRegion], memory: int, what: str
) -> tuple[Table, NDArray[np.float64]]:
    """The events of a region that fit into the memory, and how many of each class there are."""
    kept, counts = EventSample(memory * 1e6), np.zeros(len(files.columns.classes))
    with progress(what, sum(files.rows)) as bar:
        for file, raw in files.parts():
            events = raw[EVENTS]
            inside = events[region.column].copy()
            for other in blind:
                inside &= ~events[other.column]
            rows = {name: values[inside] for name, values in raw.items()}
            table = Table.of_rows(file, rows, files.columns)
            counts += np.bincount(table.labels, minlength=len(counts))
            kept.add(table)
            bar.advance(len(events))
    return Table.join(kept.parts), counts


def _scores_of_data(training: Training, table: Table) -> NDArray[np.float32]:
    """Each event by the network of its fold; by the only one if there is no other."""
    fold = table.folds(len(training.networks))
    scores = np.empty((len(table), training.shape.outputs), np.float32)
    for i, network in enumerate(training.networks):
        mine = np.flatnonzero(fold == i)
        if mine.size:
            scores[mine] = training.scores(network, table[mine])
    return scores
