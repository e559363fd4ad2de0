"""A selection run once on events that record: which inputs its graph has, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import lists
from MLTools.NanoML.extensions.compiled.tracing.forms import chosen, record
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Axis, Value
from MLTools.NanoML.extensions.compiled.tracing.trace import Scope, dtype_of, of_same_events, quiet
from MLTools.NanoML.extensions.compiled.tracing.traced import (
    LENGTH,
    Trace,
    Traced,
    check_forms,
    check_scopes,
    concrete_of,
    traced_in,
    value_of,
)
from MLTools.NanoML.nanoaod.events import Group
from MLTools.NanoML.nanoaod.flat import COMPONENTS, Flat
from MLTools.NanoML.selection import Cutflow, Events


class TracedFlat(Flat):
    """Records of a graph with the methods of `Flat`. After `at` it has one object for each event, and no lists."""

    def __init__(self, trace: Trace, value: Value, concrete: Flat, scope: Scope) -> None:
        self._trace, self._value, self._concrete, self._scope = trace, value, concrete, scope

    def _with(self, value: Value, concrete: Flat, scope: Scope | None = None) -> TracedFlat:
        return TracedFlat(self._trace, value, concrete, self._scope if scope is None else scope)

    @property
    def _fields(self) -> Mapping[str, Value]:
        assert self._value.fields is not None
        return self._value.fields

    @property
    def _is_single(self) -> bool:
        return not self._value.axes

    def __len__(self) -> int:
        raise NanoMLError(LENGTH)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        concrete = getattr(self._concrete, name)
        return self._array(self._fields[name], concrete) if name in self._fields else concrete

    def _array(self, value: Value, concrete: Any) -> Traced:
        return self._trace.made(value, concrete, self._scope, bool(value.axes))

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return list(self._fields)

    @property
    def counts(self) -> Any:
        """How many objects each event has."""
        counts = self._any.number(lists.fixed(self._any, 1)) if self._is_single else lists.counts(self._value)
        return self._trace.made(counts, self._concrete.counts, self._scope)

    @property
    def _any(self) -> Value:
        return next(iter(self._fields.values()))

    @property
    def event(self) -> Any:
        """By which numbers of the event are picked for each object."""
        axis = Axis(1) if self._is_single else self._value.axis
        return self._positions(Value(self._trace.graph, self._value.axes), self._concrete.event, axis)

    def _positions(self, value: Value, concrete: Any, of_events: Axis | None = None) -> Traced:
        """Positions in the row of all events: a graph, which has no such row, only picks by them."""
        return Traced(self._trace, value, concrete, self._scope, bool(value.axes), of_events)

    @property
    def place(self) -> Any:
        """The place of each object in its event, from 0."""
        places = lists.fixed(self._any, 0) if self._is_single else lists.number_in_list(self._value)
        return self._array(Value(self._trace.graph, self._value.axes, places), self._concrete.place)

    @property
    def p4(self) -> Any:
        """The four-vectors."""
        fields = {name: self._fields[name] for name in COMPONENTS}
        return self._array(
            Value(self._trace.graph, self._value.axes, fields=fields, name="Momentum4D"), self._concrete.p4
        )

    def __getitem__(self, what: object) -> Any:
        if isinstance(what, str):
            return getattr(self, what)
        if not isinstance(what, Traced) or what._value.axes:
            raise NanoMLError("events of a flat collection are picked by a cut, its objects by `keep`.")
        check_scopes([self._any_traced, what])
        return self._with(self._value, self._concrete[what._concrete], (*self._scope, what._value.numbers))

    @property
    def _any_traced(self) -> Traced:
        name = next(iter(self._fields))
        return getattr(self, name)  # type: ignore[no-any-return]

    def _check(self, *arrays: Any) -> None:
        """An error unless these have a number for each object, of the same events."""
        given = [self._any_traced, *traced_in(arrays)]
        check_scopes(given)
        check_forms(given)

    def keep(self, mask: Any) -> Flat:
        """The objects for which a mask is true."""
        if self._is_single:
            raise NanoMLError("`keep` after `at`: each event has one object here. Use a cut.")
        self._check(mask)
        return self._with(lists.kept(self._value, mask._value), self._concrete.keep(mask._concrete))

    def pairs(self) -> tuple[Flat, Flat]:
        """The first and the second objects of all pairs in each event."""
        first, second = lists.combinations(self._value, 2)
        one, other = self._concrete.pairs()
        return self._with(first, one), self._with(second, other)

    def smallest(self, key: Any) -> Any:
        """Position of the object with the smallest key."""
        return self._extreme_of(key, "ArgMin", self._concrete.smallest(key._concrete))

    def largest(self, key: Any) -> Any:
        """Position of the object with the largest key."""
        return self._extreme_of(key, "ArgMax", self._concrete.largest(key._concrete))

    def _extreme_of(self, key: Any, operator: str, concrete: Any) -> Traced:
        """The place of the best key that is not NaN, the first object if all are."""
        self._check(key)
        (keys,) = lists.aligned([key._value])
        numbers, present = keys.numbers.to("d"), lists.filled_mask(keys)
        self._trace.demand(self._scope, lists.counts(keys).numbers >= 1)
        worst = np.inf if operator == "ArgMin" else -np.inf
        place = (present & numbers.equals(numbers)).where(numbers, worst).place_of(operator)
        place = present.at(place).where(place, present.to("f").place_of("ArgMax"))
        return self._positions(Value(self._trace.graph, places=(keys.axis, place)), concrete)

    def at(self, positions: Any) -> Flat:
        """One object of each event."""
        places = positions._value.places
        if places is None or not places[0].is_same(self._value.axis):
            raise NanoMLError("`at` takes the positions that `smallest` or `largest` of the same objects returned.")
        _, place = places
        return self._with(
            self._value.mapped(lambda each: each.one_at(place), ()), self._concrete.at(positions._concrete)
        )

    def with_columns(self, **columns: Any) -> Flat:
        """The same objects with more columns."""
        self._check(*columns.values())
        made = {name: value_of(each, self._trace.graph) for name, each in columns.items()}
        value = record({**self._fields, **made}, self._value.name)
        return self._with(value, self._concrete.with_columns(**concrete_of(columns)))

    def _joined(self, other: Flat) -> Flat:
        assert isinstance(other, TracedFlat)
        with quiet():
            concrete = Flat.joined(self._concrete, other._concrete)
        both = [each._value if each._value.axes else lists.with_axis(each._value, 1) for each in (self, other)]
        return self._with(lists.concatenated(both), concrete)  # a list of one object where each event has one

    def _chosen(self, mask: Any, other: Flat) -> Flat:
        assert isinstance(other, TracedFlat)
        self._check(mask, other._any_traced)
        concrete = Flat.chosen(mask._concrete, self._concrete, other._concrete)
        return self._with(chosen(mask._value, self._value, other._value), concrete)


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
    events: dict[str, np.dtype[np.generic]] = field(default_factory=dict)
    objects: dict[str, dict[str, np.dtype[np.generic]]] = field(default_factory=dict)

    def event(self, name: str, dtype: np.dtype[np.generic]) -> Value:
        """A branch with one number for each event."""
        self.events.setdefault(name, dtype)
        return Value(self.trace.graph, (), self._number(EVENTS, 2, list(self.events).index(name), dtype))

    def object(self, name: str, collection: str, dtype: np.dtype[np.generic]) -> Value:
        """A branch with one number for each object."""
        known = self.objects.setdefault(collection, {})
        known.setdefault(name, dtype)
        data = self._number(collection, 3, list(known).index(name), dtype)
        return Value(self.trace.graph, (self.axis(collection),), data)

    def axis(self, collection: str) -> Axis:
        """The places for the objects of a collection."""
        self.objects.setdefault(collection, {})
        return Axis(self.sizes[collection], self.trace.graph.input(f"{collection}_mask", 2) > 0.5, True)

    def _number(self, tensor: str, rank: int, place: int, dtype: np.dtype[np.generic]) -> Tensor:
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

    def __getitem__(self, what: object) -> Any:
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

    def once(self, function: Callable[..., object], reads: Sequence[str], *arguments: Any) -> Any:
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
