"""Boosted decision trees: what they learn, and that ONNX Runtime decides as LightGBM does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from ML_processing.events.inputs import CollectionShape, EventTensors, Inputs, ObjectTensors, Shape
from ML_processing.metrics.roc import auc
from ML_processing.models.network import Network, make_network
from ML_processing.networks.bdt import BDT, OPERATOR, TreeEnsemble, rounded_down
from MLTools.NanoML.errors import NanoMLError

SHAPE = Shape(("x", "y"), (), 2)


def learnt(shape: Shape, inputs: Inputs, labels: Any, weights: Any = None, rounds: int = 30, **options: Any) -> Network:
    network = make_network("bdt", {"min_events": 5, **options}, shape)
    core = network.core
    assert isinstance(core, BDT)
    count = len(inputs.features)
    weighed, nothing = torch.ones(count) if weights is None else torch.as_tensor(weights).float(), torch.empty(0)
    events = EventTensors(inputs, torch.as_tensor(labels), weighed, torch.empty(count, 0), nothing, nothing.bool())
    grown: Iterator[list[torch.Tensor]] = core.grow(events, [events[:7]], 0.2, 1)
    for _ in range(rounds):
        (seen,) = next(grown)
    core.keep(rounds)
    torch.testing.assert_close(core(inputs.map(lambda it: it[:7])), seen, rtol=0, atol=1e-6)
    return network.eval()


def table(count: int, seed: int = 1) -> tuple[Inputs, NDArray[np.int64]]:
    """Two Gaussian classes; the first separates them, a tenth of the values are missing."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    values = random.normal(0, 1, (count, 2)).astype(np.float32)
    values[:, 0] += 2 * labels
    values[random.random((count, 2)) < 0.1] = np.nan
    return Inputs(torch.from_numpy(values), {}), labels


def session_of(trees: TreeEnsemble) -> onnxruntime.InferenceSession:
    """The operator alone."""
    domain, _, operator = OPERATOR.partition("::")
    attributes = {name.rpartition("_")[0]: value for name, value in trees.attributes.items()}
    node = helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in "xy"]
    graph = helper.make_graph([node], "trees", tensors[:1], tensors[1:])
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
@settings(deadline=None)
def test_float32_is_on_the_same_side_of_a_threshold(threshold: float, value: float) -> None:
    rounded = np.float32(rounded_down(threshold))
    assert float(rounded) == rounded_down(threshold)  # it is a float32
    with np.errstate(over="ignore"):
        beside = [np.nextafter(rounded, np.float32(side * np.inf)) for side in (1, -1)]
    for each in (np.float32(value), rounded, *beside):
        seen = 0.0 if abs(float(each)) <= float(np.float32(1e-35)) else float(each)  # as LightGBM does
        assert (each <= rounded) == (seen <= threshold)


@pytest.mark.parametrize("missing", [True, False], ids=["missing values", "complete"])
@pytest.mark.parametrize("classes", [2, 3])
def test_every_event_reaches_the_same_leaves(classes: int, missing: bool) -> None:
    random = np.random.default_rng(3)
    # few different values, so that many lie exactly on a threshold, and others just above and below
    values = random.integers(-4, 5, (2000, 3)).astype(np.float32) / 3
    labels = random.integers(0, classes, 2000)
    values[:, 0] += labels
    if missing:
        values[random.random(values.shape) < 0.2] = np.nan
    shape = Shape(("x", "y", "z"), (), classes)
    core = learnt(shape, Inputs(torch.from_numpy(values), {}), labels).core
    assert isinstance(core, BDT)
    trees = core.trees()
    edges = np.array(sorted(set(trees.nodes["nodes_values_f"])), np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9)), [np.nan]])
    tried = random.choice(near.astype(np.float32), (5000, 3))
    (found,) = session_of(trees).run(None, {"x": tried})
    np.testing.assert_allclose(found, core.predict(tried), rtol=0, atol=2e-6)
    assert len(trees.leaves["target_ids_i"]) > 200
    assert len(set(found[:, -1].round(5))) > 100


def test_it_is_near_the_optimum_and_uses_missing_values() -> None:
    inputs, labels = table(5000)
    network = learnt(SHAPE, inputs, labels, leaves=4)
    fresh, truth = table(20_000, seed=2)
    score = network(fresh)[:, 1].numpy()
    first = fresh.features[:, 0].numpy()
    known = np.where(np.isnan(first), 1.0, first)
    best, found = (auc(each, truth == 1, np.ones(len(truth))).value for each in (known, score))
    assert best is not None
    assert found is not None
    assert 0.88 < best < 0.93
    assert best - 0.01 < found < best + 0.003


def test_signed_weights_count_as_such() -> None:
    """Events of weight -1 take away some of weight 1 that have the distribution of the other class."""
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 20_000)
    foreign = (labels == 1) & (random.random(len(labels)) < 0.25)
    # a quarter of class 1 is from class 0, and as many events of weight -1 take it out again
    x = random.normal(np.where(foreign, 0, labels), 1)
    minus = random.normal(0, 1, int(foreign.sum()))
    values = np.concatenate([x, minus]).astype(np.float32)[:, None]
    weights = np.concatenate([np.ones(len(x)), -np.ones(len(minus))])
    every = np.concatenate([labels, np.ones(len(minus), int)])
    shape = Shape(("x",), (), 2)
    network = learnt(shape, Inputs(torch.from_numpy(values), {}), every, weights, leaves=6, min_events=300, rounds=40)
    points = np.linspace(-0.5, 2.5, 20, dtype=np.float32)
    logits = network(Inputs(torch.from_numpy(points[:, None]), {})).numpy()[:, 1]
    odds = weights[every == 1].sum() / weights[every == 0].sum()
    expected = points - 0.5 + np.log(odds)
    unsigned = np.log((0.75 * np.exp(points - 0.5) + 0.25) / 0.75 * odds)
    error, without = (float(np.abs(logits - it).mean()) for it in (expected, unsigned))
    assert error < 0.15
    assert without > 0.25


def test_a_class_with_twice_the_weight_has_twice_the_odds() -> None:
    inputs, labels = table(4000)
    heavy = np.where(labels == 1, 2.0, 1.0)
    even, odd = (learnt(SHAPE, inputs, labels, weights, leaves=4)(inputs) for weights in (None, heavy))
    assert float((odd - even)[:, 1].mean()) == pytest.approx(np.log(2), abs=0.1)


def test_objects_are_columns_and_padding_is_missing() -> None:
    random = np.random.default_rng(2)
    mask = np.arange(3) < random.integers(0, 4, (3000, 1))
    values = random.uniform(20, 100, (3000, 3, 2)).astype(np.float32)
    labels = mask[:, 1].astype(int)  # whether there are two objects decides
    shape = Shape((), (CollectionShape("Jet", ("pt", "eta"), 3),), 2)

    def events(padding: float, count: int = 3) -> Inputs:
        filled = np.where(mask[:, :, None], values, np.float32(padding))
        jets = ObjectTensors(torch.from_numpy(filled[:, :count]), torch.from_numpy(mask[:, :count]))
        return Inputs(torch.empty(3000, 0), {"Jet": jets})

    network = learnt(shape, events(0.0), labels)
    found = network(events(0.0))
    assert ((found[:, 1] > 0).numpy() == (labels == 1)).all()
    assert torch.equal(network(events(77.0)), found)
    assert torch.equal(network(events(np.inf)), found)
    one = network(events(0.0, 1))
    assert (one[:, 1] < 0).all()


def test_it_is_the_same_each_time_and_after_loading() -> None:
    inputs, labels = table(500)
    first, again = (learnt(SHAPE, inputs, labels, event_share=0.5, feature_share=0.5) for _ in range(2))
    assert torch.equal(first(inputs), again(inputs))
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    loaded = make_network("bdt", {}, SHAPE)
    assert (loaded(inputs) == 0).all()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(loaded(inputs), first(inputs))
    precise = deepcopy(loaded).double()(inputs.map(lambda it: it.double()))
    assert precise.dtype == torch.float64
    torch.testing.assert_close(precise.float(), first(inputs), rtol=0, atol=1e-6)


def test_nothing_to_learn() -> None:
    inputs, labels = Inputs(torch.full((200, 2), torch.nan), {}), np.arange(200) % 2
    with pytest.raises(NanoMLError, match="no input has two different values"):
        learnt(SHAPE, inputs, labels)
    few = Inputs(torch.arange(8.0).reshape(4, 2), {})
    network = learnt(SHAPE, few, np.arange(4) % 2, min_events=20)  # too few for any leaf
    core = network.core
    assert isinstance(core, BDT)
    (found,) = session_of(core.trees()).run(None, {"x": np.ones((3, 2), np.float32)})
    assert (found == 0).all()
