"""The same networks on the simulation of each era."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import chdtrc

from ML_processing.evaluation.regions import BinnedOutput, ClassYield, Separation, binned_outputs, measured_in
from ML_processing.events.data import TrainingFiles
from ML_processing.metrics.measured import MERGED, PAIR, Histogram, Measured
from ML_processing.training.directory import Training


@dataclass(frozen=True)
class EraResult:
    """The events of an era."""

    yields: dict[str, ClassYield]
    measured: Separation = field(metadata=MERGED)
    discriminant: BinnedOutput | None  # the first, normalised to one for each class; None without events
    events: int  # with a score


@dataclass(frozen=True)
class Eras:
    """Yields and separation in each era."""

    eras: dict[str, EraResult]
    auc: Measured = field(metadata=PAIR)  # mean over the eras by their errors
    probability: float | None  # that the AUC of the eras differ as much by chance
    physical: bool  # whether the weights are expected numbers of events
    classes: list[str]


def eras_of(training: Training, files: Mapping[str, Sequence[Path]], physical: bool) -> Eras | None:
    """Measure the networks on the events of each era, in the regions of the training.

    `files` are the HDF5 files of each era. None if there are fewer than two eras, or for a regression.
    """
    if len(files) < 2 or training.targets:
        return None
    settings, found = training.description.config, {}
    for era, paths in files.items():
        yields, measured, tested = measured_in(training, TrainingFiles.open(paths, settings))
        assert isinstance(measured, Separation)
        shown = binned_outputs(tested)
        found[era] = EraResult(yields, measured, _shape(shown[0]) if shown else None, len(tested.table))
    return Eras(found, *_agreement([it.measured.auc for it in found.values()]), physical, training.description.classes)


def _shape(shown: BinnedOutput) -> BinnedOutput:
    """The same with a total of one for each class."""
    classes = []
    for it in shown.classes:
        total = it.bins.values.sum()
        scale = 1 / total if total > 0 else 0.0
        classes.append(type(it)(it.name, Histogram(it.bins.values * scale, it.bins.errors * scale)))
    return BinnedOutput(shown.label, shown.edges, classes)


def _agreement(areas: Sequence[Measured]) -> tuple[Measured, float | None]:
    """The mean of independent measurements, and the probability of their chi2 around it."""
    known = [(it.value, it.error) for it in areas if it.value is not None and it.error]
    if len(known) < 2:
        return Measured(None, None), None
    values, errors = np.array(known).T
    weights = errors**-2
    mean = (values * weights).sum() / weights.sum()
    chi2 = float((((values - mean) / errors) ** 2).sum())
    return Measured(float(mean), float(weights.sum() ** -0.5)), float(chdtrc(len(known) - 1, chi2))
