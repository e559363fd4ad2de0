"""The densities of processes at single events, which are the unbinned channels of a fit, their file, and the closure of their ratios.

They are relative to a reference, a sample of simulation: each of its events stands for a bin, as wide as its weight. What is expected of a
process is the sum over the reference of widths times densities, as it is over bins. Events of data have densities and no width.

The closure is whether events that are reweighted by the ratios look like those that they stand for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.contracts.hdf5 import new_hdf5
from MLTools.NanoML.contracts.templates import DATA, KEY, HistogramChannel, Template, described
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import plain, read

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


CLOSURE = "_closure.json"
"""How the names of its files end, which begin with the channel."""
RATIO = "log ratio"
"""The quantity of a test in bins of the ratio itself."""
_SHOWN = 12  # tests in a figure
# a smaller probability among all tests, and a larger pull of a bin, are more than chance; a larger relative difference matters
_LIKELY, _PULL, _MATTERS = 0.01, 3.0, 0.05


@dataclass(frozen=True)
class ClosureTest:
    """Reweighted events against true ones, in bins of a quantity: the shares of both, and the statistical errors of the differences.

    The events are those of a class, by the ratio of its density to that of the mixture of all; or those of a class under a variation, by
    the ratio to nominal ones. The test is of all bins, with their correlations.
    """

    process: str
    variation: Optional[str]
    quantity: str
    edges: tuple[float, ...]
    true: tuple[float, ...]
    reweighted: tuple[float, ...]
    errors: tuple[float, ...]
    chi2: float
    ndf: int
    probability: float

    @property
    def pulls(self) -> list[float]:
        """The difference in each bin over its error."""
        bins = zip(self.reweighted, self.true, self.errors)
        return [(found - true) / error if error > 0 else 0.0 for found, true, error in bins]

    @property
    def difference(self) -> float:
        """The largest relative difference in a bin that is more than chance."""
        bins = zip(self.reweighted, self.true, self.pulls)
        return max((abs(found / true - 1) for found, true, pull in bins if true > 0 and abs(pull) > _PULL), default=0.0)


class ClosureFigure(NamedTuple):
    """A figure with tests: the name of its file, without suffix, its title, and how to read it."""

    name: str
    title: str
    reading: str
    tests: Sequence[ClosureTest]


@dataclass(frozen=True)
class RatioClosure:
    """The closure of the ratios of a channel.

    Attributes
    ----------
    events
        The effective number of events of each class.
    factors
        By what the outputs of the model are multiplied, by their names, so that reweighted events are as many as true ones.
    seeds, spread
        How many networks of each fold there are, and by how much each output changes from one to another: relative, the root of the mean
        square over events of its class. That of their mean is smaller by the root of their number. Empty with one seed.
    """

    region: str
    era: Optional[str]
    events: Mapping[str, float]
    factors: Mapping[str, float]
    seeds: int
    spread: Mapping[str, float]
    tests: tuple[ClosureTest, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, {"schema": SCHEMA, **plain(self)})

    @classmethod
    def read(cls, path: Path) -> RatioClosure:
        """Read it; a NanoMLError if there is none, or it is damaged."""
        return read(cls, path, "Run `nanoml ratios` again.", SCHEMA)

    @property
    def differing(self) -> list[ClosureTest]:
        """The tests with differences that are more than chance, whatever the correlations of all tests, and matter; the largest first."""
        real = (it for it in self.tests if it.probability * len(self.tests) < _LIKELY and it.difference > _MATTERS)
        return sorted(real, key=lambda it: -it.difference)

    @property
    def text(self) -> str:
        """The outcome, in words."""
        found, count = self.differing, len(self.tests)
        if not found:
            return f"all differences in {count} tests may be chance, or are below {100 * _MATTERS:.0f} %."
        most = found[0]
        what = f"{most.process} under {most.variation}" if most.variation else most.process
        return (
            f"{len(found)} of {count} tests differ by more than chance and {100 * _MATTERS:.0f} %, most {what} in {most.quantity}: "
            f"{100 * most.difference:.0f} % in a bin, the largest pull {max(most.pulls, key=abs):+.1f}."
        )

    def figures(self, channel: str) -> Iterator[ClosureFigure]:
        """Its figures: all classes, and the variations that differ most, if there are any."""
        classes = [it for it in self.tests if it.variation is None]
        varied = sorted((it for it in self.tests if it.variation), key=lambda it: (-it.difference, it.probability))
        reading = "{} over true ones, in bins with about as many true events each. Errors are those of the difference: both share events."
        text = reading.format("Events of all classes, reweighted to one by the ratio of its density to theirs,")
        yield ClosureFigure(f"{channel}_classes", "Closure of the ratios of classes", text, classes)
        if varied:
            title = f"Closure of the ratios of variations, the largest of {len(varied)} differences"
            text = reading.format(
                "Events of a class, reweighted by the ratio of its varied density to the nominal one,"
            )
            yield ClosureFigure(f"{channel}_variations", title, text, varied[:_SHOWN])
