from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models import Network, make_network

Draw = Callable[..., Inputs]


def fitted(shape: Shape, draw: Draw, targets: object = None) -> Network:
    events = draw(shape, 1000)
    objects = {name: (it.values.numpy(), it.mask.numpy()) for name, it in events.objects.items()}
    network = make_network("mlp", {}, shape)
    network.fit(events.features.numpy(), objects, targets)
    return network.eval()


def test_targets_are_standardized_and_come_back(shape: Shape, draw: Draw) -> None:
    targets = np.random.default_rng(1).normal([125, 0], [10, 0.1], (1000, 2)).astype("f4")
    network = fitted(shape, draw, targets)
    assert network.target_center.tolist() == pytest.approx([125, 0], abs=1)
    assert network.target_width.tolist() == pytest.approx([10, 0.1], rel=0.1)
    standard = network.standardize(torch.from_numpy(targets))
    assert standard.std(dim=0).tolist() == pytest.approx([1, 1], abs=0.1)
    events = draw(shape, 20)
    torch.testing.assert_close(
        network.standardize(network.outputs(events)), network(events), atol=1e-4, rtol=0
    )


def test_classes_have_no_scale(shape: Shape, draw: Draw) -> None:
    network = fitted(shape, draw)
    events = draw(shape, 20)
    assert torch.equal(network.outputs(events), network(events))


def test_scaling_is_fitted_with_the_network(shape: Shape, draw: Draw) -> None:
    network = fitted(shape, draw)
    scaled = network.scaling(draw(shape, 1000))
    assert scaled.features.median(dim=0).values.tolist() == pytest.approx([0, 0, 0], abs=0.01)
    jets = scaled.objects["Jet"]
    assert jets.values[jets.mask].median(dim=0).values.tolist() == pytest.approx([0] * 5, abs=0.01)
