"""`Selection.select` as an ONNX graph that reads branches and gives the decision, each cut, and the selection's columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ML_processing.compiled import lists
from ML_processing.compiled.events import Inputs, TracedCutflow, TracedEvents
from ML_processing.compiled.functions import lists_of_arrays
from ML_processing.compiled.graph import KINDS, Graph, Tensor
from ML_processing.compiled.lists import Value
from ML_processing.compiled.traced import Scope, Trace, Traced, quiet
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Column, Events, Flat, Selection

EVENTS = "events"
"""The tensor of the branches with one number for each event."""

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


@dataclass(frozen=True)
class CompiledSelection:
    """The graph of a selection.

    Attributes
    ----------
    inputs
        What it reads: `events` first if there is any, then a tensor and a mask (COLLECTION_mask) for each collection.
    cuts
        Names of the cuts, in order: the output `cuts`, shape (events, cuts), is 1 for events that have passed this and all before.
    columns
        The columns of the output `columns`, shape (events, columns).
    collections
        The collections that it makes: outputs of their names and masks, with their fields in order.
    corrected
        Branches that `prepare` changes: their corrected values are read.
    model
        The graph. Its output `passed` is 1 for an event that passes, `failed` is 1 where the selection cannot be computed.
    trace
        What was computed in each line.
    traced
        The branches that it has used, those included from which nothing follows.
    """

    inputs: tuple[Branches, ...]
    cuts: tuple[str, ...]
    columns: Mapping[str, Column]
    collections: Mapping[str, Mapping[str, Column]]
    corrected: tuple[str, ...]
    model: onnx.ModelProto
    trace: Trace
    traced: Inputs


def compiled(
    selection: Selection, arrays: Mapping[str, Any], collections: Mapping[str, str], sizes: Mapping[str, int]
) -> CompiledSelection:
    """Run a selection once and write down what it computes.

    Parameters
    ----------
    selection
        The selection, of a dataset.
    arrays
        Its branches for some real events, by the names that it declares; optional ones may be missing.
    collections
        For the branches that are lists, the collection that each belongs to.
    sizes
        For each of these collections, how many objects of an event there is room for.

    Raises
    ------
    NanoMLError
        `select` does something that cannot be compiled: with file and line.
    """
    number = len(next(iter(arrays.values())))
    defaults = {name: np.full(number, value) for name, value in selection.optional.items() if name not in arrays}
    trace = Trace()
    inputs = Inputs(trace, sizes)
    cutflow = TracedCutflow(number)
    with selection._explained(), quiet(), lists_of_arrays():
        events: Any = Events({**arrays, **defaults}, collections, selection.where())
        events = selection.prepare(events)
        corrected = set(events._replaced)
        events = TracedEvents(inputs, events)
        if selection.dataset.triggers:
            fired = [events[name] for name in selection.dataset.triggers if name in arrays]
            events = cutflow.cut("trigger", functools.reduce(np.logical_or, fired), events)
        left, made = selection.select(events, cutflow)
        outputs = _outputs(selection, trace, cutflow, left, made)
    graph, used = _pruned(trace.graph, inputs, list(outputs.values()))
    return CompiledSelection(
        used,
        tuple(name for name, _, _ in cutflow.masks),
        selection.columns,
        selection.collections,
        tuple(sorted(name for each in used for name in each.names if name in corrected)),
        _model(graph, used, outputs),
        trace,
        inputs,
    )


def together(graph: Graph, scope: Scope) -> Tensor | None:
    """Whether an event has passed all of these cuts; None without any."""
    return functools.reduce(Tensor.__and__, scope) if scope else None


def _outputs(
    selection: Selection, trace: Trace, cutflow: TracedCutflow, left: Any, made: Mapping[str, Any]
) -> dict[str, Tensor]:
    graph, scope = trace.graph, left._scope
    if not cutflow.masks:
        raise NanoMLError("select makes no cut: there is nothing to compile in its decision.")
    passed = together(graph, (*cutflow.masks[-1][1], cutflow.masks[-1][2]))
    assert passed is not None
    if [each.name for each in scope] != [each.name for each in (*cutflow.masks[-1][1], cutflow.masks[-1][2])]:
        raise NanoMLError("the events that are returned are not those that passed the last cut.")
    columns = [_column(trace, name, made[name], scope) for name in selection.columns]
    outputs: dict[str, Tensor] = {}
    for name in selection.collections:
        outputs.update(_collection(trace, name, selection.collections[name], made[name], scope))
    failed = _failed(trace)
    steps = [together(graph, (*before, mask)) for _, before, mask in cutflow.masks]
    flow = graph.table([each.to("f") for each in steps if each is not None])
    made_ = {"passed": passed.to("f").lifted(2), "cuts": flow, "failed": failed.to("f").lifted(2)}
    if columns:
        rows = [each if each.value is None else passed.where(each, each) for each in columns]
        made_["columns"] = passed.where(graph.table(rows), 0.0).to("f")
    return {**made_, **outputs}


def _checked(name: str, value: Any, scope: Scope) -> None:
    if not hasattr(value, "_scope"):
        raise NanoMLError(f"column {name} does not come from the events.")
    if [each.name for each in value._scope] != [each.name for each in scope]:
        raise NanoMLError(f"column {name} was computed before a cut: narrow it in every cut.")


def _column(trace: Trace, name: str, array: Any, scope: Scope) -> Tensor:
    _checked(name, array, scope)
    value = array._value
    if value.axes or value.data is None:
        raise NanoMLError(f"column {name} has a list for each event, not one number.")
    if value.valid is not None:
        trace.demand(scope, value.valid)
    return value.numbers.to("d")


def _collection(trace: Trace, name: str, fields: Mapping[str, Column], made: Any, scope: Scope) -> dict[str, Tensor]:
    if isinstance(made, Mapping):
        values = {field: made[field] for field in fields}
    else:
        values = {field: made[field] for field in fields} if isinstance(made, (Flat, Traced)) else {}
    for field, each in values.items():
        _checked(f"{name}_{field}", each, scope)
    parts = [lists.compacted(each) for each in lists.aligned([each._value for each in values.values()])]
    if not parts or len(parts[0].axes) != 1:
        raise NanoMLError(f"collection {name} is not a list of objects for each event.")
    passed = together(trace.graph, scope)
    mask = lists.filled_mask(parts[0])
    if passed is not None:
        mask = mask & passed.lifted(2)
    table = trace.graph.joined([each.numbers.to("d").lifted(3) for each in parts])
    return {name: mask.lifted(3).where(table, 0.0).to("f"), f"{name}_mask": mask.to("f")}


def _failed(trace: Trace) -> Tensor:
    """Whether an event that was still there lacked what a line needs, so that the engine would have stopped."""
    found = None
    for scope, condition in trace.demands:
        passed = together(trace.graph, scope)
        bad = ~condition if passed is None else passed & ~condition
        found = bad if found is None else found | bad
    if found is None:
        return trace.graph.constant(np.array([0.0])).to("f")
    return found


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
    for tensor, columns, collection in [
        (EVENTS, inputs.events, ""),
        *((name, each, name) for name, each in inputs.objects.items()),
    ]:
        tables = {tensor}
        for node in nodes:
            if node.input and node.input[0] in tables and node.op_type in ("Cast", "Greater"):
                tables.add(node.output[0])
        gathers = [node for node in nodes if node.op_type == "Gather" and node.input[0] in tables]
        old = sorted({int(graph.values[node.input[1]]) for node in gathers})
        names = [list(columns)[place] for place in old]
        for node in gathers:
            node.input[1] = made.constant(np.array(old.index(int(graph.values[node.input[1]])))).name
        size = inputs.sizes[collection] if collection else 0
        dtypes = tuple(columns[name].name for name in names)
        if names or any(f"{tensor}_mask" in node.input for node in nodes):
            used.append(Branches(tuple(names), dtypes, collection, size))
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
        if each.names:
            given.append(helper.make_tensor_value_info(each.collection, KINDS["f"], ["n", each.size, len(each.names)]))
        given.append(helper.make_tensor_value_info(f"{each.collection}_mask", KINDS["f"], ["n", each.size]))
    names = {name: name if name not in {each.name for each in given} else f"made_{name}" for name in outputs}
    nodes = [
        *graph.nodes,
        *(helper.make_node("Identity", [tensor.name], [names[name]]) for name, tensor in outputs.items()),
    ]
    results = [
        helper.make_tensor_value_info(names[name], KINDS[each.kind], ["n", *[None] * (each.rank - 1)])
        for name, each in outputs.items()
    ]
    body = helper.make_graph(nodes, "selection", given, results, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


def padded(inputs: Sequence[Branches], arrays: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The tensors of events for `inputs`; objects beyond the room are left out."""
    found: dict[str, NDArray[np.float32]] = {}
    for each in inputs:
        if not each.collection:
            found[EVENTS] = np.stack([np.asarray(arrays[name], np.float32) for name in each.names], 1)
            continue
        counts = None
        columns = []
        for name in each.names:
            filled = ak.fill_none(ak.pad_none(arrays[name], each.size, axis=1, clip=True), 0)
            columns.append(ak.to_numpy(filled).astype(np.float32))
            counts = ak.num(arrays[name]) if counts is None else counts
        mask = np.arange(each.size) < np.asarray(counts)[:, None]
        found[each.collection] = np.stack(columns, 2)
        found[f"{each.collection}_mask"] = mask.astype(np.float32)
    return found


__all__ = ["Branches", "CompiledSelection", "Value", "compiled", "padded", "replace"]
