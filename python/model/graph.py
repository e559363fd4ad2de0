"""The networks of a model file, taken apart.

ONNX Runtime computes all that is in a graph, whatever one asks for. An event is to be scored by one of the networks, that of
its fold: so the part of the graph that one network is gets a file of its own, in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from MLTools.NanoML.model.wire import Content, fields, message, number, text

__all__ = ["external_tensor", "metadata_of", "network_files"]

_GRAPH, _METADATA = 7, 14  # of a model
_NODE, _INITIALIZER, _OUTPUT, _VALUE, _SPARSE = 1, 5, 12, 13, 15  # of a graph
_INPUTS, _OUTPUTS, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7  # of a node
_TENSOR_NAME = 8
_INTEGER = 3  # of an attribute
_KEY, _TEXT = 1, 2  # of an entry of the metadata
_WHERE, _LOCATION, _EXTERNAL = 13, 14, 1  # of a tensor: external_data, data_location and its value EXTERNAL
_TENSORS = {  # the fields of each message in which there may be tensors
    "model": {_GRAPH: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {_NODE: "node", _INITIALIZER: "tensor", _SPARSE: "sparse tensor"},
    "node": {_ATTRIBUTE: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_WITH_GRAPHS = (b"If", b"Loop", b"Scan", b"SequenceMap")
_FLOATS = message(
    2, message(1, b"\x08\x01", message(2, 3 * message(1)))
)  # the type of a tensor of float32 with three axes


class _Node(NamedTuple):
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    operator: bytes
    domain: bytes
    axis: Optional[int]
    content: bytes


@dataclass(frozen=True)
class _Graph:
    """A graph; what is not its nodes, weights and outputs is kept as it is."""

    nodes: list[_Node]
    weights: dict[bytes, bytes]
    rest: bytes


def metadata_of(content: Content, key: str) -> Optional[str]:
    """An entry of a file's metadata; None if there is no such.

    Raises
    ------
    ValueError
        It is no ONNX file, damaged, or the entry is no text.
    """
    found = None
    for field, _, begin, end in fields(content):
        if field == _METADATA:
            entry = {at: content[first:last] for at, _, first, last in fields(content, begin, end)}
            if entry.get(_KEY) == key.encode():
                found = entry.get(_TEXT, b"").decode()
    return found


def external_tensor(
    content: Content, begin: int = 0, end: Optional[int] = None, message: str = "model"
) -> Optional[tuple[str, str]]:
    """The first tensor whose numbers are in another file than the model, and that file; None if there is none.

    Raises
    ------
    ValueError
        It is no ONNX file, or damaged.
    """
    for field, _, first, last in fields(content, begin, end):
        inner = _TENSORS[message].get(field)
        if inner is None:
            continue
        found = (
            _external(content, first, last)
            if inner == "tensor"
            else external_tensor(content, first, last, inner)
        )
        if found is not None:
            return found
    return None


def _external(content: Content, begin: int, end: int) -> Optional[tuple[str, str]]:
    """Name and file of a tensor, if its numbers are in another file."""
    name, file, is_external = "", "", False
    for field, _, first, last in fields(content, begin, end):
        if field == _TENSOR_NAME:
            name = text(content, first, last)
        elif field == _LOCATION:
            is_external = number(content, first) == _EXTERNAL
        elif field == _WHERE:
            entry = {at: text(content, *where) for at, _, *where in fields(content, first, last)}
            file = entry.get(_TEXT, "") if entry.get(_KEY) == "location" else file
    return (name, file) if is_external else None


def network_files(content: bytes, output: str, count: int) -> Optional[list[bytes]]:
    """An ONNX file for each of the networks that a model consists of.

    Parameters
    ----------
    content
        The model's file.
    output
        Its output of shape (rows, `count`, outputs), the results of all networks.
    count
        How many there are.

    Returns
    -------
    Files with the inputs of the model, and one output, of shape (rows, 1, outputs). None if there is but one network, or
    the graph is of another form.

    Raises
    ------
    ValueError
        It is no ONNX file, or damaged.
    """
    if count < 2:
        return None
    before, graph = b"", None
    for field, start, begin, end in fields(content):
        if field == _GRAPH:
            graph = _graph(content, begin, end)
        elif field != _METADATA:
            before += content[start:end]
    if graph is None:
        return None
    last = next((node for node in graph.nodes if output.encode() in node.outputs), None)
    # a row of the output is one row of each of the tensors that are joined
    is_bundle = last is not None and last.operator == b"Concat" and last.axis == 1 and not last.domain
    if last is None or not is_bundle or len(last.inputs) != count:
        return None
    return [before + message(_GRAPH, *_part(graph, name)) for name in last.inputs]


def _graph(content: bytes, begin: int, end: int) -> Optional[_Graph]:
    """Read a graph; None if it has parts that cannot be taken apart here."""
    nodes, weights, rest = [], {}, []
    for field, start, first, last in fields(content, begin, end):
        if field == _NODE:
            nodes.append(_node(content, start, first, last))
        elif field == _INITIALIZER:
            weights[_name_of_weights(content, first, last)] = content[start:last]
        elif field == _SPARSE:
            return None
        elif field not in (_OUTPUT, _VALUE):
            rest.append(content[start:last])
    if any(node.operator in _WITH_GRAPHS for node in nodes):  # which name values of the graph around them
        return None
    return _Graph(nodes, weights, b"".join(rest))


def _node(content: bytes, start: int, begin: int, end: int) -> _Node:
    inputs, outputs, operator, domain, attributes = [], [], b"", b"", []
    for field, _, first, last in fields(content, begin, end):
        if field == _INPUTS:
            inputs.append(content[first:last])
        elif field == _OUTPUTS:
            outputs.append(content[first:last])
        elif field == _OPERATOR:
            operator = content[first:last]
        elif field == _DOMAIN:
            domain = content[first:last]
        elif field == _ATTRIBUTE:
            attributes.append((first, last))
    axis = None
    if operator == b"Concat":
        axis = next((_integer(content, *where) for where in attributes), None)
    return _Node(tuple(inputs), tuple(outputs), operator, domain, axis, content[start:end])


def _name_of_weights(content: bytes, begin: int, end: int) -> bytes:
    found = (content[first:last] for at, _, first, last in fields(content, begin, end) if at == _TENSOR_NAME)
    return next(found, b"")


def _integer(content: bytes, begin: int, end: int) -> Optional[int]:
    """The whole number that an attribute is."""
    found = (number(content, first) for at, _, first, _ in fields(content, begin, end) if at == _INTEGER)
    return next(found, None)


def _part(graph: _Graph, name: bytes) -> list[bytes]:
    """The fields of a graph that computes one tensor, and has it as its output."""
    needed, nodes = {name}, []
    for node in reversed(graph.nodes):  # a node stands after those that it depends on
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            nodes.append(node.content)
    weights = [content for weight, content in graph.weights.items() if weight in needed]
    return [*reversed(nodes), *weights, graph.rest, message(_OUTPUT, message(1, name), _FLOATS)]
