"""The order of the events in a training; how often they are drawn, and with what weights."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor

from ML_processing.events.inputs import Batches, EventTensors, Inputs, ObjectTensors, Position, drawn

SIZES = [10, 0, 7, 3, 12]  # events of the blocks


def block(number: int) -> EventTensors:
    """Events that are numbered through all blocks, in a feature, in a target and in jets."""
    count, start = SIZES[number], sum(SIZES[:number])
    numbers = torch.arange(start, start + count)
    values = numbers.float()[:, None]
    jets = ObjectTensors(values[:, None], torch.ones(count, 1, dtype=torch.bool), torch.zeros(count, 1, 4))
    nothing = torch.empty(0)
    inputs = Inputs(values.clone(), {"Jet": jets})
    return EventTensors(inputs, numbers, torch.ones(count), values, nothing, nothing.bool())


def batches(seed: int = 1, size: int = 4, ahead: bool = False, sampler: str = "every") -> Batches:
    return Batches(len(SIZES), block, size, seed, ahead, None, sampler)


def numbers(found: Batches, start: Position) -> list[list[int]]:
    return [events.labels.tolist() for _, events in found.epoch(start)]


@pytest.mark.parametrize("ahead", [False, True])
def test_every_event_once_and_all_of_an_event_together(ahead: bool) -> None:
    seen = []
    for _, events in batches(ahead=ahead).epoch(Position(3)):
        assert 1 <= len(events) <= 4
        assert torch.equal(events.inputs.features[:, 0].long(), events.labels)
        assert torch.equal(events.targets[:, 0].long(), events.labels)
        assert torch.equal(events.inputs.objects["Jet"].values[:, 0, 0].long(), events.labels)
        assert len(events.spectator) == len(events.free) == 0
        seen += events.labels.tolist()
    assert sorted(seen) == list(range(32))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = numbers(batches(), Position(0))
    assert numbers(batches(ahead=True), Position(0)) == first
    assert numbers(batches(), Position(1)) != first
    assert numbers(batches(seed=2), Position(0)) != first
    assert len({tuple(chain(*numbers(batches(), Position(i)))) for i in range(20)}) == 20


@pytest.mark.parametrize(("ahead", "sampler"), [(False, "every"), (True, "every"), (True, "balanced")])
def test_goes_on_from_every_position(ahead: bool, sampler: str) -> None:
    whole = list(batches(sampler=sampler).epoch(Position(2)))
    positions = [Position(2), *(after for after, _ in whole)]
    assert positions[-1].block == 5
    assert len(set(positions)) == len(positions)
    for i, position in enumerate(positions):
        rest = numbers(batches(ahead=ahead, sampler=sampler), position)
        assert rest == [events.labels.tolist() for _, events in whole[i:]]


def test_what_is_drawn_anew_depends_on_the_position_alone() -> None:
    def redraw(events: EventTensors, generator: torch.Generator) -> None:
        events.inputs.features[:] = torch.rand(events.inputs.features.shape, generator=generator)

    found = Batches(len(SIZES), block, 4, 1, False, redraw)
    whole = [(after, events.inputs.features) for after, events in found.epoch(Position(0))]
    rest = [events.inputs.features for _, events in found.epoch(whole[3][0])]
    assert all(torch.equal(a, b) for (_, a), b in zip(whole[4:], rest, strict=True))
    again = [events.inputs.features for _, events in found.epoch(Position(1))]
    assert not any(torch.equal(a, b) for _, a in whole for b in again)


def test_a_block_that_cannot_be_read() -> None:
    def broken(number: int) -> EventTensors:
        if number == 3:
            raise ValueError("broken")
        return block(number)

    for ahead in (False, True):
        with pytest.raises(ValueError, match="broken"):
            numbers(Batches(len(SIZES), broken, 4, 1, ahead), Position(0))


COUNT, TIMES = 300, 500
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
