"""Data and simulation in a region, with scores; data of a region that is blind are never kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.scored import OutOfFold
from ML_processing.events.data import Table
from ML_processing.requests import DataRequest
from ML_processing.training.data import EventSample, TrainingFiles
from ML_processing.training.directory import Training
from MLTools.NanoML.contracts.blinding import share_in
from MLTools.NanoML.contracts.hdf5 import EVENTS, ConvertedRegion, read_metadata
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.folds import part_of
from MLTools.NanoML.rootio.versions import IDENTIFIERS, did_you_mean
from MLTools.NanoML.terminal.progress import progress


def is_data(file: Path) -> bool:
    """Whether an HDF5 file has collision data without a class."""
    return any(dataset.is_data and dataset.class_ is None for dataset in read_metadata(file).datasets)


@dataclass(frozen=True)
class RegionEvents:
    """The events of a region that may be seen."""

    region: ConvertedRegion
    expected: OutOfFold  # weights stand for all simulated events, those that are not tested as well
    data: OutOfFold  # each with weight 1; their labels mean nothing
    counted: int  # events of data, of which `data` may be a part


def region_events(training: Training, compared: DataRequest, name: str) -> RegionEvents:
    """The events of a region that may be seen: none that is also in one that is blind.

    Networks that have not seen an event score it, as in the files of `nanoml score`. A NanoMLError says that the files do not
    fit together, a ConfigError that they have no such region, or that it is a blind one.
    """
    settings = replace(training.description.config, regions=[])
    simulation, data = (TrainingFiles.open(files, settings) for files in (compared.simulation, compared.data))
    regions, others = ({it.name: it for it in each.columns.regions} for each in (simulation, data))
    if name not in regions:
        hint = did_you_mean(name, regions) or f" They have: {', '.join(regions) or 'none'}."
        raise ConfigError(f'evaluate.data_in: "{name}" is not a region of the HDF5 files.{hint}')
    if compared.shares.get(name) == 0:
        raise ConfigError(f"evaluate.data_in: data in {name} are blind. Name another region.")
    for wanted in (name, *compared.shares):
        if others.get(wanted) != regions.get(wanted):
            raise NanoMLError(
                f"{compared.data[0]}: has another region {wanted} than {compared.simulation[0]}, or none. Convert both with the "
                "same configuration."
            )
    table, counts = _gathered(simulation, name, compared, settings.memory, False)
    training.check(table)
    rows, scores = training.out_of_fold(table)
    table = table[rows]
    here = np.bincount(table.labels, minlength=len(counts))
    factors = np.divide(counts, here, out=np.ones(len(counts)), where=here > 0)
    table = replace(table, weights=(table.weights * factors[table.labels]).astype(np.float32))
    data = replace(data, columns=replace(data.columns, is_labelled=False))  # else they would be left out
    observed, counted = _gathered(data, name, compared, settings.memory, True)
    training.check(observed)
    return RegionEvents(
        regions[name],
        OutOfFold(training, table, scores),
        OutOfFold(training, observed, _scores_of_data(training, observed)),
        int(counted.sum()),
    )


def _gathered(
    files: TrainingFiles, region: str, compared: DataRequest, memory: int, of_data: bool
) -> tuple[Table, NDArray[np.float64]]:
    """The events of a region that may be seen, as many as fit into the memory, and how many of each class there are.

    Simulation is weighted by the share of each event, and data are seen as a whole or not at all.
    """
    kept, counts = EventSample(memory * 1e6), np.zeros(len(files.columns.classes))
    columns, what = {it.name: it.column for it in files.columns.regions}, "data" if of_data else "what is expected"
    with progress(f"read {what} in {region}", sum(files.rows), is_share=of_data) as bar:
        for file, raw in files.parts():
            events = raw[EVENTS]
            others = {it: events[columns[it]] for it in compared.shares}
            share = np.broadcast_to(share_in(region, compared.shares, others.get), len(events))
            if of_data:
                share = part_of(*(events[name] for name in IDENTIFIERS)) < share
            seen = events[columns[region]] & (share > 0)
            rows = {name: values[seen] for name, values in raw.items()}
            rows[EVENTS]["weight"] *= share[seen]
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
