from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.evaluation.classifier_test import ClassifierTest, Pair
from ML_processing.evaluation.content import Evaluation, Part, all_sections
from ML_processing.evaluation.data_comparison import DataPanel
from ML_processing.evaluation.report import provenance, verdict
from ML_processing.evaluation.scored import Areas, EventCounts, OutOfFold, Scored, sampled
from ML_processing.evaluation.sections.calibration import Calibration, ClassCalibration
from ML_processing.evaluation.sections.classification import Classification, ClassTests, Overtraining
from ML_processing.evaluation.sections.cuts import SculptedMass, SculptedMasses, ShapeAfterCut
from ML_processing.evaluation.sections.data import Data, DataComparison
from ML_processing.evaluation.sections.drift import Drift, FeatureDrift
from ML_processing.evaluation.sections.faults import Losses
from ML_processing.evaluation.sections.importance import Importance, InputImportance
from ML_processing.evaluation.sections.regression import Accuracy, Regression, Residuals
from ML_processing.evaluation.sections.roc import RocCurves
from ML_processing.evaluation.sections.scores import Confusion
from ML_processing.evaluation.sections.variations import Change, Variation, Variations, VariedYields, WeightMean
from ML_processing.metrics.distances import Kolmogorov, Sculpting, ShapeTest
from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import Reliability
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.data import read
from ML_processing.training.description import Epoch, TrainingDescription
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.page import table, with_error
from services.evaluations import EFFECTIVE, evaluation, exact, part


def numbers(
    network: float | None,
    baseline: float,
    on_training: float | None,
    probability: float = 0.4,
    distance: float = 0.1,
    error: float = 0.005,
    of_difference: float = 0.002,
) -> Classification:
    difference = Measured(None if network is None else network - baseline, of_difference)
    networks = [Kolmogorov(0.5, None), Kolmogorov(distance, probability / 2)]
    tests = {"signal": ClassTests(0.4, networks), "other": ClassTests(probability, networks)}
    return part(
        Classification,
        signal="signal",
        auc=Areas(Measured(network, error), Measured(baseline, error), difference),
        auc_one_against_all={"signal": Measured(network, error), "other": Measured(network, error)},
        overtraining=Overtraining(on_training, network, tests),
        baseline="a BDT",
    )


def calibration(deviation: float, chance: float) -> Calibration:
    curve = part(Reliability, expected_calibration_error=deviation, by_chance=chance)
    other = part(Reliability, expected_calibration_error=chance, by_chance=chance)
    return Calibration([ClassCalibration(*each) for each in (("signal", curve), ("other", other))], [], 1000)


def given(*sections: Part) -> dict[type[Part], Part]:
    """An unremarkable training, but for some sections."""
    return {type(it): it for it in (numbers(0.9, 0.9, 0.9), calibration(0.01, 0.01), *sections)}


def answer(question: str, *sections: Part, effective: Any = EFFECTIVE, without: Any = None) -> tuple[str, str]:
    """State and text of the sentence whose question starts so."""
    kinds: dict[type[Part], Part | None] = {**dict.fromkeys(all_sections()), **given(*sections)}
    if without is not None:
        kinds[without] = None
    if Regression in map(type, sections):
        kinds[Classification] = None
    (sentence,) = (it for it in verdict(evaluation(kinds, effective)) if it.question.startswith(question))
    return sentence.state, sentence.text


@pytest.mark.parametrize(
    ("difference", "error", "finding", "says", "expected"),
    [
        (-0.03, 0.002, "significant (limit: 2 standard errors) and relevant (limit: 0.005)", "is worse: it has", "bad"),
        (0.03, 0.002, "significant (limit: 2 standard errors) and relevant (limit: 0.005)", "is better.", "good"),
        (-0.002, 0.0005, "significant (limit: 2 standard errors), but not relevant", "worse, but by too little", "good"),
        (0.002, 0.0005, "significant (limit: 2 standard errors), but not relevant", "better, but by too little", "good"),
        (-0.02, 0.015, "relevant (limit: 0.005), but not significant", "may be worse: more events are needed", "open"),
        (0.02, 0.015, "relevant (limit: 0.005), but not significant", "These events are too few to tell.", "open"),
        (0.001, 0.015, "neither significant (limit: 2 standard errors) nor relevant", "too few to tell.", "open"),
        (0.006, 0.004, "relevant (limit: 0.005), but not significant", "may be better: more events", "good"),
        (0.001, 0.002, "neither significant (limit: 2 standard errors) nor relevant", "They agree", "good"),
    ],
)  # fmt: skip
def test_comparison(difference: float, error: float, finding: str, says: str, expected: str) -> None:
    state, text = answer("Better", numbers(0.9 + difference, 0.9, 0.9, of_difference=error))
    assert text.startswith(f"AUC of the network {0.9 + difference:.4f} ± 0.0050, of a BDT 0.9000 ± 0.0050.")
    assert f"{'+' * (difference > 0)}{with_error(difference, error)}, is {finding}" in text
    assert says in text
    assert state == expected


@pytest.mark.parametrize(
    ("given", "expected", "says"),
    [
        (numbers(0.93, 0.93, 0.935), "good", "neither significant (limit: 3 standard errors of 0.0050) nor relevant"),
        (numbers(0.93, 0.93, 0.935, error=0.001), "good", "but not relevant (limit: 0.01): overtraining is small"),
        (numbers(0.93, 0.93, 0.99), "bad", "+0.0600, is significant (limit: 3 standard errors of 0.0050) and relevant"),
        (numbers(0.93, 0.93, 0.99, error=0.05), "open", "but not significant (limit: 3 standard errors of 0.050)"),
        (numbers(0.93, 0.93, 0.95), "look", "it has memorised some events"),
        (numbers(0.93, 0.93, 0.935, error=0.01), "open", "these events are too few to tell."),
        (numbers(0.93, 0.93, 0.935, probability=1e-3), "look", "the scores of other differ between the two by more"),
        (numbers(0.93, 0.93, 0.935, probability=1e-3, distance=0.01), "good", "overtraining is small, if there is any."),
        (numbers(0.93, 0.93, None), "open", "No AUC is defined for the events of the training."),
    ],
)  # fmt: skip
def test_overtraining(given: Classification, expected: str, says: str) -> None:
    state, text = answer("Overtrained", given)
    assert state == expected
    assert says in text


@pytest.mark.parametrize(
    ("deviation", "chance", "expected", "says"),
    [
        (0.02, 0.015, "good", "neither significant (limit: twice chance) nor relevant"),
        (0.008, 0.001, "good", "significant (limit: twice chance), but not relevant (limit: 0.01 beyond chance)"),
        (0.04, 0.01, "look", "significant (limit: twice chance) and relevant"),
        (0.1, 0.01, "bad", "significant (limit: twice chance) and relevant"),
        (0.038, 0.025, "open", "but not significant (limit: twice chance): more events are needed to tell."),
        (0.06, 0.055, "open", "more events are needed to tell"),
    ],
)
def test_calibration(deviation: float, chance: float, expected: str, says: str) -> None:
    state, text = answer("Calibrated", calibration(deviation, chance))
    assert state == expected
    assert text.startswith("Where signal and other are equally frequent, as in the training,")
    assert f"of signal are {deviation:.3f} off on average; chance alone gives {chance:.3f}" in text
    assert says in text
    assert ("there they can be used as probabilities, but not in another mixture" in text) is (expected == "good")


@pytest.mark.parametrize(
    ("divergence", "excess", "expected", "says"),
    [
        (0.3, 20.0, "look", "Most of all WCand_mT of WZ: Jensen-Shannon divergence 0.300"),
        (0.3, 2.0, "open", "relevant (limit: 0.02 beyond chance), but not significant (limit: 5 standard deviations)"),
        (0.01, 20.0, "good", "significant (limit: 5 standard deviations), but not relevant (limit: 0.02 beyond chance)"),
        (0.01, 2.0, "good", "neither significant (limit: 5 standard deviations) nor relevant"),
        (0.02, 0.1, "open", "Too few events pass the cuts to tell for WCand_mT of WZ."),
        (0.3, None, "open", "Nothing was tested: too few events pass the cuts."),
        (None, None, "open", "Nothing was tested: too few events pass the cuts."),
    ],
)  # fmt: skip
def test_sculpting(divergence: float | None, excess: float | None, expected: str, says: str) -> None:
    after = [part(ShapeAfterCut, sculpting=Sculpting(divergence, 0.005, excess))]
    masses = SculptedMasses([], [part(SculptedMass, feature="WCand_mT", background="WZ", after=after)], 1, 1000, True)
    state, text = answer("Does a cut", masses)
    assert state == expected
    assert says in text
    natural, text = answer("Does a cut", replace(masses, is_decorrelated=False))
    assert natural == expected.replace("look", "good")
    assert says in text


def test_without_a_mass_nothing_was_tested() -> None:
    state, text = answer("Does a cut")
    assert state == "open"
    assert text.startswith("Nothing was tested")


@pytest.mark.parametrize(
    ("network", "expected"), [(0.95, "good"), (0.995, "look"), (0.9995, "bad"), (1.0, "bad"), (None, None)]
)
def test_perfection(network: float | None, expected: str | None) -> None:
    losses = {"x": 0.02, "leak": 0.41, "missing": None}
    inputs = [InputImportance(name, False, loss, 0.01, None) for name, loss in losses.items()]
    sections = given(numbers(network, 0.9, network), Importance(inputs, 1000, 5))
    if expected is None:
        assert not [it for it in verdict(evaluation(sections)) if it.question == "Too good to be true?"]
        return
    state, text = answer("Too good", *sections.values())
    assert state == expected
    assert ("The most important input is leak, without which the AUC falls by 0.410." in text) is (expected != "good")


@pytest.mark.parametrize(
    ("events", "expected", "says"),
    [
        (1234.4, "good", "signal 1,234, other 5,000"),
        (70.0, "look", "There are few events of signal: mind the errors."),
        (12.0, "bad", "Nothing can be concluded: signal has 12 of at least 50 effective events."),
    ],
)
def test_few_events(events: float, expected: str, says: str) -> None:
    state, text = answer("Enough", effective={"signal": events, "other": 5000.0})
    assert state == expected
    assert says in text


@pytest.mark.parametrize("events", [0.0, 8.0, 49.9])
def test_nothing_is_fine_with_few_events(events: float) -> None:
    masses = [part(SculptedMass, after=[part(ShapeAfterCut, sculpting=Sculpting(0.01, 0.005, 2.0))])]
    drift = Drift([], 1000, 1000, [part(FeatureDrift, name="x", test=Kolmogorov(0.01, 1.0))])
    sections = given(SculptedMasses([], masses, 1, 1000), drift, varied(0.0, 0.0), part(Importance, inputs=[]))
    enough, few = ({"signal": number, "other": 5000.0} for number in (50.0, events))
    answers = verdict(evaluation(sections, enough))
    assert {it.question: it.state for it in answers if it.state != "good"} == {"Enough events?": "look"}
    found = verdict(evaluation(sections, few))
    assert [it.question for it in found] == [it.question for it in answers]
    assert {it.state for it in found[:-1]} == {"open"}
    missing = f"signal has {events:,.0f} of at least 50 effective events."
    assert all(it.text.endswith(f"But there are too few events for an answer: {missing}") for it in found[:-1])
    assert (found[-1].question, found[-1].state) == ("Enough events?", "bad")


def test_what_is_worrying_stays_so_with_few_events() -> None:
    few = {"signal": 8.0, "other": 5000.0}
    assert answer("Overtrained", numbers(0.93, 0.93, 0.99), effective=few)[0] == "bad"


@pytest.mark.parametrize(
    ("distance", "probability", "events", "expected", "says"),
    [
        (0.02, 0.4, 1000, "good", "That is neither significant"),
        (0.02, 1e-4, 1000, "good", "but not relevant (limit: a distance of 0.08)"),
        (0.12, 1e-4, 1000, "look", "Shifted: MET_pt by +0.30 widths."),
        (0.22, 1e-4, 1000, "bad", "Shifted: MET_pt by +0.30 widths."),
        (0.12, 0.4, 1000, "open", "but not significant"),
        (0.02, 0.4, 20, "open", "More events are needed to tell."),
        (0.02, None, 1000, "good", ""),
    ],
)
def test_drift(distance: float, probability: float | None, events: int, expected: str, says: str) -> None:
    panels = [part(FeatureDrift, name="MET_pt", test=Kolmogorov(distance, probability), shift=0.3)]
    panels.append(part(FeatureDrift, name="constant", test=Kolmogorov(None, None)))
    state, text = answer("Like", Drift([], 1000, events, panels))
    assert state == expected
    assert text.startswith(f"Kolmogorov-Smirnov distance {distance:.3f} of MET_pt")
    assert says in text


@pytest.mark.parametrize(("area", "expected"), [(0.515, "good"), (0.54, "look"), (0.57, "bad")])
def test_what_no_single_feature_shows(area: float, expected: str) -> None:
    panels = [part(FeatureDrift, name="MET_pt", test=Kolmogorov(0.01, 1.0))]
    pair = Pair(("MET_pt", "WCand_mT"), 0.1, 0.5, 9.0)
    told_apart = ClassifierTest(Measured(area, 0.003), (area - 0.5) / 0.003, 0.0, [], 1000, pair)
    state, text = answer("Like", Drift([], 1000, 1000, panels, told_apart))
    assert state == expected
    assert "the correlation of MET_pt and WCand_mT is 0.50 instead of 0.10." in text


def test_drift_without_a_feature() -> None:
    state, text = answer("Like", Drift([], 1000, 1000, []))
    assert (state, text) == ("open", "Nothing was tested: no feature could be compared.")


@pytest.mark.parametrize(
    ("gain", "expected", "says"),
    [
        (Measured(-1.0, 0.1), "bad", "significant (limit: 2 standard errors) and relevant (limit: 1%)"),
        (Measured(-0.1, 0.02), "good", "significant (limit: 2 standard errors), but not relevant (limit: 1%)"),
        (Measured(-0.1, 0.1), "good", "of a BDT 12.00 ± 0.50."),
        (Measured(None, None), "open", "of a BDT 12.00 ± 0.50."),
    ],
)
def test_regression(gain: Measured, expected: str, says: str) -> None:
    found = part(Residuals, resolution=Measured(12.0, 0.5), rmse=Measured(15.0, 0.5))
    targets = {name: Accuracy(found, found, it) for name, it in (("pt", Measured(1.0, 0.1)), ("mass", gain))}
    state, text = answer("Better", Regression("regression", targets, "a BDT"))
    assert state == expected
    assert "mass: resolution of the network 12.00 ± 0.50" in text
    assert says in text


def test_not_defined() -> None:
    state, text = answer("Separated", numbers(None, 0.9, None))
    assert state == "bad"
    assert text == "No AUC is defined: the weights of the signal or of the background have no positive sum."
    state, text = answer("Calibrated", without=Calibration)
    assert (state, text) == ("open", "Calibration is not defined: a class has no positive sum of weights.")


def varied(up: float | None, down: float | None, area: float = 0.0, mean: float = 1.0) -> Variations:
    source = Variation(VariedYields("pileup", {"WZ": Change(up, down)}), Change(area, -area), None)
    return Variations([source], {}, [WeightMean("pileup", "up", "WZ_2018", mean)])


@pytest.mark.parametrize(
    ("given", "state", "text"),
    [
        (varied(0.031, -0.0292), "good", "pileup, +3.1 / -2.9 % of WZ; of the AUC: pileup, 0 / 0 %."),
        (varied(None, None), "open", "Nothing was tested"),
        (varied(0.15, -0.1), "look", "may well limit the analysis"),
        (varied(0.5, -0.1), "bad", "pileup, +50 / -10 % of WZ"),
        (varied(0.0, 0.0, 0.02), "look", "The separation depends on a weight"),
        (varied(-0.01, -0.02), "look", "to the same side: pileup."),
        (varied(-0.001, -0.02), "good", ""),
        (varied(0.0, 0.0, mean=1.25), "look", "The weight pileup (up) has the mean 1.25 in WZ_2018 and is not normalised"),
        (varied(0.0, 0.0, mean=0.2), "bad", "mean 0.2 in WZ_2018"),
    ],
)  # fmt: skip
def test_variations_of_weights(given: Variations, state: str, text: str) -> None:
    found = answer("Stable", given)
    assert found[0] == state
    assert text in found[1]


def compared(classifier: ClassifierTest | None, probability: float = 0.4, ratio: float = 1.0) -> Data:
    """A comparison of data with simulation of which only the tests are given."""
    inputs = [part(DataPanel, label="MET_pt", agreement=part(ShapeTest, probability=probability))]
    tests: dict[str, Any] = {"ratio": Measured(ratio, 0.03), "classifier": classifier, "inputs": inputs, "scores": []}
    return Data({"CR": part(DataComparison, data=1000, **tests)})


def told_apart(area: float, error: float) -> ClassifierTest:
    return ClassifierTest(Measured(area, error), (area - 0.5) / error, 0.4, [], 1000)


@pytest.mark.parametrize(
    ("given", "expected", "says"),
    [
        (compared(told_apart(0.51, 0.01)), "good", "AUC 0.510 ± 0.010"),
        (compared(told_apart(0.54, 0.01)), "look", "AUC 0.540 ± 0.010"),
        (compared(told_apart(0.60, 0.01)), "bad", "AUC 0.600 ± 0.010"),
        (compared(told_apart(0.51, 0.06)), "open", "a difference that matters would not show"),
        (compared(told_apart(0.51, 0.06), ratio=1.5), "look", "A network exploits what is wrong in simulation"),
        (compared(None), "open", "There are too few events for a classifier test."),
        (compared(None, probability=1e-4), "look", "There are too few events for a classifier test."),
    ],
)
def test_data(given: Data, expected: str, says: str) -> None:
    state, text = answer("Does simulation", given)
    assert state == expected
    assert says in text
    assert ("A network exploits" in text) is (state in ("look", "bad"))


LOSSES, CONFUSION = (f"{it.__module__}:{it.__qualname__}" for it in (Losses, Confusion))


def test_the_table_of_the_data_has_files_that_were_left_out(whole: Path) -> None:
    description = TrainingDescription.read(whole)
    assert "left out" not in provenance(description, "today", [])
    gone = tuple(Missing(f"root://a//{name}.root", "no answer", "today") for name in "xy")
    first, *others = description.datasets
    changed = replace(description, datasets=(replace(first, missing=gone), *others))
    expected = "left out because they could not be read: root://a//x.root, root://a//y.root</td>"
    assert expected in provenance(changed, "today", [])


def test_captions() -> None:
    captions = [kind.caption for kind in all_sections() if kind.caption.title] + [Data.caption_of_scores]
    assert len({it.title for it in captions}) == len(captions)
    for it in captions:
        assert not it.title.endswith(".")
        assert it.reading.endswith(".")
        assert it.worrying.endswith(".")


def test_the_page_has_an_order() -> None:
    names = {kind.name for kind in all_sections()}
    assert {it for kind in all_sections() for it in (kind.after, kind.asked_after)} - {""} <= names


def test_names_are_escaped() -> None:
    assert "<td>a &lt; b</td>" in table(["x & y"], [["a < b"]])
    assert "x &amp; y</th>" in table(["x & y"], [["a < b"]])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The file of an evaluation with numbers that JSON does not know."""
    numbers = np.array([[np.nan, np.inf, -0.0, 0.1]])
    confusion = Confusion(["signal"], numbers, np.empty((0, 3), np.float32), 7)  # type: ignore[arg-type]
    losses = Losses([[Epoch(1, math.inf, 1e-300, 0.1, None, math.nan)]], False)
    sections = {Losses: losses, RocCurves: None, Confusion: confusion}
    found = Evaluation("today", None, ["signal"], EventCounts(1, 1, 1, {}, {}), {}, [], sections, ("data",))
    found.write(tmp_path / "evaluation.json")
    assert exact(Evaluation.read(tmp_path / "evaluation.json")) == exact(found)
    return tmp_path / "evaluation.json"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda it: it.pop("sections"), "KeyError: 'sections'"),
        (lambda it: it.update(sections=[]), "AttributeError"),
        (lambda it: it["sections"].update({"os:system": "true"}), "KeyError: 'os:system'"),
        (lambda it: it["sections"][LOSSES].update(histories=[[7]]), "TypeError"),
        (lambda it: it["sections"][CONFUSION].update(events="many"), "ValueError"),
        (lambda it: it["sections"][CONFUSION].update(weights=[1.0]), "TypeError"),
        (lambda it: it["sections"][CONFUSION]["weights"].update(dtype="|O"), "ValueError: an array of object"),
        (lambda it: it["sections"][CONFUSION]["weights"].update(dtype="os.system"), "TypeError"),
        (lambda it: it["sections"][CONFUSION]["weights"].update(shape=[10**13]), "ValueError: cannot reshape"),
    ],
)
def test_damaged_measurements_are_one_message(written: Path, damage: Callable[[Any], Any], told: str) -> None:
    content = json.loads(written.read_text())
    damage(content)
    written.write_text(json.dumps(content))
    with pytest.raises(NanoMLError, match=r"evaluation\.json: is damaged \(.*\)\. Measure again: `nanoml e") as found:
        Evaluation.read(written)
    assert told in str(found.value)


def test_truncated_measurements_are_one_message(written: Path) -> None:
    content = written.read_bytes()
    for length in range(0, len(content) - 1, 50):
        written.write_bytes(content[:length])
        with pytest.raises(NanoMLError, match=r"evaluation\.json: is damaged"):
            Evaluation.read(written)


TWO = BoundDiscriminant.probability("signal", ["signal", "other"])


def scored(labels: list[int], weights: list[float], scores: list[float] | None = None) -> Scored:
    score = np.float32(scores or np.zeros(len(labels)))
    probabilities = np.stack([score, 1 - score], axis=1)
    return Scored(np.array(labels), np.float32(weights), probabilities, probabilities, TWO)


def test_balanced_weights_sum_to_the_same_with_their_signs() -> None:
    balanced: Any = scored([0, 0, 1], [3, -1, 4]).balanced()
    assert balanced.tolist() == [1.5, -0.5, 1]
    assert scored([0, 0, 1], [1, -1, 4]).balanced() is None


def test_a_sample_stands_for_all_events_of_each_class() -> None:
    labels = np.repeat([0, 1], [900, 100])
    rows, factors = sampled(labels, 200, seed=1)
    assert np.bincount(labels[rows]).tolist() == [100, 100]
    assert np.bincount(labels[rows], factors).tolist() == [900, 100]


def test_the_weights_of_a_sample_are_scaled(toy: Callable[..., Path]) -> None:
    table = read([toy()], Train())
    events = OutOfFold(None, table, np.zeros((len(table), 2), np.float32))  # type: ignore[arg-type]
    part = events.select(np.array([3, 5]), np.float32([2, 0.5]))
    assert part.table.weights.tolist() == [2 * table.weights[3], 0.5 * table.weights[5]]


def test_a_cut_keeps_as_much_background_as_it_may() -> None:
    background = (np.arange(10) + 1) / 10
    events = scored([0, *[1] * 10], [1] * 11, [0.95, *background])
    assert events.cut_at(0.2) == pytest.approx(0.9)
    assert events.cut_at(0.3) == pytest.approx(0.8)
