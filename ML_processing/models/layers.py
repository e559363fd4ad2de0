"""The parts that networks are built from: layers, and the features of pairs of objects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from ML_processing.events.inputs import Inputs, ObjectTensors, Shape
from MLTools.NanoML.errors import ConfigError

PAIR_FEATURES = ("ln kT", "ln z", "ln DeltaR", "ln m2")

# Limits beyond what a detector measures; within them, no number overflows in float32.
_PT, _ETA = 1e5, 10.0
_SMALLEST = (1e-2, 1e-4, 1e-3, 1e-3)  # GeV, 1, 1, GeV^2: smaller values count as this
# Centre and width of the logarithms for objects at the LHC, so that layers see numbers of order 1.
_CENTER = (3.0, -1.0, 0.5, 8.0)
_WIDTH = (2.0, 1.0, 1.0, 3.0)


def dense(inputs: int, hidden: Sequence[int], dropout: float) -> list[nn.Module]:
    """Hidden layers, each followed by SiLU and dropout."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU(), nn.Dropout(dropout)]
        inputs = width
    return layers


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Hidden layers as in `dense`, and a linear layer."""
    return nn.Sequential(*dense(inputs, hidden, dropout), nn.Linear([inputs, *hidden][-1], outputs))


class Embedding(nn.Module):
    """Bring the objects of all collections to one width, and join them on the object axis.

    Each collection has its own layers, which also tell the network what an object is.
    """

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.names = [it.name for it in shape.collections]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(len(it.fields), width), nn.SiLU(), nn.Linear(width, width))
            for it in shape.collections
        )

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Objects, float32 of shape (N, M, width), and their mask, bool of shape (N, M)."""
        objects = [inputs.objects[name] for name in self.names]
        values = [layer(it.values) for layer, it in zip(self.layers, objects, strict=True)]
        return torch.cat(values, dim=1), torch.cat([it.mask for it in objects], dim=1)


def extended(values: Tensor, axis: int, count: int, value: float) -> Tensor:
    """Values with `count` entries appended along an axis, all equal to `value`."""
    more = [count if i == axis else values.shape[i] for i in range(values.ndim)]
    return torch.cat([values, values.new_full(more, value)], dim=axis)


def is_exporting() -> bool:
    """Whether a graph is made of what is computed, by either of PyTorch's exporters."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()


def packed(mask: Tensor, *objects: Tensor) -> list[Tensor]:
    """The mask (N, M) and values of objects (N, M, ...) without the places that no event of this batch fills.

    The objects of an event move to the front, in their order. A graph that is exported keeps all places.
    """
    if is_exporting():
        return [mask, *objects]
    counts = mask.sum(dim=1)
    most = int(torch.cat([counts, counts.new_ones(1)]).max())  # of no event there is no maximum
    order = mask.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    places = (order + torch.arange(len(mask), device=mask.device).unsqueeze(1) * mask.shape[1]).flatten()
    return [it.flatten(0, 1)[places].unflatten(0, order.shape) for it in (mask, *objects)]


def row_width(shape: Shape) -> int:
    """How many numbers an event has as one row, with objects as of `row`; a ConfigError if there are none."""
    width = len(shape.features) + sum(it.max * (len(it.fields) + 1) for it in shape.collections)
    if not width:
        raise ConfigError("train.features: there is nothing to train on. Name features or `train.objects`.")
    return width


def row(objects: ObjectTensors, count: int) -> list[Tensor]:
    """Values, float32 (N, count * fields), and mask, (N, count), of exactly `count` objects, whatever the length of the object axis."""
    values, mask = objects.values, objects.mask.to(objects.values.dtype)
    if is_exporting() or values.shape[1] != count:  # a graph must take every length
        values = extended(values, 1, count, 0.0)[:, :count]
        mask = extended(mask, 1, count, 0.0)[:, :count]
    return [values.flatten(1), mask]


def pool(values: Tensor, mask: Tensor, most: int) -> Tensor:
    """Mean and maximum over the objects, and their number as a share of `most`: float32 (N, `pooled_width`).

    The values are float32 (N, M, width), the mask is bool (N, M); M may be 0. The maximum is at least 0, its value if there
    is no object.
    """
    weight = mask.unsqueeze(-1).to(values.dtype)
    # over an axis of length 0 there is no maximum, and ONNX Runtime up to 1.15 has no sum
    real, weight = (extended(it, 1, 1, 0.0) for it in (values * weight, weight))
    count = weight.sum(dim=1)
    return torch.cat([real.sum(dim=1) / count.clamp(min=1), real.amax(dim=1), count / most], dim=1)


def pooled_width(width: int) -> int:
    """How many numbers `pool` returns for objects of a width."""
    return 2 * width + 1


def target_losses(estimates: Tensor, targets: Tensor, estimate: float | str) -> Tensor:
    """Loss of each estimate, of the shape of both: smallest at the mean, at a quantile, or, for "huber", between mean and median."""
    if estimate == "huber":
        return smooth_l1_loss(estimates, targets, reduction="none")
    above = targets - estimates
    if isinstance(estimate, str):
        return above**2 / 2
    return torch.maximum(estimate * above, (estimate - 1) * above)


def check_options(dropout: float = 0.0, **counts: int | Sequence[int]) -> None:
    """Raise a ConfigError if an option has no meaning.

    All but `dropout`, a share, are whole numbers of at least 1, or for `hidden` a list of them.
    """
    for name, value in counts.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, (list, tuple)) != (name == "hidden") or not all(
            isinstance(number, int) and number >= 1 for number in numbers
        ):
            wanted = "a list of whole numbers" if name == "hidden" else "a whole number"
            raise ConfigError(f"train.options.{name}: is {value!r}, but must be {wanted} of at least 1.")
    if not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
        raise ConfigError(f"train.options.dropout: is {dropout!r}, but must be a number of at least 0 and under 1.")


def has_vectors(shape: Shape) -> bool:
    """Whether all collections have pt, eta and phi."""
    return all({"pt", "eta", "phi"} <= set(it.fields) for it in shape.collections)


def joined_vectors(inputs: Inputs, shape: Shape) -> Tensor:
    """Vectors of all objects, in the order of the collections, float32 of shape (N, M, 4).

    They are limited to what a detector measures: pt and mass from 0 to 1e5 GeV, eta within 10, phi within pi.
    """
    found = [inputs.objects[it.name].vectors for it in shape.collections]
    pt, eta, phi, mass = torch.cat([it for it in found if it is not None], dim=1).split(1, dim=-1)
    limited = [pt.clamp(0.0, _PT), eta.clamp(-_ETA, _ETA), phi.clamp(-math.pi, math.pi), mass.clamp(0.0, _PT)]
    return torch.cat(limited, dim=-1)


def angular_distance(vectors: Tensor) -> Tensor:
    """Squared distance in eta and phi of all pairs of objects, shape (N, M, M), from vectors (N, M, 4)."""
    _, eta, phi, _ = vectors.unbind(dim=-1)
    return (eta.unsqueeze(2) - eta.unsqueeze(1)) ** 2 + _wrapped(phi.unsqueeze(2) - phi.unsqueeze(1)) ** 2


def pair_features(first: Tensor, second: Tensor) -> Tensor:
    """Features of pairs of objects as in arXiv:2202.03772, scaled to numbers of order 1, shape (..., 4).

    These are ln kT with kT = min(pt) DeltaR, ln z with z = min(pt) / (pt + pt), ln DeltaR in eta and phi, and ln m2 with
    the squared invariant mass. The objects have pt, eta, phi, mass in the last axis, as `joined_vectors` gives them.
    """
    pt_1, eta_1, phi_1, mass_1 = first.unbind(dim=-1)
    pt_2, eta_2, phi_2, mass_2 = second.unbind(dim=-1)
    delta_eta, delta_phi = eta_1 - eta_2, _wrapped(phi_1 - phi_2)
    delta_r = torch.sqrt(delta_eta * delta_eta + delta_phi * delta_phi + 1e-12)  # its slope at 0 is finite
    smaller = torch.minimum(pt_1, pt_2)
    # m2 as a sum of positive terms: in float32 the difference of energies and momenta would be lost
    momentum_1, excess_1 = _momentum_and_excess(pt_1, eta_1, mass_1)
    momentum_2, excess_2 = _momentum_and_excess(pt_2, eta_2, mass_2)
    from_masses = momentum_1 * excess_2 + momentum_2 * excess_1 + excess_1 * excess_2
    tangent = torch.tanh(delta_eta / 4) ** 2
    from_angles = 4 * tangent / (1 - tangent) ** 2 + torch.sin(delta_phi / 2) ** 2  # (cosh - cos) / 2
    m2 = mass_1 * mass_1 + mass_2 * mass_2 + 2 * from_masses + 4 * pt_1 * pt_2 * from_angles
    found = (smaller * delta_r, smaller / (pt_1 + pt_2 + 1e-12), delta_r, m2)
    scaled = [
        (torch.log(value.clamp(min=smallest)) - center) / width
        for value, smallest, center, width in zip(found, _SMALLEST, _CENTER, _WIDTH, strict=True)
    ]
    return torch.stack(scaled, dim=-1)


def _momentum_and_excess(pt: Tensor, eta: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Momentum, and energy minus momentum."""
    momentum = pt * (torch.exp(eta) + torch.exp(-eta)) / 2
    square = mass * mass
    return momentum, square / (torch.sqrt(momentum * momentum + square + 1e-12) + momentum)


def _wrapped(delta_phi: Tensor) -> Tensor:
    """Size of a difference in phi, from 0 to pi."""
    return math.pi - torch.abs(math.pi - torch.abs(delta_phi))
