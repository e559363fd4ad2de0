"""What a network reads: numbers of the event, and collections of objects with a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Collection", "Inputs", "Objects", "Shape"]


@dataclass(frozen=True)
class Collection:
    """A collection of objects, such as the jets of an event, padded to the same number in each.

    Attributes
    ----------
    name
        Prefix of its branches, as in Jet.
    fields
        Its branches without the prefix, in the order of the last axis.
    max
        How many objects there can be.
    order
        Field that they are sorted by, "-pt" for descending; None for the file's order.
    """

    name: str
    fields: tuple[str, ...]
    max: int
    order: str | None = None


@dataclass(frozen=True)
class Shape:
    """What goes into a network and what comes out of it.

    Attributes
    ----------
    features
        Event-level columns.
    collections
        Collections of objects.
    outputs
        Number of logits (one for each class) or of regression targets.
    """

    features: tuple[str, ...]
    collections: tuple[Collection, ...]
    outputs: int

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Shape:
        """Undo `to_json`."""
        collections = (
            Collection(**{**entry, "fields": tuple(entry["fields"])}) for entry in content["collections"]
        )
        return cls(tuple(content["features"]), tuple(collections), content["outputs"])

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors that a model file reads: the features, and of each collection its values and mask."""
        names = ["features"] if self.features else []
        return names + [name for it in self.collections for name in (it.name, f"{it.name}_mask")]


class Objects(NamedTuple):
    """Objects of one collection in N events.

    Attributes
    ----------
    values
        float32, shape (N, max, fields); padding is 0.
    mask
        bool, shape (N, max): True for an object, False for padding.
    vectors
        float32, shape (N, max, 4): pt, eta, phi, mass [GeV] as they were before scaling; None where the collection
        lacks one of pt, eta, phi, and before scaling. Without a field `mass` it is 0.
    """

    values: Tensor
    mask: Tensor
    vectors: Tensor | None = None


class Inputs(NamedTuple):
    """N events as a network reads them.

    Attributes
    ----------
    features
        float32, shape (N, features), which may be (N, 0).
    objects
        By the name of the collection.
    """

    features: Tensor
    objects: dict[str, Objects]

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same with every tensor changed, for instance moved or indexed."""
        return Inputs(
            change(self.features),
            {
                name: Objects(*(None if tensor is None else change(tensor) for tensor in it))  # type: ignore[arg-type]
                for name, it in self.objects.items()
            },
        )

    @classmethod
    def of_tensors(cls, shape: Shape, tensors: Sequence[Tensor]) -> Inputs:
        """Inputs from tensors in the order of `shape.tensors`, masks being numbers: above 0.5 for an object.

        Parameters
        ----------
        shape
            What the network reads.
        tensors
            float32 each: features (N, features) if there are any, then for each collection values
            (N, max, fields) and mask (N, max).
        """
        rest = list(tensors)
        features = rest.pop(0) if shape.features else rest[0].new_zeros((rest[0].shape[0], 0))
        pairs = zip(rest[::2], rest[1::2], strict=True)
        objects = {
            it.name: Objects(values, mask > 0.5)
            for it, (values, mask) in zip(shape.collections, pairs, strict=True)
        }
        return cls(features, objects)

    def tensors(self) -> list[Tensor]:
        """Undo `of_tensors`."""
        found = [self.features] if self.features.shape[1] else []
        return found + [
            tensor for it in self.objects.values() for tensor in (it.values, it.mask.to(it.values.dtype))
        ]
