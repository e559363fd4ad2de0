"""What the networks are built from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from MLTools.NanoML.errors import ConfigError

__all__ = [
    "Embedding",
    "check_counts",
    "check_dropout",
    "dense",
    "extended",
    "need_collections",
    "pool",
    "pooled_width",
]


def dense(inputs: int, hidden: Sequence[int], dropout: float) -> list[nn.Module]:
    """Hidden layers, each followed by SiLU and dropout."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU(), nn.Dropout(dropout)]
        inputs = width
    return layers


class Embedding(nn.Module):
    """Bring the objects of all collections to one width, and join them on the object axis.

    Each collection has its own layers, which also tell the network what an object is.

    Parameters
    ----------
    shape
        What the network reads.
    width
        Numbers for each object.
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
    """Values with `count` more of them, all the same, at the end of an axis."""
    more = [count if i == axis else values.shape[i] for i in range(values.ndim)]
    return torch.cat([values, values.new_full(more, value)], dim=axis)


def pool(values: Tensor, mask: Tensor, most: int) -> Tensor:
    """Mean and maximum over the objects, and their number.

    Parameters
    ----------
    values
        float32, shape (N, M, width). M may be 0.
    mask
        bool, shape (N, M).
    most
        Number of objects that counts as 1.

    Returns
    -------
    float32, shape (N, `pooled_width`). The maximum is at least 0: what it is without an object.
    """
    weight = mask.unsqueeze(-1).to(values.dtype)
    real = values * weight
    count = weight.sum(dim=1)
    maximum = extended(real, 1, 1, 0.0).amax(dim=1)  # an object axis of length 0 would have no maximum
    return torch.cat([real.sum(dim=1) / count.clamp(min=1), maximum, count / most], dim=1)


def pooled_width(width: int) -> int:
    """Numbers that `pool` makes of objects of a width."""
    return 2 * width + 1


def need_collections(shape: Shape, model: str) -> None:
    """Make sure that there is a collection.

    Raises
    ------
    ConfigError
        There is none.
    """
    if not shape.collections:
        raise ConfigError(
            f'train.model: "{model}" reads collections of objects, but there is none. Name one in '
            "`convert.objects` (and in `train.objects`, if that is given), or use mlp."
        )


def check_counts(**options: int | Sequence[int]) -> None:
    """Make sure that options are whole numbers of at least 1, or lists of them.

    Raises
    ------
    ConfigError
        One is not.
    """
    for name, value in options.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, (list, tuple)) != (name == "hidden") or not all(
            isinstance(number, int) and number >= 1 for number in numbers
        ):
            wanted = "a list of whole numbers" if name == "hidden" else "a whole number"
            raise ConfigError(f"train.options.{name}: is {value!r}, but must be {wanted} of at least 1.")


def check_dropout(dropout: float) -> None:
    """Make sure that a share of values to drop is from 0 to under 1.

    Raises
    ------
    ConfigError
        It is not.
    """
    if not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
        raise ConfigError(
            f"train.options.dropout: is {dropout!r}, but must be a number of at least 0 and under 1."
        )
