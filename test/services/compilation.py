"""Selections on made-up events: their graph, made with some events, against the engine on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from MLTools.NanoML.extensions.compiled.tracing.proof import first_difference
from MLTools.NanoML.extensions.compiled.tracing.selection import Branches, TracedSelection, padded
from MLTools.NanoML.selection import Cutflow, Events, Selection

SIZES = {"Jet": 4, "Muon": 3}
"""How many objects there are at most."""

HOSTILE = (np.nan, np.inf, -np.inf, -0.0, 0.0, 1e30, -1e-30, 2.5, 2.5)
"""Numbers among which there are ties."""

OTHERS = 10**6
"""Added to the seed of the events that are traced: the seed of those that are compared."""

Lines = Callable[[Events], Any]


def made_up(seed: int, number: int = 40) -> tuple[dict[str, Any], dict[str, str]]:
    """Branches and their collections; the first event is empty, the second full."""
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    collections: dict[str, str] = {}

    def put(name: str, values: Any, counts: NDArray[np.int64]) -> None:
        arrays[name], collections[name] = ak.unflatten(ak.Array(values), counts), name.split("_")[0]

    for name, most in SIZES.items():
        counts = random.integers(0, most + 1, number)
        counts[:2] = 0, most
        total = int(counts.sum())
        tied = random.choice([10.0, 20.0, 30.0], total)
        put(f"{name}_pt", np.where(random.random(total) < 0.4, tied, random.uniform(5, 80, total)).astype("f4"), counts)
        put(f"{name}_eta", random.uniform(-2.5, 2.5, total).astype("f4"), counts)
        put(f"{name}_phi", random.uniform(-np.pi, np.pi, total).astype("f4"), counts)
        put(f"{name}_mass", random.uniform(0, 10, total).astype("f4"), counts)
        put(f"{name}_charge", random.choice([-1, 1], total).astype("i4"), counts)
        put(f"{name}_id", random.integers(0, 256, total).astype("u1"), counts)
        put(f"{name}_short", random.integers(-300, 300, total).astype("i2"), counts)
        put(f"{name}_good", random.random(total) < 0.6, counts)
        put(f"{name}_score", random.choice(HOSTILE, total).astype("f4"), counts)
    for name in ("MET_pt", "MET_phi"):
        arrays[name] = ak.Array(random.uniform(0, 3, number).astype("f4"))
    arrays["PV_npvs"] = ak.Array(random.integers(0, 60, number).astype("i4"))
    arrays["HLT_A"], arrays["HLT_B"] = (ak.Array(random.random(number) < 0.5) for _ in range(2))
    return arrays, collections


def selection_of(lines: Lines) -> Selection:
    """A selection that computes something in `lines` and keeps all events."""

    class Lines(Selection):
        branches = ()
        columns = {}

        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            lines(events)
            return cutflow.cut("kept", events.PV.npvs >= 0, events), {}

    return Lines()


def traced(selection: Selection, seed: int = 1) -> TracedSelection:
    return TracedSelection(selection, *made_up(seed), SIZES)


def difference(mine: TracedSelection, theirs: TracedSelection, seed: int = 1) -> str:
    """Where a graph and the engine differ on other events than those that were traced; empty if they do not."""
    assert len(mine.trace.steps) > 1
    return first_difference(mine.trace, theirs.trace.steps, feed_of(mine, seed + OTHERS))


def feed_of(graph: TracedSelection, seed: int) -> dict[str, NDArray[np.float32]]:
    """Events as the tensors of all branches that were traced."""
    branches = [Branches(tuple(graph.inputs.events), (), "", 0)] if graph.inputs.events else []
    branches += [Branches(tuple(names), (), name, SIZES[name]) for name, names in graph.inputs.objects.items() if names]
    return padded(branches, made_up(seed)[0])


def check_selection(selection: Selection, seed: int = 1) -> None:
    """Graph and engine agree in each line on other events than those that were traced, and in the cut flow."""
    graph, theirs = traced(selection, seed), traced(selection, seed + OTHERS)
    assert difference(graph, theirs, seed) == ""
    arrays, collections = made_up(seed + OTHERS)
    model, inputs = graph.model(graph.outputs())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, padded(inputs, arrays)), strict=True))
    expected = selection.apply(arrays, collections, np.ones(len(arrays["MET_pt"])))
    assert np.flatnonzero(outputs["passed"][:, 0]).tolist() == expected.rows.tolist()
    assert outputs["cuts"].sum(axis=0).tolist() == [step.events for step in expected.cutflow.steps[1:]]
    assert not outputs["failed"].any()


def check(lines: Callable[[Events], Mapping[str, Any]], seed: int = 1) -> None:
    """Graph and engine agree in all lines, and what was traced is what the engine gives without tracing."""
    found: list[Mapping[str, Any]] = []
    selection = selection_of(lambda events: found.append(lines(events)))
    assert difference(traced(selection, seed), traced(selection, seed + OTHERS), seed) == ""
    for name, expected in lines(Events(*made_up(seed + OTHERS))).items():
        for one, other in zip(_all(found[-1][name]), _all(expected), strict=True):
            loosely = {"equal_nan": True, "same_content_types": False, "check_parameters": False}
            assert ak.array_equal(one._concrete, other, **loosely), name


def _all(what: Any) -> list[Any]:
    return list(what) if isinstance(what, tuple) else [what]
