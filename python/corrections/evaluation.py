"""Files of correctionlib, their inputs, and their evaluation on arrays: ragged, flat or single numbers.

correctionlib itself takes plain numbers and arrays of numbers, and says of a value that it cannot take neither which one it
was nor what it could have been. Here arrays have any shape, and an error names the object, the input and the choices.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.rootio.lists import Array, Mask, Numbers
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.plain import parsed

Input = Union[str, Numbers]  # values of an input of a correction
_Inputs = Mapping[str, Input]


@dataclass(frozen=True)
class Axis:
    """An input of a correction."""

    name: str
    type: str  # "real", "int" or "string"
    description: str = ""
    choices: tuple[Union[str, int], ...] = ()  # the keys, if it selects a category, and nothing else is allowed
    keys: tuple[Union[str, int], ...] = ()  # the keys, also where anything else means a default
    # the range that the bins cover; None if it is not limited, or differs from bin to bin of another input
    low: Optional[float] = None
    high: Optional[float] = None

    @property
    def domain(self) -> str:
        """Its possible values, in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        if self.low is None and self.high is None:
            return {"real": "any number", "int": "any integer", "string": "any text"}[self.type]
        ends = [f"from {self.low:g}"] if self.low is not None else []
        return " ".join(ends + ([f"to {self.high:g}"] if self.high is not None else []))


@dataclass
class _Domain:
    """The keys and ranges of one input in the nodes of a correction."""

    choices: Optional[dict[Union[str, int], None]] = None
    has_default: bool = False
    lows: Optional[set[float]] = None
    highs: Optional[set[float]] = None

    def axis(self, name: str, type_: str, text: str) -> Axis:
        """The input, in the range that all bins have in common."""
        keys = tuple(self.choices or ())
        return Axis(name, type_, text, () if self.has_default else keys, keys, _common(self.lows), _common(self.highs))


def _common(limits: Optional[set[float]]) -> Optional[float]:
    """The one limit of all bins; None if they differ or have none."""
    one = next(iter(limits)) if limits and len(limits) == 1 else math.inf
    return None if math.isinf(one) else one


def _explore(
    node: dict[str, Any], found: Mapping[str, _Domain], changed: frozenset[str], fixed: Mapping[str, Input]
) -> None:
    """Collect keys and limits from a node and those below it; `changed` are inputs that a transform has replaced."""
    kind = node.get("nodetype")
    if kind == "category":
        if node["input"] not in changed:
            domain = found[node["input"]]
            domain.choices = {**(domain.choices or {}), **{each["key"]: None for each in node["content"]}}
            domain.has_default |= node.get("default") is not None
        wanted = None if node["input"] in changed else fixed.get(node["input"])
        below = [each["value"] for each in node["content"] if wanted in (None, each["key"])]
        below += [node.get("default")] if wanted is None or not below else []
    elif kind in ("binning", "multibinning"):
        names = [node["input"]] if kind == "binning" else node["inputs"]
        all_edges = [node["edges"]] if kind == "binning" else node["edges"]
        for name, edges in zip(names, all_edges):
            if name not in changed:
                first, last = (edges["low"], edges["high"]) if isinstance(edges, dict) else (edges[0], edges[-1])
                is_limited = node.get("flow") == "error"
                found[name].lows = (found[name].lows or set()) | {float(first) if is_limited else -math.inf}
                found[name].highs = (found[name].highs or set()) | {float(last) if is_limited else math.inf}
        below = node["content"]
    elif kind == "transform":
        below, changed = [node["content"]], changed | {node["input"]}
    else:  # formulas and random numbers take anything
        below = []
    for each in below:
        if isinstance(each, dict):  # and not one of very many numbers
            _explore(each, found, changed, fixed)


CLAMPED = re.compile(r"p|(?=\w+$)(?:.*_)?pt(?:_?\d$|_.|$).*")
"""Inputs, as pt, met_pt or lep1_pt, for which the last bin also holds for all larger values, as the object groups ask."""

_LONGEST = 1000  # characters of a name: patterns of names take a time that grows with its square


class CorrectionFile:
    """A file of correctionlib: JSON, which may be compressed by gzip.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ConfigError
        It cannot be read, or correctionlib is not installed or does not understand it.

    Examples
    --------
    >>> file = CorrectionFile(Path("examples/corrections/2018/pileup.json"))
    >>> list(file.names), list(file["Collisions"].inputs)
    (['Collisions'], ['NumTrueInteractions', 'weights'])
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = path.read_bytes()
            self._text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
            raise ConfigError(f"{path}: cannot be read as a file of corrections: {problem}. Fetch it again.") from None
        self.digest = hashlib.sha256(raw).hexdigest()
        """SHA-256 of the file."""
        try:
            import correctionlib
        except ImportError:
            raise ConfigError(
                f"{path}: correctionlib is needed to evaluate it: pip install correctionlib (CMSSW has it)."
            ) from None
        try:
            self._set: Any = correctionlib.CorrectionSet.from_string(self._text)
        except Exception as problem:  # correctionlib raises what its C++ code throws
            raise ConfigError(
                f"{path}: is not a file of correctionlib: {_first_line(problem)}. Fetch it again, or leave it out."
            ) from None
        self._found: dict[str, Correction] = {}

    @cached_property
    def content(self) -> dict[str, Any]:
        """The JSON itself."""
        return parsed(self._text)

    @cached_property
    def names(self) -> list[str]:
        """The corrections, those first that combine others."""
        found = [*self._set.compound, *self._set]
        if any(len(name) > _LONGEST for name in found):
            raise ConfigError(
                f"{self.path}: a correction has a name of more than {_LONGEST} characters. Fetch it again."
            )
        return found

    def __getitem__(self, name: str) -> Correction:
        """A correction by its name. Raises ConfigError if there is none."""
        if name not in self._found:
            if name not in self.names:
                raise ConfigError(
                    f"{self.path}: has no correction {name}.{did_you_mean(name, self.names)} It has: {listed(self.names, 5)}. "
                    f"`nanoml corrections {self.path}` describes them."
                )
            is_compound = name in self._set.compound
            evaluator = (self._set.compound if is_compound else self._set)[name]
            self._found[name] = Correction(self, name, evaluator, is_compound)
        return self._found[name]


class Correction:
    """One correction of a file; made by `CorrectionFile`."""

    def __init__(self, file: CorrectionFile, name: str, evaluator: Any, is_compound: bool = False) -> None:
        self.file, self.name, self._evaluator, self.is_compound = file, name, evaluator, is_compound

    def __repr__(self) -> str:
        return f"<{self.name} of {self.file.path.name}: {', '.join(self.inputs)}>"

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs, in the order of the file."""
        return [each.name for each in self._evaluator.inputs]

    @property
    def description(self) -> str:
        """Its description in the file."""
        return getattr(self._evaluator, "description", "") or ""

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """The inputs by name, with what they may be."""
        return self.axes_at({})

    def axes_at(self, fixed: _Inputs) -> dict[str, Axis]:
        """The inputs by name, with what they may be where some of them are fixed."""
        contents = () if self.is_compound else self.file.content["corrections"]  # what combines others says nothing
        node = next((each["data"] for each in contents if each["name"] == self.name), None)
        found = {name: _Domain() for name in self.inputs}
        if isinstance(node, dict):
            _explore(node, found, frozenset(), fixed)
        return {it.name: found[it.name].axis(it.name, it.type, it.description or "") for it in self._evaluator.inputs}

    def __call__(self, *values: Input, where: Optional[Mask] = None, **named: Input) -> Numbers:
        """Evaluate it.

        Parameters
        ----------
        values, named
            The inputs, in the order of `inputs` or by name: numbers, texts, numpy or awkward arrays. Arrays with one number
            for each event are broadcast to lists with one for each object. pt beyond the last bin takes the last bin.
        where
            Evaluate it only where this mask is true; the result is 1 elsewhere.

        Returns
        -------
        float64, in the shape of the inputs: an awkward array if any of them is one, a numpy array, or a number.

        Raises
        ------
        NanoMLError
            An input is missing, unknown or not finite, or the file has nothing for a value: the message names the object, its
            inputs and the choices.
        """
        given = self._named(values, named)
        arrays = {name: value for name, value in given.items() if not isinstance(value, (str, int, float))}
        fixed = {name: self._typed(name, value) for name, value in given.items() if name not in arrays}
        for name, value in fixed.items():  # a wrong key is an error also where there are no objects
            if isinstance(value, str) and (choices := self.axes[name].choices) and value not in choices:
                hint = did_you_mean(value, map(str, choices))
                raise NanoMLError(f'{self._name}: {name} is "{value}".{hint} {self._may(name)}')
        if where is not None:
            arrays["where"] = where
        if not arrays:
            return float(self._evaluate({}, fixed, 1)[0])
        columns, rebuild = _flattened(arrays)
        mask = columns.pop("where", None)
        if mask is not None:
            columns = {name: values[mask] for name, values in columns.items()}
        length = int(np.count_nonzero(mask)) if mask is not None else len(next(iter(columns.values())))
        found = self._evaluate({name: self._typed(name, values) for name, values in columns.items()}, fixed, length)
        if mask is not None:
            everywhere = np.ones(len(mask))
            everywhere[mask] = found
            found = everywhere
        return rebuild(found)

    def of(self, known: _Inputs, where: Optional[Mask] = None, **named: Input) -> Numbers:
        """Evaluate it by as many of its inputs as are known of the objects; other parameters as of a call."""
        return self(where=where, **{name: it for name, it in {**known, **named}.items() if name in self.inputs})

    def tried(self, given: _Inputs, length: int) -> NDArray[np.float64]:
        """The values for inputs of the right types as they are, unchecked; NaN where the file has nothing."""
        try:
            return np.broadcast_to(np.asarray(self._at(given), np.float64), length)
        except Exception:  # correctionlib raises what its C++ code throws
            rows = _rows(given, length)
            return np.array([self._at(row) if self._works(row) else np.nan for row in rows], np.float64)

    def _named(self, values: tuple[Input, ...], named: _Inputs) -> dict[str, Input]:
        known = self.inputs
        unknown = [name for name in named if name not in known]
        free = [name for name in known if name not in named]
        if unknown or len(values) != len(free):
            what = f"has no input {unknown[0]}" if unknown else f"got {len(values) + len(named)} inputs"
            raise NanoMLError(f"{self._name} {what}: it needs {', '.join(known)}.")
        given = {**dict(zip(free, values)), **named}
        return {name: given[name] for name in known}

    @property
    def _name(self) -> str:
        return f"{self.file.path}: {self.name}"

    def _typed(self, name: str, value: Input) -> Input:
        """The values in the type that correctionlib asks for."""
        kind = next(each.type for each in self._evaluator.inputs if each.name == name)
        if isinstance(value, str) != (kind == "string"):
            what = f'is a number, not "{value}"' if isinstance(value, str) else "is one text for all objects"
            raise NanoMLError(f"{self._name}: {name} {what}. {self._may(name)}")
        if kind == "string":
            return value
        array = np.asarray(value)
        if kind == "int":
            whole = array.astype(np.int64)
            if not (whole == array).all():
                raise NanoMLError(f"{self._name}: {name} has values that are not integers.")
            return whole if array.ndim else int(whole)
        numbers = array.astype(np.float64, copy=False)
        bad = numbers.size - int(np.count_nonzero(np.isfinite(numbers)))
        if bad:
            raise NanoMLError(f"{self._name}: {name} is NaN or infinite for {bad} of {array.size} objects.")
        high = self.axes[name].high if CLAMPED.fullmatch(name) else None
        if high is not None:
            numbers = np.minimum(numbers, np.nextafter(high, -np.inf))
        return numbers if array.ndim else float(numbers)

    def _evaluate(self, columns: _Inputs, fixed: _Inputs, length: int) -> NDArray[np.float64]:
        if not length:
            return np.zeros(0)
        try:
            found = self._at({**columns, **fixed})
        except Exception as problem:  # correctionlib raises what its C++ code throws
            raise NanoMLError(self._explain(columns, fixed, length, problem)) from None
        return np.broadcast_to(np.asarray(found, np.float64), length)

    def _at(self, given: _Inputs) -> Numbers:
        return self._evaluator.evaluate(*(given[name] for name in self.inputs))

    def _explain(self, columns: _Inputs, fixed: _Inputs, length: int, problem: Exception) -> str:
        """Why an evaluation failed: the first object that fails alone, and which of its inputs is to blame."""
        culprit = next((row for row in _rows({**fixed, **columns}, length) if not self._works(row)), {})
        shown = ", ".join(
            f"{name} = {it:g}" if isinstance(it, float) else f"{name} = {it}" for name, it in culprit.items()
        )
        for name, value in culprit.items():
            axis = self.axes[name]
            is_below, is_above = axis.low is not None and value < axis.low, axis.high is not None and value >= axis.high
            if is_below or is_above or (axis.choices and value not in axis.choices):
                return f"{self._name}: {name} is {value:g}, of one of {length} objects ({shown}). {self._may(name)}"
        return (
            f"{self._name} has nothing for {shown} ({_first_line(problem)}). "
            f"`nanoml corrections {self.file.path} {self.name}` shows what it covers."
        )

    def _works(self, row: _Inputs) -> bool:
        try:
            self._at(row)
        except Exception:  # as above
            return False
        return True

    def _may(self, name: str) -> str:
        axis = self.axes[name]
        if axis.choices or axis.type == "string":
            return f"It may be {axis.domain}."
        return f"The file covers it {axis.domain}: cut such objects away before, or leave them out by `where`."


def _rows(given: _Inputs, length: int) -> Iterator[dict[str, Any]]:
    """The inputs of each object alone."""
    for row in range(length):
        yield {
            key: it if isinstance(it, (str, int, float)) else np.asarray(it)[row].item() for key, it in given.items()
        }


def _flattened(arrays: _Inputs) -> tuple[dict[str, Array], Callable[[NDArray[np.float64]], Numbers]]:
    """Arrays of any shape as flat ones of one length, and what gives a flat result their shape."""
    if not any(isinstance(value, ak.Array) for value in arrays.values()):
        shaped = dict(zip(arrays, np.broadcast_arrays(*map(np.asarray, arrays.values()))))
        shape = next(iter(shaped.values())).shape
        return {name: value.ravel() for name, value in shaped.items()}, lambda result: np.reshape(result, shape)
    try:
        alike = dict(zip(arrays, ak.broadcast_arrays(*arrays.values())))
    except ValueError as problem:
        raise NanoMLError(
            f"{' and '.join(arrays)} have different numbers of objects: {_first_line(problem)}."
        ) from None
    flat = {name: ak.to_numpy(ak.flatten(value, axis=None)) for name, value in alike.items()}
    first = next(iter(alike.values()))
    counts = []
    while first.ndim > 1:
        counts.append(ak.to_numpy(ak.num(first, axis=1)))
        first = ak.flatten(first, axis=1)

    def rebuild(result: NDArray[np.float64]) -> Numbers:
        made = ak.Array(result)
        for each in reversed(counts):
            made = ak.unflatten(made, each)
        return made

    return flat, rebuild


def _first_line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0].rstrip(".")
