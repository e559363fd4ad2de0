"""Weights of events: what a selection declares, the values with their variations, and their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import COMBINATIONS, NOMINAL, weight_column
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import Array, Numbers

UP_DOWN = ("up", "down")
"""The variations of a weight with one nuisance parameter."""


@dataclass(frozen=True)
class Weight:
    """A weight that a selection gives to events of simulation by `cutflow.weigh`.

    Attributes
    ----------
    variations
        Names of its variations: "up" and "down", or "hf_up", "hf_down", ... if it has several nuisance parameters.
    keeps_yield
        Whether it must not change the sum of weights where it is given, in each bin if there are bins: then it is normalised,
        for the nominal value and each variation, when all files of a dataset are done.
    bins
        The quantity in whose bins it keeps the yield, as "number of jets"; empty without bins.
    combine
        How all its variations are one uncertainty, for each yield and each bin: "envelope", as of scales; "hessian" or
        "replicas", as of the members of a PDF set. Empty if each is its own, or each pair up and down.
    """

    variations: Sequence[str] = UP_DOWN
    keeps_yield: bool = False
    bins: str = ""
    combine: str = ""

    def __post_init__(self) -> None:
        if self.combine and self.combine not in COMBINATIONS:
            raise NanoMLError(
                f'a weight has combine="{self.combine}": it is one of {", ".join(COMBINATIONS)}, or left out.'
            )

    def columns(self, name: str) -> Iterator[tuple[str, str]]:
        """Its values, nominal and under each variation, and the names of their columns."""
        yield NOMINAL, weight_column(name)
        for variation in self.variations:
            yield variation, weight_column(name, variation)


@dataclass(frozen=True)
class Factor:
    """The values of a weight and its variations, for each event or each object.

    Variations are values of the whole weight, not shifts of it; they are named "up" and "down", or "hf_up" and "hf_down"
    where a weight has several nuisance parameters.

    Attributes
    ----------
    nominal
        float64, one for each event or object.
    variations
        The same under each variation, by name.

    Examples
    --------
    >>> Factor(ak.Array([[0.9, 1.1], []])).product().nominal.round(2).tolist()
    [0.99, 1.0]
    """

    nominal: Numbers
    variations: Mapping[str, Numbers] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Numbers:
        """The weight under a variation; the nominal one, which is named "nominal", stands for all that it lacks."""
        return self.variations.get(name, self.nominal)

    def __mul__(self, other: Factor) -> Factor:
        """The product; variations of the same name are one nuisance parameter."""
        names = dict.fromkeys([*self.variations, *other.variations])
        return Factor(self.nominal * other.nominal, {name: self[name] * other[name] for name in names})

    def map(self, function: Callable[[Numbers], Numbers]) -> Factor:
        """A function of the nominal values, and of those under each variation."""
        return Factor(function(self.nominal), {name: function(values) for name, values in self.variations.items()})

    def named(self, name: str) -> Factor:
        """The same with the variations "up" and "down" called NAME_up and NAME_down."""
        return Factor(self.nominal, {f"{name}_{variation}": values for variation, values in self.variations.items()})

    def product(self, objects: Flat | None = None) -> Factor:
        """The product over the objects of each event, which is 1 for an event without any.

        Parameters
        ----------
        objects
            The objects that the weights belong to, if these are plain columns (`events.flat("Muon")`); not needed for awkward arrays.
        """

        def each_event(values: Numbers) -> Numbers:
            if objects is None:
                return ak.to_numpy(ak.prod(values, axis=-1)) if getattr(values, "ndim", 0) > 1 else values
            made = np.ones(len(objects))
            np.multiply.at(made, objects.event, values)
            return made

        return self.map(each_event)


def one_each(what: str, values: Numbers, length: int) -> NDArray[np.float64]:
    """The values of a weight, one finite number for each of so many events; an error says of `what` if they are not."""
    try:
        array = np.asarray(ak.to_numpy(values) if isinstance(values, ak.Array) else values, np.float64)
    except (ValueError, TypeError):
        raise NanoMLError(f"{what}: has a list for each event. Multiply its objects: factor.product().") from None
    if array.shape != (length,):
        raise NanoMLError(f"{what}: has shape {array.shape}, but {length} events are left.")
    if not np.isfinite(array).all():
        raise NanoMLError(f"{what}: is NaN or infinite for {int((~np.isfinite(array)).sum())} of {len(array)} events.")
    return array


@dataclass
class GivenWeight:
    """A weight that was given, for the events that were left then, and those that are left now."""

    weight: Weight
    cuts: int  # how many cuts came before
    before: NDArray[np.float64]  # the product of the generator weight and all weights before
    values: dict[str, NDArray[np.float64]]  # nominal and under each variation
    bins: NDArray[np.int64]
    left: dict[str, Array]  # columns for the events that are left now
    # the sum without and with each variation, once they are known: all that go on from here share them
    sums: dict[str, dict[int, float]] = field(default_factory=dict)

    def at(self, some: slice | NDArray[np.bool_]) -> GivenWeight:
        """The same for some of the events that were left then."""
        values = {key: each[some] for key, each in self.values.items()}
        return GivenWeight(self.weight, self.cuts, self.before[some], values, self.bins[some], {})

    def sum_of(self, variation: str) -> dict[int, float]:
        """The sum with a variation in each bin, of all events that were left then; without if it is empty."""
        if variation not in self.sums:
            self.sums[variation] = sums_by_bin(
                self.bins, self.before * self.values[variation] if variation else self.before
            )
        return self.sums[variation]


def sums_by_bin(bins: NDArray[np.int64], weights: NDArray[np.float64]) -> dict[int, float]:
    """The sum of the weights in each bin that has events."""
    if not len(bins):
        return {}
    first = int(bins.min())
    counts, sums = np.bincount(bins - first), np.bincount(bins - first, weights)
    return {first + place: float(sums[place]) for place in np.flatnonzero(counts).tolist()}
