from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from ML_processing.models import layers

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
