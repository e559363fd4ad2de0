"""An ONNX graph that grows with each operation on its tensors.

It has float64, int64 and bool inside, and only operators that ONNX Runtime has had for these types since 1.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

KINDS = {"f": TensorProto.FLOAT, "d": TensorProto.DOUBLE, "i": TensorProto.INT64, "b": TensorProto.BOOL}
"""Types of tensors: float32 (of inputs and outputs), float64, int64, bool."""

_NUMPY: dict[str, type[np.generic]] = {"f": np.float32, "d": np.float64, "i": np.int64, "b": np.bool_}
_ORDER = "bifd"  # a type becomes the later of two
Operand = Union["Tensor", float, int, bool]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a graph. Its first dimension is that of the events, unless it is a constant.

    Attributes
    ----------
    graph
        The graph.
    name
        Its name there.
    kind
        One of `KINDS`.
    rank
        Number of dimensions.
    """

    graph: Graph
    name: str
    kind: str
    rank: int

    @property
    def value(self) -> NDArray[Any] | None:
        """The value of a constant; None of what is computed."""
        return self.graph.values.get(self.name)

    def to(self, kind: str) -> Tensor:
        """The same numbers in another type."""
        if kind == self.kind:
            return self
        if self.value is not None and kind != "f":
            return self.graph.constant(self.value.astype(_NUMPY[kind]))
        return self.graph.add("Cast", [self], kind, self.rank, to=KINDS[kind])

    def lifted(self, rank: int) -> Tensor:
        """With dimensions of length one at the end, so that it has this rank; a single number has none."""
        if rank == self.rank or not self.rank:
            return self
        if self.value is not None:
            return self.graph.constant(self.value.reshape(self.value.shape + (1,) * (rank - self.rank)))
        axes = self.graph.constant(np.arange(self.rank, rank))
        return self.graph.add("Unsqueeze", [self, axes], self.kind, rank)

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
        return self.graph.arithmetic("Greater", self, other, "b")

    def __ge__(self, other: Operand) -> Tensor:
        return self.graph.arithmetic("GreaterOrEqual", self, other, "b")

    def equals(self, other: Operand) -> Tensor:
        """Whether numbers are equal."""
        return self.graph.arithmetic("Equal", self, other, "b")

    def __and__(self, other: Tensor) -> Tensor:
        return self if other is self else self.graph.both("And", self, other)

    def __or__(self, other: Tensor) -> Tensor:
        return self if other is self else self.graph.both("Or", self, other)

    def __xor__(self, other: Tensor) -> Tensor:
        return self.graph.both("Xor", self, other)

    def __invert__(self) -> Tensor:
        return self.graph.add("Not", [self], "b", self.rank)

    def where(self, yes: Operand, no: Operand) -> Tensor:
        """`yes` where it is true, else `no`."""
        yes, no = self.graph.alike(yes, no)
        if yes.kind == "b":  # ONNX Runtime chooses among numbers only
            return (self & yes) | (~self & no)
        rank = max(self.rank, yes.rank, no.rank)
        parts = [each.lifted(rank) for each in (self, yes, no)]
        return self.graph.add("Where", parts, yes.kind, rank)

    def one(self, operator: str, **attributes: Any) -> Tensor:
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
        """ArgMin or ArgMax over the last dimension, which is kept: the first place if there are several."""
        return self.graph.add(operator, [self], "i", self.rank, axis=self.rank - 1, keepdims=1)

    def at(self, places: Tensor) -> Tensor:
        """The elements at places of the last dimension; all other dimensions of `places` are as here."""
        if places.value is not None:
            return self.take(places.value.ravel())
        if self.value is not None:  # the same numbers for each event
            row = self.graph.constant(self.value.ravel())
            return self.graph.add("Gather", [row, places], self.kind, places.rank, axis=0)
        return self.graph.add("GatherElements", [self, places], self.kind, self.rank, axis=self.rank - 1)

    def one_at(self, place: Tensor) -> Tensor:
        """The element at one place of the last dimension, which is lost; `place` has shape (events, ..., 1)."""
        if place.value is not None:
            return self.take(place.value.reshape(()))
        if self.value is not None or self.rank != 2:
            return self.at(place).last()
        return self.graph.add("GatherND", [self, place], self.kind, self.rank - 1, batch_dims=1)

    def take(self, places: NDArray[np.int64], axis: int = -1) -> Tensor:
        """The elements at fixed places of a dimension, those of each event and list the same."""
        axis = axis % self.rank
        rank = self.rank - 1 + places.ndim
        if self.value is not None:
            return self.graph.constant(self.value.take(places, axis))
        return self.graph.add("Gather", [self, self.graph.constant(places)], self.kind, rank, axis=axis)


@dataclass
class Graph:
    """The nodes, constants and inputs so far. What is computed already is not computed again."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    _known: dict[Any, Tensor] = field(default_factory=dict)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)

    def input(self, name: str, rank: int) -> Tensor:
        """A float32 tensor that is given."""
        return Tensor(self, name, "f", rank)

    def constant(self, values: Any) -> Tensor:
        """A constant of the type that its numpy array has."""
        array = np.asarray(values)
        kind = {"b": "b", "i": "i", "u": "i", "f": "d"}[array.dtype.kind]
        array = array.astype(_NUMPY[kind])
        key = ("", kind, array.shape, array.tobytes())
        if key not in self._known:
            name = f"constant{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, name))
            self.values[name] = array
            self._known[key] = Tensor(self, name, kind, array.ndim)
        return self._known[key]

    def add(self, operator: str, inputs: Sequence[Tensor], kind: str, rank: int, **attributes: Any) -> Tensor:
        """The first output of a new node, or of an equal one that is there."""
        return self.outputs(operator, inputs, [(kind, rank)], **attributes)[0]

    def outputs(
        self, operator: str, inputs: Sequence[Tensor], made: Sequence[tuple[str, int]], **attributes: Any
    ) -> tuple[Tensor, ...]:
        """All outputs of a node, given by type and rank."""
        key = (
            operator,
            *(each.name for each in inputs),
            *sorted((name, str(each)) for name, each in attributes.items()),
        )
        if (key, 0) not in self._known:
            names = [f"{operator}{len(self.nodes)}" + (f"_{number}" if number else "") for number in range(len(made))]
            self.nodes.append(helper.make_node(operator, [each.name for each in inputs], names, **attributes))
            for number, (name, (kind, rank)) in enumerate(zip(names, made)):
                self._known[key, number] = Tensor(self, name, kind, rank)
        return tuple(self._known[key, number] for number in range(len(made)))

    def tensor(self, value: Operand) -> Tensor:
        """A number as a constant."""
        return value if isinstance(value, Tensor) else self.constant(value)

    def alike(self, one: Operand, other: Operand) -> tuple[Tensor, Tensor]:
        """Two operands of the same type and rank; a number takes the type of a tensor if that holds it."""
        first, second = self.tensor(one), self.tensor(other)
        kind = max(first.kind, second.kind, key=_ORDER.index)
        if kind == "f":
            kind = "d"
        rank = max(first.rank, second.rank)
        first, second = first.to(kind), second.to(kind)
        return first.lifted(rank), second.lifted(rank)

    def arithmetic(self, operator: str, one: Operand, other: Operand, kind: str = "") -> Tensor:
        """An operator of two operands, broadcast from the left as awkward does."""
        first, second = self.alike(one, other)
        if first.kind == "b" and operator != "Equal":
            first, second = first.to("i"), second.to("i")
        return self.add(operator, [first, second], kind or first.kind, max(first.rank, second.rank))

    def arithmetic_of(self, operator: str, one: Tensor, other: Tensor, **attributes: Any) -> Tensor:
        """As `arithmetic`, for an operator with attributes."""
        first, second = self.alike(one, other)
        return self.add(operator, [first, second], first.kind, max(first.rank, second.rank), **attributes)

    def both(self, operator: str, one: Tensor, other: Tensor) -> Tensor:
        """And, Or, Xor of booleans."""
        first, second = self.alike(one, other)
        return self.add(operator, [first, second], "b", max(first.rank, second.rank))

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
