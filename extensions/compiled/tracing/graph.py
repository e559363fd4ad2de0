"""ONNX graphs: an operation on a tensor adds a node, unless it is there already.

Tensors are float64, int64 or bool inside, with operators that ONNX Runtime has had for these types since 1.14.

Elements that are picked remember from where. So a number that is computed of one object of a list is computed of the whole
list, and picked then: in a selection, several objects of one list usually need the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

KINDS = {"f": TensorProto.FLOAT, "d": TensorProto.DOUBLE, "i": TensorProto.INT64, "b": TensorProto.BOOL}
"""Types of tensors: float32 (of inputs and outputs), float64, int64, bool."""

NUMPY: dict[str, type[np.generic]] = {"f": np.float32, "d": np.float64, "i": np.int64, "b": np.bool_}
"""The same in numpy."""

Operand = Union["Tensor", float, int, bool]


@dataclass(frozen=True)
class Picked:
    """Elements of the last dimension of another tensor."""

    base: Tensor
    # Gather: the same places for each event; GatherElements: places for each event; GatherND: one place for each event
    operator: str
    places: Tensor


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a graph. Its first dimension is that of the events, unless it is a constant."""

    graph: Graph
    name: str  # in the graph
    kind: str  # one of `KINDS`
    rank: int  # number of dimensions
    width: int = 0  # how many places its last dimension has at least
    picked: Optional[Picked] = None  # where its elements come from, if they were picked

    @property
    def value(self) -> NDArray[Any] | None:
        """The value of a constant; None of what is computed."""
        return self.graph.values.get(self.name)

    def to(self, kind: str) -> Tensor:
        """The same numbers in another type."""
        if kind == self.kind:
            return self
        if self.value is not None:
            return self.graph.constant(self.value.astype(NUMPY[kind]), kind)
        return self.graph.add("Cast", [self], kind, self.rank, to=KINDS[kind])

    def lifted(self, rank: int) -> Tensor:
        """With dimensions of length one at the end, so that it has this rank; a single number has none."""
        if rank == self.rank or not self.rank:
            return self
        if self.value is not None:
            return self.graph.constant(self.value.reshape(self.value.shape + (1,) * (rank - self.rank)))
        if self.picked is not None and self.picked.operator == "GatherND" and rank == 2:
            return self.picked.base.at(self.picked.places)
        axes = self.graph.constant(np.arange(self.rank, rank))
        return self.graph.add("Unsqueeze", [self, axes], self.kind, rank)

    def implies(self, other: Tensor) -> bool:
        """Whether another condition holds where this does, as far as it is known: numbers of objects that are compared."""
        limits = self.graph.limits
        wanted = limits.get(other.name)
        mine = [limits[name] for name in self.graph.parts.get(self.name, [self.name]) if name in limits]
        return wanted is not None and any(number == wanted[0] and limit >= wanted[1] for number, limit in mine)

    def last(self, axis: int = -1) -> Tensor:
        """Without a dimension of length one."""
        return self.graph.add("Squeeze", [self, self.graph.constant(np.array([axis]))], self.kind, self.rank - 1)

    def __add__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("Add", self, other)

    def __sub__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("Sub", self, other)

    def __mul__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("Mul", self, other)

    def __truediv__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("Div", self.to("d"), other)

    def __neg__(self) -> Tensor:
        return self.graph.add("Neg", [self], self.kind, self.rank)

    def __lt__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("Less", self, other, "b")

    def __le__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("LessOrEqual", self, other, "b")

    def __gt__(self, other: Operand) -> Tensor:
        found = self.graph.arithmetic("Greater", self, other, "b")
        self.graph.note_limit(found, self, other, 1)
        return found

    def __ge__(self, other: Operand) -> Tensor:
        found = self.graph.arithmetic("GreaterOrEqual", self, other, "b")
        self.graph.note_limit(found, self, other, 0)
        return found

    def equals(self, other: Operand) -> Tensor:
        """Whether numbers are equal."""
        return self.graph.arithmetic("Equal", self, other, "b")

    def __and__(self, other: Tensor) -> Tensor:
        if other is self:
            return self
        found, parts = self.graph.arithmetic_of("And", self, other), self.graph.parts
        parts[found.name] = [*parts.get(self.name, [self.name]), *parts.get(other.name, [other.name])]
        return found

    def __or__(self, other: Tensor) -> Tensor:
        return self if other is self else self.graph.arithmetic_of("Or", self, other)

    def __xor__(self, other: Tensor) -> Tensor:
        return self.graph.arithmetic_of("Xor", self, other)

    def __invert__(self) -> Tensor:
        return self.graph.add("Not", [self], "b", self.rank)

    def where(self, yes: Operand, no: Operand) -> Tensor:
        """`yes` where it is true, else `no`."""
        yes, no = self.graph.alike(yes, no)
        if yes.kind == "b":  # ONNX Runtime chooses among numbers only
            return (self & yes) | (~self & no)
        if self.value is None and (found := self._picked_where(yes, no)) is not None:
            return found
        rank = max(self.rank, yes.rank, no.rank)
        parts = [each.lifted(rank) for each in (self, yes, no)]
        return self.graph.add("Where", parts, yes.kind, rank)

    def repeated(self, mask: Tensor, size: int) -> Tensor:
        """The number of each event for each of `size` objects, of which there are those of a mask."""
        if self.value is not None:
            return mask.where(self, self)
        ones = self.graph.constant(np.ones((1, size), NUMPY[self.kind]))  # cheaper in ONNX Runtime than `where`
        return self & ones if self.kind == "b" else self * ones

    def one(self, operator: str, **attributes: object) -> Tensor:
        """The result of an operator that takes float64, element by element."""
        return self.graph.add(operator, [self.to("d")], "d", self.rank, **attributes)

    def summed(self) -> Tensor:
        """Sum over the last dimension."""
        axes = self.graph.constant(np.array([-1]))
        return self.graph.add("ReduceSum", [self, axes], self.kind, self.rank - 1, keepdims=0)

    def extreme(self, operator: str) -> Tensor:
        """ReduceMin, ReduceMax or ReduceProd over the last dimension."""
        return self.graph.add(operator, [self], self.kind, self.rank - 1, keepdims=0, axes=[-1])

    def cumulative(self) -> Tensor:
        """Sum up to each place of the last dimension, inclusive."""
        return self.graph.add("CumSum", [self, self.graph.constant(np.array(self.rank - 1))], self.kind, self.rank)

    def place_of(self, operator: str) -> Tensor:
        """ArgMin or ArgMax of floating-point numbers over the last dimension, which is kept: the first place of several."""
        return self.graph.add(operator, [self], "i", self.rank, axis=self.rank - 1, keepdims=1)

    def _picked_where(self, yes: Tensor, no: Tensor) -> Optional[Tensor]:
        """`where` of elements of the same tensor: the places are chosen, and the elements picked once."""
        one, other = yes.picked, no.picked
        if one is None or other is None or one.base is not other.base or one.operator != other.operator:
            return None
        if one.operator == "GatherND" and self.rank == 1:
            return one.base.one_at(self.lifted(2).where(one.places, other.places))
        if one.operator == "GatherElements" and self.rank == yes.rank:
            return one.base.at(self.where(one.places, other.places))
        return None

    def at(self, places: Tensor) -> Tensor:
        """The elements at places of the last dimension; all other dimensions of `places` are as here."""
        if places.value is not None:
            return self.take(places.value.ravel())
        if self.value is not None:  # the same numbers for each event
            row = self.graph.constant(self.value.ravel())
            return self.graph.add("Gather", [row, places], self.kind, places.rank, axis=0)
        if self.picked is not None and self.picked.operator != "GatherND":
            return self.picked.base.at(self.picked.places.at(places))
        return self.graph.picked(self, "GatherElements", places, self.rank)

    def one_at(self, place: Tensor) -> Tensor:
        """The element at one place of the last dimension, which is lost; `place` has shape (events, ..., 1)."""
        if place.value is not None:
            return self.take(place.value.reshape(()))
        if self.value is not None and place.rank == 2:
            return self.at(place.last())
        if self.value is not None or self.rank != 2:
            return self.at(place).last()
        if self.picked is not None and self.picked.operator != "GatherND":
            return self.picked.base.one_at(self.picked.places.at(place))
        return self.graph.picked(self, "GatherND", place, self.rank - 1)

    def take(self, places: NDArray[np.int64]) -> Tensor:
        """The elements at fixed places of the last dimension, those of each event and list the same."""
        rank = self.rank - 1 + places.ndim
        if self.value is not None:
            return self.graph.constant(self.value.take(places, -1))
        if self.picked is not None and self.picked.operator != "GatherND" and self.rank == 2:
            base, old = self.picked.base, self.picked.places
            if old.value is not None:
                return base.take(old.value.take(places))
            return base.at(old.take(places)) if places.ndim else base.one_at(old.take(places.reshape(1)))
        if places.ndim == 1:
            return self.graph.picked(self, "Gather", self.graph.constant(places), rank)
        return self.graph.add("Gather", [self, self.graph.constant(places)], self.kind, rank, axis=self.rank - 1)


_ORDER = "bifd"  # a type becomes the later of two

_NAMES = """Abs Add And Atan Cast Ceil Div Equal Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max Min Mod Mul Neg Not Or
Pow Round Sign Sin Sqrt Sub Where Xor"""
ELEMENTWISE = frozenset(_NAMES.split())
"""Operators that treat each element alone."""

WIDE = 16
"""So many elements are not computed where one is picked."""


@dataclass
class Graph:
    """The nodes, constants and inputs so far. What is computed already is not computed again."""

    # the content of an ONNX file
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    _known: dict[object, Tensor] = field(default_factory=dict)
    values: dict[str, NDArray[np.generic]] = field(default_factory=dict)  # the constants by their names
    # that each event must fulfil: else what was just added means nothing
    conditions: list[Tensor] = field(default_factory=list)
    # conditions that are all true where one made of them by `&` is
    parts: dict[str, list[str]] = field(default_factory=dict)
    # of conditions that an integer is not below a limit: the integer and the limit
    limits: dict[str, tuple[str, int]] = field(default_factory=dict)

    def input(self, name: str, rank: int) -> Tensor:
        """A float32 tensor that is given."""
        return Tensor(self, name, "f", rank)

    def constant(self, values: object, kind: str = "") -> Tensor:
        """A constant, of the type that its numpy array has unless one is given."""
        array = np.asarray(values)
        kind = kind or {"b": "b", "i": "i", "u": "i", "f": "d"}[array.dtype.kind]
        array = array.astype(NUMPY[kind])
        key = ("", kind, array.shape, array.tobytes())
        if key not in self._known:
            name = f"constant{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, name))
            self.values[name] = array
            self._known[key] = Tensor(self, name, kind, array.ndim)
        return self._known[key]

    def add(self, operator: str, inputs: Sequence[Tensor], kind: str, rank: int, **attributes: object) -> Tensor:
        """The first output of a new node, or of an equal one that is there."""
        if operator in ELEMENTWISE and (found := self._before_picking(operator, inputs, kind, attributes)) is not None:
            return found
        return self.outputs(operator, inputs, [(kind, rank)], **attributes)[0]

    def _before_picking(
        self, operator: str, inputs: Sequence[Tensor], kind: str, attributes: Mapping[str, object]
    ) -> Tensor | None:
        """An operation on elements that were picked at the same places: of all elements, then picked."""
        first = next((each.picked for each in inputs if each.value is None), None)
        if first is None:
            return None
        parts = []
        for each in inputs:
            if each.value is not None and each.value.size == 1:
                parts.append(self.constant(each.value.reshape(()), each.kind))
            elif each.picked and (each.picked.operator, each.picked.places) == (first.operator, first.places):
                parts.append(each.picked.base)
            else:
                return None
        if first.operator != "Gather" and max(each.width for each in parts) > WIDE:
            return None
        made = self.add(operator, parts, kind, first.base.rank, **attributes)
        if first.operator == "GatherND":
            return made.one_at(first.places)
        return made.at(first.places)

    def picked(self, base: Tensor, operator: str, places: Tensor, rank: int) -> Tensor:
        """Elements of the last dimension of a tensor."""
        options = {"batch_dims": 1} if operator == "GatherND" else {"axis": base.rank - 1}
        made = self.add(operator, [base, places], base.kind, rank, **options)
        if made.picked is None:
            width = places.value.size if places.value is not None else places.width
            made = replace(made, picked=Picked(base, operator, places), width=width)
            self._known[self._key(operator, [base, places], options), 0] = made
        return made

    def outputs(
        self, operator: str, inputs: Sequence[Tensor], made: Sequence[tuple[str, int]], **attributes: Any
    ) -> tuple[Tensor, ...]:
        """All outputs of a node, given by type and rank."""
        key = self._key(operator, inputs, attributes)
        if (key, 0) not in self._known:
            names = [f"{operator}{len(self.nodes)}" + (f"_{number}" if number else "") for number in range(len(made))]
            given = [each.name for each in inputs]
            self.nodes.append(helper.make_node(operator, given, names, names[0], **attributes))  # 1.20 asks for a name
            width = max((each.width for each in inputs if each.rank == made[0][1]), default=0)
            for number, (name, (kind, rank)) in enumerate(zip(names, made, strict=True)):
                self._known[key, number] = Tensor(self, name, kind, rank, width)
        return tuple(self._known[key, number] for number in range(len(made)))

    def _key(self, operator: str, inputs: Sequence[Tensor], attributes: Mapping[str, object]) -> tuple[object, ...]:
        options = sorted((name, str(each)) for name, each in attributes.items())
        return (operator, *(each.name for each in inputs), *options)

    def note_limit(self, condition: Tensor, number: Tensor, limit: Operand, above: int) -> None:
        """Remember which limit an integer has if a condition is true."""
        value = limit.value if isinstance(limit, Tensor) else np.asarray(limit)
        if number.kind == "i" and value is not None and value.size == 1 and value.dtype.kind == "i":
            self.limits[condition.name] = (number.name, int(value.item()) + above)

    def alike(self, one: Operand, other: Operand) -> tuple[Tensor, Tensor]:
        """Two operands of the same type and rank; a number takes the type of a tensor if that holds it."""
        first, second = (each if isinstance(each, Tensor) else self.constant(each) for each in (one, other))
        kind = max(first.kind, second.kind, key=_ORDER.index)
        if kind == "f":
            kind = "d"
        rank = max(first.rank, second.rank)
        first, second = first.to(kind), second.to(kind)
        return first.lifted(rank), second.lifted(rank)

    def arithmetic(self, operator: str, one: Operand, other: Operand, kind: str = "") -> Tensor:
        """An operator of two operands, broadcast from the left as awkward does."""
        if isinstance(one, Tensor) and one.kind == "f" and isinstance(other, float):
            first, second = one, self.constant(other, "f")
        else:
            first, second = self.alike(one, other)
        if first.kind == "b" and operator != "Equal":
            first, second = first.to("i"), second.to("i")
        return self.add(operator, [first, second], kind or first.kind, max(first.rank, second.rank))

    def arithmetic_of(self, operator: str, one: Tensor, other: Tensor, **attributes: object) -> Tensor:
        """As `arithmetic`, for an operator with attributes, or of booleans."""
        first, second = self.alike(one, other)
        return self.add(operator, [first, second], first.kind, max(first.rank, second.rank), **attributes)

    def joined(self, tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
        """Tensors of one type behind each other along a dimension."""
        rank = tensors[0].rank
        if all(each.value is not None for each in tensors):
            return self.constant(np.concatenate([each.value for each in tensors], axis))  # type: ignore[misc]
        return self.add("Concat", tensors, tensors[0].kind, rank, axis=axis % rank)

    def table(self, columns: Sequence[Tensor]) -> Tensor:
        """Tensors of shape (events,) as the columns of one of shape (events, columns)."""
        rows = self.add("Concat", columns, columns[0].kind, 1, axis=0)
        shape = self.constant(np.array([len(columns), -1]))
        return self.add("Transpose", [self.add("Reshape", [rows, shape], rows.kind, 2)], rows.kind, 2, perm=[1, 0])

    def sorted_places(self, keys: Tensor, size: int, descending: bool) -> Tensor:
        """Places of the last dimension (of this length) in the order of float64 keys; equal ones keep their order."""
        number = self.constant(np.array([size]))
        made = [(keys.kind, keys.rank), ("i", keys.rank)]
        return self.outputs("TopK", [keys, number], made, axis=keys.rank - 1, largest=int(descending), sorted=1)[1]
