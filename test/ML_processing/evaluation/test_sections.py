"""Parts of the report by themselves: best cuts, on events that have not chosen them, importance, correlations and residuals."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ML_processing.evaluation.scored import Scored
from ML_processing.evaluation.sections.cuts import SculptedMasses
from ML_processing.evaluation.sections.importance import (
    Importance,
    InputImportance,
    integrated_gradients,
    permutation_importance,
)
from ML_processing.evaluation.sections.inputs import correlation
from ML_processing.evaluation.sections.regression import residuals, rmse_difference
from ML_processing.evaluation.sections.significance import Significance
from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import auc_difference
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
    found: Any = Significance.of_cuts(events, hashes, TOTALS, physical=True)
    values, errors = [], []
    for it, parity in zip(found.cross_fit.halves, (0, 1), strict=True):
        assert it.chosen_on == ("even", "odd")[parity]
        chooses, others = (events.select(hashes % 2 == side) for side in (parity, 1 - parity))
        alone: Any = Significance.of_cuts(chooses, np.arange(len(chooses), dtype=np.uint64), TOTALS, physical=True)
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
    many: Any = Significance.of_cuts(*scored(200_000, seed=99), TOTALS, physical=True)
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
    whole: Any = Significance.of_cuts(third, hashes, totals, physical=True)
    assert whole.cross_fit is not None
    even = np.where(third.labels == 2, 0, hashes).astype(np.uint64)
    alone: Any = Significance.of_cuts(third, even, totals, physical=True)
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
    found: Any = SculptedMasses.behind_cuts(tested, events, None, None)
    assert [it.feature for it in found.panels] == ["c_mass", "d_mass", "e_mass"]
    assert found.masses == 5


def test_what_is_not_used_has_no_importance() -> None:
    random = np.random.default_rng(1)
    truth = random.random(3000) < 0.5
    x = np.stack([random.normal(truth * 2.0), random.normal(truth * 0.5), random.normal(size=3000)], axis=1)
    before, weight = x[:, 0] + x[:, 1], np.where(random.random(3000) < 0.1, -1.0, 1.0)

    def scores(name: str, generator: np.random.Generator) -> NDArray[np.float64]:
        changed = x.copy()
        changed[:, int(name)] = generator.permutation(changed[:, int(name)])
        return changed[:, 0] + changed[:, 1]

    def loss(score: NDArray[np.float64]) -> Measured:
        return auc_difference(before, score, truth, weight)

    found = permutation_importance(["0", "1", "2"], scores, loss, seed=1)
    first, second, third = (found[name] for name in "012")
    assert first.value is not None
    assert second.value is not None
    assert second.error is not None
    assert first.value > 5 * second.value > 0
    assert second.value > 2 * second.error
    assert third == Measured(0, 0)
    assert found == permutation_importance(["0", "1", "2"], scores, loss, seed=1)


def test_importance_not_defined() -> None:
    nothing = permutation_importance(["a"], lambda *_: np.zeros(2), lambda _: Measured(None, None), 1)
    assert nothing == {"a": Measured(None, None)}


def test_the_leading_inputs_are_the_most_important() -> None:
    losses = {"a": 0.1, "b": -0.01, "c": None, "d": 0.3, "e": 0.2}
    found = Importance([InputImportance(name, False, loss, None, None) for name, loss in losses.items()], 100, 5)
    assert found.leading(list(losses), 3) == [0, 3, 4]
    assert found.leading([*losses, "no input"], 2) == [3, 5]
    assert found.leading(list(losses), 4) == [0, 1, 3, 4]
    assert found.leading(list(losses), 9) == [0, 1, 2, 3, 4]


def test_gradients_sum_to_the_output() -> None:
    torch.manual_seed(1)
    layers = torch.nn.Sequential(torch.nn.Linear(7, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))
    x, objects = torch.randn(50, 3), torch.randn(50, 2, 2)

    def output(tensors: list[torch.Tensor]) -> torch.Tensor:
        return layers(torch.cat([tensors[0], tensors[1].flatten(1)], dim=1))[:, 0]

    parts = integrated_gradients(output, [x, objects], steps=64)
    total = sum(part.flatten(1).sum(dim=1) for part in parts)
    with torch.no_grad():
        ends = [output([scale * x, scale * objects]) for scale in (1, 0)]
    assert torch.allclose(total, ends[0] - ends[1], atol=1e-3)


def test_gradient_of_what_is_not_used() -> None:
    used, unused = integrated_gradients(lambda it: 3 * it[0][:, 0], [torch.ones(2, 1), torch.ones(2, 4)])
    assert used.tolist() == [[3.0], [3.0]]
    assert not unused.any()


def test_correlation() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(500, 3)) @ random.normal(size=(3, 3)) + 1000
    assert correlation(x, np.ones(500)) == pytest.approx(np.corrcoef(x, rowvar=False))
    weight = random.integers(0, 4, 500).astype(float)
    assert correlation(x, weight) == pytest.approx(np.corrcoef(np.repeat(x, weight.astype(int), axis=0), rowvar=False))
    cancelled = np.append(np.ones(500), -np.ones(100))
    both = np.concatenate([x, x[:100]])
    assert correlation(both, cancelled) == pytest.approx(np.corrcoef(x[100:], rowvar=False))


def test_correlation_of_missing_and_constant_values() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(300, 3))
    x[:, 1] += x[:, 0]
    x[:, 2] = 5
    x[:50, 1] = np.nan
    found = correlation(x, np.ones(300))
    assert found[0, 1] == pytest.approx(np.corrcoef(x[50:, 0], x[50:, 1])[0, 1], abs=1e-6)
    assert np.isnan(found[2]).all()


def test_residuals_are_predicted_minus_true() -> None:
    found = residuals([1.0, 1.0, np.nan], [1.5, 3.0, 9.0], [3.0, -1.0, 5.0], seed=1)
    assert found.bias.value == (3 * 0.5 - 2) / 2
    assert found.bias.error == pytest.approx(np.sqrt(9 * 0.75**2 + 2.25**2) / 2)
    assert residuals([1.0], [2.0], [-1.0], seed=1).bias.value is None


def test_residuals() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=5000)
    predicted = truth + random.normal(0.5, 2.0, 5000)
    found = residuals(truth, predicted, np.ones(5000), seed=1)
    assert found.bias.value == pytest.approx(0.5, abs=4 * 2 / np.sqrt(5000))
    assert found.bias.error == pytest.approx(2 / np.sqrt(5000), rel=0.05)
    assert found.rmse.value == pytest.approx(np.hypot(0.5, 2), rel=0.05)
    assert found.resolution.value == pytest.approx(2 * 0.9945, rel=0.05)
    # of a quantile at 16 %: sqrt(p (1 - p) / n) / density, and two of them with their correlation
    assert found.resolution.error == pytest.approx(2 * np.sqrt(0.16 * 0.68 / 2 / 5000) / 0.2433, rel=0.2)


def test_residuals_with_weights_of_either_sign() -> None:
    random = np.random.default_rng(1)
    truth, noise = random.normal(size=2000), random.normal(size=2000)
    extra = np.full(200, 30.0)
    both = np.concatenate([noise, extra, extra])
    weight = np.concatenate([np.ones(2000), np.ones(200), -np.ones(200)])
    known = np.concatenate([truth, np.zeros(400)])
    found = residuals(known, known + both, weight, seed=1)
    assert found.bias.value == pytest.approx(noise.mean())
    assert found.resolution.value == pytest.approx(1, abs=0.1)


def test_residuals_not_defined() -> None:
    assert residuals([1.0], [2.0], [-1.0], seed=1).rmse.value is None
    assert residuals([np.nan], [2.0], [1.0], seed=1).bias.value is None


def test_difference_in_rmse_knows_that_the_events_are_the_same() -> None:
    random = np.random.default_rng(1)
    truth, weight = random.normal(size=3000), random.exponential(1, 3000)
    first = truth + random.normal(0, 2, 3000)
    other = first + random.normal(0, 0.1, 3000)
    found: Any = rmse_difference(truth, first, other, weight)
    one, two = (residuals(truth, values, weight, 1, 2).rmse for values in (first, other))
    assert one.value is not None
    assert two.value is not None
    assert found.value == pytest.approx(one.value - two.value)
    assert one.error is not None
    assert 0 < found.error < one.error / 5
    assert rmse_difference(truth, first, first, weight).error == 0
    assert rmse_difference([1.0], [2.0], [3.0], [-1.0]).value is None
