"""The graph of a selection against the engine, on real events: where they differ, the line of the selection that does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from MLTools.NanoML.extensions.compiled.tracing.graph import KINDS, Graph, Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Value
from MLTools.NanoML.extensions.compiled.tracing.selection import IR, OPSET
from MLTools.NanoML.extensions.compiled.tracing.traced import Step, Trace
from MLTools.NanoML.model import open_session


def first_difference(trace: Trace, steps: Sequence[Step], feed: Mapping[str, NDArray[np.float32]]) -> str:
    """The first line whose result differs; empty if none does.

    Parameters
    ----------
    trace
        The selection that was compiled.
    steps
        The results of its lines for the events in question, by the engine.
    feed
        These events, as input tensors of all branches that were traced.
    """
    found = _run(trace.graph, tensors_of(trace.steps), feed)
    for mine, theirs in zip(trace.steps, steps, strict=True):
        problem = _difference(mine, theirs.concrete, found)
        if problem:
            return f"{mine.line}: {problem}"
    return ""


def _leaves(value: Value, name: str = "") -> list[tuple[str, Value]]:
    if value.fields is None:
        return [(name, value)]
    return [leaf for field, each in value.fields.items() for leaf in _leaves(each.if_valid(value.valid), field)]


def _tensors(step: Step) -> list[Tensor]:
    made = list(step.scope)
    for _, leaf in _leaves(step.value):
        made += [leaf.numbers, *(axis.mask for axis in leaf.axes if axis.mask is not None)]
        made += [leaf.valid] if leaf.valid is not None else []
    return made


def _run(graph: Graph, tensors: Mapping[str, Tensor], feed: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
    known = {name: np.asarray(each.value) for name, each in tensors.items() if each.value is not None}
    wanted = {name: each for name, each in tensors.items() if name not in known and name not in feed}
    model = model_with_outputs(graph, wanted, {name: each.ndim for name, each in feed.items()})
    session = open_session("the graph of the selection", model.SerializeToString())
    return {**known, **feed, **dict(zip(wanted, session.run(list(wanted), dict(feed)), strict=True))}


def model_with_outputs(graph: Graph, outputs: Mapping[str, Tensor], inputs: Mapping[str, int]) -> onnx.ModelProto:
    """All nodes of a trace, with these tensors as outputs and inputs of these ranks."""
    given = [helper.make_tensor_value_info(name, KINDS["f"], [None] * rank) for name, rank in inputs.items()]
    results = [helper.make_tensor_value_info(name, KINDS[it.kind], [None] * it.rank) for name, it in outputs.items()]
    body = helper.make_graph(graph.nodes, "steps", given, results, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


def tensors_of(steps: Sequence[Step]) -> dict[str, Tensor]:
    """The tensors that lines have computed, by name."""
    return {each.name: each for step in steps for each in _tensors(step)}


def _difference(step: Step, concrete: Any, found: Mapping[str, NDArray[np.generic]]) -> str:
    for name, leaf in _leaves(step.value):
        if name:
            known = concrete.dtype.names or () if isinstance(concrete, np.ndarray) else concrete.fields
            if name not in known:
                continue  # a coordinate that the engine keeps in another form
        problem = _of_leaf(step, leaf, concrete[name] if name else concrete, found)
        if problem:
            return f"{name} {problem}".strip()
    return ""


def _of_leaf(step: Step, leaf: Value, concrete: object, found: Mapping[str, NDArray[np.generic]]) -> str:
    passed = np.ones(1, bool)
    for each in step.scope:
        passed = passed & found[each.name]
    data = found[leaf.numbers.name]
    shape = np.broadcast_shapes(
        data.shape,
        *(found[a.mask.name].shape + (1,) * (leaf.rank - found[a.mask.name].ndim) for a in leaf.axes if a.mask),
    )
    rows = max(
        len(passed), shape[0] if shape else 1, *(len(each) for each in found.values() if each.ndim and len(each) > 1)
    )
    shape = (rows, *(axis.size for axis in leaf.axes))

    def spread(array: NDArray[np.generic]) -> NDArray[Any]:
        return np.broadcast_to(array.reshape(array.shape + (1,) * (len(shape) - array.ndim)), shape)

    there = spread(passed).copy()
    for mask in (*(axis.mask for axis in leaf.axes), leaf.valid):
        if mask is not None:
            there &= spread(found[mask.name])
    numbers = spread(data)[there]
    plain = (
        np.asarray(concrete).ravel()
        if isinstance(concrete, np.ndarray)
        else ak.to_numpy(ak.drop_none(ak.flatten(concrete, axis=None)))
    )
    if len(numbers) != len(plain):
        return f"gives {len(numbers)} numbers, the engine {len(plain)}"
    if leaf.axes and isinstance(concrete, ak.Array) and concrete.ndim == 2 and leaf.valid is None:
        ours = there[np.broadcast_to(passed, rows)].sum(axis=1) if len(leaf.axes) == 1 else None
        if ours is not None and not np.array_equal(ours, ak.to_numpy(ak.num(concrete))):
            return "gives other numbers of objects"
    is_float = plain.dtype.kind == "f"
    same = np.isclose(numbers, plain, rtol=1e-7, atol=1e-7, equal_nan=True) if is_float else numbers == plain
    if same.all():
        return ""
    where = int(np.flatnonzero(~same)[0])
    return f"gives {numbers[where]!r}, the engine {plain[where]!r} ({int((~same).sum())} of {len(same)} differ)"
