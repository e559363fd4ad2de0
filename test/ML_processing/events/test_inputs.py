"""The order of the events in a training."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from ML_processing.events.inputs import Batches, EventTensors, Inputs, ObjectTensors, Position

SIZES = [10, 0, 7, 3, 12]  # events of the blocks


def block(number: int) -> EventTensors:
    """Events that are numbered through all blocks, in a feature, in a target and in jets."""
    count, start = SIZES[number], sum(SIZES[:number])
    numbers = torch.arange(start, start + count)
    values = numbers.float()[:, None]
    jets = ObjectTensors(values[:, None], torch.ones(count, 1, dtype=torch.bool), torch.zeros(count, 1, 4))
    nothing = torch.empty(0)
    return EventTensors(
        Inputs(values.clone(), {"Jet": jets}), numbers, torch.ones(count), values, nothing, nothing.bool()
    )


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
