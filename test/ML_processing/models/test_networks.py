"""What is true of every network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ML_processing.events.inputs import CollectionShape, Inputs, ObjectTensors, Shape
from ML_processing.models.network import Network, make_network
from MLTools.NanoML.config.training import MODELS
from MLTools.NanoML.errors import ConfigError

Build = Callable[..., Network]
Draw = Callable[..., Inputs]


@pytest.fixture(params=[name for name in MODELS if name != "bdt"])
def model(request: pytest.FixtureRequest) -> str:
    """Each of the models that have gradients; for trees there is test_bdt.py."""
    return request.param


def change(inputs: Inputs, values: Callable[[ObjectTensors], Tensor]) -> Inputs:
    return Inputs(inputs.features, {name: ObjectTensors(values(it), it.mask) for name, it in inputs.objects.items()})


def without_objects(inputs: Inputs) -> Inputs:
    objects = {name: ObjectTensors(it.values, torch.zeros_like(it.mask)) for name, it in inputs.objects.items()}
    return Inputs(inputs.features, objects)


def padded(inputs: Inputs, count: int, value: float) -> Inputs:
    pad = torch.nn.functional.pad
    objects = {
        name: ObjectTensors(pad(it.values, (0, 0, 0, count), value=value), pad(it.mask, (0, count), value=False))
        for name, it in inputs.objects.items()
    }
    return Inputs(inputs.features, objects)


@torch.no_grad()
def test_shape_and_spread_of_outputs(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    outputs = build(model, shape)(draw(shape, 50))
    assert outputs.shape == (50, 2)
    assert (torch.softmax(outputs, dim=1).std(dim=0) > 0.0001).all()


@torch.no_grad()
def test_order_of_objects_means_nothing(set_model: str, shape: Shape, draw: Draw, build: Build) -> None:
    events = draw(shape, 50)
    order = {name: torch.randperm(it.mask.shape[1]) for name, it in events.objects.items()}
    shuffled = Inputs(
        events.features,
        {
            name: ObjectTensors(it.values[:, order[name]], it.mask[:, order[name]])
            for name, it in events.objects.items()
        },
    )
    network = build(set_model, shape)
    torch.testing.assert_close(network(shuffled), network(events), rtol=0, atol=2e-6)


@torch.no_grad()
def test_objects_matter(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    events = draw(shape, 50)
    network = build(model, shape)
    for name in events.objects:
        fewer = {**events.objects, name: without_objects(events).objects[name]}
        some = events.objects[name].mask.any(dim=1)
        difference = network(Inputs(events.features, fewer)) - network(events)
        assert (difference[some].abs().amax(dim=1) > 1e-4).all()
    assert not torch.allclose(network(Inputs(events.features + 20, events.objects)), network(events), atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("value", [1e3, np.nan, 3e38])
def test_padding_means_nothing(model: str, value: float, shape: Shape, draw: Draw, build: Build) -> None:
    events = draw(shape, 50)
    network = build(model, shape)
    expected = network(events)
    garbage = change(events, lambda it: torch.where(it.mask.unsqueeze(-1), it.values, value))
    torch.testing.assert_close(network(garbage), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(network(padded(events, 4, value)), expected, rtol=0, atol=2e-6)


@torch.no_grad()
def test_short_object_axes(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    events = draw(shape, 20)
    network = build(model, shape)
    for count in (2, 1, 0):
        short = {name: ObjectTensors(it.values[:, :count], it.mask[:, :count]) for name, it in events.objects.items()}
        filled = {
            name: ObjectTensors(it.values, it.mask & (torch.arange(it.mask.shape[1]) < count))
            for name, it in events.objects.items()
        }
        torch.testing.assert_close(
            network(Inputs(events.features, short)), network(Inputs(events.features, filled)), rtol=0, atol=2e-6
        )


def test_gradients_without_objects_are_finite(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape)
    events = without_objects(draw(shape, 20))
    for inputs in (events, change(events, lambda it: it.values[:, :0])):
        if not inputs.objects["Jet"].values.shape[1]:
            inputs = Inputs(
                inputs.features, {n: ObjectTensors(it.values, it.mask[:, :0]) for n, it in inputs.objects.items()}
            )
        outputs = network(inputs)
        assert outputs.isfinite().all()
        network.zero_grad()
        outputs.square().sum().backward()
        assert all(it.grad is None or it.grad.isfinite().all() for it in network.parameters())


@pytest.mark.parametrize("value", [np.nan, -np.inf, 3.4e38, 0.0, 1e-45])
def test_extreme_values_are_finite(model: str, value: float, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape)
    events = draw(shape, 20).map(lambda it: it if it.dtype == torch.bool else torch.full_like(it, value))
    outputs = network(events)
    assert outputs.isfinite().all()
    outputs.square().sum().backward()
    assert all(it.grad is None or it.grad.isfinite().all() for it in network.parameters())


def test_extremes_of_both_signs_are_finite(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    largest = float(np.finfo(np.float32).max)

    def flip(it: Tensor) -> Tensor:
        return it if it.dtype == torch.bool else torch.where(torch.rand_like(it) < 0.5, largest, -largest)

    assert build(model, shape)(draw(shape, 50).map(flip)).isfinite().all()


def test_gradient_flows_to_every_parameter(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape)
    network(draw(shape, 50)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-6, name


def test_gradient_does_not_come_from_padding(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape)
    events = draw(shape, 20)
    inputs = events.map(lambda it: it if it.dtype == torch.bool else it.clone().requires_grad_())
    network(inputs).square().sum().backward()
    for it in inputs.objects.values():
        assert it.values.grad is not None
        assert (it.values.grad[~it.mask] == 0).all()
        assert it.values.grad.isfinite().all()


def test_dropout_follows_the_seed(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape, dropout=0.5).train()
    events = draw(shape, 20)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(network(events))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])
    network.eval()
    assert torch.equal(network(events), network(events))
    assert all(it.p == 0.5 for name, it in network.named_modules() if name.endswith("dropout"))


@torch.no_grad()
def test_events_are_independent(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape).train()
    for it in network.modules():
        if isinstance(it, torch.nn.Dropout):
            it.p = 0.0
    events = draw(shape, 30)
    torch.testing.assert_close(network(events.map(lambda it: it[5:9])), network(events)[5:9], rtol=0, atol=2e-6)


@torch.no_grad()
def test_state_is_all(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    first = build(model, shape)
    second = build(model, shape)
    for tensor in second.state_dict().values():
        tensor += 1
    second.load_state_dict(first.state_dict())
    events = draw(shape, 10)
    assert torch.equal(first(events), second.eval()(events))


@torch.no_grad()
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_lower_precision(model: str, precision: torch.dtype, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape)
    events = draw(shape, 50)
    with torch.autocast("cpu", precision):
        outputs, none = network(events), network(without_objects(events))
    torch.testing.assert_close(outputs.float(), network(events), rtol=0.1, atol=0.1)
    assert none.isfinite().all()


def test_without_features(set_model: str, shape: Shape, draw: Draw, build: Build) -> None:
    only_objects = Shape((), shape.collections, 3)
    network = build(set_model, only_objects)
    assert network(draw(only_objects, 5)).shape == (5, 3)
    assert network(without_objects(draw(only_objects, 5))).isfinite().all()


def test_what_cannot_be_used(shape: Shape) -> None:
    features = Shape(shape.features, (), 2)
    for model in ("deepsets", "particlenet", "transformer"):
        with pytest.raises(ConfigError, match=f'train.model: "{model}" reads collections .* `convert.objects`'):
            make_network(model, {}, features)
    with pytest.raises(ConfigError, match="train.features: there is nothing to train on"):
        make_network("mlp", {}, Shape((), (), 2))
    flat = Shape(shape.features, (*shape.collections, CollectionShape("Tau", ("pt", "eta"), 2)), 2)
    with pytest.raises(ConfigError, match="needs pt, eta, phi of every collection. Add Tau_phi in"):
        make_network("particlenet", {}, flat)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("mlp", {"hidden": 64}, "train.options.hidden: is 64, but must be a list of whole numbers"),
        ("mlp", {"hidden": [64, 0]}, r"train.options.hidden: is \[64, 0\], but"),
        ("mlp", {"dropout": 1}, "train.options.dropout: is 1, but must be a number of at least 0 and under 1"),
        ("deepsets", {"width": "wide"}, "train.options.width: is 'wide', but must be a whole number"),
        ("deepsets", {"width": [4]}, r"train.options.width: is \[4\], but must be a whole number"),
        ("particlenet", {"neighbors": 0}, "train.options.neighbors: is 0, but"),
        ("transformer", {"width": 10, "heads": 4}, "train.options.width: is 10, but must be a multiple of heads, 4"),
        ("bdt", {"leaves": 0}, "train.options.leaves: is 0, but must be a whole number of at least 1"),
        ("bdt", {"event_share": 0}, "train.options.event_share: is 0, but must be a number above 0 and at most 1"),
        ("bdt", {"l2": "x"}, "train.options.l2: is 'x', but must be a number of at least 0"),
    ],
)
def test_options_without_a_meaning(model: str, options: dict[str, object], message: str, shape: Shape) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(model, options, shape)
