"""Networks on inputs as they are in the files: their scaling, their layers, and those of all folds as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from ML_processing.events.inputs import CollectionShape, Inputs, ObjectTensors, Shape
from ML_processing.models import layers
from ML_processing.models.network import Ensemble, Network, make_network
from ML_processing.models.scaling import Scaler, Scaling, spikes
from services.trainings import tensors_of

Build = Callable[..., Network]
Draw = Callable[..., Inputs]


def test_probabilities_and_their_mean(model: str, shape: Shape, draw: Draw, build: Build) -> None:
    networks = [build(model, shape) for _ in range(2)]
    for parameter in networks[1].parameters():
        parameter.data *= 1.1
    events = draw(shape, 7)
    mean, each = Ensemble(networks, shape, "classification")(*tensors_of(events))
    assert each.shape == (7, 2, 2)
    torch.testing.assert_close(each[:, 1], torch.softmax(networks[1](events), dim=1))
    assert torch.equal(mean, each.mean(dim=1))


def test_values_of_a_regression(shape: Shape, draw: Draw, build: Build) -> None:
    network = build("mlp", shape)
    network.target_center += 100
    network.target_width *= 5
    events = draw(shape, 7)
    mean, each = Ensemble([network], shape, "regression")(*tensors_of(events))
    torch.testing.assert_close(mean, 100 + 5 * network(events))
    assert each.shape == (7, 1, 2)


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
    torch.testing.assert_close(network.standardize(network.outputs(events)), network(events), atol=1e-4, rtol=0)


def test_a_parameter_has_the_scale_of_its_values() -> None:
    scaler = Scaler(2)
    scaler.fit_parameter(1, (600.0, 1000.0, 2000.0))
    scaled, present = scaler(torch.tensor([[0.0, 600.0], [0.0, 1300.0], [0.0, 2000.0], [0.0, 9000.0]]))
    assert scaled[:, 1].tolist() == [-4, 0, 4, 10]
    assert present.all()


def test_scaling_is_fitted_with_the_network(shape: Shape, draw: Draw) -> None:
    network = fitted(shape, draw)
    scaled = network.scaling(draw(shape, 1000))
    assert scaled.features.median(dim=0).values.tolist() == pytest.approx([0, 0, 0], abs=0.01)
    jets = scaled.objects["Jet"]
    assert jets.values[jets.mask].median(dim=0).values.tolist() == pytest.approx([0] * 5, abs=0.01)


RANDOM = np.random.default_rng(1)


def sentinels_of(scaler: Any) -> list[float]:
    """The numbers that count as missing."""
    return [end for end in (*scaler.below.tolist(), *scaler.above.tolist()) if np.isfinite(end)]


def scaling_of(column: object) -> Scaling:
    scaling = Scaling(Shape(("x",), (), 2))
    scaling.fit(np.array(column, np.float32)[:, None], {})
    return scaling


def scaled(column: object, values: list[float]) -> list[float]:
    return scaling_of(column)(Inputs(torch.tensor(values)[:, None], {})).features[:, 0].tolist()


def test_a_gaussian_gets_unit_width() -> None:
    column = RANDOM.normal(300, 50, 100_000).astype("f4")
    values = np.array(scaled(column, column.tolist()))
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.std() == pytest.approx(1, abs=0.02)


def test_outliers_move_nothing_and_are_limited() -> None:
    column = [*range(100), 1e30, float("inf"), float("nan")]
    assert scaled(column, [1e30, -1e30, 3e38]) == [10, -10, 10]
    assert abs(scaled(column, [50.0])[0]) < 0.1


def test_what_is_not_finite_becomes_the_median() -> None:
    missing = [float("nan"), float("inf"), float("-inf")]
    assert scaled([1, 2, 3, 4, 5], [*missing, 3]) == [0, 0, 0, 0]


def test_columns_without_a_width() -> None:
    assert scaled([4, 4, 4], [4, 5]) == [0, 1]
    assert scaled([0] * 95 + [1] * 5, [0, 1]) == pytest.approx([0, 1 / np.std([0] * 95 + [1] * 5)])
    assert scaled([float("nan")] * 3, [2.0]) == [2]
    assert scaled([0, 1e-42, 2e-42], [0.0, 5.0]) == pytest.approx([0, 5])


def test_extreme_columns_stay_finite() -> None:
    largest = float(np.finfo(np.float32).max)
    assert scaled([-largest, 0, largest] * 10, [largest, -largest, 0]) == pytest.approx([1, -1, 0])


SPECTRUM = RANDOM.normal(0, 2, 5000).clip(-5, 5)


@pytest.mark.parametrize(
    ("sentinels", "shares"),
    [((-999,), (0.01,)), ((-999,), (0.6,)), ((-99, -999), (0.2, 0.2)), ((1e9,), (0.3,)), ((-20000, 20000), (0.3, 0.3))],
)
def test_sentinels_count_as_missing(sentinels: tuple[float, ...], shares: tuple[float, ...]) -> None:
    rest = SPECTRUM[: int(len(SPECTRUM) * (1 - sum(shares)))]
    filled = [np.full(round(len(SPECTRUM) * share) + 1, it) for it, share in zip(sentinels, shares, strict=True)]
    with_sentinels = scaling_of(np.concatenate([rest, *filled]))
    for buffer in ("center", "width"):
        assert torch.equal(getattr(with_sentinels.features, buffer), getattr(scaling_of(rest).features, buffer))
    column = torch.tensor([*sentinels, 0.0, 5.0, -5.0])[:, None]
    values = with_sentinels(Inputs(column, {})).features[:, 0]
    assert (values[: len(sentinels)] == 0).all()
    assert torch.equal(values[len(sentinels) :], scaling_of(rest)(Inputs(column[len(sentinels) :], {})).features[:, 0])
    innermost = {min((it for it in sentinels if it * sign > 0), key=abs, default=None) for sign in (-1, 1)}
    assert set(sentinels_of(with_sentinels.features)) == innermost - {None}


@pytest.mark.parametrize(
    "column",
    [
        np.full(1000, 7.0), RANDOM.choice([-1, 1], 1000), RANDOM.choice([0, 1], 1000, p=[0.97, 0.03]),
        RANDOM.poisson(0.1, 5000), RANDOM.poisson(20, 5000), RANDOM.choice([-13, -11, 11, 13, 211], 1000),
        RANDOM.choice([*range(200, 500, 10), 5000], 5000), np.maximum(RANDOM.exponential(0.05, 5000) - 0.03, 0),
        np.minimum(RANDOM.exponential(50, 5000), 120), np.where(RANDOM.random(5000) < 0.1, -1, RANDOM.random(5000)),
        [*RANDOM.normal(0, 1, 5000), -1000], [*RANDOM.normal(0, 1, 90), *[-999] * 10], RANDOM.standard_cauchy(5000),
    ],
    ids=[
        "constant", "charge", "flag", "rare count", "count", "identifier", "grid of masses", "isolation", "overflow",
        "near default", "outlier", "too few values", "long tails",
    ],
)  # fmt: skip
def test_what_is_no_sentinel(column: object) -> None:
    assert sentinels_of(scaling_of(column).features) == []


def objects_shape(*fields: str) -> Shape:
    return Shape((), (CollectionShape("Jet", fields, 3),), 2)


def test_only_objects_count() -> None:
    scaling = Scaling(objects_shape("pt", "btag"))
    values = RANDOM.uniform(20, 30, (200, 3, 2)).astype("f4")
    mask = RANDOM.random((200, 3)) < 0.5
    values[~mask] = 1e6
    scaling.fit(np.zeros((200, 0), "f4"), {"Jet": (values, mask)})
    assert scaling.objects[0].center.tolist() == pytest.approx([25, 25], abs=1)
    assert (scaling.objects[0].width < 5).all()


def test_each_field_of_objects_has_its_own_sentinel_with_the_name_of_the_branch() -> None:
    scaling = Scaling(objects_shape("pt", "btag"))
    values = RANDOM.uniform(0, 1, (500, 3, 2)).astype("f4")
    values[:, 0, 1] = -10
    scaling.fit(np.zeros((500, 0), "f4"), {"Jet": (values, np.ones((500, 3), bool))})
    assert sentinels_of(scaling.objects[0]) == [-10]
    assert scaling.objects[0].below.tolist() == [-np.inf, -10]
    assert scaling.sentinels == {"Jet_btag": [-10]}


def test_indicators_say_what_is_missing() -> None:
    shape = replace(Shape(("x", "y"), objects_shape("pt", "btag").collections, 2), missing=("Jet_btag", "y"))
    scaling = Scaling(replace(shape, named={"y": (-1.0, 5.0), "x": (2.0,)}))
    values = torch.tensor([[[1.0, 3.0], [1.0, np.nan], [1.0, np.nan]]])
    features = torch.tensor([[2.0, 5.0]])
    found = scaling(Inputs(features, {"Jet": ObjectTensors(values, torch.tensor([[True, True, False]]))}))
    assert found.features.tolist() == [[0, 0, 1]]
    assert found.objects["Jet"].values.tolist() == [[[1, 3, 0], [1, 0, 1], [0, 0, 0]]]
    jets = CollectionShape("Jet", ("pt", "btag", "btag_missing"), 3)
    assert shape.inside == Shape(("x", "y", "y_missing"), (jets,), 2)


def test_what_is_named_is_no_question() -> None:
    with_spike = np.where(RANDOM.random(len(SPECTRUM)) < 0.05, -1.0, SPECTRUM)
    assert spikes(with_spike) == [-1]
    assert spikes(SPECTRUM[(SPECTRUM > -5) & (SPECTRUM < 5)]) == []
    assert spikes(RANDOM.poisson(20, 5000)) == []
    scaling = Scaling(replace(Shape(("x",), (), 2), named={"x": ()}))
    scaling.fit(np.where(RANDOM.random((5000, 1)) < 0.1, -999, SPECTRUM[:, None]).astype("f4"), {})
    assert sentinels_of(scaling.features) == []


def test_padding_and_missing_are_zero() -> None:
    scaling = Scaling(objects_shape("pt", "btag"))
    scaling.objects[0].center += 5
    values = torch.tensor([[[1.0, np.nan], [np.inf, 7.0], [np.nan, 3e38]]])
    mask = torch.tensor([[True, True, False]])
    found = scaling(Inputs(torch.zeros(1, 0), {"Jet": ObjectTensors(values, mask)})).objects["Jet"]
    assert found.values.tolist() == [[[-4, 0], [0, 2], [0, 0]]]
    assert found.vectors is None
    assert torch.equal(found.mask, mask)


def test_vectors_are_as_in_the_file() -> None:
    values = torch.tensor([[[1.5, 30.0, 2.0, -1.0], [np.nan, 40.0, 1.0, np.inf], [9.0, 9.0, 9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    scaling = Scaling(objects_shape("phi", "pt", "mass", "eta"))
    found = scaling(Inputs(torch.zeros(1, 0), {"Jet": ObjectTensors(values, mask)})).objects["Jet"]
    assert found.vectors is not None
    assert found.vectors.tolist() == [[[30, -1, 1.5, 2], [40, 0, 0, 1], [0, 0, 0, 0]]]
    scaling = Scaling(objects_shape("phi", "pt", "btag", "eta"))
    found = scaling(Inputs(torch.zeros(1, 0), {"Jet": ObjectTensors(values, mask)})).objects["Jet"]
    assert found.vectors is not None
    assert found.vectors[0, 0].tolist() == [30, -1, 1.5, 0]


def test_no_objects_at_all(shape: Shape, draw: Callable[..., Inputs]) -> None:
    events = draw(shape, 10)
    empty = {name: (it.values.numpy(), np.zeros(it.mask.shape, bool)) for name, it in events.objects.items()}
    scaling = Scaling(shape)
    scaling.fit(events.features.numpy(), empty)
    assert torch.equal(scaling(events).objects["Jet"].values, events.objects["Jet"].values.clamp(-10, 10))


MUONS = torch.tensor([[[45.0, 0.5, 3.0, 0.106], [40.0, -0.4, -3.0, 0.106], [300.0, 2.0, 1.0, 80.0]]])


def four_momenta(vectors: np.ndarray) -> np.ndarray:
    pt, eta, phi, mass = np.moveaxis(vectors.astype("f8"), -1, 0)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)
    return np.concatenate([np.sqrt((momentum**2).sum(-1) + mass**2)[..., None], momentum], axis=-1)


def natural(vectors: torch.Tensor) -> np.ndarray:
    """The features as they are before they are brought to order 1."""
    found = layers.pair_features(vectors.unsqueeze(2), vectors.unsqueeze(1)).numpy()
    return np.exp(found * layers._WIDTH + layers._CENTER)


def test_angular_distance_wraps_phi() -> None:
    found = layers.angular_distance(MUONS)[0]
    assert found[0, 1].item() == pytest.approx(0.9**2 + (2 * np.pi - 6) ** 2, rel=1e-5)
    assert torch.equal(found, found.T)


def test_features_of_a_pair() -> None:
    found = natural(MUONS)[0]
    p4 = four_momenta(MUONS[0].numpy())
    eta = MUONS[0, :, 1].tolist()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        total = p4[i] + p4[j]
        m2 = total[0] ** 2 - (total[1:] ** 2).sum()
        delta_phi = abs(MUONS[0, i, 2] - MUONS[0, j, 2]).item()
        delta_r = np.hypot(eta[i] - eta[j], min(delta_phi, 2 * np.pi - delta_phi))
        pt = MUONS[0, [i, j], 0].tolist()
        expected = [min(pt) * delta_r, min(pt) / sum(pt), delta_r, m2]
        assert found[i, j] == pytest.approx(expected, rel=1e-4)
        assert found[j, i] == pytest.approx(expected, rel=1e-4)


def test_mass_of_collinear_objects_is_exact() -> None:
    vectors = torch.tensor([[[500.0, 2.3, 1.0, 0.0], [400.0, 2.303, 1.002, 0.0]]])
    p4 = four_momenta(vectors[0].numpy()).sum(axis=0)
    assert natural(vectors)[0, 0, 1, 3] == pytest.approx(p4[0] ** 2 - (p4[1:] ** 2).sum(), rel=1e-3)


def test_gradients_of_padding_are_finite() -> None:
    vectors: Any = torch.zeros(1, 3, 4, requires_grad=True)
    layers.pair_features(vectors.unsqueeze(2), vectors.unsqueeze(1)).sum().backward()
    assert vectors.grad.isfinite().all()


def test_packed_objects_keep_their_order_and_lose_the_padding_of_all_events() -> None:
    mask = torch.tensor([[False, True, False, True, False], [False, False, True, False, False]])
    values = torch.arange(10.0).reshape(2, 5, 1)
    packed_mask, packed_values = layers.packed(mask, values)
    assert packed_mask.tolist() == [[True, True], [True, False]]
    assert packed_values[packed_mask].flatten().tolist() == [1, 3, 7]
    nobody, nothing = layers.packed(torch.zeros(2, 5, dtype=torch.bool), values)
    assert nobody.tolist() == [[False], [False]]
    assert nothing.shape == (2, 1, 1)
    for empty in (mask[:0], mask[:, :0]):
        shapes = [it.shape for it in layers.packed(empty, values[: len(empty), : empty.shape[1]])]
        assert shapes == ([(2, 0), (2, 0, 1)] if len(empty) else [(0, 1), (0, 1, 1)])


class Reductions(TorchFunctionMode):
    """Notes the lengths of axes that are reduced."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func in (torch.Tensor.sum, torch.Tensor.amax):
            self.lengths.append(args[0].shape[kwargs["dim"]])
        return func(*args, **(kwargs or {}))


def test_no_axis_of_length_0_is_reduced() -> None:
    """ONNX Runtime up to 1.15, in CMSSW up to 14_0, cannot do it."""
    with Reductions() as found:
        pooled = layers.pool(torch.zeros(2, 0, 3), torch.zeros(2, 0, dtype=torch.bool), 4)
    assert torch.equal(pooled, torch.zeros(2, layers.pooled_width(3)))
    assert found.lengths == [1, 1, 1]
