"""How often events are drawn, and with what weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ML_processing.events.sampling import drawn

COUNT, TIMES = 300, 2000
CHANGED = ["weighted", "balanced"]


def events(negative: float = 0.2) -> tuple[Tensor, Tensor]:
    """Three classes, the last one with 1 % of the events; weights over two orders of magnitude, some of them 0."""
    generator = torch.Generator().manual_seed(1)
    labels = (torch.arange(COUNT) % 100 == 0).long() * 2 + (torch.arange(COUNT) % 100 > 60).long()
    sizes = 10 ** (2 * torch.rand(COUNT, generator=generator))
    sizes[5:10] = 0
    return labels, torch.where(torch.rand(COUNT, generator=generator) < negative, -sizes, sizes)


def some(sampler: str, seed: int, negative: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    labels, weights = events(negative)
    rows, found = drawn(labels, weights, sampler, torch.Generator().manual_seed(seed))
    assert found.dtype == torch.float32
    assert len(rows) == len(found) == COUNT
    return rows, labels[rows], found


@pytest.mark.parametrize("sampler", ["every", *CHANGED])
def test_the_expectation_of_every_weight_is_the_same(sampler: str) -> None:
    _, weights = events()
    sums = torch.zeros(COUNT, dtype=torch.double)
    for seed in range(TIMES):
        rows, _, found = some(sampler, seed)
        sums.index_add_(0, rows, found.double())
    spread = 0.5 * float(found.abs().max()) / TIMES**0.5  # an event comes so many times, or once more
    assert torch.allclose(sums / TIMES, weights.double(), rtol=1e-5, atol=5 * spread)
    # and of sums over classes, which hardly vary at all
    labels = events()[0]
    for i in range(3):
        assert float(sums[labels == i].sum()) / TIMES == pytest.approx(float(weights[labels == i].sum()), rel=0.1)


def test_every_takes_each_event_once() -> None:
    rows, _, found = some("every", 1)
    assert sorted(rows.tolist()) == list(range(COUNT))
    assert torch.equal(found, events()[1][rows])


def test_weighted_leaves_only_the_sign() -> None:
    rows, _, found = some("weighted", 1)
    _, weights = events()
    assert torch.equal(found.sign(), weights[rows].sign())
    assert found.abs().tolist() == pytest.approx([float(weights.abs().mean())] * COUNT)
    times, expected = torch.bincount(rows, minlength=COUNT), weights.abs() / weights.abs().mean()
    assert float((times - expected).abs().max()) < 1
    assert times.max() > 3
    assert not times[5:10].any()  # no weight, no draw


@pytest.mark.parametrize("size", [6, 50])
def test_balanced_has_as_many_of_each_class_in_any_batch(size: int) -> None:
    rows, labels, found = some("balanced", 1)
    for part in labels.split(size):
        counts = torch.bincount(part, minlength=3)
        assert counts.max() - counts.min() <= 2
    _, weights = events()
    assert torch.equal(found.sign(), weights[rows].sign())
    for i in range(3):
        assert len(found[labels == i].abs().unique()) <= 3  # but for rounding the same
    # neighbours are in random order: processes share a batch by taking every second event
    assert torch.bincount(labels[::2]).min() > 35


def test_classes_without_weight_and_blocks_without_events() -> None:
    labels, weights = events()
    weights[labels == 1] = 0
    for sampler in CHANGED:
        rows, found = drawn(labels, weights, sampler, torch.Generator().manual_seed(1))
        assert not (labels[rows] == 1).any()
        assert torch.isfinite(found).all()
        rows, found = drawn(labels, weights * 0, sampler, torch.Generator().manual_seed(1))
        assert sorted(rows.tolist()) == list(range(COUNT))
        rows, found = drawn(labels[:0], weights[:0], sampler, torch.Generator().manual_seed(1))
        assert len(rows) == len(found) == 0


def test_equal_weights_are_each_event_once() -> None:
    rows, found = drawn(torch.zeros(COUNT).long(), torch.ones(COUNT), "weighted", torch.Generator().manual_seed(3))
    assert sorted(rows.tolist()) == list(range(COUNT))
    assert found.tolist() == pytest.approx([1.0] * COUNT)
