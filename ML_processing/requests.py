"""Requests to an evaluation, beside the measurement of its training, and to an export; torch is not needed to make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from MLTools.NanoML.contracts.blinding import Shares

if TYPE_CHECKING:
    from MLTools.NanoML.selection import DatasetInfo


@dataclass(frozen=True)
class DataRequest:
    """Compare data with simulation in some regions, and nowhere else."""

    regions: tuple[str, ...]
    # of the events that may be seen in some regions, and nowhere more of these
    shares: Shares = field(default_factory=dict)
    data: tuple[Path, ...] = ()
    simulation: tuple[Path, ...] = ()  # what is expected
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

    @property
    def trainings(self) -> float:
        """The cost, in trainings on all events."""
        return self.seeds + sum(self.shares)


NO_DATA, NO_REPEATS = DataRequest(()), RepeatRequest()
"""Data are not looked at; nothing is trained again."""


def repeats_of(run: Path) -> Path:
    """The directory of the trainings that repeat one: beside its own, which they leave alone."""
    return run.with_name(f"{run.name}_repeated")


@dataclass(frozen=True)
class Source:
    """The files of a dataset, from which events are taken.

    Attributes
    ----------
    dataset
        What the selection knows of the dataset.
    files
        Its files.
    """

    dataset: DatasetInfo
    files: tuple[str, ...]


@dataclass(frozen=True)
class Compilation:
    """How a selection is put into a model.

    Attributes
    ----------
    selection
        The selection, as "module:Class" or "file.py:Class".
    base
        The directory that files are relative to.
    events
        How many events of each dataset are compared.
    sizes
        For how many objects of a collection there is room, where that is not to follow from the events.
    cut
        A cut before the selection, in the language of TTree::Draw; empty without one.
    """

    selection: str
    base: str
    events: int
    sizes: Mapping[str, int]
    cut: str = ""
