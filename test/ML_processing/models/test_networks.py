"""What is true of every network, of one by its name or of a user's own, and of the ensemble in one network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from ML_processing.events.inputs import CollectionShape, EventTensors, Inputs, ObjectTensors, Shape
from ML_processing.models.network import Network, make_network
from ML_processing.networks import code_behind
from ML_processing.networks.tabular import Tabular
from MLTools.NanoML.config.training import MODELS
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.observing import observed, sources

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


def shortened(inputs: Inputs, count: int) -> Inputs:
    objects = {name: ObjectTensors(it.values[:, :count], it.mask[:, :count]) for name, it in inputs.objects.items()}
    return Inputs(inputs.features, objects)


def padded(inputs: Inputs, count: int, value: float) -> Inputs:
    pad = torch.nn.functional.pad
    objects = {
        name: ObjectTensors(pad(it.values, (0, 0, 0, count), value=value), pad(it.mask, (0, count), value=False))
        for name, it in inputs.objects.items()
    }
    return Inputs(inputs.features, objects)


@torch.no_grad()
def test_order_of_objects_means_nothing(set_model: str, shape: Shape, draw: Draw, build: Build) -> None:
    events = draw(shape, 50)
    order = {name: torch.randperm(it.mask.shape[1]) for name, it in events.objects.items()}
    objects = {it: ObjectTensors(of.values[:, order[it]], of.mask[:, order[it]]) for it, of in events.objects.items()}
    shuffled = Inputs(events.features, objects)
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
        short, filled = shortened(events, count), {}
        for name, it in events.objects.items():
            filled[name] = ObjectTensors(it.values, it.mask & (torch.arange(it.mask.shape[1]) < count))
        torch.testing.assert_close(network(short), network(Inputs(events.features, filled)), rtol=0, atol=2e-6)


def test_gradients_without_objects_are_finite(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    network = build(model, shape)
    events = without_objects(draw(shape, 20))
    for inputs in (events, shortened(events, 0)):
        outputs = network(inputs)
        assert outputs.isfinite().all()
        network.zero_grad()
        outputs.square().sum().backward()
        assert all(it.grad is None or it.grad.isfinite().all() for it in network.parameters())


@pytest.mark.parametrize("values", [[np.nan], [-np.inf], [3.4e38, -3.4e38], [0.0], [1e-45]], ids=str)
def test_extreme_values_are_finite(model: str, values: list[float], shape: Shape, draw: Draw, build: Build) -> None:
    network, chosen = build(model, shape), torch.tensor(values)
    events = draw(shape, 50)
    events = events.map(lambda it: it if it.dtype == torch.bool else chosen[torch.randint(len(chosen), it.shape)])
    outputs = network(events)
    assert outputs.isfinite().all()
    outputs.square().sum().backward()
    assert all(it.grad is None or it.grad.isfinite().all() for it in network.parameters())


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


SOURCE = """
from torch import nn


class Linear(nn.Module):
    def __init__(self, shape, scale: float = 1.0, *, names=()):
        super().__init__()
        self.scale = float(scale)
        self.layer = nn.Linear(len(shape.features), shape.outputs)

    def forward(self, inputs):
        return self.scale * self.layer(inputs.features)


class OfJets(Linear):
    object_fields = ("pt", "btag")


class Free(Linear):
    def __init__(self, shape, **options):
        super().__init__(shape, options["size"])


class Plain:
    pass
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current directory, another one in every test."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return name


NO_OPTION = '^train.options.hiden: the model "mlp" has no such option. '


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
        ("mlp", {"hiden": [3]}, NO_OPTION + r'Did you mean "hidden"\? Its options: hidden, dropout\.$'),
        ("mlp", {"shape": 1}, "train.options.shape: .* has no such option"),
        ("OWN:Linear", {"scales": 1}, r'no such option. Did you mean "scale"\? Its options: scale, names.'),
        ("OWN:Linear", {"scale": "x"}, r"cannot be made with \{'scale': 'x'\}: ValueError: .* Its options: scale"),
    ],
)
def test_options_without_a_meaning(model: str, options: Any, message: str, source: str, shape: Shape) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(model.replace("OWN", source), options, shape)


@pytest.mark.parametrize("suffix", ["", ".py"])
def test_a_model_of_ones_own(suffix: str, source: str, shape: Shape) -> None:
    network = make_network(f"{source}{suffix}:Linear", {"scale": 2}, shape)
    assert network.core.scale == 2
    assert make_network(f"{source}{suffix}:Free", {"size": 3}, shape).core.scale == 3
    assert [tuple(it.shape) for it in network.parameters()] == [(2, 3), (2,)]


def test_a_model_of_ones_own_that_needs_objects(source: str, shape: Shape) -> None:
    jets, _ = shape.collections
    make_network(f"{source}:OfJets", {}, Shape(shape.features, (jets,), 2))
    with pytest.raises(ConfigError, match=f'"{source}:OfJets" needs pt, btag of every collection. Add Muon_btag in'):
        make_network(f"{source}:OfJets", {}, shape)
    with pytest.raises(ConfigError, match=f'"{source}:OfJets" reads collections of objects, but there is none'):
        make_network(f"{source}:OfJets", {}, Shape(shape.features, (), 2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("deepset", r'"deepset" is not a model. Did you mean "deepsets"\? Known: tabular, bdt, deepsets, mlp, '),
        ("OWN:Liner", r'has no class Liner. Did you mean "Linear"\? It has: Linear, OfJets, Free.'),
        ("OWN:Plain", "Plain is not a class made from torch.nn.Module"),
        ("OWN:nn", "nn is not a class made from torch.nn.Module"),
        ("OWN.py:Plain", "Plain is not a class made from torch.nn.Module"),
        ("absent.py:Linear", "absent.py: no such file"),
        ("absent_module:Linear", "cannot be imported: ModuleNotFoundError: No module named 'absent_module'"),
        ("OWN:", "one of your own is named as module:Class or file.py:Class"),
    ],
)
def test_names_of_nothing(model: str, message: str, source: str, shape: Shape) -> None:
    with pytest.raises(ConfigError, match=message):
        make_network(model.replace("OWN", source), {}, shape)


def test_a_broken_file(tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match='broken.py:Linear": cannot be imported: ZeroDivisionError'):
        make_network(f"{path}:Linear", {}, shape)


def test_a_file_that_was_edited_since_it_was_planned(tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / "edited.py"
    path.write_text("X = 1\n")
    code_behind(f"{path}:Linear")
    path.write_text("X = 2\n")
    with pytest.raises(ConfigError, match="was changed after this was planned"), observed(sources()):
        make_network(f"{path}:Linear", {}, shape)


def test_defaults_of_every_model(shape: Shape) -> None:
    for model in set(MODELS) - {"bdt"}:
        network = make_network(model, {}, shape)
        assert 1e3 < sum(it.numel() for it in network.parameters()) < 3e5
        assert all(it.dtype == torch.float32 for it in network.state_dict().values())


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
    members: Any = core._each
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
