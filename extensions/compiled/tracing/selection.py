"""`Selection.select` as an ONNX graph that reads branches and gives the decision, each cut, and the selection's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import awkward as ak
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import lists
from MLTools.NanoML.extensions.compiled.tracing.events import EVENTS, Inputs, TracedCutflow, TracedEvents
from MLTools.NanoML.extensions.compiled.tracing.functions import functions_of_arrays
from MLTools.NanoML.extensions.compiled.tracing.graph import KINDS, Graph, Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Value
from MLTools.NanoML.extensions.compiled.tracing.trace import Scope, of_same_events, quiet
from MLTools.NanoML.extensions.compiled.tracing.traced import Trace
from MLTools.NanoML.model import padding
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.nanoaod.expression import Alternative, Call, Leaf, Node, Number, Reduction, leaves
from MLTools.NanoML.nanoaod.formula import Formula, function_of
from MLTools.NanoML.rootio.lists import Arrays
from MLTools.NanoML.selection import DatasetInfo, Events, Selection


def mask_of(formula: Formula, events: Any) -> object:
    """Which events pass, bool, shape (events,); of lists without an index, any object will do.

    Parameters
    ----------
    formula
        The cut.
    events
        `Events`, or such that record what is done with them.

    Raises
    ------
    NanoMLError
        The cut has something that cannot be compiled.
    """
    try:
        found = _evaluated(formula.root, {name: events[name] for name in formula.branches})
        passed = found.values != 0
        if found.is_list:
            passed = ak.any(passed, axis=1)
        return passed if found.there is None else passed & found.there
    except NanoMLError as problem:
        raise NanoMLError(f'cut "{formula.text}": {problem} Do the same in `select`.') from None


@dataclass(frozen=True)
class _Values:
    """The values of an expression.

    Attributes
    ----------
    values
        float64, one for each event or, if it `is_list`, as many as its shortest list has.
    is_list
        Whether it has a list without an index.
    there
        Which events have all elements with an index, and so a value; None for all.
    """

    values: Any
    is_list: bool
    there: Any


def _evaluated(root: Node, arrays: dict[str, Any]) -> _Values:
    found = leaves(root, everywhere=False)
    lists = list(dict.fromkeys(leaf.name for leaf in found if leaf.index is None and arrays[leaf.name].ndim > 1))
    if len({name.split("_")[0] for name in lists}) > 1:
        raise NanoMLError(
            f"{' and '.join(lists)}, which are lists of different lengths, cannot be compiled side by side."
        )
    there = [ak.num(arrays[leaf.name]) > leaf.index for leaf in found if leaf.index is not None]

    def value(node: Node) -> Any:
        if isinstance(node, Number):
            return np.float64(node.value)
        if isinstance(node, Leaf):
            return _read(node, arrays[node.name])
        if isinstance(node, Call):
            return _called(node.function, [value(each) for each in node.arguments])
        if isinstance(node, Reduction):
            return _reduced(node.name, _evaluated(node.argument, arrays))
        assert isinstance(node, Alternative)
        primary = _evaluated(node.primary, arrays)
        if lists or primary.is_list:
            raise NanoMLError("Alt$ beside or of a list without an index cannot be compiled.")
        return (
            primary.values if primary.there is None else np.where(primary.there, primary.values, value(node.otherwise))
        )

    return _Values(value(root), bool(lists), reduce(np.logical_and, there) if there else None)


def _called(name: str, arguments: list[Any]) -> Any:
    if name in _BITS:
        return _BITS[name](*(each.astype(np.int64) for each in arguments)).astype(np.float64)
    if all(isinstance(each, np.float64) for each in arguments):
        return np.float64(function_of(name)(*arguments))
    if name == "/" and isinstance(arguments[1], np.float64):
        return arguments[0] * 0 if arguments[1] == 0 else arguments[0] / arguments[1]
    return function_of(name)(*arguments)


def _read(leaf: Leaf, array: Any) -> object:
    if leaf.index is not None:
        array = ak.fill_none(ak.firsts(array[:, leaf.index : leaf.index + 1]), 0)
    return ak.values_astype(array, np.float64)


def _reduced(name: str, inner: _Values) -> object:
    values, there = inner.values, inner.there
    if name == "Length$":
        values = ak.num(values).astype(np.float64) if inner.is_list else np.float64(1)
    elif inner.is_list:
        function = {"Sum$": ak.sum, "Max$": ak.max, "Min$": ak.min}[name]
        values = ak.fill_none(function(values, axis=1), 0)
    return values if there is None else np.where(there, values, 0.0)


UNDECIDED = "undecided"

_BITS = {"&": np.bitwise_and, "|": np.bitwise_or, "<<": np.left_shift, ">>": np.right_shift}


OPSET, IR = 15, 8


@dataclass(frozen=True)
class Branches:
    """The columns of an input tensor.

    Attributes
    ----------
    names, dtypes
        Branches in the order of its last axis, and their types in the files.
    collection
        The collection whose objects they belong to; empty for numbers of the event.
    size
        How many objects of an event there is room for.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    collection: str = ""
    size: int = 0


class TracedSelection:
    """A selection that was run once; its graph may still grow.

    Parameters
    ----------
    selection
        The selection, of a dataset.
    arrays
        All of its branches for some real events, by the names that it declares, as `prepare` leaves them.
    collections
        For the branches that are lists, the collection that each belongs to.
    sizes
        For each of these collections, how many objects of an event there is room for.
    cut
        A cut before the selection.

    Attributes
    ----------
    trace
        The results of each line.
    cuts
        Names of the cuts, in order.
    passed
        Which events pass, shape (events,).
    columns
        The selection's columns, float64, shape (events,); of events that do not pass they mean nothing.
    collections
        The fields of the collections that it makes, by the names of their branches.
    used_dataset
        The facts that it asked of its dataset: the names of `DatasetInfo`.

    Raises
    ------
    NanoMLError
        `select` does something that cannot be compiled: with file and line.
    """

    def __init__(
        self,
        selection: Selection,
        arrays: Arrays,
        collections: Mapping[str, str],
        sizes: Mapping[str, int],
        cut: Formula | None = None,
    ) -> None:
        self.selection, self.trace = selection, Trace()
        self.inputs = Inputs(self.trace, sizes)
        cutflow = TracedCutflow(len(next(iter(arrays.values()))))
        with quiet(), functions_of_arrays():
            events: Any = Events(arrays, collections, selection.where())
            self._events = events = TracedEvents(self.inputs, events)
            if cut is not None:
                self.trace.place = f'cut "{cut.text}"'
                events = cutflow.cut("cut", mask_of(cut, events), events)
                self.trace.place = ""
        with selection._explained(), quiet(), functions_of_arrays():
            if selection.dataset.triggers:
                fired = [events[name] for name in selection.dataset.triggers]
                events = cutflow.cut("trigger", reduce(np.logical_or, fired), events)
            watched = _Watched.like(selection.dataset)
            left, made = selection.of_dataset(watched).select(events, cutflow)
            self.used_dataset = watched.used | ({"triggers"} if selection.dataset.triggers else set())
            self._read_results(cutflow, left, made)

    def _read_results(self, cutflow: TracedCutflow, left: Any, made: Mapping[str, Any]) -> None:
        if not cutflow.masks:
            raise NanoMLError("select makes no cut, so there is no decision to compile.")
        _, before, last = cutflow.masks[-1]
        scope: Scope = left._scope
        if not of_same_events(scope, (*before, last)):
            raise NanoMLError("the events that are returned are not those that passed the last cut.")
        self.cuts = tuple(name for name, _, _ in cutflow.masks)
        self._flow = [reduce(Tensor.__and__, (*outer, mask)) for _, outer, mask in cutflow.masks]
        self.passed = self._flow[-1]
        self.columns = {name: self._column(name, made[name], scope) for name in self.selection.columns}
        self.collections: dict[str, Value] = {}
        for name, declared in self.selection.collections.items():
            for field in declared:
                array = made[name][field]
                _check(f"{name}_{field}", array, scope)
                if len(array._value.axes) != 1:
                    raise NanoMLError(f"collection {name} is not a list of objects for each event.")
                self.collections[f"{name}_{field}"] = array._value

    @property
    def graph(self) -> Graph:
        """The graph."""
        return self.trace.graph

    def _column(self, name: str, array: Any, scope: Scope) -> Tensor:
        _check(f"column {name}", array, scope)
        value = array._value
        if value.axes or value.data is None:
            raise NanoMLError(f"column {name} has a list for each event, not one number.")
        if value.valid is not None:
            self.trace.demand(scope, value.valid)
        return value.numbers.to("d")

    def branch(self, name: str) -> Value:
        """A branch of the input, with the number of all events."""
        return self._events._value(name)

    def outputs(self) -> dict[str, Tensor]:
        """The tensors that a graph gives: passed, failed, cuts, columns, and collections with their masks.

        `UNDECIDED` is what failed is for events that do not pass.
        """
        graph, passed = self.graph, self.passed
        found = {"passed": passed.to("f").lifted(2), "cuts": graph.table(self._flow).to("f")}
        failed = self._failed() or [passed & ~passed]
        found[UNDECIDED] = reduce(Tensor.__or__, failed).to("f").lifted(2)
        if self.columns:
            rows = [each if each.value is None else passed.where(each, each) for each in self.columns.values()]
            table = passed.where(graph.table(rows), 0.0)
            found["columns"] = table.to("f")
            total = (table * 0.0).summed()  # NaN unless all are finite
            failed = [*failed, ~total.equals(total)]
        for name, declared in self.selection.collections.items():
            parts = lists.aligned([self.collections[f"{name}_{field}"] for field in declared])
            record = Value(graph, parts[0].axes, fields=dict(zip(declared, parts, strict=True)))
            record = lists.compacted(record)
            assert record.fields is not None
            mask = passed.lifted(2) & lists.filled_mask(record)
            values = graph.joined([each.numbers.to("d").lifted(3) for each in record.fields.values()])
            found[f"made_{name}"], found[f"made_{name}_mask"] = mask.where(values, 0.0).to("f"), mask.to("f")
        return {**found, "failed": reduce(Tensor.__or__, failed).to("f").lifted(2)}

    def _failed(self) -> list[Tensor]:
        """For each line that needs something, whether an event that was still there lacks it: the engine would have stopped."""
        return [reduce(Tensor.__and__, scope) & ~it if scope else ~it for scope, it in self.trace.demands]

    def model(
        self, outputs: Mapping[str, Tensor], others: Sequence[Tensor] = ()
    ) -> tuple[onnx.ModelProto, tuple[Branches, ...]]:
        """The graph as a model with these outputs, and its inputs: branches from which nothing follows are left out.

        `others` are computed as well, for nodes that are yet to come.
        """
        graph, used = _pruned(self.graph, self.inputs, [*outputs.values(), *others])
        return _model(graph, used, outputs), used


def _check(what: str, array: object, scope: Scope) -> None:
    if not hasattr(array, "_scope"):
        raise NanoMLError(f"{what} does not come from the events.")
    if not of_same_events(array._scope, scope):
        raise NanoMLError(f"{what} was computed before a cut: narrow it in every cut.")


class _Watched(DatasetInfo):
    """A dataset that notes what is asked of it."""

    used: set[str]

    @classmethod
    def like(cls, dataset: DatasetInfo) -> _Watched:
        made = cls(**{field.name: getattr(dataset, field.name) for field in fields(dataset)})
        object.__setattr__(made, "used", set())
        return made

    def __getattribute__(self, name: str) -> Any:
        if name in DatasetInfo.__dataclass_fields__ or name == "corrections":
            self.__dict__.get("used", set()).add(name)
        return super().__getattribute__(name)


def _pruned(graph: Graph, inputs: Inputs, outputs: Sequence[Tensor]) -> tuple[Graph, tuple[Branches, ...]]:
    """The nodes that the outputs need, and input tensors with only the branches that are used."""
    needed = {each.name for each in outputs}
    nodes = []
    for node in reversed(graph.nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            nodes.append(copy)
    nodes.reverse()
    made = Graph([], list(graph.constants), {}, dict(graph.values))
    used = []
    tensors = [(EVENTS, inputs.events, ""), *((name, each, name) for name, each in inputs.objects.items())]
    for tensor, columns, collection in tensors:
        tables = {tensor}
        for node in nodes:
            if node.input and node.input[0] in tables and node.op_type in ("Cast", "Greater"):
                tables.add(node.output[0])
        gathers = [node for node in nodes if node.op_type == "Gather" and node.input[0] in tables]
        old = sorted({int(graph.values[node.input[1]]) for node in gathers})
        names = tuple(list(columns)[place] for place in old)
        for node in gathers:
            node.input[1] = made.constant(np.array(old.index(int(graph.values[node.input[1]])))).name
        size = inputs.sizes[collection] if collection else 0
        if not names and any(f"{tensor}_mask" in node.input for node in nodes):
            names = tuple(columns)[:1]  # it says how many objects there are
        if names:
            used.append(Branches(names, tuple(columns[name].name for name in names), collection, size))
    made.nodes = nodes
    wanted = {name for node in nodes for name in node.input} | needed
    made.constants = [each for each in made.constants if each.name in wanted]
    return made, tuple(used)


def _model(graph: Graph, used: Sequence[Branches], outputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    given = []
    for each in used:
        if not each.collection:
            given.append(helper.make_tensor_value_info(EVENTS, KINDS["f"], ["n", len(each.names)]))
            continue
        shape: list[Any] = ["n", each.size, len(each.names)]
        given.append(helper.make_tensor_value_info(each.collection, KINDS["f"], shape))
        given.append(helper.make_tensor_value_info(f"{each.collection}_mask", KINDS["f"], ["n", each.size]))
    nodes = [
        *graph.nodes,
        *(helper.make_node("Identity", [tensor.name], [name], name) for name, tensor in outputs.items()),
    ]
    free: dict[int, list[Any]] = {rank: ["n", *[None] * (rank - 1)] for rank in (1, 2, 3)}
    results = [helper.make_tensor_value_info(name, KINDS[each.kind], free[each.rank]) for name, each in outputs.items()]
    body = helper.make_graph(nodes, "selection", given, results, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


def padded(inputs: Sequence[Branches], arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """The tensors of events for `inputs`; objects beyond the room are left out."""
    found: dict[str, NDArray[np.float32]] = {}
    for each in inputs:
        if not each.collection:
            found[EVENTS] = np.stack([np.asarray(arrays[name], np.float32) for name in each.names], 1)
            continue
        columns = [Jagged.of(arrays[name]) for name in each.names]
        found[each.collection], found[f"{each.collection}_mask"] = padding.padded(
            [column.values for column in columns], columns[0].counts, each.size
        )
    return found
