"""What the numbers of an evaluation mean, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ML_processing.metrics.measured import Measured
from ML_processing.plots import number

_MATTERS = 0.005  # a difference in AUC that a physicist would care about, however small its error
_GAP = 0.01  # the same, for training events against others
_CHANCE = 0.01  # below this probability it is not chance
_DEVIATION = 0.05  # between probabilities and observed fractions
_FEW = 100  # effective events of a class
_SHAPE = 0.02  # a Jensen-Shannon divergence that can be seen by eye, in bits
_EXCESS = 5  # standard deviations beyond chance
_SHIFT = (0.1, 0.25)  # customary limits of the population stability index


@dataclass(frozen=True)
class Answer:
    """An answer to a question; its state is "good", "look" (at the plots) or "bad"."""

    question: str
    state: str
    text: str


def verdict(content: dict[str, Any]) -> list[Answer]:
    """Answers to what one wants to know about a training, from the content of metrics.json."""
    sound, plots = _sound(content["events"]["classes"]), content["plots"]
    if content["task"] == "regression":
        found = [_targets(content["targets"]), sound]
    elif content["auc"]["network"] is None:
        text = "No AUC is defined: the weights of the signal or of the background have no positive sum."
        found = [Answer("Better than a BDT?", "bad", text), sound]
    else:
        found = [
            _comparison(content["auc"]),
            _overtraining(content["overtraining"], content["auc"]),
            _calibration(plots.get("calibration")),
            _sculpting(plots.get("sculpting")),
            sound,
        ]
    return found + ([_drift(plots["drift"])] if plots.get("drift") else [])


def _comparison(found: dict[str, float]) -> Answer:
    ours, theirs = (number(Measured(found[of], found[f"{of}_error"])) for of in ("network", "baseline"))
    threshold = max(2 * found["difference_error"], _MATTERS)
    state = "good"
    if found["difference"] < -threshold:
        state = "bad"
        text = (
            "The network is worse: it has not learned everything. Look at the loss below; try another "
            "train.learning_rate, a smaller train.batch_size or more train.epochs."
        )
    elif found["difference"] > threshold:
        text = "The network is better."
    else:
        text = "They agree: the network has learned what a BDT can learn from these inputs."
    sentence = f"AUC of the network {ours}, of a BDT {theirs}. {text}"
    return Answer("Better than a BDT?", state, sentence)


def _overtraining(checked: dict[str, Any], found: dict[str, float]) -> Answer:
    question, fitted = "Overtrained?", checked["auc_on_training_events"]
    if fitted is None:
        return Answer(question, "look", "No AUC is defined for the events of the training.")
    gap = fitted - found["network"]
    differing = [
        name
        for name, entry in checked["kolmogorov_smirnov"].items()
        if entry["probability"] is not None and entry["probability"] < _CHANCE
    ]
    start = f"On the events that it was trained on, the network's AUC is {fitted:.3f}, "
    if gap > max(3 * found["network_error"], _GAP):
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


def _calibration(content: dict[str, Any] | None) -> Answer:
    question = "Calibrated?"
    if not content:
        text = "Calibration is not defined: a class has no positive sum of weights."
        return Answer(question, "look", text)
    worst = max(content["classes"], key=lambda it: it["expected_calibration_error"] - it["by_chance"])
    deviation, chance = worst["expected_calibration_error"], worst["by_chance"]
    numbers = f"{deviation:.3f} off on average for {worst['name']}, where chance alone gives {chance:.3f}"
    if deviation < max(2 * chance, _DEVIATION / 5):
        return Answer(question, "good", f"The probabilities are reliable: {numbers}.")
    text = f"The probabilities are {numbers}: use them as a score to cut on, not as the odds of a single event."
    return Answer(question, "look" if deviation < _DEVIATION else "bad", text)


def _sculpting(content: dict[str, Any] | None) -> Answer:
    question = "Does a cut sculpt the mass?"
    if not content:
        return Answer(question, "good", "No input is a mass by its name, so nothing was tested.")
    cuts = [(panel, it) for panel in content["panels"] for it in panel["after"]]
    cuts = [(panel, it) for panel, it in cuts if (it["standard_deviations"] or 0) > _EXCESS]
    if not cuts:
        text = "Cuts on the score change the shapes of the masses no more than chance would."
        return Answer(question, "good", text)
    panel, worst = max(cuts, key=lambda it: it[1]["jensen_shannon"])
    text = (
        f"Most of all {panel['feature']} of {panel['background']}: Jensen-Shannon divergence "
        f"{worst['jensen_shannon']:.3f} between events that pass and those that fail, where chance gives "
        f"{worst['by_chance']:.3f}."
    )
    if worst["jensen_shannon"] < _SHAPE:
        return Answer(question, "good", f"Hardly. {text}")
    text += (
        " That matters if the background is taken from that mass's sidebands: then leave the mass out, or name it in "
        "train.decorrelate."
    )
    return Answer(question, "look", text)


def _sound(classes: dict[str, dict[str, float]]) -> Answer:
    question = "Enough events?"
    few = {name: entry["effective"] for name, entry in classes.items() if entry["effective"] < _FEW}
    listed = ", ".join(f"{name} {entry['effective']:,.0f}" for name, entry in classes.items())
    text = f"Effective numbers of events, (sum of w)² / sum of w²: {listed}."
    if few:
        return Answer(question, "look", f"{text} That is few for {', '.join(few)}: mind the errors.")
    return Answer(question, "good", text)


def _drift(content: dict[str, Any]) -> Answer:
    question, panels = "Like the compared files?", content["panels"]
    known = [it for it in panels if it["stability_index"] is not None]
    if not known:
        return Answer(question, "look", "No feature could be compared.")
    worst = known[0]
    shifted = [it["name"] for it in known if it["stability_index"] > _SHIFT[0]]
    text = (
        f"Largest difference: {worst['name']}, population stability index {worst['stability_index']:.3f}, "
        f"Kolmogorov-Smirnov distance {worst['distance']:.3f}."
    )
    if not shifted:
        return Answer(question, "good", f"{text} That is small.")
    text += f" Shifted (above 0.1): {', '.join(shifted)}. The network may do worse on those events."
    return Answer(question, "bad" if worst["stability_index"] > _SHIFT[1] else "look", text)


def _targets(targets: dict[str, Any]) -> Answer:
    texts, state = [], "good"
    for name, entry in targets.items():
        ours, theirs = (number(Measured(**entry[of]["resolution"]), 3) for of in ("network", "baseline"))
        texts.append(f"{name}: resolution of the network {ours}, of a BDT {theirs}")
        gain = entry["gain_in_rmse"]
        if gain["value"] is not None and gain["value"] < -2 * gain["error"]:
            state = "bad"
            texts[-1] += "; its RMSE is worse than that of the BDT"
    return Answer("Better than a BDT?", state, "; ".join(texts) + ".")
