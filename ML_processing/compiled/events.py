"""A selection run once on events that record: which inputs its graph has, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import awkward as ak
import numpy as np

from ML_processing.compiled.nodes.lists import Axis, Value
from ML_processing.compiled.nodes.tensors import Tensor
from ML_processing.compiled.tracing.flat import TracedFlat
from ML_processing.compiled.tracing.trace import Scope, Trace, dtype_of, of_same_events
from ML_processing.compiled.tracing.traced import LENGTH, Traced
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Group
from MLTools.NanoML.nanoaod.flat import COMPONENTS
from MLTools.NanoML.selection import Cutflow, Events

EVENTS = "events"
"""The tensor of the branches with one number for each event."""


@dataclass
class Inputs:
    """The branches that a selection has read so far.

    Attributes
    ----------
    sizes
        For each collection, how many objects of an event the graph takes.
    events
        Branches with one number for each event, with their types, in the order of the tensor.
    objects
        The same for each collection.
    """

    trace: Trace
    sizes: Mapping[str, int]
    events: dict[str, np.dtype[Any]] = field(default_factory=dict)
    objects: dict[str, dict[str, np.dtype[Any]]] = field(default_factory=dict)

    def event(self, name: str, dtype: np.dtype[Any]) -> Value:
        """A branch with one number for each event."""
        self.events.setdefault(name, dtype)
        return Value(self.trace.graph, (), self._number(EVENTS, 2, list(self.events).index(name), dtype))

    def object(self, name: str, collection: str, dtype: np.dtype[Any]) -> Value:
        """A branch with one number for each object."""
        known = self.objects.setdefault(collection, {})
        known.setdefault(name, dtype)
        data = self._number(collection, 3, list(known).index(name), dtype)
        return Value(self.trace.graph, (self.axis(collection),), data)

    def axis(self, collection: str) -> Axis:
        """The places for the objects of a collection."""
        self.objects.setdefault(collection, {})
        return Axis(self.sizes[collection], self.trace.graph.input(f"{collection}_mask", 2) > 0.5, True)

    def _number(self, tensor: str, rank: int, place: int, dtype: np.dtype[Any]) -> Tensor:
        table = self.trace.graph.input(tensor, rank)
        if dtype.kind == "b":
            return (table > 0.5).take(np.array(place))
        return table.to("d" if dtype.kind == "f" else "i").take(np.array(place))


class TracedEvents(Events):
    """`Events` whose branches are traced arrays.

    Parameters
    ----------
    inputs
        Collects the branches that are used.
    events
        Some real events.
    scope
        The cuts that they have passed.
    """

    def __init__(self, inputs: Inputs, events: Events, scope: Scope = ()) -> None:
        self._inputs, self._concrete, self._scope = inputs, events, scope
        self._collections, self._arrays = events._collections, events._arrays

    def __len__(self) -> int:
        raise NanoMLError(LENGTH)

    @property
    def shift(self) -> str:
        """None: the graph has nominal values."""
        return ""

    def __getitem__(self, what: Any) -> Any:
        if isinstance(what, str):
            return self._branch(what)
        if not isinstance(what, Traced) or dtype_of(what._concrete) != np.bool_ or what._value.axes:
            raise NanoMLError("events are picked by a cut: `events = cutflow.cut(name, mask, events)`.")
        if not of_same_events(what._scope, self._scope):
            raise NanoMLError("the mask was computed before a cut: give it to cutflow.cut, which narrows it.")
        return TracedEvents(self._inputs, self._concrete[what._concrete], (*self._scope, what._value.numbers))

    def _branch(self, name: str) -> Any:
        return self._traced(self._value(name), self._concrete[name])

    def _traced(self, value: Value, concrete: Any) -> Traced:
        return self._inputs.trace.made(value, concrete, self._scope)

    def _value(self, name: str) -> Value:
        concrete = self._concrete[name]
        dtype = dtype_of(concrete)
        assert dtype is not None
        if name in self._collections:
            return self._inputs.object(name, self._collections[name], dtype)
        return self._inputs.event(name, dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        concrete = getattr(self._concrete, name)
        if isinstance(concrete, Group):
            return Group(self, name)
        if name in self._arrays and not (isinstance(concrete, ak.Array) and concrete.fields):
            return self._branch(name)
        return self._traced(self._record(name), concrete)

    def _record(self, name: str) -> Value:
        members = self._members(name)
        fields = {branch[len(name) + 1 :] or name: self._value(branch) for branch in members}
        axis = next(iter(fields.values())).axes
        kind = "Momentum4D" if COMPONENTS.keys() <= fields.keys() else ""
        return Value(self._inputs.trace.graph, axis, fields=fields, name=kind)

    def flat(self, name: str) -> Any:
        """As `Events.flat`."""
        concrete = self._concrete.flat(name)
        return TracedFlat(self._inputs.trace, self._record(name), concrete, self._scope)

    def replaced(self, names: Sequence[str], values: Any) -> Events:
        """An error."""
        raise NanoMLError("events.replaced in `select` cannot be compiled: correct objects in `prepare`.")

    def before(self, name: str) -> Events:
        """An error."""
        raise NanoMLError(f"events.before({name!r}) cannot be compiled: a model reads the corrected values alone.")

    @property
    def rows(self) -> Any:
        """An error."""
        raise NanoMLError("events.rows cannot be compiled: a selection treats each event alike.")

    def once(self, function: Callable[..., Any], reads: Sequence[str], *arguments: Any) -> Any:
        """As `Events.once`: there are no shifts."""
        return function(self, *arguments)


class TracedCutflow(Cutflow):
    """Applies cuts to traced arrays. Weights are not computed: the graph has none."""

    def __init__(self, number: int) -> None:
        super().__init__(np.ones(number))
        self.masks: list[tuple[str, Scope, Tensor]] = []

    def weigh(self, name: str, values: Any, bins: Any = None) -> None:
        """Nothing."""

    def count_efficiency(self, name: str, jets: Any, passed: Any) -> None:
        """Nothing."""

    def cut(self, name: str, mask: Any, *narrowed: Any) -> Any:
        """As `Cutflow.cut`."""
        if not name:
            raise NanoMLError("a cut has no name, but a model names its cuts: give it one.")
        if not isinstance(mask, Traced):
            raise NanoMLError(f'cut "{name}": the mask does not come from the events.')
        super().cut(name, mask._concrete)
        expected = self.masks[-1][1] + (self.masks[-1][2],) if self.masks else ()
        if not of_same_events(mask._scope, expected):
            raise NanoMLError(f'cut "{name}": the mask was computed before an earlier cut: narrow it by that cut.')
        numbers = mask._value.numbers
        self.masks.append((name, mask._scope, numbers))
        kept = tuple(thing[mask] for thing in narrowed)
        return kept[0] if len(kept) == 1 else kept
