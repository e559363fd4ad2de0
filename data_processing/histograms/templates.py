"""Adds up the histograms of all files, and writes them for plots and fits: as HDF5, and as ROOT in the layout of Combine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.histograms.fill import NOMINAL, TITLES, Plan
from data_processing.histograms.resultbins import TOO_FEW, Choice, FitOf, choose
from data_processing.score.eventcolumns import Normalisation
from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.bins import Counts, bins_of_channels
from MLTools.NanoML.contracts.blinding import Place
from MLTools.NanoML.contracts.templates import (
    DATA,
    KEY,
    BlindBins,
    FilledHistogram,
    HistogramChannel,
    Origin,
    Template,
    TemplateAxis,
    Templates,
    added,
)
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL as UNVARIED
from MLTools.NanoML.nanoaod.fileaccounting import combined, weight_column
from MLTools.NanoML.nanoaod.weights import UP_DOWN
from MLTools.NanoML.rootio.histograms import root_histogram
from MLTools.NanoML.schema.plain import parsed
from MLTools.NanoML.schema.roles import READS, WRITES

Floats = NDArray[np.float64]
_Key = tuple[str, str, Optional[str], str]
"""Histogram, region, era and process."""
_Place = tuple[str, Optional[str], str]
"""Region, era and process."""


@dataclass(frozen=True)
class Part:
    """A file with filled histograms, and its era."""

    path: Path = field(metadata=READS)
    era: Optional[str]


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
class VariedParts:
    """The files of a dataset that stands in for others under a variation."""

    variation: str  # "hdamp_up"
    dataset: str
    parts: Sequence[Part]
    instead_of: Sequence[Part]

    @property
    def ending(self) -> str:
        """The ending that the variation's columns of weights would have: _hdampUp."""
        source, _, direction = self.variation.rpartition("_")
        is_one_of_two = source and direction in UP_DOWN
        column = weight_column(source, direction) if is_one_of_two else weight_column(self.variation)
        return column[len("weight") :]


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


@dataclass(frozen=True)
class Set:
    """Variations of a weight that are one uncertainty, and how."""

    endings: tuple[str, ...]
    how: str


@dataclass
class Sums:
    """Sums of weights in the cells of a histogram and of their squares, by ending."""

    sums: dict[str, Floats]
    squares: dict[str, Floats]
    without: tuple[str, ...] = ()

    def half(self, number: int) -> Sums:
        """The first or the second half of the events, scaled to all of them, with the relative errors of all."""
        halves, of = self.sums[NOMINAL].reshape(2, -1).sum(axis=1), len(self.sums[NOMINAL]) // 2
        factor = halves.sum() / halves[number] if halves[number] * halves.sum() > 0 else 1.0
        part = slice(number * of, (number + 1) * of)
        sums, squares = ({name: factor * each[part] for name, each in it.items()} for it in (self.sums, self.squares))
        return Sums(sums, squares, self.without)

    @property
    def whole(self) -> Sums:
        """Both halves of the events."""
        sums, squares = (
            {name: each.reshape(2, -1).sum(axis=0) for name, each in it.items()} for it in (self.sums, self.squares)
        )
        return Sums(sums, squares, self.without)

    def scale(self, factor: float) -> None:
        """Multiply all weights."""
        self.sums = {ending: factor * values for ending, values in self.sums.items()}
        self.squares = {ending: factor**2 * values for ending, values in self.squares.items()}


def make_templates(job: TemplateJob) -> dict[str, object]:
    """Add up the histograms of all files, and write both files; return the expected events of each process."""
    sets, found, titles = sets_of(job.normalisations), added_parts(job.parts), dict[str, str]()
    for part in job.parts:
        with h5py.File(part.path, "r") as file:
            titles = {**parsed(file.attrs.get(TITLES, "{}")), **titles}
    _vary(found, job.varied)
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


def sets_of(normalisations: Sequence[Path]) -> dict[str, Set]:
    """The sets of variations that are one uncertainty, by the names of their weights."""
    found = {}
    for path in normalisations:
        for weight in Normalisation.read(path).weights:
            if weight.combine:
                columns = (column for variation, column in weight.columns.items() if variation != UNVARIED)
                endings = tuple(column[len("weight") :] for column in columns)
                found[weight.weight] = Set(endings, weight.combine)
    return found


def added_parts(parts: Sequence[Part]) -> dict[_Key, Sums]:
    """The sums over files; a file has its nominal sums for a variation that it lacks.

    Where only events with a score of a network that has not seen them count, these stand for all events of their process and era in
    datasets that were trained on, by the sums of weights.
    """
    found: dict[tuple[_Key, bool], Sums] = {}
    # sums of weights, by histogram, era and process: of all events, and of these; not all histograms have the same files
    weights: dict[tuple[str, Optional[str], str], Floats] = {}
    for part in parts:
        era = part.era
        with h5py.File(part.path, "r") as file:
            of_file = dict(file.attrs)
            for name, regions in file.items():
                scored = set()
                for region, processes in regions.items():
                    for process, group in processes.items():
                        endings = parsed(group.attrs["endings"])
                        without = tuple(parsed(group.attrs["without"]))
                        values, squares = (dict(zip(endings, group[it][()])) for it in ("sums", "squares"))
                        more = Sums(values, squares, without)
                        key = (name, region, era, process), bool(group.attrs["of_scores"])
                        found[key] = _sum(found[key], more) if key in found else more
                        scored |= {process} if key[1] else set()
                for process in scored:
                    weights[name, era, process] = weights.get((name, era, process), np.zeros(2)) + of_file[process]
    whole: dict[_Key, Sums] = {}
    for (place, of_scores), each in found.items():
        name, _, era, process = place
        every, unseen = weights[name, era, process] if of_scores else (1.0, 1.0)
        if every != unseen:
            if unseen * every <= 0:
                raise NanoMLError(
                    f"histogram {name}: the events of {process} that the network has not seen have the sum of weights {unseen:.4g}, all of "
                    f"them {every:.4g}: they cannot stand for all. Train several folds (train.folds), or use more events."
                )
            each.scale(every / unseen)
        whole[place] = _sum(whole[place], each) if place in whole else each
    return whole


def _vary(found: Mapping[_Key, Sums], varied: Sequence[VariedParts]) -> None:
    """Add the variations that other datasets show: their events in the place of those that they stand in for."""
    known = {key: set(each.sums) for key, each in found.items()}
    for each in varied:
        new, old = added_parts(each.parts), added_parts(each.instead_of)
        processes = {process for *_, process in new}
        for key in (key for key in dict.fromkeys([*new, *old]) if key[-1] in processes and key in found):
            if each.ending in known[key]:
                raise NanoMLError(
                    f"dataset {each.dataset}: {each.variation} is a variation of a weight, too. Rename it in `variation`."
                )
            for kind in ("sums", "squares"):
                sums: dict[str, Floats] = getattr(found[key], kind)
                change = [getattr(it[key], kind)[NOMINAL] if key in it else 0.0 for it in (new, old)]
                sums[each.ending] = sums.get(each.ending, sums[NOMINAL]) + change[0] - change[1]
            squares = found[key].squares
            squares[each.ending] = np.maximum(squares[each.ending], 0.0)  # rounding may make them negative


def _sum(one: Sums, other: Sums) -> Sums:
    endings = dict.fromkeys([*one.sums, *other.sums])
    sums, squares = (
        {ending: mine.get(ending, mine[NOMINAL]) + more.get(ending, more[NOMINAL]) for ending in endings}
        for mine, more in ((one.sums, other.sums), (one.squares, other.squares))
    )
    return Sums(sums, squares, one.without + other.without)


def _histogram(
    plan: Plan,
    job: TemplateJob,
    mine: Mapping[_Place, Sums],
    sets: Mapping[str, Set],
    titles: Mapping[str, str],
    merge: Optional[list[int]] = None,
) -> FilledHistogram:
    """A histogram; `merge` are the fine bins at which bins begin, and their end, which by default are chosen by numbers of events."""
    edges = [tuple(axis.edges) for axis in plan.axes]
    if plan.is_folded:
        mine = {key: _folded(sums, plan.cells) for key, sums in mine.items()}
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
    plan: Plan, job: TemplateJob, mine: Mapping[_Place, Sums], sets: Mapping[str, Set], merge: Optional[list[int]]
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
    mine: Mapping[_Place, Sums],
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


def _folded(sums: Sums, cells: tuple[int, ...]) -> Sums:
    """The same with what is below and above each axis in its first and last bin."""
    places: NDArray[np.intp] = np.clip(np.indices(cells).reshape(len(cells), -1), 1, np.array(cells)[:, None] - 2)
    places = np.ravel_multi_index(tuple(places), cells)

    def fold(of: Mapping[str, Floats]) -> dict[str, Floats]:
        return {ending: np.bincount(places, it, len(it)).astype(np.float64) for ending, it in of.items()}

    return Sums(fold(sums.sums), fold(sums.squares), sums.without)


def _choose(plan: Plan, chosen: ChosenBins, found: Mapping[_Place, Sums], most: int) -> list[int]:
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


def template_of(sums: Sums, sets: Mapping[str, Set], shaped: Callable[[Floats], Floats]) -> Template:
    """What is expected nominally and under each nuisance parameter, from sums that are `shaped` first."""
    nominal, variances = shaped(sums.sums[NOMINAL]), shaped(sums.squares[NOMINAL])
    up: dict[str, Floats] = {}
    down: dict[str, Floats] = {}
    own: tuple[dict[str, Floats], ...] = ({}, {})  # variances up and down
    varied = {ending: shaped(values) for ending, values in sums.sums.items() if ending != NOMINAL}
    for name, each in sets.items():
        members = [varied.pop(ending) for ending in each.endings if ending in varied]
        if members:
            up[name], down[name] = combined(each.how, nominal, np.array(members))
    for ending, values in varied.items():
        name, direction = _direction(ending)
        (down if direction == "Down" else up)[name] = values
        own[direction == "Down"][name] = shaped(sums.squares[ending])
    for name in dict.fromkeys([*up, *down]):  # what has one direction alone is the same to the other side
        up.setdefault(name, 2 * nominal - down.get(name, nominal))
        down.setdefault(name, 2 * nominal - up[name])
        for it in own:  # what is made of others has no weights of its own
            it.setdefault(name, variances)
    return Template(nominal, variances, up, down, *own)


def _direction(ending: str) -> tuple[str, str]:
    """The nuisance parameter of a column, and the direction: _btag_hfUp is btag_hf and Up."""
    for direction in ("Up", "Down"):
        if ending.endswith(direction):
            return ending[1 : -len(direction)], direction
    return ending[1:], "Up"


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
