"""Whether the result would be another one with another seed, or with fewer events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Evaluation, Part, finding, section
from ML_processing.evaluation.measurement import Measurement, RepeatedTraining
from ML_processing.evaluation.scored import OutOfFold
from ML_processing.metrics.measured import PAIR, Measured, number
from ML_processing.requests import RepeatRequest, repeats_of
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.report.figures import grid, marker, note_in
from MLTools.NanoML.report.page import Answer, table
from MLTools.NanoML.report.section import Caption
from MLTools.NanoML.report.style import Style
from MLTools.NanoML.terminal.progress import say

_MATTERS = 0.005  # a difference in AUC that a physicist would care about


@dataclass(frozen=True)
class Repeat:
    """How good a training is on the events that all are tested on."""

    seed: int
    events: int  # that each of its networks learned from, on average
    auc: Measured = field(metadata=PAIR)


@section
@dataclass(frozen=True)
class Repeats(Part):
    """How much the result depends on the seed and on the number of events; the training itself is the first or last."""

    name = "repeats"
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

        def repeat(training: Training, scores: NDArray[np.float32], seed: int) -> Repeat:
            folds, classes = training.description.folds.k, training.description.data.classes.values()
            learned = round(sum(it.events for it in classes) * (folds - 2) / folds)
            return Repeat(seed, learned, judge.area(scores, events.labels, events.weights))

        itself, scores = (
            repeat(tested.training, tested.scores, tested.seed),
            [it.training.out_of_fold(events)[1] for it in again],
        )
        found = [repeat(it.training, each, it.seed) for it, each in zip(again, scores, strict=True)]
        seeds, curve, largest = [itself], [], None
        values = [judge.values(tested.scores)]
        for it, each, one in zip(found, scores, again, strict=True):
            if one.share < 1:
                curve.append(it)
                largest = each
            else:
                seeds.append(it)
                values.append(judge.values(each))
        gain = Measured(None, None)
        if largest is not None:
            curve.append(itself)
            gain = judge.area_difference(tested.scores, largest, events.labels, events.weights)
        return cls(seeds, *_spread(seeds, values, events.weights), curve, gain)

    def draw(self, style: Style) -> Figure:
        """AUC of trainings with several seeds, and against the number of events that they learned from."""
        panels = [name for name, there in (("seeds", len(self.seeds) > 1), ("curve", bool(self.curve))) if there]
        figure, all_axes = grid(style, len(panels), "", 2, (6.2, 4.6), legend=False)
        for axes, name in zip(all_axes, panels, strict=True):
            found = self.seeds if name == "seeds" else self.curve
            values, errors = np.array([(it.auc.value, it.auc.error) for it in found], float).T
            if name == "curve":
                events = [it.events for it in found]
                axes.errorbar(events, values, errors, capsize=3, ls="-", lw=1, **marker(0, 3, 7))
                axes.set_xscale("log")
                axes.minorticks_off()
                axes.set_xticks(events, [f"{each:,}" for each in events], rotation=30, ha="right")
                axes.set_xlabel("Training events of a network")
            else:
                places, mean, spread = np.arange(len(found)), values.mean(), self.spread.value or 0.0
                axes.axhspan(mean - spread, mean + spread, color="#d8d8de", zorder=0)
                axes.axhline(mean, color="black", lw=0.8, zorder=0)
                axes.errorbar(places, values, errors, capsize=3, **marker(0, 3, 7))
                axes.set_xlim(-0.6, len(found) - 0.4)
                axes.set_xticks(places, [str(it.seed) for it in found])
                axes.set_xlabel("Seed")
                note_in(axes, f"{mean:.4f} ± {spread:.4f} (standard deviation)", 11)
            axes.margins(y=0.3)
            axes.set_ylabel("AUC")
        return figure

    def tables(self, page: Evaluation) -> str:
        """The AUC of each training."""
        every = dict.fromkeys([*self.seeds, *self.curve])
        rows = [[str(it.seed), f"{it.events:,}", number(it.auc, 4)] for it in every]
        return table(["seed", "training events of a network", "AUC of the signal"], rows)

    @classmethod
    def answers(cls, page: Evaluation) -> Iterator[Answer]:
        """One answer about the seeds, one about the number of events, where these were varied."""
        found = page.of(cls)
        if found is None:
            return
        spread, error = found.spread, found.seeds[0].auc.error
        if spread.value is not None and spread.error is not None and error is not None:
            values = [it.auc.value for it in found.seeds if it.auc.value is not None]
            text = (
                f"AUC of {len(values)} trainings that differ in their seeds alone: mean {sum(values) / len(values):.4f}, standard "
                f"deviation {spread.value:.4f} ± {spread.error:.4f}, where the events alone give each an error of {error:.4f}."
            )
            if found.score_spread is not None:
                text += f" The score of an event changes by {found.score_spread:.3f}."
            state = "good"
            if spread.value > max(error, _MATTERS):
                state = "look"
                text += (
                    " That is more: a smaller train.learning_rate, more train.patience or more events make it steadier."
                )
            yield Answer("The same with another seed?", state, text)
        gain = found.gain
        if gain.value is not None and gain.error is not None:
            before, now = found.curve[-2].events, found.curve[-1].events
            significant, relevant = gain.value > 2 * gain.error, gain.value > _MATTERS
            text = f"From {before:,} to {now:,} training events the AUC grows by {number(gain, 4)}, which is "
            text += finding(significant, relevant, "2 standard errors", f"{_MATTERS}")
            if significant and relevant:
                state, text = "look", f"{text}: more simulation would help."
            elif relevant or (gain.error > _MATTERS and not significant):
                state, text = "open", f"{text}: these events are too few to tell."
            else:
                state, text = "good", f"{text}: the curve is flat."
            yield Answer("Would more events help?", state, text)


def repeated(training: Training, files: Sequence[Path], run: Path, wanted: RepeatRequest) -> list[RepeatedTraining]:
    """Train again on the same files; a training that is there is kept, one that was interrupted goes on.

    A NanoMLError says that the events cannot be trained on, as when a share of them leaves none of a class.
    """
    settings = replace(training.description.config, tracking=[])
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
    for i, (seed, share, value) in enumerate(todo, 1):
        what = f"seed {seed}" if share == 1 else f"{100 * share:.3g} % of the events"
        name = f"seed_{seed}" if share == 1 else f"share_{share:g}"
        if value is not None:
            what, name = f"{settings.parameter} {value:g} left out", f"without_{value:g}"
        say(f"evaluate: training {i} of {len(todo)}: {what}.")
        directory = repeats_of(run) / name
        try:
            train(files, replace(settings, seed=seed, share=share, left_out=value), directory)
        except NanoMLError as problem:
            if share == 1:
                raise
            raise NanoMLError(f"evaluate.learning_curve: with {what}: {problem}") from None
        found.append(RepeatedTraining(Training.load(directory), seed, share, value))
    return found


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
