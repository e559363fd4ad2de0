"""Learning rates of several groups, and the average of weights."""

from __future__ import annotations

import torch
from torch import nn

from ML_processing.training.losses import Rates, averaged, make_optimizer
from MLTools.NanoML.config.training import Train


def test_all_rates_rise_and_fall_together_also_after_a_restart() -> None:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 0.1}, {"params": weights[1:]}], lr=1.0)
    rates = Rates(optimizer)
    rates.set(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]
    optimizer.load_state_dict(optimizer.state_dict())
    rates.set(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0]


def test_the_average_is_short_at_first_and_then_that_of_its_decay() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average, expected = averaged(layer, 0.9), 0.0
    for step in range(200):
        with torch.no_grad():
            layer.weight.fill_(float(step % 7))
        average.update_parameters(layer)
        share = min(0.9, (1 + step) / (10 + step)) if step else 0.0
        expected = share * expected + (1 - share) * (step % 7)
        assert abs(average.module.weight.item() - expected) < 1e-4
    assert share == 0.9


def test_parameters_that_are_thawed_later_are_known_to_the_optimizer() -> None:
    layers = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    layers[0].requires_grad_(False)
    optimizer = make_optimizer(layers, Train(learning_rate=0.25, weight_decay=0.5))
    (group,) = optimizer.param_groups
    assert (len(group["params"]), group["lr"], group["weight_decay"]) == (4, 0.25, 0.5)
