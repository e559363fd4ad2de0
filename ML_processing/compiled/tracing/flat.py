"""`Flat` in a selection that is being compiled: the objects of all events in one row, as lists of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ML_processing.compiled.nodes import lists, picking
from ML_processing.compiled.nodes.lists import Axis, Value
from ML_processing.compiled.nodes.tensors import Tensor
from ML_processing.compiled.tracing.forms import chosen, record
from ML_processing.compiled.tracing.trace import Scope, Trace, quiet
from ML_processing.compiled.tracing.traced import (
    LENGTH,
    Traced,
    check_forms,
    check_scopes,
    concrete_of,
    traced_in,
    value_of,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import COMPONENTS, Flat


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
        return (
            self._array(self._fields[name], getattr(self._concrete, name))
            if name in self._fields
            else getattr(self._concrete, name)
        )

    def _array(self, value: Value, concrete: Any) -> Traced:
        return self._trace.made(value, concrete, self._scope, bool(value.axes))

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return list(self._fields)

    @property
    def counts(self) -> Any:
        """How many objects each event has."""
        if self._is_single:
            return self._trace.made(self._any.number(lists.fixed(self._any, 1)), self._concrete.counts, self._scope)
        return self._trace.made(lists.counts(self._value), self._concrete.counts, self._scope)

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
        return self._array(self._places(), self._concrete.place)

    def _places(self) -> Value:
        if self._is_single:
            return self._any.number(lists.fixed(self._any, 0))
        return Value(self._trace.graph, self._value.axes, lists.number_in_list(self._value))

    @property
    def p4(self) -> Any:
        """The four-vectors."""
        fields = {name: self._fields[name] for name in COMPONENTS}
        return self._array(
            Value(self._trace.graph, self._value.axes, fields=fields, name="Momentum4D"), self._concrete.p4
        )

    def __getitem__(self, what: Any) -> Any:
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
        return self._with(picking.kept(self._value, mask._value), self._concrete.keep(mask._concrete))

    def pairs(self) -> tuple[Flat, Flat]:
        """The first and the second objects of all pairs in each event."""
        first, second = picking.combinations(self._value, 2)
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

        def function(tensor: Tensor) -> Tensor:
            return tensor.one_at(places[1])

        return self._with(self._value.mapped(function, ()), self._concrete.at(positions._concrete))

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
        one, two = (_listed(each._value) for each in (self, other))
        return self._with(picking.concatenated([one, two]), concrete)

    def _chosen(self, mask: Any, other: Flat) -> Flat:
        assert isinstance(other, TracedFlat)
        self._check(mask, other._any_traced)
        concrete = Flat.chosen(mask._concrete, self._concrete, other._concrete)
        return self._with(chosen(mask._value, self._value, other._value), concrete)


def _listed(value: Value) -> Value:
    """A list of one object where each event has one."""
    return value if value.axes else lists.with_axis(value, 1)
