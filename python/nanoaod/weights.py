"""Weights of events: what a selection declares, the values with their variations, and their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import COMBINATIONS, NOMINAL, weight_column
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import Numbers

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
