"""The densities of processes at single events, from files with the outputs of networks: the unbinned channels of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.histograms.fill import NOMINAL
from data_processing.histograms.sums import Part, Set, Sums, added_parts, sets_of, template_of
from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.blinding import BlindBins, Place
from MLTools.NanoML.contracts.densities import Densities, UnbinnedChannel, UnbinnedChannels, ratios_model, varied_output
from MLTools.NanoML.contracts.templates import DATA, HistogramChannel
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import parsed
from MLTools.NanoML.schema.roles import READS, WRITES

Singles = NDArray[Any]
"""Of float32."""


@dataclass(frozen=True)
class DensityJob:
    """The events of all files, and where the densities at them go."""

    parts: Sequence[Part]
    normalisations: Sequence[Path] = field(metadata=READS)  # of all datasets: they say which variations belong together
    channels: Sequence[HistogramChannel]
    classes: Sequence[str]
    output: Path = field(metadata=WRITES)
    blind: Optional[BlindBins] = None  # whose rule says where data are left out
    opened: Sequence[Place] = ()  # where they are not


def make_densities(job: DensityJob) -> dict[str, object]:
    """Write the densities of all channels; return the events of their references, and by what densities were multiplied."""
    sums, sets = added_parts(job.parts), sets_of(job.normalisations)
    mine = [{key[-1]: each for key, each in sums.items() if key[:3] == _key(it)} for it in job.channels]
    found = [_channel(job, it, each, sets, False) for it, each in zip(job.channels, mine)]
    seen = [job.blind is None or _is_seen(job, job.blind, it, found) for it in found]
    found = [_channel(job, it, each, sets, may) for it, each, may in zip(job.channels, mine, seen)]
    with replacing(job.output) as aside:
        UnbinnedChannels(f"NanoML {__version__}", tuple(found)).write(aside)
    return {"reference": {it.name: len(it.widths) for it in found}, "closure": {it.name: it.closure for it in found}}


def _key(channel: HistogramChannel) -> tuple[str, str, Optional[str]]:
    return ratios_model(channel.name), channel.region, channel.era


def _channel(
    job: DensityJob, channel: HistogramChannel, sums: Mapping[str, Sums], sets: Mapping[str, Set], has_data: bool
) -> UnbinnedChannel:
    """A channel with or without data, whose reference are all events of simulation, those of each process with the same total weight.

    The model gives the share of a process in such a mixture. Its density is normalised to the expected events of the process, nominal and
    under each variation: the closure has by what it is multiplied for that, which is one if the networks are right.
    """
    events, outputs = _events(job.parts, channel)
    totals = {name: {ending: float(it.sum()) for ending, it in each.sums.items()} for name, each in sums.items()}
    present = [it for it in job.classes if it in events and totals[it][NOMINAL] > 0]
    if not present:
        raise NanoMLError(f"fit.unbinned: no events are expected in {channel.name}. Leave it out, or widen its cut.")
    data = [DATA] if has_data and DATA in events else []
    weights = [events[it][:, 0].astype(np.float64) / totals[it][NOMINAL] / len(present) for it in present]
    widths, closure = np.concatenate(weights), dict[str, float]()
    rows = np.concatenate([events[it][:, 1:] for it in [*present, *data]])
    columns = dict(zip(outputs, rows.T))

    def normalised(values: Singles, total: float, name: str) -> Singles:
        size = float(widths @ values[: len(widths)])
        if size <= 0:
            raise NanoMLError(f"{channel.name}: the networks leave no events of {name}. Fit it in bins.")
        closure[name] = total / size
        return np.asarray(values * np.float32(closure[name]))

    processes, origin = dict[str, Densities](), np.repeat(np.arange(len(present)), [len(it) for it in weights])
    for number, name in enumerate(present):
        expected = totals[name][NOMINAL]
        nominal = normalised(columns[name] * np.float32(len(present) * expected), expected, name)
        varied = {NOMINAL: nominal}
        for ending, total in totals[name].items():
            of_same_yield = columns.get(varied_output(name, ending[1:]))
            whole = nominal * np.float32(total / expected)
            if of_same_yield is not None:
                varied[ending] = normalised(whole * of_same_yield, total, f"{name}, {ending[1:]}")
            elif ending != NOMINAL:  # it changes no event
                varied[ending] = whole
        made = template_of(Sums(varied, varied), sets, lambda it: it)
        up, down = ({it: values.astype(np.float32) for it, values in each.items()} for each in (made.up, made.down))
        processes[name] = Densities(
            nominal, up, down, float(sums[name].squares[NOMINAL].sum()), np.asarray(origin == number)
        )
    observed = len(events[DATA]) if data else None
    return UnbinnedChannel(channel.region, channel.era, observed, widths, processes, closure)


def _events(parts: Sequence[Part], channel: HistogramChannel) -> tuple[dict[str, Singles], list[str]]:
    """The weight and the outputs of each event, by process, and the names of the outputs."""
    found, outputs = dict[str, list[Singles]](), list[str]()
    for part in (it for it in parts if it.era == channel.era):
        with h5py.File(part.path, "r") as file:
            for process, group in file.get(f"{ratios_model(channel.name)}/{channel.region}", {}).items():
                outputs = parsed(group.attrs["outputs"])
                found.setdefault(process, []).append(group["events"][()])
    return {name: np.concatenate(each) for name, each in found.items()}, outputs


def _is_seen(job: DensityJob, blind: BlindBins, channel: UnbinnedChannel, found: Sequence[UnbinnedChannel]) -> bool:
    """Whether data of a channel may be seen: of blind bins, there would be none if these were as narrow as one likes."""
    signals, sensitivity = (blind.signal, *blind.others), 0.0
    for each in (it for it in found if it.region == channel.region):
        signal, background = np.zeros((2, len(each.widths)))
        for name, it in each.processes.items():
            (signal if name in signals else background)[:] += it.nominal[: len(signal)]
        sensitivity += float(each.widths @ (signal**2 / np.maximum(background, 1e-6 * background.max(initial=1e-6))))
    return (channel.region, channel.era) in job.opened or sensitivity <= blind.limit**2
