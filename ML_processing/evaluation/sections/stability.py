"""Whether the result would be another one in another era, with another seed, or with fewer events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import chdtrc

from ML_processing.evaluation.content import Evaluation, Part, judged, section
from ML_processing.evaluation.expected import BinnedOutput, ClassYield, Separation, binned_outputs, measured_in
from ML_processing.evaluation.measurement import Measurement, RepeatedTraining
from ML_processing.evaluation.scored import OutOfFold
from ML_processing.metrics.measured import MERGED, PAIR, Histogram, Measured, number
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.requests import RepeatRequest, repeats_of
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import TrainingDescription, training_file
from ML_processing.training.directory import Training
from ML_processing.training.following import beside
from ML_processing.training.result_training import Gain
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.report.figures import finish_panel, grid, legend_below, line, marker, middles, note_in, shorten
from MLTools.NanoML.report.page import Answer, table
from MLTools.NanoML.report.section import GREY, Caption, Style
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.terminal.progress import say

_MATTERS, _OF_ERAS = 0.005, 0.01  # a difference in AUC that a physicist would care about; from the mean of eras
_CHANCE = 0.01  # below this probability it is not chance


@dataclass(frozen=True)
class EraResult:
    """The events of an era."""

    yields: dict[str, ClassYield]
    measured: Separation = field(metadata=MERGED)
    discriminant: BinnedOutput | None  # the first, normalised to one for each class; None without events
    events: int  # with a score


@section("eras", after="variations", asked_after="drift")
@dataclass(frozen=True)
class Eras(Part):
    """Yields and separation in each era."""

    caption = Caption(
        "Stability by era",
        "The same networks on the simulation of each era: the AUC of the signal with its statistical error, around the mean in grey, and "
        "the shape of the first discriminant for each class. p is the probability that the AUC differ as much by chance.",
        "An era far from the others, with p below 0.01: its simulation or its corrections differ, or it needs networks of its own "
        "(train.per_era).",
    )

    eras: dict[str, EraResult]
    auc: Measured = field(metadata=PAIR)  # mean over the eras by their errors
    probability: float | None  # that the AUC of the eras differ as much by chance
    physical: bool  # whether the weights are expected numbers of events
    classes: list[str]

    @classmethod
    def compute(cls, of: Measurement) -> Eras | None:
        """None if there are fewer than two eras, or for a regression."""
        return cls.measured(of.training, of.eras, of.physical)

    @classmethod
    def measured(cls, training: Training, files: Mapping[str, Sequence[Path]], physical: bool) -> Eras | None:
        """Measure the networks on the events of each era, in the regions of the training; `files` are those of each era."""
        if len(files) < 2 or training.targets:
            return None
        settings, found = training.description.config, {}
        for era, paths in files.items():
            yields, measured, tested = measured_in(training, TrainingFiles.open(paths, settings))
            assert isinstance(measured, Separation)
            shown = binned_outputs(tested)
            found[era] = EraResult(yields, measured, _shape(shown[0]) if shown else None, len(tested.table))
        return cls(
            found, *_agreement([it.measured.auc for it in found.values()]), physical, training.description.classes
        )

    def answer(self, page: Evaluation) -> Answer | None:
        """By the era whose AUC is furthest from the mean."""
        if self.probability is None or self.auc.value is None:
            return None
        mean, areas = self.auc.value, {era: it.measured.auc for era, it in self.eras.items()}
        known = {era: it.value - mean for era, it in areas.items() if it.value is not None}
        worst = max(known, key=lambda era: abs(known[era]))
        limits = "a probability of 1 %", f"{_OF_ERAS}"
        state, remark = judged(self.probability < _CHANCE, abs(known[worst]) > _OF_ERAS, *limits)
        text = (
            f"AUC {number(areas[worst])} in {worst}, where the mean of all eras is {number(self.auc)}. That is {remark}"
        )
        if state == "look":
            text += ": compare the inputs of that era with the others, and correct them, or train networks of its own (train.per_era)"
        return Answer("The same in all eras?", state, f"{text}.")

    def draw(self, style: Style) -> Figure:
        """AUC in each era, and the shape of the discriminant of each class in each era."""
        shown = {era: it.discriminant for era, it in self.eras.items() if it.discriminant is not None}
        panels = self.classes if shown else []
        figure, all_axes = grid(style, 1 + len(panels), "", 3, (5.4, 4.4))
        names, areas = [shorten(era, 12) for era in self.eras], [it.measured.auc for it in self.eras.values()]
        _show_areas(all_axes[0], "Era", names, areas, self.auc)
        if self.probability is not None:
            note_in(all_axes[0], f"p = {self.probability:.2g}")
        for place, (axes, name) in enumerate(zip(all_axes[1:], panels, strict=True)):
            for i, (era, it) in enumerate(shown.items()):
                bins, look = it.classes[place].bins, {**line(i, len(shown)), "lw": 1.6}
                axes.stairs(bins.values, it.edges, **look, label=era)
                places = middles(it.edges, i, len(shown), 0.15)
                axes.errorbar(places, bins.values, bins.errors, fmt="none", ecolor=look["color"], elinewidth=1)
            first = next(iter(shown.values()))
            finish_panel(axes, first.edges, style.axis(first.label), room=1.15)
            note_in(axes, shorten(style.name(name), 30))
        if panels:
            legend_below(figure, all_axes[-1], 6)
        return figure

    def tables(self, page: Evaluation) -> str:
        """Expected events of each class, and the AUC, in each era."""
        what = "expected events" if self.physical else "sum of weights"
        head = ["era", *(f"{name}, {what}" for name in self.classes), "AUC of the signal"]
        rows = [
            [era, *(number(it.yields[name].sum_of_weights) for name in self.classes), number(it.measured.auc)]
            for era, it in self.eras.items()
        ]
        return table(head, rows)


def _show_areas(axes: Axes, label: str, names: Sequence[str], areas: Sequence[Measured], mean: Measured) -> None:
    """Areas with their errors beside each other, and in grey behind them a mean with its error."""
    places, points = np.arange(len(areas)), np.array([(it.value, it.error) for it in areas], float)
    axes.errorbar(places, *points.T, capsize=3, **marker(0, 3, 7))
    if mean.value is not None and mean.error is not None:
        axes.axhspan(mean.value - mean.error, mean.value + mean.error, color=GREY, zorder=0)
        axes.axhline(mean.value, color="black", lw=0.8, zorder=0)
    axes.margins(y=0.3)
    axes.set_xticks(places, names)
    finish_panel(axes, places[[0, -1]] + np.array([-0.6, 0.6]), label, "AUC")


def _shape(shown: BinnedOutput) -> BinnedOutput:
    """The same with a total of one for each class."""
    classes = []
    for it in shown.classes:
        total = it.bins.values.sum()
        scale = 1 / total if total > 0 else 0.0
        classes.append(type(it)(it.name, Histogram(it.bins.values * scale, it.bins.errors * scale)))
    return BinnedOutput(shown.label, shown.edges, classes)


def _agreement(areas: Sequence[Measured]) -> tuple[Measured, float | None]:
    """The mean of independent measurements, and the probability of their chi2 around it."""
    known = [(it.value, it.error) for it in areas if it.value is not None and it.error]
    if len(known) < 2:
        return Measured(None, None), None
    values, errors = np.array(known).T
    weights = errors**-2
    mean = (values * weights).sum() / weights.sum()
    chi2 = float((((values - mean) / errors) ** 2).sum())
    return Measured(float(mean), float(weights.sum() ** -0.5)), float(chdtrc(len(known) - 1, chi2))


@dataclass(frozen=True)
class Repeat:
    """How good a training is on the events that all are tested on."""

    seed: int
    events: int  # that each of its networks learned from, on average
    auc: Measured = field(metadata=PAIR)
    result: float | None = None  # the expected uncertainty of the signal strength, if it was trained on that

    @classmethod
    def of(cls, tested: OutOfFold, judge: BoundDiscriminant) -> Repeat:
        """The training that some events were tested with."""
        about, events = tested.training.description, tested.table
        learned = round(sum(it.events for it in about.data.classes.values()) * (about.folds.k - 2) / about.folds.k)
        area, result = judge.area(tested.scores, events.labels, events.weights), (about.metrics or {}).get("result")
        return cls(tested.seed, learned, area, None if result is None else build(Gain, result).kept)


@section("repeats", after="eras", asked_after="eras")
@dataclass(frozen=True)
class Repeats(Part):
    """How much the result depends on the seed and on the number of events; the training itself is the first or last."""

    caption = Caption(
        "Other seeds, fewer events",
        "AUC of trainings that differ in their seeds alone, with the mean and standard deviation in grey; and of trainings on parts of "
        "the events. All are tested on the same events, so the error bars, which are due to these, move all points together.",
        "A spread that is larger than the error bars; a curve that still rises at its end: more simulation would help.",
    )

    seeds: list[Repeat]  # it alone, if there are no others
    spread: Measured = field(metadata=PAIR)  # standard deviation of the AUC over the seeds
    score_spread: float | None  # the same of the score of an event, on average
    curve: list[Repeat]  # by the number of events; none if it was not asked for
    gain: Measured = field(metadata=PAIR)  # AUC of the training minus that on the largest share

    @classmethod
    def compute(cls, of: Measurement) -> Repeats | None:
        """None if nothing was trained again."""
        return cls.measured(of.tested, of.again)

    @classmethod
    def measured(cls, tested: OutOfFold, again: Sequence[RepeatedTraining]) -> Repeats | None:
        """Measure trainings on the events of the first, each by the network that has not seen it."""
        again = [it for it in again if it.left_out is None]
        if not again:
            return None
        events, judge = tested.table, tested.training.discriminant
        every = [(OutOfFold(it.training, events, it.training.out_of_fold(events)[1]), it.share) for it in again]
        of_seeds = [tested, *(it for it, share in every if share == 1)]
        of_shares = [it for it, share in every if share < 1]
        seeds, curve = ([Repeat.of(it, judge) for it in each] for each in (of_seeds, of_shares))
        gain = Measured(None, None)
        if curve:
            curve.append(seeds[0])
            gain = judge.area_difference(tested.scores, of_shares[-1].scores, events.labels, events.weights)
        scores = [judge.values(it.scores) for it in of_seeds]
        return cls(seeds, *_spread(seeds, scores, events.weights), curve, gain)

    def draw(self, style: Style) -> Figure:
        """AUC of trainings with several seeds, and against the number of events that they learned from."""
        has_seeds = len(self.seeds) > 1
        figure, all_axes = grid(style, has_seeds + bool(self.curve), "", 2, (6.2, 4.6), legend=False)
        if has_seeds:
            areas, spread = [it.auc for it in self.seeds], self.spread.value or 0.0
            mean = float(np.mean(np.array([it.value for it in areas], float)))
            _show_areas(all_axes[0], "Seed", [str(it.seed) for it in self.seeds], areas, Measured(mean, spread))
            note_in(all_axes[0], f"{mean:.4f} ± {spread:.4f} (standard deviation)", 11)
        if self.curve:
            axes, points = all_axes[-1], [(it.events, it.auc.value, it.auc.error) for it in self.curve]
            axes.errorbar(*np.array(points, float).T, capsize=3, ls="-", lw=1, **marker(0, 3, 7))
            axes.set_xscale("log")
            axes.minorticks_off()
            events = [it.events for it in self.curve]
            axes.set_xticks(events, [f"{each:,}" for each in events], rotation=30, ha="right")
            axes.set(xlabel="Training events of a network", ylabel="AUC", ymargin=0.3)
        return figure

    def tables(self, page: Evaluation) -> str:
        """The AUC of each training."""
        every = dict.fromkeys([*self.seeds, *self.curve])
        rows = [[str(it.seed), f"{it.events:,}", number(it.auc)] for it in every]
        names = ["seed", "training events of a network", "AUC of the signal"]
        if all(it.result is not None for it in every):
            names.append("expected uncertainty")
            rows = [[*row, f"{it.result:.4g}"] for row, it in zip(rows, every, strict=True)]
        return table(names, rows)

    def answers(self, page: Evaluation) -> Iterator[Answer]:
        """One answer about the seeds, one about the number of events, where these were varied."""
        spread, error = self.spread, self.seeds[0].auc.error
        if spread.value is not None and spread.error is not None and error is not None:
            values = [it.auc.value for it in self.seeds if it.auc.value is not None]
            text = (
                f"AUC of {len(values)} trainings that differ in their seeds alone: mean {sum(values) / len(values):.4f}, standard "
                f"deviation {spread.value:.4f} ± {spread.error:.4f}, where the events alone give each an error of {error:.4f}."
            )
            results = [it.result for it in self.seeds if it.result is not None]
            if len(results) == len(values):
                mean, deviation = np.mean(results), np.std(results, ddof=1)
                text += f" The expected uncertainty by the fit: mean {mean:.4g}, standard deviation {deviation:.2g}."
            if self.score_spread is not None:
                text += f" The score of an event changes by {self.score_spread:.3f}."
            state = "look" if spread.value > max(error, _MATTERS) else "good"
            if state == "look":
                text += (
                    " That is more: a smaller train.learning_rate, more train.patience or more events make it steadier."
                )
            yield Answer("The same with another seed?", state, text)
        gain = self.gain
        if gain.value is not None and gain.error is not None:
            limits, is_blunt = ("2 standard errors", f"{_MATTERS}"), gain.error > _MATTERS
            state, remark = judged(gain.value > 2 * gain.error, gain.value > _MATTERS, *limits, is_blunt)
            means = {"look": "more simulation would help", "open": "these events are too few to tell"}.get(
                state, "the curve is flat"
            )
            before, now = (it.events for it in self.curve[-2:])
            text = f"From {before:,} to {now:,} training events the AUC grows by {number(gain)}, which is {remark}: {means}."
            yield Answer("Would more events help?", state, text)


def repeated(training: Training, files: Sequence[Path], run: Path, wanted: RepeatRequest) -> list[RepeatedTraining]:
    """Train again on the same files; a training that is there is kept, one that was interrupted goes on.

    A NanoMLError says that the events cannot be trained on, as when a share of them leaves none of a class.
    """
    settings = beside(training.description.config)
    values = _left_out(training) if wanted.left_out else ()
    todo: list[tuple[int, float, float | None]] = [(settings.seed + 1 + i, 1.0, None) for i in range(wanted.seeds)]
    todo += [(settings.seed, share, None) for share in wanted.shares]
    todo += [(settings.seed, 1.0, value) for value in values]
    if not todo:
        return []
    if training.targets:
        raise ConfigError("evaluate.seeds: a regression has no AUC, whose spread it would show. Remove it.")
    cost = wanted.trainings + len(values)
    say(
        f"evaluate: {len(todo)} more trainings, which cost as much as {cost:.3g} of all events: {wanted.seeds} with other seeds, "
        f"{len(wanted.shares)} on parts of the events, {len(values)} without a value of the parameter. They resume after an interruption."
    )
    found = []
    for i, (seed, share, without) in enumerate(todo, 1):
        what = f"seed {seed}" if share == 1 else f"{100 * share:.3g} % of the events"
        name = f"seed_{seed}" if share == 1 else f"share_{share:g}"
        if without is not None:
            what, name = f"{settings.parameter} {without:g} left out", f"without_{without:g}"
        say(f"evaluate: training {i} of {len(todo)}: {what}.")
        directory, mine = repeats_of(run) / name, replace(settings, seed=seed)
        try:
            if not _is_made(directory, mine, files, training.description):
                train(files, replace(mine, share=share, left_out=without, target=wanted.target), directory)
        except NanoMLError as problem:
            if share == 1:
                raise
            raise NanoMLError(f"evaluate.learning_curve: with {what}: {problem}") from None
        found.append(RepeatedTraining(Training.load(directory, settings.model), seed, share, without))
    return found


def _is_made(directory: Path, settings: Train, files: Sequence[Path], of: TrainingDescription) -> bool:
    """Whether a training was made to repeat another one: as that, it stays if the weights of their events have changed since."""
    if not training_file(directory).is_file():
        return False
    found = TrainingDescription.read(directory)
    is_later = found.complete and found.created >= of.created
    return is_later and (found.config, found.data.files) == (settings, [*map(str, files)])


def _left_out(training: Training) -> tuple[float, ...]:
    """The values of the parameter to be left out in turn; a ConfigError if there are too few, or the model cannot do without."""
    values = training.parameter.values if training.parameter else ()
    if len(values) < 3 or training.is_boosted:
        reason = "trees know no other than those of the training" if training.is_boosted else "it takes three or more"
        raise ConfigError(
            f"evaluate.left_out: needs values of a parameter between which networks learn: {reason}. Remove it."
        )
    return values


def _spread(
    seeds: Sequence[Repeat], scores: Sequence[NDArray[np.float32]], weights: NDArray[np.float32]
) -> tuple[Measured, float | None]:
    """Standard deviation of the AUC, with its error for a normal distribution, and the mean one of the scores of events."""
    values = [it.auc.value for it in seeds if it.auc.value is not None]
    if len(values) < 2:
        return Measured(None, None), None
    deviation = float(np.std(values, ddof=1))
    of_events = np.std(np.array(scores, np.float64), axis=0, ddof=1)
    mean = float(np.average(of_events, weights=np.abs(weights)))
    return Measured(deviation, deviation / float(np.sqrt(2 * (len(values) - 1)))), mean
