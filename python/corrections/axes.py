"""The inputs of a correction, and what each may be: the keys and ranges in the file of correctionlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Axis:
    """An input of a correction."""

    name: str
    type: str  # "real", "int" or "string"
    description: str = ""
    choices: tuple[Any, ...] = ()  # the keys, if it selects a category
    # the range that the bins cover; None if it is not limited, or differs from bin to bin of another input
    low: Optional[float] = None
    high: Optional[float] = None

    @property
    def domain(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        if self.low is None and self.high is None:
            return {"real": "any number", "int": "any integer", "string": "any text"}[self.type]
        ends = [f"from {self.low:g}"] if self.low is not None else []
        return " ".join(ends + ([f"to {self.high:g}"] if self.high is not None else []))


def axes_of(node: Any, inputs: Iterable[tuple[str, str, str]]) -> dict[str, Axis]:
    """The inputs of a correction by name, from its node in the JSON, and the name, type and description of each."""
    given = list(inputs)
    found = {name: _Domain() for name, *_ in given}
    _explore(node, found, frozenset())
    return {name: found[name].axis(name, type_, text) for name, type_, text in given}


@dataclass
class _Domain:
    """What the nodes of a correction say about one input."""

    choices: Optional[dict[Any, None]] = None
    has_default: bool = False
    lows: Optional[set[float]] = None
    highs: Optional[set[float]] = None

    def axis(self, name: str, type_: str, text: str) -> Axis:
        """The input, in the range that all bins have in common."""
        choices = () if self.has_default or self.choices is None else tuple(self.choices)
        return Axis(name, type_, text, choices, _common(self.lows), _common(self.highs))


def _common(limits: Optional[set[float]]) -> Optional[float]:
    """The one limit of all bins; None if they differ or have none."""
    one = next(iter(limits)) if limits and len(limits) == 1 else math.inf
    return None if math.isinf(one) else one


def _explore(node: Any, found: Mapping[str, _Domain], changed: frozenset[str]) -> None:
    """Collect keys and limits from a node and those below it; `changed` are inputs that a transform has replaced."""
    if not isinstance(node, dict):
        return
    kind = node.get("nodetype")
    if kind == "category":
        if node["input"] not in changed:
            domain = found[node["input"]]
            domain.choices = {**(domain.choices or {}), **{each["key"]: None for each in node["content"]}}
            domain.has_default |= node.get("default") is not None
        below = [each["value"] for each in node["content"]] + [node.get("default")]
    elif kind in ("binning", "multibinning"):
        names = [node["input"]] if kind == "binning" else node["inputs"]
        all_edges = [node["edges"]] if kind == "binning" else node["edges"]
        for name, edges in zip(names, all_edges):
            if name not in changed:
                first, last = _ends(edges)
                is_limited = node.get("flow") == "error"
                found[name].lows = (found[name].lows or set()) | {first if is_limited else -math.inf}
                found[name].highs = (found[name].highs or set()) | {last if is_limited else math.inf}
        below = node["content"]
    elif kind == "transform":
        below, changed = [node["content"]], changed | {node["input"]}
    else:  # formulas and random numbers take anything
        below = []
    for each in below:
        _explore(each, found, changed)


def _ends(edges: Any) -> tuple[float, float]:
    if isinstance(edges, dict):  # uniform bins
        return float(edges["low"]), float(edges["high"])
    return float(edges[0]), float(edges[-1])
