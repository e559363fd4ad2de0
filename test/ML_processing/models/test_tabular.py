"""The ensemble in one network: its members learn by themselves, and are judged together."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from ML_processing.events.inputs import EventTensors, Inputs, Shape
from ML_processing.models.network import make_network
from ML_processing.networks.tabular import Tabular


def events_of(targets: int) -> EventTensors:
    random = torch.Generator().manual_seed(2)
    rows = torch.randn(50, 3, generator=random)
    wanted = torch.randn(50, targets, generator=random)
    inputs, nothing = Inputs(rows, {}), torch.empty(0)
    return EventTensors(inputs, torch.arange(50) % 2, torch.ones(50), wanted, nothing, nothing.bool())


@pytest.mark.parametrize("targets", [0, 2])
def test_each_member_has_its_own_loss_in_training(targets: int) -> None:
    torch.manual_seed(1)
    core, events = Tabular(Shape(("x", "y", "z"), (), 2), members=4, width=8, dropout=0.0), events_of(targets)
    outputs = core(events.inputs)
    members = core._each
    assert members is not None
    assert members.shape == (4, 50, 2)
    assert float(members.std(dim=0).mean().detach()) > 0.01
    torch.testing.assert_close(members.mean(dim=0), outputs)
    losses = core.loss(outputs, events)

    def loss(found: torch.Tensor) -> torch.Tensor:
        if targets:
            return smooth_l1_loss(found, events.targets, reduction="none").sum(dim=1)
        return cross_entropy(found, events.labels, reduction="none")

    torch.testing.assert_close(losses, torch.stack([loss(each) for each in members]).mean(dim=0))
    more = losses - loss(outputs)  # not negative, since both losses are convex
    assert float(more.min().detach()) > -1e-6
    assert float(more.mean().detach()) > 1e-4
    losses.sum().backward()
    assert all(float(it.grad.abs().sum()) > 0 for it in core.parameters() if it.grad is not None)
    core.eval()
    torch.testing.assert_close(core.loss(core(events.inputs), events), loss(outputs))


def test_a_member_alone_is_a_perceptron() -> None:
    torch.manual_seed(1)
    shape = Shape(("x", "y", "z"), (), 2)
    core = make_network("tabular", {"members": 1, "dropout": 0.0}, shape).core.eval()
    assert isinstance(core, Tabular)
    rows = torch.randn(20, 3)
    hidden = rows * core.signs[0]
    for layer in core.layers:
        hidden = torch.nn.functional.silu(layer(hidden))
    torch.testing.assert_close(core(Inputs(rows, {})), hidden @ core.last[0])
