"""Faults of the events, copies in several folds and values that stand for none; losses; and what training on the result of a fit gained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import OutOfFold, inputs_of, sampled
from ML_processing.events.data import Table
from ML_processing.models.scaling import sentinels, spikes
from ML_processing.training.description import Epoch, best_epoch
from ML_processing.training.loss_figure import losses
from ML_processing.training.result_training import FEWEST, Gain
from MLTools.NanoML.errors import listed
from MLTools.NanoML.nanoaod.folds import mixed
from MLTools.NanoML.report.page import Answer, state_of
from MLTools.NanoML.report.section import Caption, Style
from MLTools.NanoML.schema.plain import build

_COPIES = (0.001, 0.01)  # of the events of a class
_FEWEST = 10  # copies: a few may be alike by chance
_LEAK = 0.99  # AUC of trees that hardly any physics reaches
_UNLIKE = 0.1  # difference between classes in the share of one value
_SAMPLE = 50_000  # events in which values are counted
_TELLING = 8  # inputs by which events are compared, those with the most values
_ALIKE, _CELLS = 20, 300  # events; cells of an input
_LISTED = 3
_MEANING = (
    "Networks are tested on what they were trained on, so no number here can be trusted. Is a sample there twice, with other event "
    "numbers? Take the copies out, and train again."
)


@dataclass(frozen=True)
class Copies:
    """The events of a class, and those with exactly the inputs of an event in another fold, or there in another class."""

    name: str
    events: int
    copies: int
    of_another_class: int


@dataclass(frozen=True)
class Default:
    """A value that is suspiciously frequent: its share in each class; whether it lies far from all others and yet counts."""

    name: str
    value: float
    shares: dict[str, float]
    far: bool

    @property
    def text(self) -> str:
        """It in words."""
        low, high = (choose(self.shares, key=lambda it: self.shares[it]) for choose in (min, max))
        start = f"{self.name} is exactly {self.value:g} in {self.shares[high]:.0%}"
        return f"{start} of {high} and {self.shares[low]:.0%} of {low}" + (", far from all else" if self.far else "")


@section("faults", place="last", after="", asked_after="regression")
@dataclass(frozen=True)
class Faults(Part):
    """Faults of events, whatever is trained on them."""

    classes: list[Copies]
    defaults: list[Default]

    @classmethod
    def compute(cls, of: Measurement) -> Faults:
        """Copies among all events, and values among some."""
        table, names = of.table, of.table.classes
        copied, other = copies(table, table.folds(of.training.description.folds.k))
        counts = (np.bincount(table.labels[rows], minlength=len(names)).tolist() for rows in (..., copied, other))
        found = [Copies(name, *numbers) for name, *numbers in zip(names, *counts, strict=True)]
        return cls(found, _defaults(of.part.select(*sampled(of.part.table.labels, _SAMPLE, of.tested.seed))))

    @property
    def of_copies(self) -> tuple[Copies, str]:
        """The class with the largest share of copies, and the state of the answer."""
        worst = max(self.classes, key=lambda it: it.copies / max(it.events, 1))
        return worst, "good" if worst.copies < _FEWEST else state_of(worst.copies / worst.events, _COPIES)

    @property
    def doubts(self) -> list[str]:
        """Points to see to before anything else is blamed for a bad result."""
        worst, state = self.of_copies
        copied = f"{worst.copies:,} copies among the {worst.events:,} events of {worst.name}"
        return [*(it.text for it in self.defaults[:_LISTED]), *([copied] if state != "good" else [])]

    def answers(self, page: Evaluation) -> Iterator[Answer]:
        """Whether there are copies, and values that stand for none."""
        it, state = self.of_copies
        text = f"{it.copies:,} of {it.events:,} events of {it.name} have exactly the inputs of an event in another fold"
        text += f", {it.of_another_class:,} of them of one in another class" if it.of_another_class else ""
        meaning = "No class has more." if state == "good" else _MEANING
        yield Answer("Duplicate events?", state, f"{text}. {meaning}")
        if not self.defaults:
            yield Answer("Default values?", "good", "No value of an input is suspiciously frequent in one class.")
            return
        listed, first = "; ".join(it.text for it in self.defaults[:_LISTED]), self.defaults[0]
        ways = (
            f'If the value stands for none, name it in "missing: {{{first.name}: {first.value:g}}}" of `convert`; if it is a value like '
            f'others, say so by "missing: {{{first.name}: []}}"; if only one sample has it, correct that sample.'
        )
        yield Answer("Default values?", "look", f"{listed}. This alone tells classes apart, or spoils a scale. {ways}")


def advice(page: Evaluation, by_trees: float) -> str:
    """Advice on a poor network, beside trees with this AUC: first the events, then the length of the training, then its settings."""
    faults, losses = page.of(Faults), page.of(Losses)
    first = faults.doubts if faults else []
    if by_trees > _LEAK:
        first = [*first, f"an input that may know the truth (AUC of the BDT {by_trees:.3f})"]
    then = "try another train.learning_rate, a smaller train.batch_size or more train.epochs"
    if losses and losses.unfinished:
        count = f"{losses.unfinished} of {len(losses.histories)}"
        then = f"{count} networks were at their best in their last epoch, so a larger train.epochs should improve them"
    if first:
        return f"First see to {'; '.join(first)}. If it stays worse: {then}."
    return f"No duplicates, default values or leaks are to blame. Look at the loss below: {then}."


def copies(table: Table, fold: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which events have exactly the inputs of an event in another fold, and for which of them that is of another class.

    Where inputs are few, discrete or rounded, events are alike by chance. If four neighbouring values of each input, or as many as 0.3 % of
    the events have, are taken for one, chance makes four times as many pairs or more, but copies no more. More than `_ALIKE` events
    that are alike lack something, such as all jets.
    """
    columns = [*table.features.T[: -1 if table.about.parameter else None]]
    columns += [values[:, 0, i] for values, _ in table.objects.values() for i in range(values.shape[2])]
    columns.sort(key=lambda it: -len(np.unique(it[:: max(len(it) // 10_000, 1)])))
    fine: NDArray[np.uint64] = np.zeros(len(table), np.uint64)
    coarse: NDArray[np.uint64] = fine
    for values in columns[:_TELLING]:
        _, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
        below, each = np.cumsum(counts) - counts, np.arange(len(counts))
        cell = below[each - each % 4] * _CELLS // len(values)
        fine, coarse = mixed(fine, 0, rank), mixed(coarse, 0, cell[rank])
    alike = _alike(fine)
    few = alike <= _ALIKE
    by_chance = (_alike(coarse) - alike)[few].sum() / 3
    copied = few & (_alike(mixed(fine, 0, fold)) < alike) & (by_chance < (alike[few] - 1).sum() / 2)
    return copied, copied & (_alike(mixed(fine, 0, table.labels)) < alike)


def _alike(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many events have the hash of each."""
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    found: NDArray[np.int64] = counts[which]
    return found


def _defaults(tested: OutOfFold) -> list[Default]:
    """The values that lie far from all others, and those that are frequent in one class and not in another; the worst first."""
    table, training, found = tested.table, tested.training, []
    for it in inputs_of(table):
        if it.name == table.about.parameter or table.about.named.get(it.name) == ():
            continue
        values, rows = it.values(table)
        known, labels = np.isfinite(values), table.labels[rows]
        counts, finite = np.bincount(labels, minlength=len(table.classes)), values[known].astype(np.float64)
        far = {} if training.is_boosted else dict.fromkeys(_far(finite), True)
        candidates = far | dict.fromkeys(spikes(finite), False)
        for i in range(len(table.classes)):
            candidates = dict.fromkeys(spikes(finite[labels[known] == i]), False) | candidates
        for value, is_far in candidates.items():
            if value in training.sentinels.get(it.name, []):
                continue
            shares = np.bincount(labels[values == np.float32(value)], minlength=len(counts)) / np.maximum(counts, 1)
            if is_far or np.ptp(shares) > _UNLIKE:
                of_class = dict(zip(table.classes, shares.tolist(), strict=True))
                found.append(Default(it.name, value, of_class, is_far))
    return sorted(found, key=lambda it: (not it.far, min(it.shares.values()) - max(it.shares.values())))


def _far(values: NDArray[Any]) -> list[float]:
    """The ends of a spectrum that lie far from all else, also from a few whole numbers, and are frequent."""
    ends, (different, counts) = [*sentinels(values)], np.unique(values, return_counts=True)
    for x, number in ((different, counts), (-different[::-1], counts[::-1])):
        if len(x) > 2 and x[1] - x[0] > 5 * (x[-1] - x[1]) and number[0] > 0.01 * len(values):
            ends.append(float(x[0] if x is different else -x[0]))
    return [end for end in dict.fromkeys(ends) if np.isfinite(end)]


@section("loss", place="", after="faults")
@dataclass(frozen=True)
class Losses(Part):
    """All epochs of each network, which are rounds if it `is_boosted`; they are in the directory of the training."""

    caption = Caption(
        "Loss",
        "Smaller is better; solid lines are events that only decide when to stop, dashed ones those of the training, "
        "and a dot marks the epoch, or round of trees, that was kept. Both should fall and flatten.",
        "Solid lines that rise far above the dashed ones before the dot, lines that still fall at the end (a larger train.epochs "
        "would help), or one fold far from the others.",
        is_small=True,
    )

    histories: list[list[Epoch]]
    is_boosted: bool

    @property
    def unfinished(self) -> int:
        """How many networks were at their best in their last epoch."""
        return sum(best_epoch(history) == history[-1] for history in self.histories)

    @classmethod
    def compute(cls, of: Measurement) -> Losses:
        """The losses of the training."""
        return cls(of.training.histories, of.training.is_boosted)

    def draw(self, style: Style) -> Figure:
        """Training and validation loss of each network."""
        return losses(style, self.histories, self.is_boosted)


@section("gain", only="classification", place="last", after="loss", asked_after="separation")
@dataclass(frozen=True)
class ResultGain(Part):
    """The expected uncertainty by the fit before and after, with the weights that the events had in the training."""

    gain: Gain

    @classmethod
    def compute(cls, of: Measurement) -> ResultGain | None:
        """None if the objective was another."""
        found = (of.training.description.metrics or {}).get("result")
        return None if found is None else cls(build(Gain, found))

    def answer(self, page: Evaluation) -> Answer | None:
        """By the sign of the change, if there are enough events."""
        gain, text = self.gain, self.gain.text
        few = [f"{name} ({count:,})" for name, count in gain.events.items() if count < FEWEST]
        if few:
            text += f" {listed(few)}: with fewer than {FEWEST:,} events in the channels of the fit, networks learn fluctuations."
        if not gain.is_kept:
            text += " Remove train.objective: it costs time and changes nothing."
        state = "good" if gain.is_kept and not few else "look"
        return Answer("Better by training on the result?", state, text[0].upper() + text[1:], "#loss")
