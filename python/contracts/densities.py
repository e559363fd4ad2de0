"""The densities of processes at single events, which are the unbinned channels of a fit, and the file that has them.

They are relative to a reference, a sample of simulation: each of its events stands for a bin, as wide as its weight. What is expected of a
process is the sum over the reference of widths times densities, as it is over bins. Events of data have densities and no width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.hdf5 import new_hdf5
from MLTools.NanoML.contracts.templates import DATA, KEY, HistogramChannel, Template, described
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import plain

SCHEMA = 1
_HIDDEN = {"hidden": True}
_WIDTHS, _PROCESSES, _OWN, _SIDES = "widths", "processes", "own", ("up", "down")
_MOST_NEGATIVE = 1 / 3  # of all weights: with more, a reference says little
Singles = NDArray[np.float32]


def ratios_model(channel: str) -> str:
    """The name of the model whose classes are the processes of an unbinned channel: its outputs are ratios_SR_2018_WZ and the like."""
    return f"ratios_{channel}"


def varied_output(process: str, column: str) -> str:
    """The output of this model with the density under a variation over the nominal one: varied_WZ_pileupUp for eventWeight_pileupUp."""
    return f"varied_{process}_{column}"


@dataclass(frozen=True)
class Densities:
    """The expected events of a process per width, at each event of a channel.

    Attributes
    ----------
    nominal
        The yield times the ratio of the process's density to that of the reference, float32 of shape (events,).
    up, down
        The same under the two variations of each nuisance parameter, by its name.
    variance
        The square of the statistical error of the yield; None if it is that of the reference.
    own
        Which events of the reference are of the process, bool of shape (events of the reference,); None if it is not known.
    """

    nominal: Singles
    up: Mapping[str, Singles] = field(default_factory=dict)
    down: Mapping[str, Singles] = field(default_factory=dict)
    variance: Optional[float] = None
    own: Optional[NDArray[np.bool_]] = None


@dataclass(frozen=True)
class UnbinnedChannel:
    """The events of a region and an era: first those of the reference, then those of data.

    Attributes
    ----------
    observed
        How many events of data there are; None if they must not be seen.
    widths
        The weights of the reference, float64 of shape (events of the reference,).
    closure
        By what the output of networks was multiplied, so that as many events are expected as by weights: of each process ("WZ"), and of
        the change that a variation makes ("WZ, pileupUp").
    """

    region: str
    era: Optional[str]
    observed: Optional[int] = None
    widths: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), metadata=_HIDDEN)
    processes: Mapping[str, Densities] = field(default_factory=dict, metadata=_HIDDEN)
    closure: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the events are as many everywhere, and that the reference can be used."""
        count, negative = len(self.widths) + (self.observed or 0), -float(self.widths[self.widths < 0].sum())
        if negative > _MOST_NEGATIVE * np.abs(self.widths).sum():
            share = f"{100 * negative / np.abs(self.widths).sum():.0f} %"
            raise NanoMLError(f"{self.name}: {share} of the weights of the reference are negative. Fit it in bins.")
        for name, it in self.processes.items():
            for values in (it.nominal, *it.up.values(), *it.down.values()):
                if len(values) != count or not np.isfinite(values).all():
                    raise NanoMLError(f"{self.name}: densities of {name} are not {count} finite numbers.")

    @property
    def name(self) -> str:
        """Its name, as of a channel of a fit."""
        return HistogramChannel(self.region, self.era).name

    def total(self, values: Singles, power: int = 1) -> float:
        """The expected events of densities; or, with a power of 2, the square of their statistical error."""
        return float(self.widths**power @ values[: len(self.widths)].astype(np.float64) ** power)

    @property
    def counted(self) -> HistogramChannel:
        """The same events in one bin, between an empty underflow and overflow."""

        def in_bin(events: float) -> NDArray[np.float64]:
            return np.array([0.0, events, 0.0])

        found = {
            name: Template(
                in_bin(self.total(it.nominal)),
                in_bin(self.total(it.nominal, 2) if it.variance is None else it.variance),
                *({key: in_bin(self.total(values)) for key, values in each.items()} for each in (it.up, it.down)),
            )
            for name, it in self.processes.items()
        }
        if self.observed is not None:
            found[DATA] = Template(in_bin(self.observed), in_bin(self.observed))
        return HistogramChannel(self.region, self.era, found, is_unbinned=True)


@dataclass(frozen=True)
class UnbinnedChannels:
    """All unbinned channels of an analysis."""

    creator: str
    channels: tuple[UnbinnedChannel, ...]

    def write(self, path: Path) -> None:
        """Write an HDF5 file: CHANNEL/widths, and CHANNEL/processes/PROCESS has the dataset nominal, and the groups up and down."""
        with new_hdf5(path) as file:
            file.attrs[KEY] = json.dumps({"schema": SCHEMA, **plain(self)})
            for channel in self.channels:
                within = file.create_group(channel.name, track_order=True)
                within[_WIDTHS] = channel.widths
                for process, it in channel.processes.items():
                    group = within.create_group(f"{_PROCESSES}/{process}", track_order=True)
                    group["nominal"] = it.nominal
                    if it.variance is not None:
                        group.attrs["variance"] = it.variance
                    if it.own is not None:
                        group[_OWN] = it.own
                    for side in _SIDES:
                        for nuisance, values in getattr(it, side).items():
                            group[f"{side}/{nuisance}"] = values

    @classmethod
    def read(cls, path: Path) -> UnbinnedChannels:
        """Read the file; a NanoMLError says what is wrong with it."""
        with described(cls, path, SCHEMA, "densities") as (file, found):
            return replace(found, channels=tuple(_filled(file[each.name], each) for each in found.channels))


def _filled(group: Any, channel: UnbinnedChannel) -> UnbinnedChannel:
    processes = {}
    for process, each in group[_PROCESSES].items():
        up, down = ({name: values[()] for name, values in each.get(side, {}).items()} for side in _SIDES)
        own = each[_OWN][()] if _OWN in each else None
        processes[process] = Densities(each["nominal"][()], up, down, each.attrs.get("variance"), own)
    return replace(channel, widths=group[_WIDTHS][()], processes=processes)
