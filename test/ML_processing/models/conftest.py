"""Shapes of inputs, and made-up events to fill them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ML_processing.events.inputs import CollectionShape, Inputs, ObjectTensors, Shape
from ML_processing.models.network import Network, make_network
from MLTools.NanoML.config.training import MODELS
from services.trainings import SMALL, grow


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["deepsets", "particlenet", "transformer"])
def set_model(request: pytest.FixtureRequest) -> str:
    """Each of the models to which the order of the objects means nothing."""
    return request.param


@pytest.fixture
def shape() -> Shape:
    """Jets and muons with event-level features."""
    jets = CollectionShape("Jet", ("pt", "eta", "phi", "mass", "btag"), 5, "-pt")
    muons = CollectionShape("Muon", ("charge", "phi", "eta", "pt"), 3, "-pt")
    return Shape(("MET_pt", "nJet", "PV_npvs"), (jets, muons), 2)


_RANGES = {"pt": (5, 200), "eta": (-2.5, 2.5), "phi": (-3.1, 3.1), "mass": (0, 20), "charge": (-1, 1)}


@pytest.fixture(scope="session")
def draw() -> Callable[..., Inputs]:
    """Events with 0 to the largest number of objects, anywhere on the object axis."""

    def draw(shape: Shape, events: int, seed: int = 1) -> Inputs:
        random = np.random.default_rng(seed)
        objects = {}
        for it in shape.collections:
            mask = np.arange(it.max) < random.integers(0, it.max + 1, (events, 1))
            mask = random.permuted(mask, axis=1)
            columns = [random.uniform(*_RANGES.get(field, (0, 1)), (events, it.max)) for field in it.fields]
            values = np.stack(columns, axis=2).astype("f4") * mask[:, :, None]
            objects[it.name] = ObjectTensors(torch.from_numpy(values), torch.from_numpy(mask))
        features = random.normal(50, 20, (events, len(shape.features))).astype("f4")
        return Inputs(torch.from_numpy(features), objects)

    return draw


@pytest.fixture(scope="session")
def build(draw: Callable[..., Inputs]) -> Callable[..., Network]:
    """A small network without dropout at work, its scaling fitted."""

    def build(model: str, shape: Shape, **options: object) -> Network:
        torch.manual_seed(1)
        network = make_network(model, {**SMALL[model], **options}, shape)
        events = draw(shape, 500, seed=2)
        objects = {name: (it.values.numpy(), it.mask.numpy()) for name, it in events.objects.items()}
        network.fit(events.features.numpy(), objects)
        grow(network, events)
        return network.eval()

    return build
