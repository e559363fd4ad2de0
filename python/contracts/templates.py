"""The file of all histograms of an analysis, which a plot, a datacard or a fit reads; and the hypotheses of a signal in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.blinding import BlindBins
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import DAMAGE, build, parsed, plain

SCHEMA = 2
DATA = "data_obs"
"""The process of observed data, as Combine calls it."""
KEY = "nanoml"
"""The name of the description of histograms in their files."""
_VARIED = {"up": "nominal", "down": "nominal", "up_variances": "variances", "down_variances": "variances"}
"""The fields that a template has of each nuisance parameter, and those that stand for one that it lacks."""
_MOST_OUTSIDE = 0.01  # share of a process that may be outside of the bins without a word
Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Hypothesis:
    """A value of the parameter of a signal, such as a mass of 600, of which one at most is true."""

    parameter: str
    value: float

    @property
    def ending(self) -> str:
        """The ending of names of branches, histograms and directories: mass600; p stands for the decimal point, m for a minus."""
        # as in cmsRun, where values are float32: with as many digits as tell one from the next
        texts = (f"{self.value:.{digits}g}" for digits in range(6, 10))
        number = next((text for text in texts if np.float32(text) == np.float32(self.value)), f"{self.value:.9g}")
        return self.parameter + number.replace(".", "p").replace("-", "m").replace("+", "")

    def allows(self, parameters: Mapping[str, float]) -> bool:
        """Whether a dataset with these parameters exists if it is true: one of another value does not."""
        return parameters.get(self.parameter, self.value) == self.value

    def __str__(self) -> str:
        return f"{self.parameter} = {self.value:.9g}"


@dataclass(frozen=True)
class Template:
    """The expected events of a process in the bins of a histogram, underflow and overflow first and last on each axis.

    Attributes
    ----------
    nominal, variances
        Sums of weights and of their squares, float64 of the histogram's shape. Those of data are NaN in bins that are blind.
    up, down
        Sums of weights under the two variations of each nuisance parameter, by its name.
    up_variances, down_variances
        Sums of the squares of these weights; the nominal ones for what is made of several variations, or mirrored.
    """

    nominal: Floats
    variances: Floats
    up: Mapping[str, Floats] = field(default_factory=dict)
    down: Mapping[str, Floats] = field(default_factory=dict)
    up_variances: Mapping[str, Floats] = field(default_factory=dict)
    down_variances: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def outside(self) -> str:
        """How much of it is below and above the bins, in words; empty if that is little."""
        total, inner = float(self.nominal.sum()), (slice(1, -1), slice(1, None))
        inside, above = (float(self.nominal[(part,) * self.nominal.ndim].sum()) for part in inner)
        shares = [total - above, above - inside]
        if not 0 < _MOST_OUTSIDE * total < sum(map(abs, shares)):
            return ""
        return "{:.1%} below and {:.1%} above the bins".format(*(it / total for it in shares)).replace("%", " %")


def inner(values: Floats) -> Floats:
    """The bins without underflow and overflow, those of several axes in a row."""
    return values[(slice(1, -1),) * values.ndim].ravel()


@dataclass(frozen=True)
class TemplateAxis:
    """An axis of a histogram: what is filled, the edges of its bins, the title of its column, and what else is to be said of it."""

    quantity: str
    edges: tuple[float, ...]
    title: str = field(default="", metadata={"sparse": True, "older": ""})
    note: str = field(default="", metadata={"sparse": True, "older": ""})  # "mass = 600, with under- and overflow"


@dataclass(frozen=True)
class HistogramChannel:
    """The events of a histogram in a region and an era, by process.

    Attributes
    ----------
    share
        The share of the data that may be seen, and so of the luminosity to which all else is scaled.
    note
        The part of it that is not seen, in words: "10 % of the data, without the events of SR".
    is_blind
        Whether there are data that must not be looked at, none of them.
    is_unbinned
        Whether its only bin has the number of events of an unbinned channel: a variation may leave that as it is.
    """

    region: str
    era: Optional[str]
    processes: Mapping[str, Template] = field(default_factory=dict, metadata={"hidden": True})
    share: float = field(default=1.0, metadata={"sparse": True})
    note: str = field(default="", metadata={"sparse": True})
    is_blind: bool = field(default=False, metadata={"sparse": True})
    is_unbinned: bool = field(default=False, metadata={"hidden": True})

    @property
    def name(self) -> str:
        """Its name, as of a channel of a fit: SR, or SR_2018 if there are eras."""
        return self.region if self.era is None else f"{self.region}_{self.era}"

    @property
    def blind(self) -> Optional[NDArray[np.bool_]]:
        """Which bins have data that must not be looked at, of the histogram's shape; None if there are no data."""
        return np.isnan(self.processes[DATA].nominal) if DATA in self.processes else None

    @property
    def blinding(self) -> str:
        """In place of the number of events of data: whether all of them or those in some bins are blind; empty if none are."""
        is_partly = self.blind is not None and self.blind.any()
        return "partly blind" if is_partly else "blind" if self.is_blind and self.blind is None else ""


def summed(templates: Sequence[Template]) -> Template:
    """Several processes or eras as one: a nuisance parameter of the same name changes all of them together."""
    names = dict.fromkeys(name for it in templates for name in it.up)
    nominal, variances = (np.sum([getattr(it, key) for it in templates], axis=0) for key in ("nominal", "variances"))
    varied = (
        {name: np.sum([getattr(it, key).get(name, getattr(it, other)) for it in templates], axis=0) for name in names}
        for key, other in _VARIED.items()
    )
    return Template(nominal, variances, *varied)


def added(channels: Sequence[HistogramChannel]) -> HistogramChannel:
    """The events of several eras of a region; data only if there are data in all."""
    names = dict.fromkeys(name for channel in channels for name in channel.processes)
    if any(DATA not in it.processes for it in channels):
        names.pop(DATA, None)
    processes = {name: summed([it.processes[name] for it in channels if name in it.processes]) for name in names}
    notes = {it.name: it.note for it in channels if it.note}
    is_same = len(notes) == len(channels) and len({*notes.values()}) == 1
    note = channels[0].note if is_same else "; ".join(f"{name}: {note}" for name, note in notes.items())
    is_blind = any(it.is_blind for it in channels)
    return HistogramChannel(channels[0].region, None, processes, note=note, is_blind=is_blind)


@dataclass(frozen=True)
class Origin:
    """Where a process is from: its datasets, in a class from data also "less WZ" for what is subtracted."""

    datasets: tuple[str, ...] = ()
    is_from_data: bool = False


@dataclass(frozen=True)
class FilledHistogram:
    """A histogram in all of its channels; under a hypothesis, as "mass = 600", its signal is that alone."""

    name: str
    axes: tuple[TemplateAxis, ...]
    channels: tuple[HistogramChannel, ...]
    hypothesis: Optional[str] = None
    origins: dict[str, Origin] = field(default_factory=dict)  # of each process

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of bins, underflow and overflow among them."""
        return tuple(len(axis.edges) + 1 for axis in self.axes)


@dataclass(frozen=True)
class Templates:
    """All histograms of an analysis."""

    creator: str
    histograms: tuple[FilledHistogram, ...]
    classes: tuple[str, ...]
    signal: Optional[str]  # one of the classes; None without any
    luminosity: dict[str, Optional[float]]  # [/fb], by era; that of an analysis without eras is ""
    blind: Optional[BlindBins] = None  # in regions with data

    def histogram(self, name: str) -> FilledHistogram:
        """The histogram of this name; a NanoMLError if there is none."""
        for each in self.histograms:
            if each.name == name:
                return each
        raise NanoMLError(f'"{name}" is not a histogram. Known: {", ".join(each.name for each in self.histograms)}.')

    def seen(self, channels: Iterable[HistogramChannel]) -> dict[str, tuple[float, ...]]:
        """The luminosity [/fb] of some channels by era, the lowest and the highest if not all data may be seen in some; () if unknown."""
        found: dict[str, tuple[float, ...]] = {}
        for channel in channels:
            era = channel.era or ""
            known = self.luminosity.get(era)
            shown = () if known is None else (known * channel.share,)
            found[era] = tuple(bound(*it) for bound in (min, max) if (it := (*found.get(era, shown), *shown)))
        return found

    def description(self) -> str:
        """All but the contents of bins, as JSON: the attribute `nanoml` of the HDF5 file, and the object of this name in the ROOT file."""
        return json.dumps({"schema": SCHEMA, **plain(self)})

    def write(self, path: Path) -> None:
        """Write an HDF5 file: HISTOGRAM/CHANNEL/PROCESS has the datasets nominal and variances, and groups for what is varied."""
        import h5py  # what only describes histograms does without

        with h5py.File(path, "w") as file:
            file.attrs[KEY] = self.description()
            for histogram in self.histograms:
                for channel in histogram.channels:
                    within = file.create_group(f"{histogram.name}/{channel.name}", track_order=True)
                    for process, template in channel.processes.items():
                        group = within.create_group(process, track_order=True)
                        group["nominal"], group["variances"] = template.nominal, template.variances
                        for key in _VARIED:
                            for nuisance, values in getattr(template, key).items():
                                group[f"{key}/{nuisance}"] = values

    @classmethod
    def read(cls, path: Path) -> Templates:
        """Read the file; a NanoMLError says what is wrong with it."""
        with described(cls, path, SCHEMA, "histograms") as (file, found):
            return replace(found, histograms=tuple(_filled(file, each) for each in found.histograms))


@contextmanager
def described(kind: type[T], path: Path, schema: int, what: str) -> Iterator[tuple[Any, T]]:
    """An HDF5 file of the stage `histogram`, and the object of `kind` that it holds as JSON, without what only arrays have."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            content = parsed(file.attrs[KEY])
            if content["schema"] != schema:
                raise NanoMLError(
                    f"{path}: schema {content['schema']}, this NanoML reads {schema}. Run `nanoml histogram` again."
                )
            yield file, build(kind, content)
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. `nanoml histogram` makes it.") from None
    except DAMAGE:
        raise NanoMLError(f"{path}: is not a file of {what}, or is damaged. Run `nanoml histogram` again.") from None


def _filled(file: Any, histogram: FilledHistogram) -> FilledHistogram:
    channels = []
    for channel in histogram.channels:
        processes = {
            process: Template(group["nominal"][()], group["variances"][()], *(_varied(group, key) for key in _VARIED))
            for process, group in file[f"{histogram.name}/{channel.name}"].items()
        }
        channels.append(replace(channel, processes=processes))
    return replace(histogram, channels=tuple(channels))


def _varied(group: Any, key: str) -> dict[str, Floats]:
    return {name: values[()] for name, values in group.get(key, {}).items()}
