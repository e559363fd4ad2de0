"""What two objects are to each other: distances in angle, and the pairwise features of arXiv:2202.03772."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ML_processing.events.inputs import Inputs, Shape

__all__ = ["PAIR_FEATURES", "angular_distance", "has_vectors", "joined_vectors", "pair_features"]

PAIR_FEATURES = ("ln kT", "ln z", "ln DeltaR", "ln m2")

# Beyond what a detector measures; within, no number overflows in float32.
_PT, _ETA = 1e5, 10.0
_SMALLEST = (1e-2, 1e-4, 1e-3, 1e-3)  # GeV, 1, 1, GeV^2: the logarithms of less are that of this
# Where the logarithms lie and how wide they are for objects at the LHC, so that layers see numbers of order 1.
_CENTER = (3.0, -1.0, 0.5, 8.0)
_WIDTH = (2.0, 1.0, 1.0, 3.0)


def has_vectors(shape: Shape) -> bool:
    """Whether all collections have pt, eta and phi."""
    return all({"pt", "eta", "phi"} <= set(it.fields) for it in shape.collections)


def joined_vectors(inputs: Inputs, shape: Shape) -> Tensor:
    """Vectors of all objects, in the order of the collections, float32 of shape (N, M, 4).

    They are inside of what a detector measures: pt and mass from 0 to 1e5 GeV, eta within 10, phi within pi.
    """
    found = [inputs.objects[it.name].vectors for it in shape.collections]
    pt, eta, phi, mass = torch.cat([it for it in found if it is not None], dim=1).split(1, dim=-1)
    limited = [
        pt.clamp(0.0, _PT),
        eta.clamp(-_ETA, _ETA),
        phi.clamp(-math.pi, math.pi),
        mass.clamp(0.0, _PT),
    ]
    return torch.cat(limited, dim=-1)


def angular_distance(vectors: Tensor) -> Tensor:
    """Squared distance in eta and phi of every two objects, shape (N, M, M), of vectors (N, M, 4)."""
    _, eta, phi, _ = vectors.unbind(dim=-1)
    return (eta.unsqueeze(2) - eta.unsqueeze(1)) ** 2 + _wrapped(phi.unsqueeze(2) - phi.unsqueeze(1)) ** 2


def pair_features(first: Tensor, second: Tensor) -> Tensor:
    """Features of pairs of objects, brought to numbers of order 1.

    Parameters
    ----------
    first, second
        pt, eta, phi, mass as `joined_vectors` gives them [GeV], in the last axis; the others are broadcast.

    Returns
    -------
    Shape (..., 4): ln kT with kT = min(pt) DeltaR, ln z with z = min(pt) / (pt + pt), ln DeltaR in eta and phi, and
    ln m2 with the squared invariant mass.
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
    """Momentum, and by how much the energy is more."""
    momentum = pt * (torch.exp(eta) + torch.exp(-eta)) / 2
    square = mass * mass
    return momentum, square / (torch.sqrt(momentum * momentum + square + 1e-12) + momentum)


def _wrapped(delta_phi: Tensor) -> Tensor:
    """Size of a difference in phi, from 0 to pi."""
    return math.pi - torch.abs(math.pi - torch.abs(delta_phi))
