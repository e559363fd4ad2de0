"""The answers on data against simulation, one case at a time."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from ML_processing.evaluation.classifier_test import ClassifierTest
from ML_processing.evaluation.sections.data import Data, DataComparison
from ML_processing.metrics.measured import Measured
from services.evaluations import evaluation

pytestmark = pytest.mark.exhaustive("each section and answer of the report")


def compared(classifier: ClassifierTest | None, probability: float = 0.4, ratio: float = 1.0) -> DataComparison:
    """A comparison of which only the tests are given."""
    panel = SimpleNamespace(label="MET_pt", agreement=SimpleNamespace(probability=probability))
    given: dict[str, Any] = dict.fromkeys(it.name for it in fields(DataComparison))
    given |= {"data": 1000, "ratio": Measured(ratio, 0.03), "classifier": classifier, "inputs": [panel], "scores": []}
    return DataComparison(**given)


def told_apart(area: float, error: float) -> ClassifierTest:
    return ClassifierTest(Measured(area, error), (area - 0.5) / error, 0.4, [], 1000)


@pytest.mark.parametrize(
    ("given", "state", "says"),
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
def test_what_it_means(given: DataComparison, state: str, says: str) -> None:
    data = Data({"CR": given})
    (answer,) = data.answers(evaluation({Data: data}))
    assert answer.state == state
    assert says in answer.text
    assert ("A network exploits" in answer.text) is (state in ("look", "bad"))
