"""Networks behind the graph of a selection: one ONNX model from branches to scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import lists
from MLTools.NanoML.extensions.compiled.tracing.graph import KINDS, Graph, Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Axis, Value
from MLTools.NanoML.extensions.compiled.tracing.selection import UNDECIDED
from MLTools.NanoML.model import Description, ObjectInput
from MLTools.NanoML.model.file import network_files
from MLTools.NanoML.model.inside import FOLD, shapes_of

_PREFIX = "network_"
_AXES = "last_axis_of_all"
# opset in which a selection can be written: operators that it uses take bfloat16 from 21 on, or whatever comes
_NEWEST = 20


def network_inputs(
    description: Description,
    graph: Graph,
    columns: Mapping[str, Tensor],
    objects: Mapping[str, Value],
    passed: Tensor,
    parameter: Tensor | None,
) -> dict[str, Tensor]:
    """The tensors that a network reads, of the events that pass; others are all 0.

    Parameters
    ----------
    description
        The model.
    graph
        The graph of the selection.
    columns
        Numbers of the event by the names of the model's columns.
    objects
        Fields of objects, lists with one number each, by the names of their branches.
    passed
        Which events pass, shape (events,).
    parameter
        The parameter, shape (events,), for a model that has one.
    """
    found = {}
    if description.features is not None:
        table = [columns[name].to("d") for name in description.columns]
        table += [parameter.to("d")] if parameter is not None else []
        rows = [each if each.value is None else passed.where(each, each) for each in table]
        found[description.features.tensor] = passed.where(graph.table(rows), 0.0).to("f")
    for tensor in description.objects:
        values, mask = _objects(tensor, graph, objects)
        there = passed.lifted(2) & mask
        found[tensor.tensor], found[tensor.mask] = there.where(values, 0.0).to("f"), there.to("f")
    return found


def _objects(tensor: ObjectInput, graph: Graph, objects: Mapping[str, Value]) -> tuple[Tensor, Tensor]:
    """The first objects in the model's order, sorted as in the conversion, and where there are some."""
    fields = lists.aligned([objects[name] for name in tensor.branches])
    record = Value(graph, fields[0].axes, fields=dict(zip(tensor.branches, fields, strict=True)))
    if tensor.order_branch:
        assert record.fields is not None
        record, _ = lists.picked(record, lists.ordered(record.fields[tensor.order_branch], tensor.descending))
    record = lists.compacted(record)
    size = min(tensor.max, record.axis.size)
    first = np.arange(size)
    mask = lists.filled_mask(record).take(first)
    record = record.mapped(lambda each: each.take(first), (Axis(size, mask, True),))
    assert record.fields is not None
    columns = [record.fields[name].numbers.to("d").lifted(3) for name in tensor.columns]
    return graph.joined(columns), mask


def joined(
    model: onnx.ModelProto,
    network: onnx.ModelProto,
    networks: Description,
    description: Description,
    feeds: Mapping[str, str],
) -> onnx.ModelProto:
    """The graph of a selection with the networks of a model behind it; an event goes through its own network alone.

    A run in which no event passes computes neither columns nor scores.

    Parameters
    ----------
    model
        The graph of the selection, which has the inputs of the networks among its tensors.
    network
        The model.
    networks
        How that describes itself.
    description
        How the whole describes itself.
    feeds
        The tensor in `model` for each input of `network`.
    """
    opsets = {
        entry.version for each in (model, network) for entry in each.opset_import if entry.domain in ("", "ai.onnx")
    }
    if max(opsets) > _NEWEST:
        raise NanoMLError(
            f"the networks need ONNX opset {max(opsets)}, and a selection is written in opset {_NEWEST} at most."
        )
    assert description.inside is not None
    mean, each = networks.output_tensors
    whole = compose.add_prefix(network, _PREFIX)
    rename = {_PREFIX + name: tensor for name, tensor in feeds.items()}
    for node in whole.graph.node:
        node.input[:] = [rename.get(name, name) for name in node.input]
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if max(opsets) >= 18:
        _axes_as_inputs(made.graph)
    made.graph.initializer.extend(whole.graph.initializer)
    made.graph.input.append(helper.make_tensor_value_info(FOLD, KINDS["f"], ["n", 1]))
    parts = network_files(network, each, description.folds)
    if parts is None and description.folds > 1:
        raise NanoMLError(
            "the networks cannot be told apart in the graph of the model, as where they have branches or loops of their own (If, Loop, "
            "Scan), so an event could not go through the network of its fold. Write the network without them, for example with torch.where."
        )
    nodes, scores = list(whole.graph.node), _PREFIX + mean
    if parts:
        nodes, scores = _branches(nodes, scores, _PREFIX + each, description.folds), "scores_0"
    made.graph.node.extend([*nodes, helper.make_node("Identity", [scores], [mean])])
    for was, now in zip(networks.domain, description.domain, strict=True):
        for name, read in ((was.tensor, now.tensor), (was.mask, now.mask)):
            made.graph.node.extend([helper.make_node("Identity", [feeds[name]], [read])] if name and read else [])
    shapes = {mean: (None, len(description.output_columns)), **shapes_of(description.inside, description.domain)}
    del made.graph.output[:]
    for name, (_, *axes) in shapes.items():
        made.graph.output.append(helper.make_tensor_value_info(name, KINDS["f"], ["n", *axes]))
    _if_any_passes(made.graph, shapes)
    _name(made.graph, itertools.count())
    made.ir_version = max(model.ir_version, network.ir_version)
    made.opset_import[0].version = max(opsets)
    made.opset_import.extend(entry for entry in network.opset_import if entry.domain not in ("", "ai.onnx"))
    onnx.checker.check_model(made)
    return made


def _axes_as_inputs(graph: onnx.GraphProto) -> None:
    """Give ReduceMin and ReduceMax their axis in the form of opset 18; nothing else of a selection has changed since 15."""
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), _AXES))
    for node in graph.node:
        if node.op_type in ("ReduceMin", "ReduceMax"):
            kept = [attribute for attribute in node.attribute if attribute.name != "axes"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.input.append(_AXES)


def _name(graph: onnx.GraphProto, numbers: Iterator[int]) -> None:
    """A name of its own for each node, also in branches: ONNX Runtime 1.20 takes nodes without one for the same."""
    for node in graph.node:
        node.name = f"node{next(numbers)}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name(attribute.g, numbers)


def _if_any_passes(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    """Move what only events that pass need into a branch of an If; in the other one, it is 0.

    Each output comes from an Identity of its own, so that another name for it changes nothing else.
    """
    first = _needed(graph.node, "passed", "cuts", UNDECIDED)
    made = {name for node in first for name in node.output}
    then = [node for node in graph.node if node.output[0] not in made]
    names = [name for name in shapes if name not in ("passed", "cuts")]
    for node in then:
        node.output[:] = [f"passing_{name}" if name in names else name for name in node.output]
    otherwise = [helper.make_node("Unsqueeze", ["passed", "last_axis"], ["none_passes"])]
    graph.initializer.append(helper.make_tensor("last_axis", KINDS["i"], [1], [2]))
    for name in names:
        if name == "failed":
            otherwise.append(helper.make_node("Identity", [UNDECIDED], [f"zero_{name}"]))
            continue
        shape = [1, *(size or 1 for size in shapes[name][1:])]
        graph.initializer.append(helper.make_tensor(f"shape_of_{name}", KINDS["i"], [len(shape)], shape))
        zero = "passed" if len(shape) == 2 else "none_passes"
        otherwise.append(helper.make_node("Expand", [zero, f"shape_of_{name}"], [f"zero_{name}"]))
    results = [
        [helper.make_tensor_value_info(f"{word}_{name}", KINDS["f"], None) for name in names]
        for word in ("passing", "zero")
    ]
    branches = [
        helper.make_graph(steps, word, [], found)
        for steps, word, found in zip((then, otherwise), ("any", "none"), results, strict=True)
    ]
    nodes = [
        *first,
        helper.make_node("ReduceSum", ["passed"], ["passing"], keepdims=0),
        helper.make_node("Cast", ["passing"], ["any_passes"], to=KINDS["b"]),
        helper.make_node("If", ["any_passes"], names, then_branch=branches[0], else_branch=branches[1]),
    ]
    outer = helper.make_graph(nodes, graph.name, [], [])  # a copy: the nodes are those of `graph`
    del graph.node[:]
    graph.node.extend(outer.node)


def _needed(nodes: Sequence[onnx.NodeProto], *outputs: str) -> list[onnx.NodeProto]:
    """The nodes behind some tensors, in order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]


def _branches(nodes: Sequence[onnx.NodeProto], mean: str, each: str, folds: int) -> list[onnx.NodeProto]:
    """Nested If nodes: the network of the event's fold, or else all networks and their mean."""
    together = next(node for node in nodes if each in node.output)
    made = [*_needed(nodes, mean), helper.make_node("Identity", [mean], ["scores_mean"])]
    otherwise = _body(made, "scores_mean", "mean")
    for fold in reversed(range(folds)):
        branches = {"then_branch": _one_network(nodes, together.input[fold], fold), "else_branch": otherwise}
        made = [helper.make_node("If", [f"is_fold_{fold}"], [f"scores_{fold}"], **branches)]
        otherwise = _body(made, f"scores_{fold}", f"from{fold}")
    number = helper.make_node("Constant", [], ["fold_start"], value_ints=[0])
    first = helper.make_node("Gather", [FOLD, "fold_start"], ["fold_row"], axis=0)
    conditions = [number, first]
    for fold in range(folds):
        tensor = helper.make_tensor("", KINDS["f"], [1, 1], [fold])
        value = helper.make_node("Constant", [], [f"fold_{fold}"], value=tensor)
        conditions += [value, helper.make_node("Equal", ["fold_row", f"fold_{fold}"], [f"is_fold_{fold}"])]
    return [*conditions, *made]


def _one_network(nodes: Sequence[onnx.NodeProto], own: str, fold: int) -> onnx.GraphProto:
    """The branch of a network, whose results are `own`, shape (events, 1, outputs)."""
    last = next(node for node in nodes if own in node.output)
    if last.op_type == "Unsqueeze":  # what is added for all networks together
        return _body(_needed(nodes, last.input[0]), last.input[0], f"fold{fold}")
    axes, name = f"axis_of_{fold}", f"scores_of_{fold}"
    constant = helper.make_node("Constant", [], [axes], value_ints=[1])
    squeeze = helper.make_node("Squeeze", [own, axes], [name])
    return _body([*_needed(nodes, own), constant, squeeze], name, f"fold{fold}")


def _body(nodes: Sequence[onnx.NodeProto], output: str, name: str) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(output, KINDS["f"], None)])
