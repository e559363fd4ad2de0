"""Best cuts are measured on events that have not chosen them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ML_processing.evaluation.scored import Scored
from ML_processing.evaluation.sections.cuts import SculptedMasses
from ML_processing.evaluation.sections.significance import Significance
from ML_processing.metrics.significance import asimov
from ML_processing.models.discriminant import BoundDiscriminant
from MLTools.NanoML.model import Discriminant

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

TOTALS = [5.0, 30.0]


def scored(events: int, seed: int, separation: float = 1.0) -> tuple[Scored, NDArray[np.uint64]]:
    """Events of two classes, whose scores differ, and hashes that know nothing about them."""
    random = np.random.default_rng(seed)
    labels = np.arange(events) % 2
    score = (1 / (1 + np.exp(-random.normal(separation * (0.5 - labels), 1)))).astype(np.float32)
    probabilities = np.stack([score, 1 - score], axis=1)
    weights = np.float32(TOTALS)[labels] / (events // 2)
    alone = Discriminant("signal", "signal", {"signal": 1.0, "other": 1.0})
    found = Scored(labels, weights, probabilities, probabilities, BoundDiscriminant(alone, ["signal", "other"]))
    return found, random.integers(0, 2**63, events).astype(np.uint64)


def test_each_half_is_measured_behind_the_cut_of_the_other() -> None:
    events, hashes = scored(2000, seed=1)
    found = Significance.of_cuts(events, hashes, TOTALS, physical=True)
    assert found is not None
    assert found.cross_fit is not None
    values, errors = [], []
    for it, parity in zip(found.cross_fit.halves, (0, 1), strict=True):
        assert it.chosen_on == ("even", "odd")[parity]
        chooses, others = (events.select(hashes % 2 == side) for side in (parity, 1 - parity))
        alone = Significance.of_cuts(chooses, np.arange(len(chooses), dtype=np.uint64), TOTALS, physical=True)
        assert alone is not None
        assert it.score_at_least == alone.best.score_at_least
        passed = others.score >= it.score_at_least
        s, b = (
            total * passed[others.truth == of].mean() for total, of in zip(TOTALS, (True, False), strict=True)
        )  # fmt: skip
        assert it.asimov == pytest.approx(float(asimov(s, b)), rel=1e-5)
        values.append(it.asimov)
        errors.append(it.asimov_error)
    assert found.cross_fit.asimov == pytest.approx(np.mean(values))
    assert found.cross_fit.asimov_error == pytest.approx(np.hypot(*errors) / 2)


def test_the_significance_is_not_biased_by_the_choice_of_the_cut() -> None:
    """That on the events that chose the cut is."""
    biased, tested = [], []
    for seed in range(40):
        found = Significance.of_cuts(*scored(300, seed), TOTALS, physical=True)
        if found is not None and found.cross_fit is not None:
            biased.append(found.best.asimov)
            tested.append(found.cross_fit.asimov)
    assert len(tested) > 30
    many = Significance.of_cuts(*scored(200_000, seed=99), TOTALS, physical=True)
    assert many is not None
    assert many.cross_fit is not None
    assert many.best.asimov == pytest.approx(many.cross_fit.asimov, rel=0.01)
    assert np.mean(biased) > many.best.asimov + 0.08
    assert np.mean(tested) == pytest.approx(many.best.asimov, abs=0.05)


def test_too_few_events_to_halve() -> None:
    events, hashes = scored(14, seed=1)
    found = Significance.of_cuts(events, hashes, TOTALS, physical=True)
    assert found is None or found.cross_fit is None


def test_a_class_that_a_half_lacks() -> None:
    events, hashes = scored(2000, seed=1)
    third = dataclasses.replace(
        events,
        labels=np.where((np.arange(2000) % 100 == 1), 2, events.labels),
        network=np.column_stack([events.network, np.zeros(2000, np.float32)]),
        discriminant=BoundDiscriminant(events.discriminant.of, ["signal", "other", "rare"]),
    )
    totals = np.bincount(third.labels, third.weights.astype(float)).tolist()
    whole = Significance.of_cuts(third, hashes, totals, physical=True)
    assert whole is not None
    assert whole.cross_fit is not None
    alone = Significance.of_cuts(third, np.where(third.labels == 2, 0, hashes).astype(np.uint64), totals, physical=True)
    assert alone is not None
    assert alone.cross_fit is None


def test_of_many_masses_those_are_shown_that_a_cut_changes_most() -> None:
    events, _ = scored(4000, seed=1)
    random, logit = np.random.default_rng(2), np.log(events.score / (1 - events.score))
    known = {"a_mass": 0.1, "b_mass": 0.0, "c_mass": 0.8, "d_mass": 0.4, "e_mass": 2.0, "pt": 9.0}
    columns = [random.normal(by * logit, 1) for by in known.values()]
    about = SimpleNamespace(features=[], collections=[])
    table = SimpleNamespace(names=list(known), features=np.stack(columns, axis=1), extras={}, about=about)
    table.classes = ["signal", "other"]
    tested = cast("Any", SimpleNamespace(table=table, training=SimpleNamespace(parameter=None), seed=1))
    found = SculptedMasses.behind_cuts(tested, events, None, None)
    assert found is not None
    assert [it.feature for it in found.panels] == ["c_mass", "d_mass", "e_mass"]
    assert found.masses == 5
