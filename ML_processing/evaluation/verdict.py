"""What the numbers of an evaluation mean, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ML_processing.evaluation.classification import Calibration, Classification, ClassificationPlots, Overtraining
from ML_processing.evaluation.cuts import SculptedMass, SculptedMasses
from ML_processing.evaluation.importance import Importance
from ML_processing.evaluation.inputs import Drift
from ML_processing.evaluation.regression import Accuracy, Regression, RegressionPlots
from ML_processing.evaluation.scored import Areas
from ML_processing.evaluation.systematics.variations import Change, Variations
from ML_processing.metrics.distances import bonferroni
from ML_processing.metrics.measured import number, per_cent
from MLTools.NanoML.report.page import Answer, state_of

_MATTERS = 0.005  # a difference in AUC that a physicist would care about, however small its error
_WORSE = 0.01  # the same, for the relative change of an RMSE
_GAP = 0.01  # the same, for training events against others
_CHANCE = 0.01  # below this probability it is not chance
_DISTANCE = 0.02  # of Kolmogorov-Smirnov: no cut on the score has an efficiency that differs by more
_OFF = (0.01, 0.05)  # between probabilities and observed fractions
_FEW, _FEWEST = 100, 50  # effective events of a class: with fewer than the second nothing is fine
_PERFECT = (0.99, 0.999)  # AUC of a class that hardly any physics reaches
_SHAPE = 0.02  # a Jensen-Shannon divergence that can be seen by eye, in bits
_EXCESS = 5  # standard deviations beyond chance
_YIELD = (0.1, 0.3)  # relative change of the expected events of a class
_AREA = (0.01, 0.05)  # relative change of the AUC
_ONE_SIDED = 0.005  # change of the expected events to the same side by both
_MEAN = (0.2, 0.5)  # distance of the mean of a weight from one
_SHIFT = (0.1, 0.25)  # customary limits of the population stability index
_DECILES = 10  # in which that index is measured


def verdict(
    measured: Classification | Regression,
    effective: Mapping[str, float],
    plots: ClassificationPlots | RegressionPlots,
    importance: Importance | None = None,
    drift: Drift | None = None,
    varied: Variations | None = None,
    others: Iterable[Answer] = (),
) -> list[Answer]:
    """Answers to what one wants to know about a training, with `others`: none is good with too few `effective` events."""
    if isinstance(measured, Regression):
        found = [_targets(measured.targets)] if measured.baseline else []
    elif measured.auc.network.value is None:
        text = "No AUC is defined: the weights of the signal or of the background have no positive sum."
        found = [Answer("Separated?", "bad", text)]
    else:
        assert isinstance(plots, ClassificationPlots)
        found = [
            *([_comparison(measured.auc)] if measured.baseline else []),
            _overtraining(measured.overtraining, measured.auc.network.error),
            _calibration(plots.calibration),
            _sculpting(plots.sculpting),
            _perfection(measured, importance),
        ]
    found += [*([_variations(varied)] if varied else []), *([_drift(drift)] if drift else []), *others]
    return [*(_with_enough_events(it, effective) for it in found), _sound(effective)]


def _with_enough_events(answer: Answer, effective: Mapping[str, float]) -> Answer:
    """An answer that is good only if every class has enough events for it."""
    few = too_few(effective)
    if answer.state != "good" or not few:
        return answer
    return replace(answer, state="open", text=f"{answer.text} But there are too few events for an answer: {few}.")


def too_few(effective: Mapping[str, float]) -> str:
    """The classes that have too few effective events for any conclusion, and how many they have."""
    few = {name: number for name, number in effective.items() if number < _FEWEST}
    return ", ".join(f"{name} has {number:,.0f} of at least {_FEWEST} effective events" for name, number in few.items())


def finding(significant: bool, relevant: bool, chance: str, tolerance: str) -> str:
    """Whether a difference is more than chance, and more than matters: many events show differences that do not."""
    real, large = f"significant (limit: {chance})", f"relevant (limit: {tolerance})"
    if significant:
        return f"{real} and {large}" if relevant else f"{real}, but not {large}"
    return f"{large}, but not {real}" if relevant else f"neither {real} nor {large}"


def _comparison(found: Areas) -> Answer:
    difference, error = found.difference.value, found.difference.error
    assert difference is not None
    assert error is not None
    significant, relevant, state = abs(difference) > 2 * error, abs(difference) > _MATTERS, "good"
    if significant and difference < 0:
        state, text = "good", "The network is worse, but by too little to matter."
        if relevant:
            state = "bad"
            text = (
                "The network is worse: it has not learned everything. Look at the loss below; try another "
                "train.learning_rate, a smaller train.batch_size or more train.epochs."
            )
    elif significant:
        text = "The network is better." if relevant else "The network is better, but by too little to matter."
    elif difference < -_MATTERS:
        state, text = "look", "The network may be worse: more events would tell."
    elif error > _MATTERS:
        state, text = "open", "These events are too few to tell."
    elif relevant:
        text = "The network may be better: more events would tell."
    else:
        text = "They agree: the network has learned what a BDT can learn from these inputs."
    remark = finding(significant, relevant, "2 standard errors", f"{_MATTERS}")
    sentence = f"AUC of the network {number(found.network)}, of a BDT {number(found.baseline)}."
    sentence += f" The difference, {difference:+.3f} ± {error:.3f}, is {remark}. {text}"
    return Answer("Better than a BDT?", state, sentence)


def _overtraining(checked: Overtraining, error: float | None) -> Answer:
    """By the AUC of each network: that of all events together is also smaller where the networks have different scales."""
    question, fitted, others = "Overtrained?", checked.auc_on_training_events, checked.auc_on_test_events
    if fitted is None or others is None or error is None:
        return Answer(question, "open", "No AUC is defined for the events of the training.")
    gap = fitted - others
    significant, relevant = gap > 3 * error, gap > _GAP
    remark = finding(significant, relevant, f"3 standard errors of {error:.3f}", f"{_GAP}")
    start = (
        f"On the events that it was trained on, a network's AUC is {fitted:.3f}; on those of its test {others:.3f}. "
    )
    start += f"The difference, {gap:+.3f}, is {remark}"
    if significant and relevant:
        text = (
            ": it has learned some events by heart. More events would help, or a smaller model, by train.options. The numbers "
            "here remain valid: they are from other events."
        )
        return Answer(question, "bad", start + text)
    if relevant:
        return Answer(question, "look", f"{start}: it may have learned some events by heart; more events would tell.")
    state, text = "good", ": overtraining is small, if there is any."
    if 3 * error > 2 * _GAP and not significant:
        state, text = "open", ": these events are too few to tell."
    differing, harmless = _differing_scores(checked)
    if harmless:
        text += (
            f" The scores of {', '.join(harmless)} differ significantly between the two (Kolmogorov-Smirnov probability "
            f"below 1 %), but the efficiency of no cut differs by more than {_DISTANCE:.0%}."
        )
    if differing:
        state = "look"
        text += (
            f" But the scores of {', '.join(differing)} differ between the two by more than chance (Kolmogorov-Smirnov "
            f"probability below 1 %), and the efficiency of some cuts by more than {_DISTANCE:.0%}."
        )
    return Answer(question, state, start + text)


def _differing_scores(checked: Overtraining) -> tuple[list[str], list[str]]:
    """The classes whose scores differ significantly between training and test: by what matters, and by less."""
    found: tuple[list[str], list[str]] = [], []
    for name, tests in checked.kolmogorov_smirnov.items():
        if tests.probability is not None and tests.probability < _CHANCE:
            least = min(tests.networks, key=lambda it: 1 if it.probability is None else it.probability)
            found[(least.distance or 0) <= _DISTANCE].append(name)
    return found


def _calibration(content: Calibration | None) -> Answer:
    question = "Calibrated?"
    if not content:
        text = "Calibration is not defined: a class has no positive sum of weights."
        return Answer(question, "open", text)
    worst = max(content.classes, key=lambda it: it.curve.expected_calibration_error - it.curve.by_chance)
    deviation, chance = worst.curve.expected_calibration_error, worst.curve.by_chance
    significant, relevant = deviation > 2 * chance, deviation - chance > _OFF[0]
    remark = finding(significant, relevant, "twice chance", f"{_OFF[0]} beyond chance")
    names = [it.name for it in content.classes]
    text = (
        f"Where {', '.join(names[:-1])} and {names[-1]} are equally frequent, as in the training, the probabilities of "
        f"{worst.name} are {deviation:.3f} off on average; chance alone gives {chance:.3f}. That is {remark}"
    )
    if relevant:
        state = "bad" if significant and deviation > _OFF[1] else "look"
        return Answer(question, state, f"{text}: use them as a score to cut on, not as the odds of a single event.")
    if 2 * chance > _OFF[1] and not significant:
        return Answer(question, "open", f"{text}, but these events are too few to tell.")
    return Answer(
        question, "good", f"{text}: there they can be used as probabilities, but not in another mixture, such as data."
    )


def _sculpting(content: SculptedMasses | None) -> Answer:
    question = "Does a cut sculpt the mass?"
    if not content:
        return Answer(question, "open", "Nothing was tested: no input has the name of a mass, or there is no cut.")
    tested = [
        (panel, it.jensen_shannon - it.by_chance, it)
        for panel in content.panels
        for it in (each.sculpting for each in panel.after)
        if it.jensen_shannon is not None and it.by_chance is not None and it.standard_deviations is not None
    ]
    if not tested:
        return Answer(question, "open", "Nothing was tested: too few events pass the cuts.")
    significant = [each for each in tested if (each[2].standard_deviations or 0) > _EXCESS]
    panel, excess, worst = max(significant or tested, key=lambda it: it[1])
    remark = finding(bool(significant), excess > _SHAPE, f"{_EXCESS} standard deviations", f"{_SHAPE} beyond chance")
    text = (
        f"Most of all {panel.feature} of {panel.background}: Jensen-Shannon divergence {worst.jensen_shannon:.3f} between "
        f"events that pass and those that fail, where chance gives {worst.by_chance:.3f}. That is {remark}."
    )
    if significant and excess > _SHAPE:
        text += (
            " It matters if the background is taken from that mass's sidebands: then leave the mass out, or name it in "
            "train.decorrelate."
        )
        return Answer(question, "look", text)
    if excess > _SHAPE:
        return Answer(question, "open", f"{text} More events would tell.")
    untested = [f"{it.feature} of {it.background}" for it in content.panels if not _is_sensitive(it)]
    if untested:
        return Answer(question, "open", f"{text} Too few events pass the cuts to tell for {', '.join(untested)}.")
    return Answer(question, "good", text)


def _is_sensitive(panel: SculptedMass) -> bool:
    """Whether enough events pass and fail some cut for a change of a shape to be seen."""
    tests = [it.sculpting for it in panel.after]
    spreads = [
        (it.jensen_shannon - it.by_chance) / it.standard_deviations
        for it in tests
        if it.jensen_shannon is not None and it.by_chance is not None and it.standard_deviations
    ]
    return any(spread <= _SHAPE for spread in spreads)


def _perfection(measured: Classification, importance: Importance | None) -> Answer:
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
    losses = [(it.loss, it.name) for it in importance.inputs if it.loss is not None] if importance else []
    if losses:
        loss, name = max(losses)
        text += f" The most important input is {name}, without which the AUC falls by {loss:.3f}."
    return Answer(question, state, f"{text} Does an input know the truth, or from which sample an event is?")


def _sound(effective: Mapping[str, float]) -> Answer:
    question = "Enough events?"
    listed = ", ".join(f"{name} {number:,.0f}" for name, number in effective.items())
    text = f"Effective numbers of tested events, (sum of w)² / sum of w²: {listed}."
    fewest, few = too_few(effective), [name for name, number in effective.items() if number < _FEW]
    if fewest:
        return Answer(question, "bad", f"{text} Nothing can be concluded from so few: {fewest}.")
    if few:
        return Answer(question, "look", f"{text} That is few for {', '.join(few)}: mind the errors.")
    return Answer(question, "good", text)


def _variations(content: Variations) -> Answer:
    worries: list[tuple[str, str]] = []
    yields = [(it.of.name, name, change) for it in content.sources for name, change in it.of.yields.items()]
    if all(change.up is None and change.down is None for _, _, change in yields):
        text = "Nothing was tested: no class has a positive sum of weights that could change."
        return Answer("Stable under the variations of weights?", "open", text)
    source, name, change = max(yields, key=lambda it: it[2].size)
    text = f"Largest change of the expected events: {source}, {_percentages(change)} of {name}"
    worries.append(
        (state_of(change.size, _YIELD), "Such an uncertainty on the number of events may well limit the analysis.")
    )
    areas = [(it.of.name, it.auc) for it in content.sources if it.auc is not None]
    if areas:
        source, change = max(areas, key=lambda it: it[1].size)
        text += f"; of the AUC: {source}, {_percentages(change)}"
        worries.append((state_of(change.size, _AREA), "The separation depends on a weight: look at the shapes below."))
    sided = dict.fromkeys(source for source, _, change in yields if change.same_side > _ONE_SIDED)
    if sided:
        sentence = f"Up and down change the events of a class to the same side: {', '.join(sided)}. Fits expect opposite sides."
        worries.append(("look", sentence))
    for it in content.means:
        sentence = (
            f"The weight {it.weight} ({it.variation}) has the mean {it.mean:.3g} in {it.dataset} and is not normalised: "
            "if it must not change the number of events, declare it with keeps_yield."
        )
        worries.append((state_of(abs(it.mean - 1), _MEAN), sentence))
    states = {state for state, _ in worries}
    state = next(each for each in ("bad", "look", "good") if each in states)
    sentences = [f"{text}.", *(sentence for each, sentence in worries if each != "good")]
    return Answer("Stable under the variations of weights?", state, " ".join(sentences))


def _percentages(change: Change) -> str:
    return per_cent(change.up, change.down, unit=" %")


def _drift(content: Drift) -> Answer:
    question = "Like the compared files?"
    known = [(it, it.stability_index) for it in content.panels if it.stability_index is not None]
    if not known:
        return Answer(question, "open", "Nothing was tested: no feature could be compared.")
    worst, largest = known[0]
    names = [it.name for it, index in known if index > _SHIFT[0]]
    probable = bonferroni([it.test.probability for it, _ in known if it.test.probability is not None])
    significant, relevant = probable is not None and probable < _CHANCE, bool(names)
    remark = finding(significant, relevant, "a Kolmogorov-Smirnov probability of 1 %", f"an index of {_SHIFT[0]}")
    text = (
        f"Largest difference: {worst.name}, population stability index {largest:.3f}, Kolmogorov-Smirnov distance "
        f"{worst.test.distance:.3f}. That is {remark}."
    )
    if relevant and significant:
        text += f" Shifted: {', '.join(names)}. The network may do worse on those events."
        return Answer(question, "bad" if largest > _SHIFT[1] else "look", text)
    # by chance alone, the index is on average the number of free bins times 1 / n + 1 / m
    chance = (_DECILES - 1) * (1 / max(content.events, 1) + 1 / max(content.other_events, 1))
    if chance > _SHIFT[0] and not significant:
        return Answer(question, "open", f"{text} These events are too few to tell.")
    return Answer(question, "look" if relevant else "good", text)


def _targets(targets: Mapping[str, Accuracy]) -> Answer:
    texts, states = [], ["good"]
    for name, entry in targets.items():
        if entry.baseline is None:
            continue
        ours, theirs = number(entry.network.resolution), number(entry.baseline.resolution)
        texts.append(f"{name}: resolution of the network {ours}, of a BDT {theirs}")
        gain = entry.gain_in_rmse
        if gain.value is None or gain.error is None:
            states.append("open")
        elif gain.value < -2 * gain.error:
            relevant = entry.baseline.rmse.value is None or -gain.value > _WORSE * entry.baseline.rmse.value
            states.append("bad" if relevant else "good")
            texts[-1] += "; its RMSE is worse than that of the BDT, "
            texts[-1] += finding(True, relevant, "2 standard errors", f"{_WORSE:.0%}")
    state = next(each for each in ("bad", "open", "good") if each in states)
    return Answer("Better than a BDT?", state, "; ".join(texts) + ".")
