"""What the numbers of an evaluation mean, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ML_processing.evaluation.classification import Calibration, Classification, ClassificationPlots, Overtraining
from ML_processing.evaluation.cuts import SculptedMasses
from ML_processing.evaluation.inputs import Drift
from ML_processing.evaluation.regression import Accuracy, Regression, RegressionPlots
from ML_processing.evaluation.scored import Areas
from ML_processing.evaluation.systematics.variations import Change, Variations
from ML_processing.plots import number, per_cent

_MATTERS = 0.005  # a difference in AUC that a physicist would care about, however small its error
_GAP = 0.01  # the same, for training events against others
_CHANCE = 0.01  # below this probability it is not chance
_DEVIATION = 0.05  # between probabilities and observed fractions
_FEW = 100  # effective events of a class
_SHAPE = 0.02  # a Jensen-Shannon divergence that can be seen by eye, in bits
_EXCESS = 5  # standard deviations beyond chance
_YIELD = (0.1, 0.3)  # relative change of the expected events of a class
_AREA = (0.01, 0.05)  # relative change of the AUC
_ONE_SIDED = 0.005  # change of the expected events to the same side by both
_MEAN = (0.2, 0.5)  # distance of the mean of a weight from one
_SHIFT = (0.1, 0.25)  # customary limits of the population stability index


@dataclass(frozen=True)
class Answer:
    """An answer to a question; its state is "good", "look" (at the plots) or "bad"."""

    question: str
    state: str
    text: str


def verdict(
    measured: Classification | Regression,
    effective: Mapping[str, float],
    plots: ClassificationPlots | RegressionPlots,
    drift: Drift | None = None,
    varied: Variations | None = None,
) -> list[Answer]:
    """Answers to what one wants to know about a training; `effective` are numbers of events by class."""
    sound = _sound(effective)
    if isinstance(measured, Regression):
        found = [_targets(measured.targets), sound]
    elif measured.auc.network.value is None:
        text = "No AUC is defined: the weights of the signal or of the background have no positive sum."
        found = [Answer("Better than a BDT?", "bad", text), sound]
    else:
        assert isinstance(plots, ClassificationPlots)
        found = [
            _comparison(measured.auc),
            _overtraining(measured.overtraining, measured.auc),
            _calibration(plots.calibration),
            _sculpting(plots.sculpting),
            sound,
        ]
    return [*found, *([_variations(varied)] if varied else []), *([_drift(drift)] if drift else [])]


def _comparison(found: Areas) -> Answer:
    difference, error = found.difference.value, found.difference.error
    assert difference is not None
    assert error is not None
    threshold, state = max(2 * error, _MATTERS), "good"
    if difference < -threshold:
        state = "bad"
        text = (
            "The network is worse: it has not learned everything. Look at the loss below; try another "
            "train.learning_rate, a smaller train.batch_size or more train.epochs."
        )
    elif difference > threshold:
        text = "The network is better."
    else:
        text = "They agree: the network has learned what a BDT can learn from these inputs."
    sentence = f"AUC of the network {number(found.network)}, of a BDT {number(found.baseline)}. {text}"
    return Answer("Better than a BDT?", state, sentence)


def _overtraining(checked: Overtraining, found: Areas) -> Answer:
    question, fitted, area = "Overtrained?", checked.auc_on_training_events, found.network
    if fitted is None:
        return Answer(question, "look", "No AUC is defined for the events of the training.")
    assert area.value is not None
    assert area.error is not None
    gap = fitted - area.value
    differing = [
        name
        for name, tests in checked.kolmogorov_smirnov.items()
        if tests.probability is not None and tests.probability < _CHANCE
    ]
    start = f"On the events that it was trained on, the network's AUC is {fitted:.3f}, "
    if gap > max(3 * area.error, _GAP):
        text = (
            f"{gap:.3f} more than on the others: it has learned some events by heart. More events would help, or a "
            "larger train.options.dropout, or smaller train.options.hidden. The numbers here remain valid: they are "
            "from other events."
        )
        return Answer(question, "bad", start + text)
    text = "close to that on the others: overtraining is small, if there is any."
    if differing:
        text += (
            f" But the scores of {', '.join(differing)} differ between the two by more than chance (Kolmogorov-Smirnov "
            "probability below 1 %)."
        )
        return Answer(question, "look", start + text)
    return Answer(question, "good", start + text)


def _calibration(content: Calibration | None) -> Answer:
    question = "Calibrated?"
    if not content:
        text = "Calibration is not defined: a class has no positive sum of weights."
        return Answer(question, "look", text)
    worst = max(content.classes, key=lambda it: it.curve.expected_calibration_error - it.curve.by_chance)
    deviation, chance = worst.curve.expected_calibration_error, worst.curve.by_chance
    numbers = f"{deviation:.3f} off on average for {worst.name}, where chance alone gives {chance:.3f}"
    if deviation < max(2 * chance, _DEVIATION / 5):
        return Answer(question, "good", f"The probabilities are reliable: {numbers}.")
    text = f"The probabilities are {numbers}: use them as a score to cut on, not as the odds of a single event."
    return Answer(question, "look" if deviation < _DEVIATION else "bad", text)


def _sculpting(content: SculptedMasses | None) -> Answer:
    question = "Does a cut sculpt the mass?"
    if not content:
        return Answer(question, "good", "No input is a mass by its name, so nothing was tested.")
    cuts = [(panel, it.sculpting) for panel in content.panels for it in panel.after]
    cuts = [(panel, it) for panel, it in cuts if (it.standard_deviations or 0) > _EXCESS]
    if not cuts:
        text = "Cuts on the score change the shapes of the masses no more than chance would."
        return Answer(question, "good", text)
    panel, worst = max(cuts, key=lambda it: it[1].jensen_shannon or 0)
    divergence = worst.jensen_shannon or 0
    text = (
        f"Most of all {panel.feature} of {panel.background}: Jensen-Shannon divergence {divergence:.3f} between events "
        f"that pass and those that fail, where chance gives {worst.by_chance:.3f}."
    )
    if divergence < _SHAPE:
        return Answer(question, "good", f"Hardly. {text}")
    text += (
        " That matters if the background is taken from that mass's sidebands: then leave the mass out, or name it in "
        "train.decorrelate."
    )
    return Answer(question, "look", text)


def _sound(effective: Mapping[str, float]) -> Answer:
    question, few = "Enough events?", [name for name, number in effective.items() if number < _FEW]
    listed = ", ".join(f"{name} {number:,.0f}" for name, number in effective.items())
    text = f"Effective numbers of events, (sum of w)² / sum of w²: {listed}."
    if few:
        return Answer(question, "look", f"{text} That is few for {', '.join(few)}: mind the errors.")
    return Answer(question, "good", text)


def _variations(content: Variations) -> Answer:
    worries: list[tuple[str, str]] = []
    yields = [(it.of.name, name, change) for it in content.sources for name, change in it.of.yields.items()]
    source, name, change = max(yields, key=lambda it: it[2].size)
    text = f"Largest change of the expected events: {source}, {_percentages(change)} of {name}"
    worries.append(
        (_state(change.size, _YIELD), "Such an uncertainty on the number of events may well limit the analysis.")
    )
    areas = [(it.of.name, it.auc) for it in content.sources if it.auc is not None]
    if areas:
        source, change = max(areas, key=lambda it: it[1].size)
        text += f"; of the AUC: {source}, {_percentages(change)}"
        worries.append((_state(change.size, _AREA), "The separation depends on a weight: look at the shapes below."))
    sided = dict.fromkeys(source for source, _, change in yields if change.same_side > _ONE_SIDED)
    if sided:
        sentence = f"Up and down change the events of a class to the same side: {', '.join(sided)}. Fits expect opposite sides."
        worries.append(("look", sentence))
    for it in content.means:
        sentence = (
            f"The weight {it.weight} ({it.variation}) has the mean {it.mean:.3g} in {it.dataset} and is not normalised: "
            "if it must not change the number of events, declare it with keeps_yield."
        )
        worries.append((_state(abs(it.mean - 1), _MEAN), sentence))
    states = {state for state, _ in worries}
    state = next(each for each in ("bad", "look", "good") if each in states)
    sentences = [f"{text}.", *(sentence for each, sentence in worries if each != "good")]
    return Answer("Stable under the variations of weights?", state, " ".join(sentences))


def _state(size: float, limits: tuple[float, float]) -> str:
    return "bad" if size > limits[1] else "look" if size > limits[0] else "good"


def _percentages(change: Change) -> str:
    return per_cent(change.up, change.down, unit=" %")


def _drift(content: Drift) -> Answer:
    question = "Like the compared files?"
    known = [(it, it.stability_index) for it in content.panels if it.stability_index is not None]
    if not known:
        return Answer(question, "look", "No feature could be compared.")
    worst, largest = known[0]
    shifted = [it.name for it, index in known if index > _SHIFT[0]]
    text = (
        f"Largest difference: {worst.name}, population stability index {largest:.3f}, Kolmogorov-Smirnov distance "
        f"{worst.test.distance:.3f}."
    )
    if not shifted:
        return Answer(question, "good", f"{text} That is small.")
    text += f" Shifted (above 0.1): {', '.join(shifted)}. The network may do worse on those events."
    return Answer(question, "bad" if largest > _SHIFT[1] else "look", text)


def _targets(targets: Mapping[str, Accuracy]) -> Answer:
    texts, state = [], "good"
    for name, entry in targets.items():
        ours, theirs = number(entry.network.resolution), number(entry.baseline.resolution)
        texts.append(f"{name}: resolution of the network {ours}, of a BDT {theirs}")
        gain = entry.gain_in_rmse
        if gain.value is not None and gain.error is not None and gain.value < -2 * gain.error:
            state = "bad"
            texts[-1] += "; its RMSE is worse than that of the BDT"
    return Answer("Better than a BDT?", state, "; ".join(texts) + ".")
