"""Unbinned channels of a fit: densities at events, and the likelihood of these events.

In the workspace, such a channel has one bin, which says how many events are expected. How they are distributed adds

    -2 sum over events of w ln(sum over processes of n_p r_p(x) / n)

to twice the negative logarithm of the likelihood. n_p are the expected events of a process, n those of all, r_p is its density over that of
the reference, and w is 1 for an event of data. Variations change r_p as they change the content of bins, by the same polynomial of the
nuisance parameter (code 4p of HistFactory): so the likelihood is the limit of ever finer bins, and r_p stays normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.contracts.densities import UnbinnedChannel
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError

Floats = NDArray[np.float64]
Named = Callable[[str, str, str, Optional[str]], str]
"""The name of a parameter, of that of a variation, and of a process, region and era: `config.fit.Fit.named`."""
_CHUNK = 8192  # events that are worked on together: their densities stay in the cache
_LEAST = 1e-6  # density over that of the reference, below which its logarithm goes on as a parabola; and events


@dataclass(frozen=True)
class Column:
    """What the densities in a column are: those of a process, or what a nuisance parameter adds to them at +1 or -1 sigma."""

    process: str
    parameter: Optional[str] = None
    side: int = 0


@dataclass(frozen=True)
class Points:
    """The events of all unbinned channels.

    Attributes
    ----------
    columns
        For each channel, by its name.
    densities
        Relative to the reference and normalised there, float32 of shape (events, columns); a channel with fewer has zeros behind them.
    channel
        The number of the channel that an event is in, int32 of shape (events,).
    widths
        The weights of the reference, in each channel 1 in total; not a number for data; float64 of shape (events,).
    """

    columns: Mapping[str, tuple[Column, ...]]
    densities: NDArray[np.float32]
    channel: NDArray[np.int32]
    widths: Floats

    @classmethod
    def of(cls, channels: Sequence[UnbinnedChannel], named: Named) -> Points:
        """From the content of a file of densities."""
        columns = dict[str, tuple[Column, ...]]()
        found = [list[NDArray[np.float32]]() for _ in channels]
        for channel, into in zip(channels, found, strict=True):
            mine, scale = list[Column](), channel.widths.sum()
            for process, it in channel.processes.items():
                whole = channel.total(it.nominal) / scale
                if whole <= 0:
                    raise NanoMLError(f"{channel.name}: {whole:.3g} events of {process} are expected. Leave it out.")
                nominal = it.nominal / np.float32(whole)
                mine.append(Column(process))
                into.append(nominal)
                for side, varied in ((1, it.up), (-1, it.down)):
                    for name, values in varied.items():
                        part = channel.total(values) / scale
                        if part <= 0:
                            raise NanoMLError(f"{channel.name}: {name} leaves no event of {process}. Remove it.")
                        mine.append(Column(process, named(name, process, channel.region, channel.era), side))
                        into.append(values / np.float32(part) - nominal)
            columns[channel.name] = tuple(mine)
        sizes, most = [len(it[0]) for it in found], max(map(len, found))
        densities = np.zeros((sum(sizes), most), np.float32)
        for begin, into in zip(np.cumsum([0, *sizes]).tolist(), found, strict=False):
            for number, values in enumerate(into):
                densities[begin : begin + len(values), number] = values
        widths = [np.pad(it.widths / it.widths.sum(), (0, it.observed or 0), constant_values=np.nan) for it in channels]
        return cls(columns, densities, np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), np.concatenate(widths))


def in_place(
    settings: Fit, templates: Templates, channels: Sequence[HistogramChannel], quantity: str
) -> tuple[Fit, Templates]:
    """Settings and histograms of a fit with some channels in place of those of the same regions and eras."""
    mine = [templates.histogram(name) for name in settings.channels.values()]
    known = {it.name: it for each in mine for it in each.channels}
    channels = [replace(it, share=known[it.name].share, note=known[it.name].note) for it in channels]
    origins = {process: it for each in mine for process, it in each.origins.items()}
    count = len(next(iter(channels[0].processes.values())).nominal) - 1
    axis = TemplateAxis(quantity, tuple(map(float, range(count))))
    made = FilledHistogram(quantity, (axis,), tuple(channels), None, origins)
    settings = replace(settings, channels={**settings.channels, **{it.region: quantity for it in channels}})
    return settings, replace(templates, histograms=(*templates.histograms, made))


def share_of_background(channel: UnbinnedChannel, signals: Collection[str]) -> Floats:
    """The share of the background in what is expected at each event of the reference, and then of data."""
    total = np.sum([it.nominal for it in channel.processes.values()], axis=0, dtype=float)
    rest = np.sum([it.nominal for name, it in channel.processes.items() if name not in signals], axis=0, dtype=float)
    return np.asarray(rest / np.maximum(total, _LEAST))


def beyond_simulation(channel: UnbinnedChannel, signals: Collection[str]) -> tuple[int, float]:
    """How many events of data are more like the signal than all simulated ones, and how many are expected to be.

    These are as many as the simulated event that is most like the signal stands for, on average over the first ten.
    """
    size, share = len(channel.widths), share_of_background(channel, signals)
    first = np.argsort(share[:size])[:10]
    expected = sum(float(channel.widths[first] @ it.nominal[first]) for it in channel.processes.values()) / len(first)
    return int(np.sum(share[size:] < share[:size].min())), max(expected, 0.0)


def in_bins(
    channel: UnbinnedChannel, signals: Collection[str], count: int, of_events: bool = False
) -> HistogramChannel:
    """Expected events in bins of the share of the signals, each with as much of the reference.

    They are by the densities; or, `of_events`, those of a process are the simulated events that are its own, as in any histogram.
    """
    size = len(channel.widths)
    order = np.argsort(-share_of_background(channel, signals)[:size])
    parts = np.cumsum(channel.widths[order]) / channel.widths.sum()
    places = np.empty(size, int)
    places[order] = 1 + np.clip(parts * count, 0, count - 1e-9).astype(int)

    def filled(values: NDArray[Any], power: int = 1) -> Floats:
        return np.bincount(places, (channel.widths * values) ** power, count + 2).astype(np.float64)

    processes = {}
    for name, it in channel.processes.items():
        nominal, change = it.nominal[:size], np.ones(size)
        if of_events and it.own is not None:
            per_width = channel.total(it.nominal) / channel.widths[it.own].sum()
            change = it.own * per_width / np.maximum(nominal, np.float32(_LEAST))
        squares = filled(change * nominal, 2)
        scale = 1.0 if it.variance is None else it.variance / squares.sum()
        up, down = ({key: filled(change * values[:size]) for key, values in each.items()} for each in (it.up, it.down))
        processes[name] = Template(filled(change * nominal), scale * squares, up, down)
    return HistogramChannel(channel.region, channel.era, processes)


class Distributions:
    """How events are distributed in the unbinned channels of a model.

    A data set has for each event the number of a point, and a weight: two halves of one row of numbers.

    Parameters
    ----------
    points
        The events.
    samples, names, bins
        The processes and parameters of the model, and the bin of each channel among all.
    """

    def __init__(self, points: Points, samples: Sequence[str], names: Sequence[str], bins: Mapping[str, int]) -> None:
        every, most = [*points.columns.values()], points.densities.shape[1]

        def table(value: Callable[[Column], float], kind: type) -> NDArray[np.generic]:
            return np.array([[*map(value, each), *[0] * (most - len(each))] for each in every], kind)

        self.bins = np.array([bins[name] for name in points.columns])
        self._samples = table(lambda it: samples.index(it.process), int)
        self._parameters = table(lambda it: names.index(it.parameter) if it.parameter else 0, int)
        self._sides, self._used = table(lambda it: it.side, float), table(lambda _: 1, float)
        self.channel, self._widths = points.channel, points.widths
        self._densities = jnp.asarray(points.densities)
        self._reference, self._observed = (np.flatnonzero(np.isnan(points.widths) == it) for it in (False, True))
        self.columns = most

    @property
    def observed(self) -> Floats:
        """The data set of what was observed."""
        return np.concatenate([self._observed, np.ones(len(self._observed))])

    def asimov(self, events: Any, at: Any) -> Floats:
        """The data set that is exactly what is expected at some parameters, where the model expects `events`."""
        return np.concatenate([self._reference, np.maximum(self.at_reference(events, at), 0.0)])

    def at_reference(self, events: Any, at: Any) -> Floats:
        """The expected events at each event of the reference; `events` are those of the model, of shape (samples, bins)."""
        return self._widths[self._reference] * self._at(self._reference, events, at)

    def lowest_strength(self, background: Any, events: Any, at: Any, data: Floats) -> float:
        """The signal strength below which the density at an event of a data set is negative; `events` are those with a strength of one."""
        which, weights = data.reshape(2, -1)
        seen = which[weights > 0].astype(np.int64)
        without, whole = (self._at(seen, it, at) for it in (background, events))
        some = whole > without
        return -float(np.min(without[some] / (whole - without)[some], initial=np.inf))

    def _at(self, points: NDArray[np.int64], events: Any, at: Any) -> Floats:
        """The expected events per width at some points."""
        factors = np.asarray(self._factors(jnp.asarray(events), jnp.asarray(at)))
        densities = np.asarray(self._densities)
        parts = np.array_split(points, 1 + len(points) // _CHUNK)
        return np.concatenate([np.einsum("pc,pc->p", densities[it], factors[self.channel[it]]) for it in parts])

    def thrown(self, events: Any, at: Any, counts: NDArray[np.generic], random: np.random.Generator) -> Floats:
        """Pseudo-experiments with as many events in bins as `counts` says, of shape (data sets, bins): events of the reference, again."""
        numbers, expected = counts[:, self.bins].astype(int), self.asimov(events, at)[len(self._reference) :]
        most = max(int(numbers.sum(axis=1).max()), 1)
        found = np.zeros((2, len(counts), most))
        place = np.arange(most)
        for number, ends in enumerate(numbers.cumsum(axis=1).T):
            mine = self._reference[self.channel[self._reference] == number]
            steps = np.cumsum(expected[self.channel[self._reference] == number])
            filled = (place < ends[:, None]) & (place >= (ends - numbers[:, number])[:, None])
            chosen = np.searchsorted(steps, random.uniform(0, steps[-1], int(filled.sum())))
            found[0][filled], found[1][filled] = mine[chosen], 1.0
        return np.concatenate([*found], axis=1)

    def twice_nll(self, events: Any, at: Any, data: Any) -> Any:
        """What the events of a data set add to twice the negative logarithm of the likelihood, as a function that jax can transform."""
        size = len(data) // 2
        factors = self._factors(events, at) / jnp.maximum(events.sum(axis=0)[self.bins], _LEAST)[:, None]
        chunk = max(min(size, _CHUNK), 1)
        indices, weights = (jnp.pad(it, (0, -size % chunk)).reshape(-1, chunk) for it in (data[:size], data[size:]))

        @jax.checkpoint
        def added(total: Any, some: Any) -> Any:
            which, weight = some[0].astype(int), some[1]
            densities = self._densities[which].astype(float)
            mine = factors[jnp.asarray(self.channel)[which]] if len(factors) > 1 else None
            relative = densities @ factors[0] if mine is None else jnp.sum(densities * mine, axis=-1)
            far = jnp.minimum(relative / _LEAST - 1, 0.0)
            return total + weight @ (jnp.log(jnp.maximum(relative, _LEAST)) + far - far**2 / 2), None

        return -2 * jax.lax.scan(added, 0.0, (indices, weights))[0]

    def _factors(self, events: Any, at: Any) -> Any:
        """By what the densities in each column are multiplied, of shape (channels, columns)."""
        sigma = self._sides * at[self._parameters]
        inner = jnp.clip(sigma, -1.0, 1.0)
        between = inner / 2 + inner**2 * (15 - 10 * inner**2 + 3 * inner**4) / 16
        change = jnp.where(sigma > 1, sigma, jnp.where(sigma < -1, 0.0, between))
        return events[self._samples, self.bins[:, None]] * jnp.where(self._sides == 0, self._used, change)
