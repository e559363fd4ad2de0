"""The expression of a cut, as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

__all__ = ["Alternative", "Call", "Leaf", "Logical", "Node", "Number", "Reduction", "leaves", "nodes"]


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Leaf:
    """A branch, or with an index one element of its lists; `position` is where it stands in the cut."""

    name: str
    index: Optional[int]
    position: int


@dataclass(frozen=True)
class Call:
    """An operator or a function, of `OPERATORS` or `FUNCTIONS`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Logical:
    """`&&` or `||` of any number of arguments: a long chain would be too deep as a tree of pairs."""

    operator: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Reduction:
    """`Sum$`, `Max$`, `Min$` or `Length$`: one number per event."""

    name: str
    argument: Node


@dataclass(frozen=True)
class Alternative:
    """`Alt$(primary, otherwise)`."""

    primary: Node
    otherwise: Node


Node = Union[Number, Leaf, Call, Logical, Reduction, Alternative]


def nodes(node: Node, everywhere: bool = True) -> Iterator[Node]:
    """A node and those below it; if not `everywhere`, only those that are evaluated as often as it is."""
    yield node
    below: tuple[Node, ...] = ()
    if isinstance(node, (Call, Logical)):
        below = node.arguments
    elif isinstance(node, Reduction) and everywhere:
        below = (node.argument,)
    elif isinstance(node, Alternative):
        below = (node.primary, node.otherwise) if everywhere else (node.otherwise,)
    for child in below:
        yield from nodes(child, everywhere)


def leaves(node: Node, everywhere: bool = True) -> list[Leaf]:
    """The branches in an expression; `everywhere` as in `nodes`."""
    return [found for found in nodes(node, everywhere) if isinstance(found, Leaf)]
