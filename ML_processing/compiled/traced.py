"""Arrays that record what a selection does with them, while it runs on a few real events.

Each holds its numbers for these events, computed by awkward and numpy themselves, and the nodes of the graph that compute them
for any event. So types, missing values and mistakes are those of the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ML_processing.compiled import lists
from ML_processing.compiled.graph import Graph, Tensor
from ML_processing.compiled.lists import Axis, Value
from ML_processing.compiled.mathematics import UFUNCS
from MLTools.NanoML.errors import NanoMLError

_HERE = Path(__file__).parent
_LIBRARIES = tuple(str(Path(module.__file__).parent) for module in (ak, np))
_KINDS = {"f": "d", "i": "i", "u": "i", "b": "b"}
Scope = tuple[Tensor, ...]
"""The cuts that events have passed: which arrays have an entry for the same events."""


@dataclass(frozen=True)
class Step:
    """What one line of a selection computed: for the comparison of graph and engine."""

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
        What was computed, in order.
    demands
        Conditions, one boolean for each event, without which the engine would have raised an error; with the cuts before.
    """

    graph: Graph = field(default_factory=Graph)
    steps: list[Step] = field(default_factory=list)
    demands: list[tuple[Scope, Tensor]] = field(default_factory=list)

    def demand(self, scope: Scope, condition: Tensor) -> None:
        """Something that must hold for each event that is left."""
        rank = condition.rank
        while rank > 1:
            condition, rank = condition.to("i").extreme("ReduceMin") > 0, rank - 1
        self.demands.append((scope, condition))

    def made(
        self, value: Value, concrete: Any, scope: Scope, is_flat: bool = False, of_events: Optional[Axis] = None
    ) -> Traced:
        """A new array; the numbers get the type that the engine gave them."""
        value = _typed(value, concrete)
        self.steps.append(Step(user_line(), value, concrete, scope, is_flat))
        return Traced(self, value, concrete, scope, is_flat, of_events)


def _typed(value: Value, concrete: Any) -> Value:
    """Numbers in the type of the engine's, which may be narrower than float64 and int64."""
    if value.data is None or value.data.kind == "f":
        return value
    dtype = dtype_of(concrete)
    if dtype is None or dtype.kind not in _KINDS:
        return value
    data = value.data.to(_KINDS[dtype.kind])
    if dtype.kind == "f" and dtype.itemsize < 8:
        data = data.to("f").to("d")
    if dtype.kind == "u" and dtype.itemsize < 8:
        data = data.graph.arithmetic_of("Mod", data, data.graph.constant(1 << 8 * dtype.itemsize), fmod=0)
    return value if data is value.data else replace(value, data=data)


def dtype_of(concrete: Any) -> Optional[np.dtype[Any]]:
    """The type of the numbers of an array; None of records."""
    if isinstance(concrete, np.ndarray):
        return None if concrete.dtype.names else concrete.dtype
    if not isinstance(concrete, ak.Array) or concrete.fields:
        return None
    layout = concrete.layout
    while not layout.is_numpy:
        if layout.is_unknown or not hasattr(layout, "content"):
            return None
        layout = layout.content
    return np.dtype(layout.dtype)


def user_line() -> str:
    """File and line of the user's code that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith((*_LIBRARIES, str(_HERE))) and f"{Path('vector')}" != Path(name).parent.name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class Traced(NDArrayOperatorsMixin):
    """An array of a selection that is being compiled; see the module."""

    __iter__ = None  # awkward and numpy would walk through it for ever

    def __init__(
        self, trace: Trace, value: Value, concrete: Any, scope: Scope, is_flat: bool, of_events: Optional[Axis]
    ) -> None:
        self._trace, self._value, self._concrete, self._scope = trace, value, concrete, scope
        self._is_flat, self._of_events = is_flat, of_events

    def _made(self, value: Value, concrete: Any) -> Traced:
        """Something for the same events."""
        return self._trace.made(value, concrete, self._scope, self._is_flat)

    # what is asked of it

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        options = {name: each for name, each in options.items() if name != "dtype" or each is not None}
        if method != "__call__" or options:
            raise NanoMLError(
                f"np.{ufunc.__name__} with {method if method != '__call__' else ', '.join(options)} {UNKNOWN}"
            )
        return apply_ufunc(ufunc, inputs)

    def __awkward_function__(self, function: Callable[..., Any], _arrays: Any, args: Any, options: Any) -> Any:
        from ML_processing.compiled.functions import awkward_function

        return awkward_function(function, args, options)

    def __array_function__(self, function: Callable[..., Any], _types: Any, args: Any, options: Any) -> Any:
        from ML_processing.compiled.functions import numpy_function

        return numpy_function(function, args, options)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if dtype is not None and np.dtype(dtype) != object:
            raise NanoMLError(f"np.asarray(..., {np.dtype(dtype)}) {UNKNOWN} Use ak.values_astype.")
        held = np.empty(
            (), object
        )  # numpy's functions find the array inside, so that np.asarray(events.MET.pt) is allowed
        held[()] = self
        return held

    def __bool__(self) -> bool:
        raise NanoMLError(
            "`if`, `and`, `or` and `not` on data cannot be compiled, since each event would take its own way: use ak.where, "
            "`&`, `|` and `~`, or a cut."
        )

    def __len__(self) -> int:
        raise NanoMLError(
            "len() is not known when a selection is compiled: it must not depend on the number of events."
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_trace", "_value"):
            raise AttributeError(name)
        if name == "mask":
            return _Mask(self)
        fields = self._value.fields
        if fields is not None:
            if name in fields:
                return self[name]
            from ML_processing.compiled.vectors import attribute

            return attribute(self, name)
        if name in ("ndim", "dtype", "fields"):
            return getattr(self._concrete, name)
        if name in UFUNCS:  # an array of objects calls it, see __array__
            return lambda: apply_ufunc(getattr(np, name), (self,))
        if name in _METHODS:
            from ML_processing.compiled.functions import method

            return lambda *args, **options: method(self, name, args, options)
        raise NanoMLError(f"`.{name}` of an array {UNKNOWN}")

    def __setitem__(self, name: Any, values: Any) -> None:
        if not isinstance(name, str):
            raise NanoMLError("an array cannot be changed in place: use ak.where.")
        from ML_processing.compiled.functions import with_field

        made = with_field(self, values, name)
        self._value, self._concrete = made._value, made._concrete

    def __getitem__(self, what: Any) -> Any:
        if isinstance(what, str):
            return self._field(what)
        if isinstance(what, list) and what and all(isinstance(each, str) for each in what):
            fields = self._value.fields or {}
            concrete = self._concrete[what]
            return self._made(replace(self._value, fields={name: fields[name] for name in what}), concrete)
        what = held(what)
        if isinstance(what, Traced):
            return self._picked(what)
        return self._sliced(what if isinstance(what, tuple) else (what,))

    def _field(self, name: str) -> Traced:
        fields = self._value.fields
        concrete = self._concrete[name]  # raises if there is none
        if fields is None or name not in fields:
            raise NanoMLError(f"`{name}` is not in all of the lists that were put together.")
        found = fields[name]
        valid = self._value.valid
        return self._made(found if valid is None else found.if_valid(valid), concrete)

    def _picked(self, what: Traced) -> Traced:
        concrete, mine, other = what._concrete, self._value, what._value
        if what._of_events is not None and not mine.axes:
            check_scopes([self, what])
            axis = what._of_events
            if axis.mask is None:  # each event has one object
                return self
            made = mine.mapped(lambda each: axis.mask.where(each, each), (axis,))  # type: ignore[union-attr]
            return self._trace.made(made, self._concrete[concrete], self._scope, True)
        dtype = dtype_of(concrete)
        if dtype is not None and dtype.kind == "b":
            if not other.axes and not what._is_flat and not self._is_flat:
                return self._narrowed(what)
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

    def _narrowed(self, mask: Traced) -> Traced:
        check_scopes([self, mask])
        return self._trace.made(
            self._value, self._concrete[mask._concrete], (*self._scope, mask._value.numbers), self._is_flat
        )

    def _sliced(self, what: tuple[Any, ...]) -> Traced:
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
                value, found = lists.nth(value, int(each))
                self._trace.demand(self._scope, found)
            else:
                raise NanoMLError(f"the index {each!r} {UNKNOWN}")
        return self._made(value, concrete)


UNKNOWN = "cannot be compiled."
_METHODS = ("astype", "sum", "min", "max", "any", "all", "to_numpy", "copy", "prod")


class _Mask:
    """`array.mask[condition]`: None where the condition is false."""

    def __init__(self, array: Traced) -> None:
        self._array = array

    def __getitem__(self, condition: Any) -> Traced:
        return ak.mask(self._array, condition)  # type: ignore[no-any-return]


def held(what: Any) -> Any:
    """The array that np.asarray put into an array of objects."""
    if isinstance(what, np.ndarray) and what.dtype == object and what.ndim == 0:
        return what.item()
    return what


def concrete_of(what: Any) -> Any:
    """Arguments with the numbers of the engine instead of traced arrays."""
    what = held(what)
    if hasattr(what, "_concrete"):
        return what._concrete
    if isinstance(what, (list, tuple)):
        return type(what)(map(concrete_of, what))
    if isinstance(what, Mapping):
        return {name: concrete_of(each) for name, each in what.items()}
    return what


def traced_in(what: Any) -> Iterator[Traced]:
    """All traced arrays in arguments."""
    what = held(what)
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
        if [mask.name for mask in each._scope] != [mask.name for mask in first._scope]:
            raise NanoMLError(
                "puts together arrays of which one was computed before a cut: give it to cutflow.cut, which narrows it."
            )


def value_of(what: Any, graph: Graph) -> Value:
    """The value of an operand: a traced array, or a number."""
    what = held(what)
    if isinstance(what, Traced):
        return what._value
    array = np.asarray(what)
    if array.ndim or array.dtype.kind not in _KINDS:
        raise NanoMLError(
            f"an array of {array.dtype} that does not come from the events {UNKNOWN} Compute it from them, or use a single number."
        )
    return lists.number(graph, array)


@contextmanager
def quiet() -> Iterator[None]:
    """Without numpy's warnings of numbers: the engine runs the same code, and warns."""
    with np.errstate(all="ignore"):
        yield


def apply_ufunc(ufunc: np.ufunc, inputs: Sequence[Any]) -> Any:
    """One of numpy's functions of numbers, or of four-vectors."""
    arrays = list(traced_in(list(inputs)))
    check_scopes(arrays)
    first = arrays[0]
    with quiet():
        concrete = ufunc(*map(concrete_of, inputs))
    values = [value_of(each, first._trace.graph) for each in inputs]
    if any(each.fields is not None for each in values):
        from ML_processing.compiled.vectors import vector_ufunc

        made = vector_ufunc(ufunc.__name__, values)
    elif ufunc.__name__ not in UFUNCS:
        raise NanoMLError(f"np.{ufunc.__name__} {UNKNOWN}")
    else:
        made = lists.elementwise(UFUNCS[ufunc.__name__], *values)
    return first._trace.made(made, concrete, first._scope, any(each._is_flat for each in arrays))
