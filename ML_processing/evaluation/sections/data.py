"""Data against simulation in regions that are named for it: whether the one describes the other; signal regions stay blind."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape

import numpy as np
from matplotlib.figure import Figure

from ML_processing.evaluation.classifier_test import ClassifierTest, classifier_test
from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.data_comparison import (
    Assigned,
    BothSamples,
    DataPanel,
    RegionEvents,
    kept,
    region_events,
    scaled,
    signal_in,
)
from ML_processing.evaluation.expected import stacked
from ML_processing.evaluation.measurement import Measurement
from ML_processing.metrics.measured import MERGED, PAIR, Measured, number
from ML_processing.requests import DataRequest
from MLTools.NanoML.report.figures import Draw, in_style, legend_below, note_in, of_all, ratio_grid, shorten
from MLTools.NanoML.report.page import Answer, table, worst_of
from MLTools.NanoML.report.section import Block, Caption, Style
from MLTools.NanoML.report.stack import draw_ratio, draw_stack

_MOST_DRAWN = 24  # inputs
_SCALE = 0.57  # of points and lines in a small plot
_MOST_LISTED = 10  # inputs by which a BDT tells the two apart
_CHANCE = 0.01  # below this probability it is not chance, all tests together
_DEVIATIONS = 3  # of a ratio from 1
_YIELD = 0.2  # distance of data over expected events from 1
_SIGNAL = 1.0  # S / sqrt(B) in a bin: data there may well show the signal


@dataclass(frozen=True)
class DataComparison:
    """Data and simulation in a region.

    Events in a blind bin of a discriminant or output do not count, but for what is expected in those bins.
    """

    cut: str
    files: list[str]  # of data
    left_out: list[str]  # regions whose events are left out, as they are blind, or seen in part
    limit: float | None  # S / sqrt(B) above which a bin is blind; None if none is
    data: int
    data_in_all: int  # if more than `data`, these are a part, to which what is expected is scaled
    expected: Measured = field(metadata=PAIR)  # events of the classes that are expected in data
    ratio: Measured = field(metadata=PAIR)  # of data to expected; not defined if the weights are not expected events
    signal: str | None  # the class that data are not expected to have; None if they may have all
    signal_over_root_background: float | None  # largest in a bin of a score
    physical: bool  # whether the weights are expected events; else all are scaled to data
    luminosity: float | None  # [/fb]
    inputs: list[DataPanel]
    scores: list[DataPanel]  # discriminants, and the outputs of the networks
    assigned: list[Assigned]  # none for a regression
    classifier: ClassifierTest | None  # None if there are too few events
    share: float = 1.0  # of the data that may be seen; all else is scaled to it

    @property
    def tests(self) -> dict[str, float]:
        """Probability of each test of a shape that is defined, by its variable."""
        found = {it.label: it.agreement.probability for it in (*self.inputs, *self.scores)}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def of_events(cls, events: RegionEvents, wanted: DataRequest, physical: bool) -> DataComparison:
        """The comparison of the events of a region; the weights may be `physical`, which are expected events."""
        data, signal = events.data, signal_in(events.data.training)
        name, share = events.region.name, wanted.shares.get(events.region.name, 1.0)
        limit = wanted.limit if physical and signal >= 0 and name not in wanted.opened else None
        expected = scaled(events.expected, len(data.table) / max(events.counted, 1))
        both = BothSamples(expected, data, signal, physical, limit)
        if not physical:
            total = both.background.value or 0.0
            both = replace(both, expected=scaled(both.expected, len(data.table) / total if total > 0 else 1.0))
        names, seen = both.expected.table.classes, both.outside_blind_bins()
        scores, count = list(both.scores(seen)), len(seen.data.table)
        return cls(
            events.region.cut,
            [str(file) for file in wanted.data],
            [it for it in wanted.shares if it != name],
            limit if any(panel.blind.any() for panel in scores) else None,
            count,
            round(events.counted * count / max(len(data.table), 1)),
            seen.background,
            seen.ratio,
            None if signal < 0 else names[signal],
            _sensitivity(scores, names[signal]) if physical and signal >= 0 else None,
            physical,
            wanted.luminosity and wanted.luminosity * share,
            list(seen.inputs()),
            scores,
            [] if data.training.targets else [both.assigned(i, seen) for i in range(len(names))],
            classifier_test(kept(seen.expected, seen.expected.table.labels != signal), seen.data),
            share,
        )

    def draw_inputs(self, style: Style) -> Figure:
        """Each input in data and simulation, or those that differ most."""
        probabilities = [1.0 if it.agreement.probability is None else it.agreement.probability for it in self.inputs]
        worst = sorted(np.argsort(probabilities, kind="stable")[:_MOST_DRAWN])
        some = of_all(len(worst), len(self.inputs), "inputs")
        return self._drawn(style, [(self.inputs[i], "") for i in worst], 4, False, some)

    def draw_scores(self, style: Style) -> Figure:
        """Each discriminant and output of the networks, and each output of the events that are assigned to its class."""
        panels = [(it, "") for it in self.scores]
        panels += [(it.score, f"assigned to {style.name(it.name)}") for it in self.assigned]
        return self._drawn(style, panels, min(len(self.scores), 4), True)

    def _drawn(
        self, style: Style, panels: Sequence[tuple[DataPanel, str]], columns: int, logarithmic: bool, some: str = ""
    ) -> Figure:
        known = () if self.luminosity is None else (self.luminosity, self.luminosity)
        right = f"{self.data:,} events of data, {style.conditions({'': known})}{some}"
        figure, pairs = ratio_grid(style, len(panels), right, columns)
        what = "Events" if self.physical else "Events (simulation scaled)"
        for (axes, below), (panel, note) in zip(pairs, panels, strict=True):
            stack = stacked(style, style.unit(panel.name, panel.label), panel, self.signal, what, panel.data)
            draw_stack(axes, stack, logarithmic, _SCALE, 0.25)
            draw_ratio(below, stack, _SCALE)
            p = panel.agreement.probability
            text = "few events" if p is None else f"p = {p:.2g}"
            note_in(axes, "\n".join(filter(None, [shorten(note, 26), text])), 11)
            below.set_xlabel(style.axis(panel.name, panel.label))
        fullest = max((axes for axes, _ in pairs), key=lambda axes: len(axes.get_legend_handles_labels()[1]))
        legend_below(figure, fullest, 6)
        return figure

    def tables(self) -> str:
        """The places of the comparison, how many events there are, the tests of shapes, and what a BDT finds."""
        where = "\n".join(_paragraph(text) for text in _where(self))
        return where + _events(self) + _shapes(self) + _told(self.classifier)


@section("data", place="last", after="regions", asked_after="repeats")
@dataclass(frozen=True)
class Data(Part):
    """The comparison in each of the regions that are named for it."""

    caption = Caption(
        "Inputs in data and simulation",
        "Points are data with the 68 % intervals of their Poisson means (Garwood), on top of each other the expected events with their "
        "statistical error; every object of a collection counts. Below is data over expected; arrows are points beyond with their "
        "errors. p is the probability of a chi2 test of the shape alone, without systematic uncertainties. Of many "
        "inputs, those that differ most.",
        "A slope or a step in a ratio, p below 0.01 divided by the number of inputs: the simulation of this input is wrong, "
        "and the network has learned from it.",
    )
    caption_of_scores = Caption(
        "Scores in data and simulation",
        "The discriminants and the probability of each class of all events, then that of those events for which it is the largest.",
        "A ratio that changes along the score: the efficiency of a cut in simulation is not that in data.",
    )

    regions: dict[str, DataComparison] = field(metadata=MERGED)

    @classmethod
    def compute(cls, of: Measurement) -> Data:
        """The errors are those of `region_events`."""
        training, wanted = of.training, of.wanted
        return cls({
            name: DataComparison.of_events(region_events(training, wanted, name), wanted, of.physical)
            for name in wanted.regions
        })  # fmt: skip

    def figures(self, style: Style) -> Iterator[tuple[str, Draw]]:
        """Inputs and scores in each region."""
        for name, found in self.regions.items():
            if found.inputs:
                yield f"data_inputs_{name}", partial(in_style(found.draw_inputs), style)
            if found.scores:
                yield f"data_scores_{name}", partial(in_style(found.draw_scores), style)

    def numbers(self, figure: str) -> object:
        """Inputs or scores in a region."""
        _, kind, name = figure.split("_", 2)
        return getattr(self.regions[name], kind)

    def answers(self, page: Evaluation) -> Iterator[Answer]:
        """One for each region."""
        for name, each in self.regions.items():
            yield replace(_answer(name, each), link=f"#data_{name}")

    def blocks(self, page: Evaluation, drawn: Collection[str]) -> Iterator[Block]:
        """One for each region."""
        for name, found in self.regions.items():
            kinds = (("data_inputs", self.caption), ("data_scores", self.caption_of_scores))
            figures = [(f"{kind}_{name}", caption) for kind, caption in kinds if f"{kind}_{name}" in drawn]
            yield Block(f"data_{name}", f"Data in {name}", found.tables(), figures)


def _answer(name: str, found: DataComparison) -> Answer:
    question, state = f"Does simulation describe data in {name}?", "good"
    if not found.data or not found.tests:
        return Answer(question, "open", f"{found.data:,} events of data: too few to compare a shape.")
    texts = [f"{found.data:,} events of data"]
    ratio = found.ratio
    if ratio.value is not None and ratio.error is not None:
        texts[0] += f", {number(ratio)} of what is expected (statistical error)."
        if abs(ratio.value - 1) > max(_YIELD, _DEVIATIONS * ratio.error):
            state = "look"
    else:
        texts[0] += "."
    worst, smallest = min(found.tests.items(), key=lambda item: item[1])
    together = min(1.0, smallest * len(found.tests))
    texts.append(
        f"The worst of {len(found.tests)} shapes is {worst}: p = {smallest:.2g}, or {together:.2g} for the worst of so many."
    )
    if together < _CHANCE:
        state = "look"
    tested = found.classifier
    if tested is None:
        state = "open" if state == "good" else state
        texts.append("There are too few events for a classifier test.")
    else:
        texts.append(tested.text("data from simulation"))
        state = worst_of(state, tested.state)
        if state == "good" and not tested.could_tell:
            state = "open"
            texts.append("Its error is so large that a difference that matters would not show.")
    if state in ("look", "bad"):
        texts.append(
            "A network exploits what is wrong in simulation: correct it, or leave out what betrays the difference."
        )
    if (found.signal_over_root_background or 0) > _SIGNAL:
        state = "look" if state == "good" else state
        texts.append(
            f"In a bin of a score the expected signal is {found.signal_over_root_background:.2g} times the square root of the "
            "background: this region is hardly a control region."
        )
    return Answer(question, state, " ".join(texts))


def _paragraph(text: str) -> str:
    return f"<p>{text}</p>"


def _where(found: DataComparison) -> Iterator[str]:
    text = f"<code>{escape(found.cut)}</code>. Data are read in this region only."
    if found.left_out:
        text += f" Events that are also in {escape(', '.join(found.left_out))}, where data are blind, are left out."
    if found.share < 1:
        text += f" They are {100 * found.share:g} % of all, to which what is expected is scaled."
    if found.limit is not None:
        text += (
            f" Hatched bins, with an expected S / √B above {found.limit:g}, are blind. Events in such a bin of a score are left out of "
            "everything else."
        )
    if found.data < found.data_in_all:
        text += (
            f" {found.data:,} of {found.data_in_all:,} data events fit into train.memory; simulation is scaled to them."
        )
    yield text
    text = "The expected events are those of all classes."
    if found.signal is not None:
        text = f"The expected events are those of all classes except {escape(found.signal)}, which is drawn as a line."
        if found.signal_over_root_background is not None:
            text += f" Its S / √B is at most {found.signal_over_root_background:.2g} in a bin of a score."
    if not found.physical:
        text += " A dataset has no cross section, or there is no luminosity: simulation is scaled to the number of events of data."
    yield text


def _events(found: DataComparison) -> str:
    rows = [
        ["all events", f"{found.data:,}", number(found.expected), _ratio(found.ratio)],
        *([f"assigned to {it.name}", f"{it.data:,}", number(it.expected), _ratio(it.ratio)] for it in found.assigned),
    ]
    return table(["", "data", "expected", "data / expected"], rows)


def _ratio(found: Measured) -> str:
    return "" if found.value is None else number(found)


def _shapes(found: DataComparison) -> str:
    """Probabilities of the tests: of each variable for all events, and of each input by assigned class."""
    head = ["p of the shape", "all events", *(f"assigned to {it.name}" for it in found.assigned)]
    rows = [
        [it.name, _p(it.agreement.probability), *(_p(one.probabilities.get(it.name)) for one in found.assigned)]
        for it in found.inputs
    ]
    for panel in found.scores:
        own = [_p(it.score.agreement.probability) if it.name == panel.name else "" for it in found.assigned]
        rows.append([panel.label, _p(panel.agreement.probability), *own])
    text = (
        "Probabilities that a shape in data differs as much from the expected one by chance, after a chi2 test with the statistical "
        "errors of both (physics/0605123); “few” where there are too few events for it."
    )
    return table(head, rows) + _paragraph(text)


def _p(probability: float | None) -> str:
    return "few" if probability is None else f"{probability:.2g}"


def _told(found: ClassifierTest | None) -> str:
    if found is None:
        return _paragraph("There are too few events for a BDT to be trained on the difference of data and simulation.")
    text = (
        f"A BDT trained to separate data from simulation by all inputs together, tested on events that it has not seen, has the AUC "
        f"{number(found.auc)}: {found.standard_deviations:.1f} standard deviations above 0.5, where there is no difference, p = "
        f"{found.probability:.2g} (arXiv:1610.06545; shapes alone, {found.events:,} events). By these inputs it tells them apart:"
    )
    rows = [[it.name, number(Measured(it.loss, it.error))] for it in found.inputs[:_MOST_LISTED]]
    return _paragraph(text) + table(["input", "loss of this AUC when shuffled"], rows)


def _sensitivity(scores: list[DataPanel], signal: str) -> float | None:
    """The largest S / sqrt(B) in a bin of a score."""
    found: list[float] = []
    for panel in scores:
        b = panel.without(signal).values
        s = panel.without(None).values - b
        found += (s[b > 0] / np.sqrt(b[b > 0])).tolist()
    return max(found, default=None)
