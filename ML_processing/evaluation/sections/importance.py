"""Which inputs the networks rely on, and whether one of them gives the truth away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import InputVariable, OutOfFold, inputs_of, sampled
from ML_processing.evaluation.sections.classification import separated
from ML_processing.evaluation.sections.regression import residual_loss
from ML_processing.events.data import Table
from ML_processing.events.inputs import Inputs
from ML_processing.metrics.measured import LEFT_OUT, Measured
from ML_processing.models.hooks import first
from ML_processing.models.network import Network
from ML_processing.training.data import inputs_of as network_inputs
from ML_processing.training.directory import Training
from MLTools.NanoML.report.figures import grid, line, name_rows, shorten
from MLTools.NanoML.report.page import Answer, state_of
from MLTools.NanoML.report.section import Caption, Style

_REPEATS = 5
_FORWARD = {False: 2_000_000, True: 300_000}  # events through networks at most, without and with collections
_FEWEST, _MOST = 500, 50_000
_EXPLAINED = 2_000  # events with integrated gradients
_MOST_ROWS = 30  # inputs whose importance is drawn
_PERFECT = (0.99, 0.999)  # AUC of a class that hardly any physics reaches


@dataclass(frozen=True)
class InputImportance:
    """How much is lost without an input, or a whole collection, and the mean size of its integrated gradient."""

    name: str
    collection: bool
    loss: float | None
    error: float | None
    attribution: float | None


@section("importance", after="roc", asked_after="faults")
@dataclass(frozen=True)
class Importance(Part):
    """How important each input is."""

    caption = Caption(
        "Importance of the inputs",
        "Left: how much is lost when the values of an input are shuffled among the events (L. Breiman, 2001), or for "
        "“(all)” when the whole collection is; the error contains repetitions and statistics. Right: mean size of the "
        "input's contribution to the logarithm of the odds of signal, by integrated gradients (arXiv:1703.01365); trees have none. "
        "Inputs with the same information share their importance.",
        "One input that alone carries nearly everything: is it well modelled, and does it contain the truth? Inputs at zero "
        "on both sides can be left out.",
    )

    inputs: list[InputImportance]
    events: int
    repeats: int
    lost: str = field(default="Loss of AUC when shuffled", metadata=LEFT_OUT)  # what the loss is, on an axis

    @classmethod
    def compute(cls, of: Measurement) -> Importance:
        """Permutation importance and mean integrated gradient of every input, and of each collection as a whole.

        What is lost is AUC; in a regression it is how much the RMSE grows.
        """
        tested, loss = of.part, residual_loss if of.training.targets else _auc_loss
        inputs = inputs_of(tested.table)
        names = [it.name for it in inputs] + [name for name in tested.table.objects if name]
        share = _FORWARD[bool(tested.table.objects)] // (max(len(names), 1) * _REPEATS)
        part = tested.select(*sampled(tested.table.labels, int(np.clip(share, _FEWEST, _MOST)), tested.seed))
        by_name = {it.name: it for it in inputs}

        def scores_without(name: str, random: np.random.Generator) -> NDArray[np.generic]:
            it = by_name.get(name)
            table = shuffled(part.table, it or name, random)
            return part.training.out_of_fold(table)[1]

        lost = permutation_importance(names, scores_without, loss(part), part.seed, _REPEATS)
        explained = _attributions(tested.select(*sampled(tested.table.labels, _EXPLAINED, tested.seed)), inputs)
        rows = [
            InputImportance(name, name not in by_name, it.value, it.error, explained.get(name))
            for name, it in lost.items()
        ]
        label = "Relative growth of the RMSE" if of.training.targets else "Loss of AUC when shuffled"
        return cls(rows, len(part.table), _REPEATS, label)

    def leading(self, names: Sequence[str], most: int) -> list[int]:
        """Indices of the most important of these inputs, rising; what is no input comes before all others."""
        lost = {it.name: -np.inf if it.loss is None else it.loss for it in self.inputs}
        return sorted(sorted(range(len(names)), key=lambda i: -lost.get(names[i], np.inf))[:most])

    def draw(self, style: Style) -> Figure | None:
        """Permutation importance and integrated gradients, if there are any, side by side, the most important at the top."""
        if not self.inputs:
            return None
        rows = sorted(self.inputs, key=lambda it: -np.inf if it.loss is None else it.loss, reverse=True)
        rows = rows[:_MOST_ROWS]
        names = [shorten(style.called(it.name) + (" (all)" if it.collection else ""), 28) for it in rows]
        size, panels = (5.2, 1.2 + 0.34 * len(rows)), 1 if all(it.attribution is None for it in rows) else 2
        figure, (left, *rest) = grid(style, panels, f"{self.events:,} events", panels, size, legend=False)
        places = name_rows(left, names)
        lost, errors, gradients = np.nan_to_num(np.array([(it.loss, it.error, it.attribution) for it in rows], float)).T
        look: dict[str, Any] = {"height": 0.65, "edgecolor": "black", "linewidth": 0.6}
        bars: dict[str, object] = {"lw": 1.4, "capsize": 3}
        left.barh(places, lost, xerr=errors, color=line(0, 3)["color"], error_kw=bars, **look)
        left.axvline(0, color="black", lw=0.8)
        left.set_xlabel(self.lost)
        for right in rest:
            right.barh(name_rows(right, [""] * len(rows)), gradients, color=line(1, 3)["color"], **look)
            right.set_xlabel("Mean |integrated gradient|")
        return figure

    def answer(self, page: Evaluation) -> Answer | None:
        """Whether a class is separated so well that an input must know the truth."""
        measured = separated(page)
        if not measured:
            return None
        question = "Too good to be true?"
        known = {name: it.value for name, it in measured.auc_one_against_all.items() if it.value is not None}
        if not known:
            return Answer(question, "open", "No AUC is defined.")
        if measured.auc.baseline.value is not None:
            known[f"{measured.signal} (by the BDT)"] = measured.auc.baseline.value
        best = max(known, key=lambda name: known[name])
        text = f"The class that is separated best from all others is {best}, with an AUC of {known[best]:.4f}."
        state = state_of(known[best], _PERFECT)
        if state == "good":
            return Answer(question, state, f"{text} No class is separated suspiciously well.")
        text += " Hardly any physics separates so well."
        losses = [(it.loss, it.name) for it in self.inputs if it.loss is not None]
        if losses:
            loss, name = max(losses)
            text += f" The most important input is {name}, without which the AUC falls by {loss:.3f}."
        return Answer(question, state, f"{text} Does an input know the truth, or from which sample an event is?")


def permutation_importance(
    names: Sequence[str],
    scores_without: Callable[[str, np.random.Generator], NDArray[np.generic]],
    loss: Callable[[NDArray[np.generic]], Measured],
    seed: int,
    repeats: int = 5,
) -> dict[str, Measured]:
    """By how much a network gets worse without each of its inputs.

    L. Breiman, Machine Learning 45 (2001) 5: an input whose values are shuffled among the events carries no
    information, while its distribution stays the same.

    `scores_without` returns the scores of all events after the values of the named input were shuffled with the random
    numbers given, `loss` what is lost with such scores. The error of the mean loss contains the spread of the
    repetitions and the limited number of events.
    """
    found = {}
    for i, name in enumerate(names):
        drawn = [loss(scores_without(name, np.random.default_rng([seed, i, repeat]))) for repeat in range(repeats)]
        values = [it.value for it in drawn if it.value is not None]
        errors = [it.error for it in drawn if it.error is not None]
        if not values:
            found[name] = Measured(None, None)
            continue
        spread = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
        found[name] = Measured.of(float(np.mean(values)), float(np.sqrt(spread + np.mean(errors) ** 2)))
    return found


def shuffled(table: Table, it: InputVariable | str, random: np.random.Generator) -> Table:
    """The events with the values of one input shuffled, or with a whole collection exchanged between them, given by its name.

    Those of a collection's field are shuffled among all its objects.
    """
    if isinstance(it, str):
        values, mask = table.objects[it]
        order = random.permutation(len(table))
        return replace(table, objects={**table.objects, it: (values[order], mask[order])})
    if it.collection is None:
        features = table.features.copy()
        features[:, it.index] = random.permutation(features[:, it.index])
        return replace(table, features=features)
    values, mask = table.objects[it.collection]
    values = values.copy()
    values[mask, it.index] = random.permutation(values[mask, it.index])
    return replace(table, objects={**table.objects, it.collection: (values, mask)})


def _auc_loss(part: OutOfFold) -> Callable[[NDArray[Any]], Measured]:
    """Loss in AUC with changed scores."""
    judge, events = part.training.discriminant, (part.table.labels, part.table.weights)
    return lambda scores: judge.area_difference(part.scores, scores, *events)


def integrated_gradients(
    function: Callable[[list[Tensor]], Tensor], inputs: Sequence[Tensor], steps: int = 24
) -> list[Tensor]:
    """The contribution of each input to an output, event by event.

    M. Sundararajan, A. Taly, Q. Yan, ICML 2017 (arXiv:1703.01365): the gradient along the straight line from 0, the
    centre of the scaled inputs, to the event, times its distance. The contributions of an event sum to the
    difference of the output between the two ends.

    `function` takes tensors like `inputs`, each of shape (N, ...), and gives an output of shape (N,); `steps` is the
    number of points on the line, in the middles of equal parts. Returns tensors like `inputs`.
    """
    sums = [torch.zeros_like(tensor) for tensor in inputs]
    for step in range(steps):
        share = (step + 0.5) / steps
        points = [(tensor.detach() * share).requires_grad_() for tensor in inputs]
        gradients = torch.autograd.grad(function(points).sum(), points, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total += gradient
    return [tensor.detach() * total / steps for tensor, total in zip(inputs, sums, strict=True)]


def _attributions(tested: OutOfFold, inputs: list[InputVariable]) -> dict[str, float]:
    """Mean over the events of |integrated gradient| of each input; a field is summed over the objects. Trees have no gradient."""
    table, training = tested.table, tested.training
    if training.is_boosted:
        return {}
    fold = table.folds(training.description.folds.k)
    sums, total = dict.fromkeys((it.name for it in inputs), 0.0), 0.0
    for i, network in enumerate(training.networks):
        rows = np.flatnonzero(fold == i)
        if not rows.size:
            continue
        part = table[rows]
        weights = torch.from_numpy(np.abs(part.weights)).double()
        total += float(weights.sum())
        what = f"gradients of {'targets' if training.targets else training.discriminant}"
        found = training.once(what, network, network_inputs(part), partial(_gradients, network, part, training))
        for it, of_events in zip(inputs, found.T, strict=True):
            sums[it.name] += float((weights * torch.from_numpy(of_events).double()).sum())
    return {name: value / total for name, value in sums.items()} if total > 0 else {}


def _gradients(network: Network, table: Table, training: Training) -> NDArray[np.float32]:
    """|Integrated gradient| of each input in each event, (N, inputs)."""
    with torch.no_grad():
        scaled = network.scaling(network_inputs(table))
    names = list(scaled.objects)

    def output(tensors: list[Tensor]) -> Tensor:
        inside = {
            name: scaled.objects[name]._replace(values=values) for name, values in zip(names, tensors[1:], strict=True)
        }
        found = first(network.core(Inputs(tensors[0], inside)))
        if training.targets:
            return found.sum(dim=1)
        return training.discriminant.log_odds(found)

    network.eval()
    tensors = [scaled.features, *(scaled.objects[name].values for name in names)]
    parts = [tensor.abs() for tensor in integrated_gradients(output, tensors)]
    by_collection = dict(zip(names, parts[1:], strict=True))
    found = [
        parts[0][:, it.index] if it.collection is None else by_collection[it.collection][:, :, it.index].sum(dim=1)
        for it in inputs_of(table)
    ]
    return torch.stack(found, dim=1).numpy()
