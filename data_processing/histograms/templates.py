"""Adds up the histograms of all files, and writes them for plots and fits: as HDF5, and as ROOT in the layout of Combine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.histograms.fill import NOMINAL, TITLES, Plan
from data_processing.histograms.resultbins import TOO_FEW, Choice, FitOf, choose
from data_processing.histograms.sums import (
    Floats,
    Part,
    Sample,
    Set,
    Sums,
    VariedParts,
    added_parts,
    sets_of,
    template_of,
    vary,
)
from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.bins import Counts, bins_of_channels
from MLTools.NanoML.contracts.blinding import BlindBins, Place
from MLTools.NanoML.contracts.templates import (
    DATA,
    KEY,
    FilledHistogram,
    HistogramChannel,
    Origin,
    Template,
    TemplateAxis,
    Templates,
    added,
)
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.rootio.histograms import root_histogram
from MLTools.NanoML.schema.plain import parsed
from MLTools.NanoML.schema.roles import READS, WRITES


@dataclass(frozen=True)
class ChosenBins:
    """How the bins of a histogram are chosen."""

    signal: str  # the class whose share rises with the score
    least_events: float  # effective background events in a bin
    most_bins: int
    regions: Sequence[str]  # whose events count
    in_each: bool = True  # each region in each era has so many; or all of them together
    fit: Optional[FitOf] = None  # that decides, among bins with enough events


@dataclass(frozen=True)
class TemplateJob:
    """The histograms of all files, and where their sum goes."""

    parts: Sequence[Part]
    normalisations: Sequence[Path] = field(metadata=READS)  # of all datasets: they say which variations belong together
    plans: Sequence[Plan]
    chosen: Mapping[str, ChosenBins]  # by histogram; the others keep their bins
    classes: Sequence[str]
    signal: Optional[str]
    luminosity: Mapping[str, Optional[float]]  # [/fb], by era
    output: Path = field(metadata=WRITES)  # the HDF5 file
    root: Path = field(metadata=WRITES)  # the ROOT file
    blind: Optional[BlindBins] = None  # whose data are left out
    varied: Sequence[VariedParts] = ()
    shares: Mapping[Place, float] = field(default_factory=dict)  # of the events that may be seen, where not all
    opened: Sequence[Place] = ()  # where no bin is blind
    origins: Mapping[str, dict[str, Origin]] = field(default_factory=dict)  # of processes, by histogram


def make_templates(job: TemplateJob) -> dict[str, object]:
    """Add up the histograms of all files, and write both files; return the expected events of each process."""
    sets, found, titles = sets_of(job.normalisations), added_parts(job.parts), dict[str, str]()
    for part in job.parts:
        with h5py.File(part.path, "r") as file:
            titles = {**parsed(file.attrs.get(TITLES, "{}")), **titles}
    vary(found, job.varied)
    mine = {plan.name: {key[1:]: it for key, it in found.items() if key[0] == plan.name} for plan in job.plans}
    every = {plan.name: {key: it.whole for key, it in mine[plan.name].items()} for plan in job.plans if plan.has_halves}
    filled = {plan.name: _histogram(plan, job, {**mine, **every}[plan.name], sets, titles) for plan in job.plans}
    choices = {
        plan.name: (plan, _by_result(plan, job, fit, mine[plan.name], sets, filled))
        for plan in job.plans
        for fit in [job.chosen[plan.name].fit if plan.name in job.chosen else None]
        if fit is not None
    }
    for name, (plan, choice) in choices.items():
        if choice is not None and choice.pays:
            starts = [*choice.starts, len(plan.axes[0].edges) - 1]
            filled[name] = _histogram(plan, job, every[name], sets, titles, starts)
    histograms = tuple(filled.values())
    if job.blind:
        # the quantities, and the bins
        bins = {each.name: (plan.axes, [it.edges for it in each.axes]) for plan, each in zip(job.plans, histograms)}
        alike = {name: [it.name for it in histograms if bins[it.name] == bins[name]] for name in bins}
        hidden = _hidden(histograms, alike, job.blind)
        histograms = tuple(_blinded(each, hidden, job.opened) for each in histograms)
    made = Templates(
        f"NanoML {__version__}", histograms, tuple(job.classes), job.signal, dict(job.luminosity), job.blind
    )
    with replacing(job.output) as aside, replacing(job.root) as root:
        made.write(aside)
        write_root(made, root)
    return {
        "histograms": len(histograms),
        "bins": {each.name: [n - 2 for n in each.shape] for each in histograms},
        "chosen": {
            **{name: str(choice or TOO_FEW) for name, (_, choice) in choices.items()},
            **{name: text for name, it in job.chosen.items() for text in _one_bin(it, filled[name].channels)},
        },
        "blind": {
            f"{each.name}/{channel.name}": int(channel.blind.sum())
            for each in histograms
            for channel in each.channels
            if channel.blind is not None and channel.blind.any()
        },
    }


def _blinded(
    histogram: FilledHistogram, hidden: Mapping[tuple[str, str], NDArray[np.bool_]], opened: Sequence[Place]
) -> FilledHistogram:
    """A histogram without data in the bins that are `hidden`, by histogram and region."""
    channels = []
    for channel in histogram.channels:
        data = channel.processes.get(DATA)
        if data is not None and (channel.region, channel.era) not in opened:
            without = hidden[histogram.name, channel.region]
            seen = Template(np.where(without, np.nan, data.nominal), np.where(without, np.nan, data.variances))
            channel = replace(channel, processes={**channel.processes, DATA: seen})
        channels.append(channel)
    return replace(histogram, channels=tuple(channels))


def _hidden(
    histograms: Sequence[FilledHistogram], alike: Mapping[str, Sequence[str]], bins: BlindBins
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """The bins where the signal may show, in all eras of a region together, by histogram and region.

    Those that are `alike`, as under several hypotheses, hide the same ones. If one histogram of a region hides some, each hides at least
    one, and as much background, where there is most signal: else its sum and what the other shows would tell what that hides.
    """
    signals, expected, most = (bins.signal, *bins.others), dict[tuple[str, str], Floats](), dict[str, float]()
    for each in histograms:
        for region in {it.region for it in each.channels}:
            sums = expected[each.name, region] = np.zeros((2, *each.shape))  # signal and background
            for name, template in added([it for it in each.channels if it.region == region]).processes.items():
                if name != DATA:
                    sums[int(name not in signals)] += template.nominal

    def together(found: Mapping[tuple[str, str], NDArray[np.bool_]]) -> dict[tuple[str, str], NDArray[np.bool_]]:
        places = {
            (name, region): [(it, region) for it in alike[name] if (it, region) in found] for name, region in found
        }
        return {place: np.any([found[it] for it in others], axis=0) for place, others in places.items()}

    found = together({place: bins.among(*it) for place, it in expected.items()})
    for (name, region), it in found.items():
        if it.any():
            most[region] = max(most.get(region, 0.0), float(expected[name, region][1][it].sum()))
    for (name, region), it in found.items():
        signal, background = expected[name, region]
        for at in np.argsort(-signal / np.sqrt(np.maximum(background, 1e-9)), axis=None) if region in most else ():
            if it.any() and background[it].sum() >= most[region] * (1 - 1e-9):
                break
            it.flat[at] = True
    return together(found)


def _histogram(
    plan: Plan,
    job: TemplateJob,
    mine: Mapping[Sample, Sums],
    sets: Mapping[str, Set],
    titles: Mapping[str, str],
    merge: Optional[list[int]] = None,
) -> FilledHistogram:
    """A histogram; `merge` are the fine bins at which bins begin, and their end, which by default are chosen by numbers of events."""
    edges = [tuple(axis.edges) for axis in plan.axes]
    if plan.is_folded:
        mine = {key: sums.folded(plan.cells) for key, sums in mine.items()}
    if plan.name in job.chosen:
        merge = merge or _choose(plan, job.chosen[plan.name], mine, job.chosen[plan.name].most_bins)
        edges = [(*(plan.axes[0].edges[at] for at in merge[:-1]), 1.0)]
    channels = _channels(plan, job, mine, sets, merge)
    at = str(plan.hypothesis) if plan.hypothesis else None
    note = ", ".join(filter(None, (at, "with under- and overflow" if plan.is_folded else "")))
    axes = tuple(
        TemplateAxis(axis.quantity.text, each, titles.get(axis.quantity.text, ""), note)
        for axis, each in zip(plan.axes, edges)
    )
    return FilledHistogram(plan.name, axes, tuple(channels), at, job.origins.get(plan.name, {}))


def _channels(
    plan: Plan, job: TemplateJob, mine: Mapping[Sample, Sums], sets: Mapping[str, Set], merge: Optional[list[int]]
) -> list[HistogramChannel]:
    order = [*job.classes, DATA]
    ordered = sorted(mine.items(), key=lambda it: order.index(it[0][2]) if it[0][2] in order else len(order))
    channels = []

    def shaped(values: Floats) -> Floats:
        cells = values.reshape(plan.cells)
        return cells if merge is None else merged_bins(cells, merge)

    for region in plan.regions:
        for era in job.luminosity:
            here = {
                process: sums for (where, when, process), sums in ordered if where == region and when == (era or None)
            }
            processes = {process: template_of(sums, sets, shaped) for process, sums in here.items()}
            shares = {where: share for (where, when), share in job.shares.items() if when == (era or None)}
            others = dict.fromkeys(it for sums in here.values() for it in sums.without)
            without = ", ".join(f"{it} (except {100 * shares[it]:g} %)" if shares[it] else it for it in others)
            share, notes = shares.get(region) or 1.0, [f"without the events of {without}"] * bool(without)
            notes = [f"{100 * share:g} % of the data"] * (share < 1) + notes
            is_blind = job.shares.get((region, era or None)) == 0
            channels.append(HistogramChannel(region, era or None, processes, share, ", ".join(notes), is_blind))
    return channels


def _by_result(
    plan: Plan,
    job: TemplateJob,
    fit: FitOf,
    mine: Mapping[Sample, Sums],
    sets: Mapping[str, Set],
    filled: Mapping[str, FilledHistogram],
) -> Optional[Choice]:
    """The bins of a histogram by the result; other histograms of the fit keep the bins that they have."""
    chosen, end = job.chosen[plan.name], len(plan.axes[0].edges) - 1
    fitted = {key: it for key, it in mine.items() if key[0] in chosen.regions}
    parts = {number: {key: it.half(number) for key, it in fitted.items()} for number in (0, 1)}
    whole = {key: it.whole for key, it in fitted.items()}

    def make(half: Optional[int], starts: Sequence[int]) -> list[list[Counts]]:
        channels = _channels(plan, job, whole if half is None else parts[half], sets, [*starts, end])
        return [fit.samples(channel, job.origins.get(plan.name, {})) for channel in channels]

    def candidates(half: Optional[int], most: int) -> list[int]:
        return _choose(plan, chosen, whole if half is None else parts[half], most)[:-1]

    others = [
        fit.samples(channel, job.origins.get(name, {}))
        for name, each in filled.items()
        if name != plan.name
        for channel in each.channels
        if fit.settings.channels.get(channel.region) == name
    ]
    choice = choose(make, others, candidates, chosen.most_bins)
    return choice and replace(choice, of=fit.settings.figure_of_merit)


def _choose(plan: Plan, chosen: ChosenBins, found: Mapping[Sample, Sums], most: int) -> list[int]:
    """The fine bins at which at most so many bins begin, by all that is expected; with background in each region and era."""
    channels: dict[tuple[str, Optional[str]], Floats] = {}
    for (region, era, process), sums in found.items():
        each = channels.setdefault((region, era), np.zeros((3, *plan.cells)))
        if process == chosen.signal:
            each[0] += sums.sums[NOMINAL]
        elif process != DATA:
            each[1:] += sums.sums[NOMINAL], sums.squares[NOMINAL]
    outside = sum(each[:2, [0, -1]].sum() for each in channels.values())
    if outside:
        raise NanoMLError(
            f"histogram {plan.name}: {outside:.4g} expected events are not between 0 and 1, where bins can be chosen. Give its `bins`."
        )
    counted = [each[:, 1:-1] for (region, _), each in channels.items() if region in chosen.regions]
    nothing, least = np.zeros((3, len(plan.axes[0].edges) - 1)), chosen.least_events
    return bins_of_channels(counted or [nothing], least, most, least if chosen.in_each else 0.0)


def _one_bin(chosen: ChosenBins, channels: Sequence[HistogramChannel]) -> Iterator[str]:
    """The channels that have fewer events in all than they need in a bin, in words; nothing if there is none."""
    few, least = [], chosen.least_events
    for channel in (it for it in channels if chosen.in_each and it.region in chosen.regions):
        of = [it for name, it in channel.processes.items() if name not in (chosen.signal, DATA)]
        events, squares = (float(sum(getattr(it, key).sum() for it in of)) for key in ("nominal", "variances"))
        if max(events, 0.0) ** 2 < least * squares:
            few.append(f"{channel.name} ({max(events, 0.0) ** 2 / squares:.3g})")
    if few:
        what = f"effective background events than least_events ({least:g}) in {listed(few)}"
        yield f"one bin, since there are fewer {what}. Lower it, or set least_events_in: all"


def write_root(templates: Templates, path: Path) -> None:
    """Write histograms as HISTOGRAM/CHANNEL/PROCESS and HISTOGRAM/CHANNEL/PROCESS_NUISANCEUp and Down, as Combine reads them."""
    import uproot

    with uproot.recreate(path) as file:
        file[KEY] = templates.description()
        for histogram in templates.histograms:
            axes = [
                (f"{each.quantity} ({each.note})" if each.note else each.quantity, each.edges)
                for each in histogram.axes
            ]
            for channel in histogram.channels:
                for name, values, variances in _named(channel):
                    file[f"{histogram.name}/{channel.name}/{name}"] = root_histogram(
                        name, histogram.name, axes, values, variances
                    )


def _named(channel: HistogramChannel) -> Iterator[tuple[str, Floats, Floats]]:
    for process, template in channel.processes.items():
        yield process, template.nominal, template.variances
        for direction, varied, variances in (
            ("Up", template.up, template.up_variances),
            ("Down", template.down, template.down_variances),
        ):
            for nuisance, values in varied.items():
                yield f"{process}_{nuisance}{direction}", values, variances[nuisance]


def merged_bins(values: Floats, edges: list[int]) -> Floats:
    """Sums over bins of fine bins, for an array (..., fine bins + 2) with underflow and overflow at its ends."""
    inner = np.add.reduceat(values[..., 1:-1], edges[:-1], axis=-1)
    return np.concatenate([values[..., :1], inner, values[..., -1:]], axis=-1)
