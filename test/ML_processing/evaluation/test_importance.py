from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ML_processing.evaluation.sections.importance import (
    Importance,
    InputImportance,
    integrated_gradients,
    permutation_importance,
)
from ML_processing.evaluation.sections.inputs import correlation
from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import auc_difference

pytestmark = pytest.mark.exhaustive("each section and answer of the report")


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
