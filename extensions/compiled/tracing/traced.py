"""Arrays that record what a selection does with them, while it runs on a few real events.

Each holds its numbers for these events, computed by awkward and numpy themselves, and the nodes of the graph that compute them
for any event. So types, missing values and mistakes are those of the engine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import lists, vectors
from MLTools.NanoML.extensions.compiled.tracing.graph import Graph, Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Axis, Value
from MLTools.NanoML.extensions.compiled.tracing.mathematics import UFUNCS
from MLTools.NanoML.extensions.compiled.tracing.trace import (
    KIND_OF,
    Scope,
    dtype_of,
    of_same_events,
    quiet,
    typed,
    user_line,
    wrapped,
)


@dataclass(frozen=True)
class Step:
    """The result of one line of a selection, for the comparison of graph and engine."""

    line: str
    value: Value
    concrete: Any
    scope: Scope
    is_flat: bool


@dataclass
class Trace:
    """The graph of a selection as far as it ran, and what it asks of its events.

    Attributes
    ----------
    graph
        The graph.
    steps
        The results of lines, in order.
    demands
        Conditions, one boolean for each event, without which the engine would have raised an error; with the cuts before.
    place
        The place to name in messages where no line of the user's code is running.
    """

    graph: Graph = field(default_factory=Graph)
    steps: list[Step] = field(default_factory=list)
    demands: list[tuple[Scope, Tensor]] = field(default_factory=list)
    place: str = ""

    def demand(self, scope: Scope, condition: Tensor) -> None:
        """Something that must hold for each event that is left."""
        rank = condition.rank
        while rank > 1:
            condition, rank = condition.to("i").extreme("ReduceMin") > 0, rank - 1
        if not any(cut.implies(condition) for cut in scope):
            self.demands.append((scope, condition))

    def made(self, value: Value, concrete: Any, scope: Scope, is_flat: bool = False) -> Traced:
        """A new array; the numbers get the type that the engine gave them."""
        value = typed(value, concrete)
        for condition in self.graph.conditions:
            self.demand(scope, condition)
        self.graph.conditions.clear()
        self.steps.append(Step(self.place or user_line(), value, concrete, scope, is_flat))
        return Traced(self, value, concrete, scope, is_flat, None)


class Traced(NDArrayOperatorsMixin):
    """An array of a selection that is being compiled; see the module."""

    __slots__ = ("_concrete", "_is_flat", "_of_events", "_scope", "_trace", "_value")

    def __init__(
        self, trace: Trace, value: Value, concrete: Any, scope: Scope, is_flat: bool, of_events: Optional[Axis]
    ) -> None:
        self._trace, self._value, self._concrete, self._scope = trace, value, concrete, scope
        self._is_flat, self._of_events = is_flat, of_events

    def _made(self, value: Value, concrete: object) -> Traced:
        """Something for the same events."""
        return self._trace.made(value, concrete, self._scope, self._is_flat)

    # what is asked of it

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **options: object) -> Any:
        if "out" in options:
            raise NanoMLError("an array cannot be changed in place: write `x = x + 1` instead of `x += 1`.")
        if method != "__call__" or options:
            what = f".{method}" if method != "__call__" else f" with {', '.join(options)}"
            raise NanoMLError(f"np.{ufunc.__name__}{what} {UNKNOWN}")
        return apply_ufunc(ufunc, inputs)

    def __awkward_function__(self, function: Callable[..., Any], _arrays: object, args: object, options: object) -> Any:
        return self._called("ak", function, args, options)

    def __array_function__(self, function: Callable[..., object], _types: object, args: object, options: object) -> Any:
        return self._called("np", function, args, options)

    def _called(self, package: str, function: Callable[..., object], args: Any, options: Any) -> object:
        found = FUNCTIONS[package].get(function.__name__)
        if found is None:
            beside = ", beside functions of numbers" if package == "np" else ""
            known = ", ".join(sorted(FUNCTIONS[package]))
            raise NanoMLError(f"{package}.{function.__name__} {UNKNOWN} These can{beside}: {known}.")
        return found(function, args, options)

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        raise NanoMLError(
            f"numpy takes this for an array of numbers, which {UNKNOWN} np.minimum gives the smaller of two "
            "numbers of an event, ak.min([x, y, z], axis=0) the smallest of several, ak.any([x, y, z], axis=0) whether one is true."
        )

    def __bool__(self) -> bool:
        raise NanoMLError(
            "`if`, `and`, `or`, `not` and `in` on data cannot be compiled, since each event would take its own way: use "
            "ak.where, `&`, `|` and `~`, or a cut."
        )

    def __iter__(self) -> Any:  # also for `in`; awkward would ask a class with __contains__ for its length
        raise NanoMLError(
            f"a loop over events or objects {UNKNOWN} A line works on all of them at once: ak.any(array == value, axis=1) "
            "instead of `value in array`."
        )

    def __len__(self) -> int:
        raise NanoMLError(LENGTH)

    def __float__(self) -> float:
        raise NanoMLError(f"a single number made of an array {UNKNOWN} Use ak.values_astype for another type.")

    __int__ = __index__ = __complex__ = __round__ = __float__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name == "_numba_type_":
            raise NanoMLError(f"a function that numba has compiled {UNKNOWN} Write it with functions of arrays.")
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "mask":
            return _Mask(self)
        fields = self._value.fields
        if fields is not None:
            if name in fields:
                return self[name]
            return self._of_vectors(name)
        if name in ("ndim", "dtype", "fields"):
            return getattr(self._concrete, name)
        if name in _METHODS:
            if name in ("to_numpy", "copy"):
                return lambda *args, **options: self
            return functools.partial(getattr(ak, "values_astype" if name == "astype" else name), self)
        raise NanoMLError(f"`.{name}` of an array {UNKNOWN}")

    def _of_vectors(self, name: str) -> object:
        """A number that the package vector computes of an array of vectors, or a method."""
        concrete = getattr(self._concrete, name)  # raises if there is none
        if name in vectors.METHODS:

            def call(other: Any) -> Traced:
                check_scopes([self, other])
                with quiet():
                    result = concrete(other._concrete)
                return self._made(vectors.METHODS[name](self._value, other._value), result)

            return call
        if name in vectors.COMPONENTS and not callable(concrete):
            return self._made(vectors.component(self._value, vectors.COMPONENTS[name]), concrete)
        known = ", ".join(sorted({*vectors.METHODS, *vectors.COMPONENTS}))
        raise NanoMLError(f"`.{name}` of vectors cannot be compiled. These can: {known}.")

    def __setitem__(self, name: object, values: object) -> None:
        if not isinstance(name, str):
            raise NanoMLError("an array cannot be changed in place: use ak.where.")
        made = ak.with_field(self, values, name)
        self._value, self._concrete = made._value, made._concrete

    def __getitem__(self, what: object) -> Any:
        if isinstance(what, str):
            return self._field(what)
        if isinstance(what, list) and what and all(isinstance(each, str) for each in what):
            fields = self._value.fields or {}
            concrete = self._concrete[what]
            return self._made(replace(self._value, fields={name: fields[name] for name in what}), concrete)
        if isinstance(what, Traced):
            return self._picked(what)
        return self._sliced(what if isinstance(what, tuple) else (what,))

    def _field(self, name: str) -> Traced:
        fields = self._value.fields
        concrete = self._concrete[name]  # raises if there is none
        if fields is None or name not in fields:
            raise NanoMLError(f"`{name}` is not in all of the lists that were put together.")
        return self._made(fields[name].if_valid(self._value.valid), concrete)

    def _picked(self, what: Traced) -> Traced:
        concrete, mine, other = what._concrete, self._value, what._value
        if what._of_events is not None and not mine.axes:
            check_scopes([self, what])
            axis = what._of_events
            if axis.mask is None:  # each event has one object
                return self
            made = mine.mapped(lambda each: each.repeated(axis.mask, axis.size), (axis,))  # type: ignore[arg-type]
            return self._trace.made(made, self._concrete[concrete], self._scope, True)
        if other.places and self._is_flat and mine.axes and other.places[0].is_same(mine.axis):
            check_scopes([self, what])
            place = other.places[1]
            return self._trace.made(
                mine.mapped(lambda each: each.one_at(place), ()), self._concrete[concrete], self._scope
            )
        if other.data is None:
            raise NanoMLError("is picked by positions of other objects, or of objects that were kept in another way.")
        dtype = dtype_of(concrete)
        if dtype is not None and dtype.kind == "b":
            if not other.axes and not what._is_flat and not self._is_flat:
                check_scopes([self, what])
                return self._trace.made(mine, self._concrete[concrete], (*self._scope, other.numbers), self._is_flat)
            check_scopes([self, what])
            if other.valid is not None:
                raise NanoMLError("a mask has missing values (None): use ak.fill_none(mask, False).")
            if len(other.axes) == len(mine.axes):
                return self._made(lists.kept(mine, other), self._concrete[concrete])
        if (
            dtype is not None
            and dtype.kind in "iu"
            and other.axes
            and len(other.axes) == len(mine.axes)
            and not self._is_flat
        ):
            check_scopes([self, what])
            made, inside = lists.picked(mine, other)
            self._trace.demand(self._scope, inside | ~other.present)
            return self._made(made, self._concrete[concrete])
        raise NanoMLError(
            "events are picked by numbers, or by an array of another form: pick events by a cut, objects by a mask, or by "
            "positions from ak.argmin, ak.argmax, ak.argsort and ak.local_index."
        )

    def _sliced(self, what: tuple[object, ...]) -> Traced:
        value, concrete = self._value, self._concrete[what]
        if self._is_flat:
            raise NanoMLError("objects of all events in one row are picked by their place: use a mask.")
        depth = 1 + len(value.axes)
        given = [each for each in what if each is not None]
        if any(each is Ellipsis for each in what):
            at = next(number for number, each in enumerate(what) if each is Ellipsis)
            what = (*what[:at], *[slice(None)] * (depth - len(given) + 1), *what[at + 1 :])
        if not what or what[0] != slice(None):
            raise NanoMLError(
                "events are picked by their number: a selection treats each event alike. Pick objects, as in x[:, 0]."
            )
        place = 0
        for each in what[1:]:
            if each is None:
                value, place = lists.with_axis(value, place + 1), place + 1
                continue
            if isinstance(each, slice) and each == slice(None):
                place += 1
                continue
            if place != len(value.axes) - 1:
                raise NanoMLError(
                    "objects are picked in an outer list: pick them in the innermost one, or before lists are nested."
                )
            if isinstance(each, slice):
                if each.step not in (None, 1):
                    raise NanoMLError(f"steps in a slice {UNKNOWN}")
                value, place = lists.sliced(value, each.start, each.stop), place + 1
            elif isinstance(each, (int, np.integer)):
                least = each + 1 if each >= 0 else -each
                self._trace.demand(self._scope, lists.counts(value).numbers >= int(least))
                value, _ = lists.nth(value, int(each))
            else:
                raise NanoMLError(f"the index {each!r} {UNKNOWN}")
        return self._made(value, concrete)


UNKNOWN = "cannot be compiled."
LENGTH = (
    "len() is not known when a selection is compiled: nothing may depend on the number of events. Begin a mask with a condition, as "
    "ak.any([events.HLT.A, events.HLT.B], axis=0)."
)
FUNCTIONS: dict[str, dict[str, Callable[[Callable[..., object], Sequence[object], Mapping[str, object]], object]]] = {
    "ak": {},
    "np": {},
    "nanoml": {},
}
"""Replacements of the functions of awkward, numpy and NanoML, by their names: each takes the function and the arguments of a call."""
_METHODS = ("astype", "sum", "min", "max", "any", "all", "to_numpy", "copy", "prod")


class _Mask:
    """`array.mask[condition]`: None where the condition is false."""

    def __init__(self, array: Traced) -> None:
        self._array = array

    def __getitem__(self, condition: object) -> Traced:
        return ak.mask(self._array, condition)  # type: ignore[no-any-return]


def concrete_of(what: object) -> Any:
    """Arguments with the numbers of the engine instead of traced arrays."""
    if hasattr(what, "_concrete"):
        return what._concrete
    if isinstance(what, (list, tuple)):
        return type(what)(map(concrete_of, what))
    if isinstance(what, Mapping):
        return {name: concrete_of(each) for name, each in what.items()}
    return what


def traced_in(what: object) -> Iterator[Traced]:
    """All traced arrays in arguments."""
    if isinstance(what, Traced):
        yield what
    elif isinstance(what, (list, tuple)):
        for each in what:
            yield from traced_in(each)
    elif isinstance(what, Mapping):
        yield from traced_in(list(what.values()))


def check_scopes(arrays: Sequence[Traced]) -> None:
    """An error unless all have an entry for the same events."""
    first = arrays[0]
    for each in arrays[1:]:
        if not of_same_events(each._scope, first._scope):
            raise NanoMLError(
                "puts together arrays of which one was computed before a cut: give it to cutflow.cut, which narrows it."
            )


def check_forms(arrays: Sequence[Traced]) -> None:
    """An error if some have a number for each object in one row and others one for each event, or if some are positions."""
    if any(each._value.data is None and each._value.fields is None for each in arrays):
        raise NanoMLError(
            "computes with positions of objects: `event`, `smallest` and `largest` pick, as in `met.pt[muons.event]`."
        )
    if len({each._is_flat for each in arrays}) > 1:
        raise NanoMLError(
            "puts together an array with a number for each object and one for each event: pick by `.event` of the objects."
        )


def value_of(what: object, graph: Graph) -> Value:
    """The value of an operand: a traced array, or a number."""
    if isinstance(what, Traced):
        return what._value
    array = np.asarray(what) if not isinstance(what, ak.Array) else None
    if array is None or array.ndim or array.dtype.kind not in KIND_OF:
        raise NanoMLError(
            f"an array that does not come from the events {UNKNOWN} Compute it from them, or use a single number."
        )
    return Value(graph, (), graph.constant(array))


def apply_ufunc(ufunc: np.ufunc, inputs: Sequence[object]) -> object:
    """One of numpy's functions of numbers, or of four-vectors."""
    arrays = list(traced_in(list(inputs)))
    check_scopes(arrays)
    check_forms(arrays)
    first = arrays[0]
    if ufunc.__name__ not in UFUNCS:
        raise NanoMLError(f"np.{ufunc.__name__} {UNKNOWN}")
    with quiet():
        concrete = ufunc(*map(concrete_of, inputs))
    values = [value_of(each, first._trace.graph) for each in inputs]
    if any(each.fields is not None for each in values):
        made = vectors.vector_ufunc(ufunc.__name__, values)
    else:
        made = lists.elementwise(UFUNCS[ufunc.__name__], *values)
        dtype = dtype_of(concrete)
        if made.data is not None and dtype is not None and ufunc.__name__ in _BEYOND.get(dtype.kind, ()):
            made = replace(made, data=wrapped(made.data, dtype))
    return first._trace.made(made, concrete, first._scope, any(each._is_flat for each in arrays))


_BEYOND = {
    "i": ("add", "subtract", "multiply", "power", "square", "left_shift"),
    "u": ("add", "subtract", "multiply", "power", "square", "left_shift", "negative", "invert"),
}
"""Functions whose result may be beyond the integers of its type."""
