"""Requests to an evaluation, beside the measurement of its training, and to an export; torch is not needed to make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from MLTools.NanoML.config.evaluation import Evaluate
from MLTools.NanoML.contracts.blinding import Shares
from MLTools.NanoML.report.section import PRIVATE_WORK, Style
from MLTools.NanoML.schema.roles import CORE, HOW, READS, WRITES

if TYPE_CHECKING:
    from MLTools.NanoML.config.evaluation import Export
    from MLTools.NanoML.config.fit import FitTarget
    from MLTools.NanoML.config.training import Train


@dataclass(frozen=True)
class DataRequest:
    """Compare data with simulation in some regions, and nowhere else."""

    regions: tuple[str, ...]
    # of the events that may be seen in some regions, and nowhere more of these
    shares: Shares = field(default_factory=dict)
    data: tuple[Path, ...] = field(default=(), metadata=READS)
    simulation: tuple[Path, ...] = field(default=(), metadata=READS)  # what is expected
    luminosity: float | None = None  # of the data [/fb], to be shown
    limit: float | None = None  # expected S / sqrt(B) above which a bin is blind; None for no bin
    opened: tuple[str, ...] = ()  # regions in which no bin is blind
    hidden: tuple[str, ...] = ()  # classes from data whose numbers of events are not told


@dataclass(frozen=True)
class RepeatRequest:
    """Train again: with other seeds, on parts of the events, and without each value of the parameter."""

    seeds: int = 0  # how many others
    shares: tuple[float, ...] = ()  # of the events
    left_out: bool = False  # each value of the parameter in turn
    target: FitTarget | None = None  # the fit for whose result the networks are trained, if they are

    @property
    def trainings(self) -> float:
        """The cost, in trainings on all events."""
        return self.seeds + sum(self.shares)


NO_DATA, NO_REPEATS = DataRequest(()), RepeatRequest()
"""Data are not looked at; nothing is trained again."""


MEASURED = "evaluation.json"
"""The file beside a report of what was measured for it, so that it can be drawn again."""


OUTPUTS = "outputs.h5"
"""The file beside it with what the networks gave, so that they do not run again when weights or regions change."""


def repeats_of(run: Path) -> Path:
    """The directory of the trainings that repeat one: beside its own, which they leave alone."""
    return run.with_name(f"{run.name}_repeated")


@dataclass(frozen=True)
class TrainJob:
    """A training: its HDF5 files, its settings, its directory and era, the `networks.beginning` of its networks, the cuts of regions.

    `target` is the fit for whose result the networks are trained, if they are.
    """

    files: Sequence[Path] = field(metadata=CORE)
    config: Train
    run: Path = field(metadata=WRITES)
    era: str | None = field(metadata=HOW)
    beginning: Sequence[object] | None
    regions: Mapping[str, str]
    # the report draws the losses again
    style: Style = field(default=PRIVATE_WORK, metadata=HOW)
    target: FitTarget | None = None


@dataclass(frozen=True)
class EvaluateJob:
    """A report: the directory and the HDF5 files of the training, others to compare with, and what else is asked for."""

    run: Path = field(metadata=WRITES)
    files: Sequence[Path] = field(metadata=READS)
    compare: Sequence[Path] = field(metadata=READS)
    data: DataRequest
    eras: Mapping[str, Sequence[Path]]  # files of each era; they are read, too
    repeats: RepeatRequest
    signal: str | None
    model: str = field(metadata=HOW)  # as `train.model`; its code counts
    added: Evaluate  # the settings of extensions

    @property
    def also_read(self) -> list[Path]:
        """The description of the training, and the files of all eras."""
        return [self.run / "training.json", *(path for files in self.eras.values() for path in files)]


@dataclass(frozen=True)
class ReportJob:
    """A report that is drawn: what was measured, the description of the training beside it, and how figures look."""

    measured: Path = field(metadata=READS)
    training: Path = field(metadata=READS)
    style: Style


@dataclass(frozen=True)
class ExportJob:
    """An export: the directory of the training, the HDF5 files with the events by which the model is checked, the model, and how."""

    run: Path = field(metadata=HOW)
    files: Sequence[Path] = field(metadata=CORE)
    output: Path = field(metadata=WRITES)
    config: Export
    model: str = field(metadata=HOW)  # as `train.model`; its code counts

    @property
    def also_read(self) -> list[Path]:
        """The description of the training."""
        return [self.run / "training.json"]


@dataclass(frozen=True)
class RatioJob:
    """The ratios of densities in an unbinned channel: its HDF5 files, settings of the networks, a fit with this channel, and the model.

    There are networks with several `seeds`; `regions` has the cut of that of the channel.
    """

    files: Sequence[Path] = field(metadata=READS)
    config: Train
    channel: FitTarget
    seeds: int
    cmssw: str | None
    regions: Mapping[str, str]
    output: Path = field(metadata=WRITES)
    closure: Path = field(metadata=WRITES)


@dataclass(frozen=True)
class ClosureJob:
    """The closure of ratios that is drawn, the name of the channel, and how figures look."""

    closure: Path = field(metadata=READS)
    channel: str
    style: Style
