from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import pytest

from ML_processing.evaluation.classification import (
    Calibration,
    ClassCalibration,
    Classification,
    ClassificationPlots,
    ClassTests,
    Overtraining,
)
from ML_processing.evaluation.cuts import SculptedMass, SculptedMasses, ShapeAfterCut
from ML_processing.evaluation.inputs import Drift, FeatureDrift
from ML_processing.evaluation.regression import Accuracy, Regression, RegressionPlots, Residuals
from ML_processing.evaluation.scored import Areas
from ML_processing.evaluation.systematics.variations import Change, Variation, Variations, VariedYields, WeightMean
from ML_processing.evaluation.verdict import verdict
from ML_processing.metrics.classification import Reliability
from ML_processing.metrics.distances import Kolmogorov, Sculpting
from ML_processing.metrics.measured import Measured

T = TypeVar("T")
EFFECTIVE = {"signal": 1234.4, "other": 1234.4}


def part(cls: type[T], **given: Any) -> T:
    """An object of which a test needs a few fields only."""
    return cls(**{**dict.fromkeys(it.name for it in fields(cls)), **given})  # type: ignore[arg-type]


def numbers(
    network: float | None, baseline: float, on_training: float | None, probability: float = 0.4
) -> Classification:
    difference = Measured(None if network is None else network - baseline, 0.002)
    tests = {"signal": ClassTests(0.4, []), "other": ClassTests(probability, [])}
    return part(
        Classification,
        auc=Areas(Measured(network, 0.005), Measured(baseline, 0.005), difference),
        overtraining=Overtraining(on_training, None, tests),
    )


def calibration(deviation: float, chance: float) -> Calibration:
    curve = part(Reliability, expected_calibration_error=deviation, by_chance=chance)
    return Calibration([ClassCalibration("signal", curve)], 1000)


def plots(**given: Any) -> ClassificationPlots:
    return part(ClassificationPlots, **{"calibration": calibration(0.01, 0.01), **given})


def answer(question: str, *given: Any, **more: Any) -> tuple[str, str]:
    """State and text of the sentence whose question starts so, for `given` or else for an unremarkable training."""
    given += (numbers(0.9, 0.9, 0.9), EFFECTIVE, plots())[len(given) :]
    (sentence,) = (it for it in verdict(*given, **more) if it.question.startswith(question))
    return sentence.state, sentence.text


@pytest.mark.parametrize(
    ("network", "baseline", "says", "expected"),
    [
        (0.90, 0.93, "The network is worse", "bad"),
        (0.93, 0.90, "The network is better", "good"),
        (0.931, 0.930, "They agree", "good"),
    ],
)
def test_comparison(network: float, baseline: float, says: str, expected: str) -> None:
    state, text = answer("Better", numbers(network, baseline, network))
    assert text.startswith(f"AUC of the network {network:.3f} ± 0.005, of a BDT {baseline:.3f} ± 0.005.")
    assert says in text
    assert state == expected


def test_overtraining() -> None:
    state, text = answer("Overtrained", numbers(0.93, 0.93, 0.94))
    assert (state, "overtraining is small" in text) == ("good", True)
    state, text = answer("Overtrained", numbers(0.93, 0.93, 0.99))
    assert state == "bad"
    assert "0.060 more than on the others: it has learned some events by heart" in text
    state, text = answer("Overtrained", numbers(0.93, 0.93, 0.94, probability=0.001))
    assert state == "look"
    assert "the scores of other differ" in text


@pytest.mark.parametrize(
    ("deviation", "chance", "expected"),
    [(0.02, 0.015, "good"), (0.008, 0.001, "good"), (0.04, 0.01, "look"), (0.1, 0.01, "bad")],
)
def test_calibration(deviation: float, chance: float, expected: str) -> None:
    state, text = answer(
        "Calibrated", numbers(0.9, 0.9, 0.9), EFFECTIVE, plots(calibration=calibration(deviation, chance))
    )
    assert state == expected
    assert f"{deviation:.3f} off on average for signal, where chance alone gives {chance:.3f}" in text


@pytest.mark.parametrize(
    ("divergence", "excess", "expected", "says"),
    [
        (0.3, 20.0, "look", "Most of all WCand_mT of WZ: Jensen-Shannon divergence 0.300"),
        (0.3, 2.0, "good", "no more than chance would"),
        (0.01, 20.0, "good", "Hardly"),
        (None, None, "good", "no more than chance would"),
    ],
)
def test_sculpting(divergence: float | None, excess: float | None, expected: str, says: str) -> None:
    after = [part(ShapeAfterCut, sculpting=Sculpting(divergence, 0.005, excess))]
    masses = SculptedMasses([], [part(SculptedMass, feature="WCand_mT", background="WZ", after=after)], 1000)
    state, text = answer("Does a cut", numbers(0.9, 0.9, 0.9), EFFECTIVE, plots(sculpting=masses))
    assert state == expected
    assert says in text


def test_few_events() -> None:
    assert answer("Enough")[0] == "good"
    state, text = answer("Enough", numbers(0.9, 0.9, 0.9), {"signal": 12.0, "other": 5000.0})
    assert state == "look"
    assert "few for signal: mind the errors" in text


@pytest.mark.parametrize(("index", "expected"), [(0.05, "good"), (0.2, "look"), (0.5, "bad")])
def test_drift(index: float, expected: str) -> None:
    panels = [
        part(FeatureDrift, name="MET_pt", stability_index=index, test=Kolmogorov(0.1, None)),
        part(FeatureDrift, name="constant", test=Kolmogorov(None, None)),
    ]
    state, text = answer("Like", drift=Drift([], 1000, 1000, False, panels))
    assert state == expected
    assert f"MET_pt, population stability index {index:.3f}" in text


def test_regression() -> None:
    found = part(Residuals, resolution=Measured(12.0, 0.5))
    targets = {name: Accuracy(found, found, Measured(gain, 0.1)) for name, gain in (("mass", -1.0), ("pt", 1.0))}
    state, text = answer("Better", Regression("regression", targets, "a BDT"), EFFECTIVE, part(RegressionPlots))
    assert state == "bad"
    assert "mass: resolution of the network 12.000 ± 0.500" in text
    assert text.count("worse") == 1


def test_not_defined() -> None:
    state, text = answer("Better", numbers(None, 0.9, None))
    assert state == "bad"
    assert text == "No AUC is defined: the weights of the signal or of the background have no positive sum."
    assert answer("Overtrained", numbers(0.9, 0.9, None)) == (
        "look",
        "No AUC is defined for the events of the training.",
    )


def varied(up: float | None, down: float | None, area: float = 0.0, mean: float = 1.0) -> Variations:
    source = Variation(VariedYields("pileup", {"WZ": Change(up, down)}), Change(area, -area), None)
    return Variations([source], {}, [WeightMean("pileup", "up", "WZ_2018", mean)])


@pytest.mark.parametrize(
    ("given", "state", "text"),
    [
        (varied(0.031, -0.0292), "good", "pileup, +3.1 / -2.9 % of WZ; of the AUC: pileup, 0 / 0 %."),
        (varied(None, None), "good", "pileup, not defined of WZ"),
        (varied(0.15, -0.1), "look", "may well limit the analysis"),
        (varied(0.5, -0.1), "bad", "pileup, +50 / -10 % of WZ"),
        (varied(0.0, 0.0, 0.02), "look", "The separation depends on a weight"),
        (varied(-0.01, -0.02), "look", "to the same side: pileup."),
        (varied(-0.001, -0.02), "good", ""),
        (
            varied(0.0, 0.0, mean=1.25),
            "look",
            "The weight pileup (up) has the mean 1.25 in WZ_2018 and is not normalised",
        ),
        (varied(0.0, 0.0, mean=0.2), "bad", "mean 0.2 in WZ_2018"),
    ],
)
def test_variations_of_weights(given: Variations, state: str, text: str) -> None:
    found = answer("Stable", varied=given)
    assert found[0] == state
    assert text in found[1]
