from __future__ import annotations

from typing import Any

import pytest

from ML_processing.evaluation.verdict import verdict


def content(network: float | None, baseline: float, on_training: float | None, **changes: Any) -> dict[str, Any]:
    auc = {
        "network": network,
        "network_error": 0.005,
        "baseline": baseline,
        "baseline_error": 0.005,
        "difference": None if network is None else network - baseline,
        "difference_error": 0.002,
    }
    tests = {name: {"probability": 0.4} for name in ("signal", "other")}
    classes = {name: {"effective": 1234.4} for name in ("signal", "other")}
    return {
        "task": "classification",
        "auc": auc,
        "overtraining": {"auc_on_training_events": on_training, "kolmogorov_smirnov": tests},
        "events": {"classes": classes},
        "plots": {"calibration": calibration(0.01, 0.01)},
        **changes,
    }


def calibration(deviation: float, chance: float) -> dict[str, Any]:
    return {"classes": [{"name": "signal", "expected_calibration_error": deviation, "by_chance": chance}]}


def answer(found: dict[str, Any], question: str) -> tuple[str, str]:
    """State and text of the sentence whose question starts so."""
    (sentence,) = (it for it in verdict(found) if it.question.startswith(question))
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
    state, text = answer(content(network, baseline, network), "Better")
    assert text.startswith(f"AUC of the network {network:.3f} ± 0.005, of a BDT {baseline:.3f} ± 0.005.")
    assert says in text
    assert state == expected


def test_overtraining() -> None:
    state, text = answer(content(0.93, 0.93, 0.94), "Overtrained")
    assert (state, "overtraining is small" in text) == ("good", True)
    state, text = answer(content(0.93, 0.93, 0.99), "Overtrained")
    assert state == "bad"
    assert "0.060 more than on the others: it has learned some events by heart" in text
    differing = content(0.93, 0.93, 0.94)
    differing["overtraining"]["kolmogorov_smirnov"]["other"]["probability"] = 0.001
    state, text = answer(differing, "Overtrained")
    assert state == "look"
    assert "the scores of other differ" in text


@pytest.mark.parametrize(
    ("deviation", "chance", "expected"),
    [(0.02, 0.015, "good"), (0.008, 0.001, "good"), (0.04, 0.01, "look"), (0.1, 0.01, "bad")],
)
def test_calibration(deviation: float, chance: float, expected: str) -> None:
    found = content(0.9, 0.9, 0.9, plots={"calibration": calibration(deviation, chance)})
    state, text = answer(found, "Calibrated")
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
    after = [{"jensen_shannon": divergence, "by_chance": 0.005, "standard_deviations": excess}]
    panel = {"feature": "WCand_mT", "background": "WZ", "after": after}
    state, text = answer(content(0.9, 0.9, 0.9, plots={"sculpting": {"panels": [panel]}}), "Does a cut")
    assert state == expected
    assert says in text


def test_few_events() -> None:
    assert answer(content(0.9, 0.9, 0.9), "Enough")[0] == "good"
    classes = {"signal": {"effective": 12.0}, "other": {"effective": 5000.0}}
    state, text = answer(content(0.9, 0.9, 0.9, events={"classes": classes}), "Enough")
    assert state == "look"
    assert "few for signal: mind the errors" in text


@pytest.mark.parametrize(("index", "expected"), [(0.05, "good"), (0.2, "look"), (0.5, "bad")])
def test_drift(index: float, expected: str) -> None:
    panels = [
        {"name": "MET_pt", "stability_index": index, "distance": 0.1},
        {"name": "constant", "stability_index": None, "distance": None},
    ]
    state, text = answer(content(0.9, 0.9, 0.9, plots={"drift": {"panels": panels}}), "Like")
    assert state == expected
    assert f"MET_pt, population stability index {index:.3f}" in text


def test_regression() -> None:
    def entry(gain: float) -> dict[str, Any]:
        numbers = {"resolution": {"value": 12.0, "error": 0.5}}
        return {"network": numbers, "baseline": numbers, "gain_in_rmse": {"value": gain, "error": 0.1}}

    found = {**content(None, 0.9, None), "task": "regression", "targets": {"mass": entry(-1.0), "pt": entry(1.0)}}
    state, text = answer(found, "Better")
    assert state == "bad"
    assert "mass: resolution of the network 12.000 ± 0.500" in text
    assert text.count("worse") == 1


def test_not_defined() -> None:
    state, text = answer(content(None, 0.9, None), "Better")
    assert state == "bad"
    assert text == "No AUC is defined: the weights of the signal or of the background have no positive sum."
    assert answer(content(0.9, 0.9, None), "Overtrained") == (
        "look",
        "No AUC is defined for the events of the training.",
    )
