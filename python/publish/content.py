"""The content of capsule.json on models, channels and fits, which `reproduce.py` reads; and cuts in the language of NumPy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.expression import Call, Leaf, Node, Number
from MLTools.NanoML.nanoaod.formula import Formula

_SIGNS = {**{it: it for it in ("<", ">", "<=", ">=", "==", "!=", "+", "-", "*", "/", "**")}, "^": "**"}
_LOGIC = {"&&": " & ", "||": " | "}
_FUNCTIONS = ("abs", "sqrt", "exp", "log", "pow", "min", "max", "cos", "sin", "cosh", "sinh", "tanh", "atan2")


@dataclass(frozen=True)
class InputEntry:
    """A tensor that a model reads: numbers of the event, or of `max` objects, with a mask."""

    tensor: str
    columns: Sequence[str]
    mask: Optional[str] = None
    max: Optional[int] = None


@dataclass(frozen=True)
class ModelEntry:
    """A model of an era, and its reference events."""

    file: str
    reference: str
    events: int
    inputs: Sequence[InputEntry]
    scores: str  # the tensor with `outputs`
    outputs: Sequence[str]
    columns: Sequence[str]
    cuts: Sequence[str]
    defaults: dict[str, float]  # of branches that a file may lack
    folds: int
    corrected: Sequence[str]  # branches that the analysis corrects before its selection
    parameter: Optional[float]  # that of the network for the reference events
    also: Sequence[str] = ()  # further branches that cuts and quantities read


@dataclass(frozen=True)
class ChannelEntry:
    """A channel of a fit."""

    era: str
    cut: str  # an expression of NumPy, as `quantities` are
    quantities: Sequence[str]  # along each axis
    edges: Sequence[Sequence[float]]
    is_folded: bool  # whether what is outside of the bins counts in the first and the last
    fitted: Sequence[bool]  # which bins, those of several axes in a row, the fit has
    luminosity: float
    average: float = 1.0  # the mean weight of the published signal, with what calibrations change


@dataclass(frozen=True)
class FitEntry:
    """A likelihood and its limits."""

    name: str
    likelihood: str
    parameter: Optional[float]
    expected: Sequence[float]
    observed: Optional[float]
    events: float  # of the signal
    luminosity: Sequence[str]  # nuisance parameters that change all signals alike
    carried: Sequence[str]
    channels: dict[str, ChannelEntry]
    why_not: str = ""  # why there can be no other signal


def as_python(text: str, known: Collection[str], prefix: str) -> tuple[str, list[str]]:
    """A cut, or a quantity, as an expression of NumPy, and the branches in it that are not `known`.

    `prefix` may stand before the name of an output of the network. An error if it reads lists.

    Examples
    --------
    >>> as_python("nJet == 0 && abs(mass - 91.2) < 15", ["mass"], "net_")
    ('((nJet == 0.0) & (abs((mass - 91.2)) < 15.0))', ['nJet'])
    """
    others: list[str] = []

    def written(node: Node) -> str:
        if isinstance(node, Number):
            return repr(node.value)
        if isinstance(node, Leaf) and node.index is None:
            short = node.name[len(prefix) :] if node.name.startswith(prefix) else node.name
            name = short if short in known else node.name
            others.extend([] if name in known else [name])
            return name
        if isinstance(node, Call):
            name, parts = node.function, [written(it) for it in node.arguments]
            if name in _LOGIC:
                return f"({_LOGIC[name].join(parts)})"
            if name in ("!", "negative"):
                return f"({parts[0]} == 0)" if name == "!" else f"(-{parts[0]})"
            if name in _SIGNS:
                return f"({parts[0]} {_SIGNS[name]} {parts[1]})"
            if name in _FUNCTIONS:
                return f"{name}({', '.join(parts)})"
        raise NanoMLError(f'"{text}" has what is not a number of the event, or a function that is not known there')

    return written(Formula(text).root), list(dict.fromkeys(others))
