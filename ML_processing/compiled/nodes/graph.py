"""An ONNX graph that grows with each operation on its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ML_processing.compiled.nodes.tensors import NUMPY, Operand, Picked, Tensor

_ORDER = "bifd"  # a type becomes the later of two

_NAMES = """Abs Add And Atan Cast Ceil Div Equal Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max Min Mod Mul Neg Not Or
Pow Round Sign Sin Sqrt Sub Where Xor"""
ELEMENTWISE = frozenset(_NAMES.split())
"""Operators that treat each element alone."""

WIDE = 16
"""So many elements are not computed where one is picked."""


@dataclass
class Graph:
    """The nodes, constants and inputs so far. What is computed already is not computed again.

    Attributes
    ----------
    nodes, constants
        What an ONNX file has.
    values
        The constants by their names.
    conditions
        What must be true for each event so that what was just added has a meaning.
    parts
        The conditions that are all true where one made of them by `&` is.
    limits
        Of conditions that an integer is not below a limit: the integer and the limit.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    _known: dict[Any, Tensor] = field(default_factory=dict)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    conditions: list[Tensor] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    limits: dict[str, tuple[str, int]] = field(default_factory=dict)

    def input(self, name: str, rank: int) -> Tensor:
        """A float32 tensor that is given."""
        return Tensor(self, name, "f", rank)

    def constant(self, values: Any, kind: str = "") -> Tensor:
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

    def add(self, operator: str, inputs: Sequence[Tensor], kind: str, rank: int, **attributes: Any) -> Tensor:
        """The first output of a new node, or of an equal one that is there."""
        if operator in ELEMENTWISE and (found := self._before_picking(operator, inputs, kind, attributes)) is not None:
            return found
        return self.outputs(operator, inputs, [(kind, rank)], **attributes)[0]

    def _before_picking(
        self, operator: str, inputs: Sequence[Tensor], kind: str, attributes: Mapping[str, Any]
    ) -> Tensor | None:
        """An operation on elements that were picked at the same places: of all elements, then picked."""
        first = next((each.picked for each in inputs if each.value is None), None)
        if first is None:
            return None
        parts = []
        for each in inputs:
            if each.value is not None and each.value.size == 1:
                parts.append(self.constant(each.value.reshape(()), each.kind))
            elif each.picked is not None and first.is_like(each.picked):
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
            node = helper.make_node(
                operator, [each.name for each in inputs], names, names[0], **attributes
            )  # 1.20 asks for a name
            self.nodes.append(node)
            width = max((each.width for each in inputs if each.rank == made[0][1]), default=0)
            for number, (name, (kind, rank)) in enumerate(zip(names, made, strict=True)):
                self._known[key, number] = Tensor(self, name, kind, rank, width)
        return tuple(self._known[key, number] for number in range(len(made)))

    def _key(self, operator: str, inputs: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        options = sorted((name, str(each)) for name, each in attributes.items())
        return (operator, *(each.name for each in inputs), *options)

    def note_limit(self, condition: Tensor, number: Tensor, limit: Operand, above: int) -> None:
        """Remember which limit an integer has if a condition is true."""
        value = limit.value if isinstance(limit, Tensor) else np.asarray(limit)
        if number.kind == "i" and value is not None and value.size == 1 and value.dtype.kind == "i":
            self.limits[condition.name] = (number.name, int(value.item()) + above)

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
        if isinstance(one, Tensor) and one.kind == "f" and isinstance(other, float):
            first, second = one, self.constant(other, "f")
        else:
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
