"""The networks that can be trained, and what stands in front of every one: the scaling of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from MLTools.NanoML.errors import ConfigError

__all__ = ["MLP", "MODELS", "Ensemble", "Network", "Scaler", "model_class"]


class Scaler(nn.Module):
    """Bring every feature to a centre of 0 and a width of 1; it is part of the network and travels with it.

    A value that is not finite counts as missing and becomes the median. Whatever lies beyond 10 widths is
    moved to 10 widths, so no outlier can take over a network.

    Parameters
    ----------
    features
        Number of features.
    """

    LIMIT = 10.0
    center: Tensor
    width: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("width", torch.ones(features))

    def fit(self, features: NDArray[np.float32]) -> None:
        """Take centre and width from `features`, shape (N, features), of the training events alone.

        The centre is the median, the width half of the interval that holds the central 68 %: for a Gaussian
        its mean and standard deviation, but unmoved by outliers. A feature with no such width (most events
        share one value) falls back to the standard deviation, a constant one to 1.
        """
        for i, column in enumerate(features.T):
            finite = column[np.isfinite(column)].astype(np.float64)
            if not finite.size:
                continue
            low, middle, high = np.quantile(finite, (0.16, 0.5, 0.84))
            self.center[i] = middle
            self.width[i] = (high - low) / 2 or finite.std() or 1.0

    def forward(self, features: Tensor) -> Tensor:
        """Scale `features`, float32 of shape (N, features)."""
        present = torch.where(torch.isfinite(features), features, self.center)
        return torch.clamp((present - self.center) / self.width, -self.LIMIT, self.LIMIT)


class Network(nn.Module):
    """What every model is: a module from features, float32 (N, features), to logits, float32 (N, classes).

    Its constructor takes the parameters of `MLP`. It scales its inputs itself, by its `scaler`.
    """

    scaler: Scaler


class MLP(Network):
    """Multilayer perceptron: each event is one row of features.

    Parameters
    ----------
    features, classes
        Number of inputs and of classes.
    hidden
        Width of each hidden layer.
    dropout
        Fraction of the hidden values that are dropped at random in training.
    """

    def __init__(self, features: int, classes: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.scaler = Scaler(features)
        layers: list[nn.Module] = []
        inputs = features
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.SiLU(), nn.Dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits, float32 of shape (N, classes), of `features`, float32 of shape (N, features)."""
        logits: Tensor = self.layers(self.scaler(features))
        return logits


MODELS: dict[str, type[Network]] = {"mlp": MLP}
"""What `train.model` may name."""


def model_class(name: str) -> type[Network]:
    """The class of a model by its name in `train.model`.

    Raises
    ------
    ConfigError
        There is no model of this name.
    """
    if name not in MODELS:
        raise ConfigError(f'train.model: "{name}" is not a model. Known: {", ".join(MODELS)}.')
    return MODELS[name]


class Ensemble(nn.Module):
    """The networks of all folds as one: what is exported.

    Parameters
    ----------
    networks
        One network per fold, each giving logits.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities of `features`, float32 of shape (N, features).

        Returns
        -------
        probabilities
            Mean over the networks, float32 of shape (N, classes).
        fold_probabilities
            Of each network, float32 of shape (N, networks, classes).
        """
        each = torch.stack([torch.softmax(network(features), dim=1) for network in self.networks], dim=1)
        return each.mean(dim=1), each
