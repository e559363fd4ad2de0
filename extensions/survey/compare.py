"""Corrections at points of their inputs: a tree of them checked; and two states compared, with what appeared, vanished and changed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import variations_of
from MLTools.NanoML.corrections.evaluation import Axis, Correction, CorrectionFile, Input
from MLTools.NanoML.errors import ConfigError, listed
from MLTools.NanoML.extensions.survey.kinds import unknown_inputs
from MLTools.NanoML.extensions.survey.propose import files_in, uses

_LEAST = 1e-9  # relative change that is one
_POINTS, _MOST_TEXTS, _MOST_VALUES = 300, 40, 60  # for each combination of texts; combinations; values of an input
_USUAL = {
    "pt": (10, 1000), "et": (10, 1000), "eta": (-2.4, 2.4), "phi": (-3.1, 3.1), "rho": (5, 60), "run": (3e5, 4e5),
}  # fmt: skip
"""The ranges of inputs that have no bins, by the end of their names."""


@dataclass(frozen=True)
class Checked:
    """A file of a tree."""

    path: str
    entries: tuple[str, ...] = ()  # that can name its corrections
    others: int = 0  # corrections for which there is no such entry
    unusable: tuple[str, ...] = ()  # what cannot be used, and why
    problem: str = ""  # why it cannot be read


def check(directory: Path) -> Iterator[Checked]:
    """Open each file of a tree, and evaluate each of its corrections at some points."""
    for place in files_in(directory):
        try:
            file = CorrectionFile(place.path)
        except ConfigError as problem:
            yield Checked(str(place.path), problem=str(problem))
            continue
        entries, unusable = [], []
        known = uses(file)
        for use in known:
            try:
                use.lines(place.path.name)
                entries.append(use.entry)
            except ConfigError as problem:
                unusable.append(str(problem))
        others = set(file.names).difference(*(use.names for use in known))
        for name in file.names:
            lost = unknown_inputs(file[name]) if name in others else []
            tried = (file[name].tried(given, size) for given, size in points(file[name], file[name], file[name].inputs))
            if lost:
                unusable.append(f"{name} needs {', '.join(lost)}, which NanoAOD does not have.")
            elif not any(np.isfinite(values).any() for values in tried):
                unusable.append(f"{name} has no value anywhere.")
        yield Checked(str(place.path), tuple(dict.fromkeys(entries)), len(others), tuple(dict.fromkeys(unusable)))


def points(
    one: Correction, other: Correction, names: list[str], is_narrow: bool = False
) -> Iterator[tuple[dict[str, Input], int]]:
    """Inputs at which two corrections are evaluated, always the same ones, and their number; `is_narrow` leaves only usual variations."""
    chooser, keys = variations_of(one, {})
    texts: dict[str, list[str]] = {}
    numbers: dict[str, NDArray[np.generic]] = {}
    edges: dict[str, set[float]] = {name: set() for name in (*one.inputs, *other.inputs)}
    for each in (one, other):
        _find_edges(each, edges)
    for name in names:
        common = [it for it in one.axes[name].keys if it in other.axes[name].keys]
        if one.axes[name].type == "string":
            known = list(map(str, common)) or ["nom"]
            texts[name] = [it for it in known if it in keys.values()] if is_narrow and name == chooser else known
        elif one.axes[name].type == "int" and not edges[name]:
            numbers[name] = np.array(common or [0, 1, 2, 5], np.int64)
        else:
            numbers[name] = _middles(one.axes[name], edges[name])
    random, combinations = np.random.default_rng(1), list(itertools.product(*texts.values()))
    for combination in combinations[:: -(-len(combinations) // _MOST_TEXTS) or 1]:
        columns = {name: random.choice(values, _POINTS) for name, values in numbers.items()}
        yield {**columns, **dict(zip(texts, combination))}, _POINTS if numbers else 1


def _find_edges(correction: Correction, edges: dict[str, set[float]]) -> None:
    """Add the edges of all bins of a correction, or of all parts of a product."""
    content = correction.file.content
    products = {each["name"]: each["stack"] for each in content.get("compound_corrections") or ()}
    parts = products.get(correction.name, (correction.name,))
    waiting = [each["data"] for each in content["corrections"] if each["name"] in parts]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        below = node.get("content")
        waiting += [*(below if isinstance(below, list) else [below]), node.get("value"), node.get("default")]
        if "edges" in node:
            is_one = node["nodetype"] == "binning"
            for name, it in zip(
                [node["input"]] if is_one else node["inputs"], [node["edges"]] if is_one else node["edges"]
            ):
                all_of = np.linspace(it["low"], it["high"], it["n"] + 1) if isinstance(it, dict) else it
                edges[name].update(map(float, all_of))


def _middles(axis: Axis, found: set[float]) -> NDArray[np.generic]:
    """Middles between edges; without any, numbers in the usual range."""
    edges = np.array(sorted(filter(np.isfinite, found)))
    if len(edges) < 2:
        low, high = next((ends for end, ends in _USUAL.items() if axis.name.lower().endswith(end)), (0.1, 1.0))
        edges = np.linspace(low, high, 31)
    middles = (edges[1:] + edges[:-1]) / 2
    return middles[:: -(-len(middles) // _MOST_VALUES)].astype(np.int64 if axis.type == "int" else np.float64)


@dataclass(frozen=True)
class Curve:
    """How the change depends on one input: lowest, median and highest relative change at each of its values."""

    axis: str
    x: NDArray[np.float64]
    bands: NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A difference in a correction, or in a file.

    Attributes
    ----------
    file, correction
        The file in its tree, and the correction; empty if all of the file is meant.
    what
        "new", "gone", "inputs", "values" or "damaged".
    about
        In words.
    typical, largest
        Median size and largest of the relative changes of its values; of values that were 0, the changes.
    where
        The inputs at which the change is largest.
    curve
        The change by one of its inputs.
    """

    file: str
    correction: str
    what: str
    about: str = ""
    typical: Optional[float] = None
    largest: Optional[float] = None
    where: str = ""
    curve: Optional[Curve] = None


def compare(old: Path, new: Path) -> Iterator[Change]:
    """The changes between two files of correctionlib, or between two directories with such files."""
    for path in (old, new):
        if not path.exists() or path.is_dir() != old.is_dir():
            raise ConfigError(f"{path}: is not there, or not of the same kind: name two files, or two directories.")
    before, after = (
        {"/".join((*it.parts[1:], it.path.name)): it.path for it in files_in(path)} if path.is_dir() else {"": path}
        for path in (old, new)
    )
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield Change(name, "", "new" if name in after else "gone", "the whole file")
            continue
        try:
            one, other = CorrectionFile(before[name]), CorrectionFile(after[name])
        except ConfigError as problem:
            yield Change(name, "", "damaged", str(problem))
            continue
        if one.digest != other.digest:
            yield from _of_file(name, one, other)


def _of_file(name: str, old: CorrectionFile, new: CorrectionFile) -> Iterator[Change]:
    pairs = {it: it for it in new.names if it in old.names}
    gone = [it for it in old.names if it not in pairs]
    for it in new.names:
        alike = [each for each in gone if re.sub(r"(?<=V)\d+", "", each) == re.sub(r"(?<=V)\d+", "", it)]
        if it not in pairs and len(alike) == 1:  # another version of the same
            pairs[it] = gone.pop(gone.index(alike[0]))
    yield from (Change(name, it, "gone") for it in gone)
    yield from (Change(name, it, "new") for it in new.names if it not in pairs)
    for after, before in pairs.items():
        one, other = old[before], new[after]
        words = [f"it was {before}"] if after != before else []
        for axis in dict.fromkeys([*one.axes, *other.axes]):
            first, second = one.axes.get(axis), other.axes.get(axis)
            if first is None or second is None or first.type != second.type:
                words.append(f"{axis} is {'new' if first is None else 'gone' if second is None else second.type}")
            elif first.type != "real":
                keys = [set(map(str, it.keys)) for it in (first, second)]
                words += [f"{axis} lost {listed(sorted(keys[0] - keys[1]))}"] if keys[0] - keys[1] else []
                words += [f"{axis} got {listed(sorted(keys[1] - keys[0]))}"] if keys[1] - keys[0] else []
        if words:
            yield Change(name, after, "inputs", "; ".join(words))
        yield from _of_values(name, one, other)


def _of_values(name: str, one: Correction, other: Correction) -> Iterator[Change]:
    """The change of nominal values and variations; if they are the same, that of all values."""
    for is_narrow in (True, False):
        found = list(_changes(one, other, is_narrow))
        every = np.concatenate([each[np.isfinite(each)] for each, _ in found] or [np.zeros(0)])
        if (np.abs(every) > _LEAST).any():
            change, given = max(found, key=lambda it: float(np.nanmax(np.abs(it[0]), initial=0.0)))
            place = int(np.nanargmax(np.abs(change)))
            at = {key: it if isinstance(it, str) else f"{np.asarray(it)[place]:.4g}" for key, it in given.items()}
            where = ", ".join(f"{key} = {it}" for key, it in at.items())
            about = f"at {np.mean(np.abs(every) > _LEAST):.0%} of {len(every)} points"
            typical = float(np.median(np.abs(every)))
            yield Change(name, other.name, "values", about, typical, float(change[place]), where, _curve(found))
            return


def _changes(
    one: Correction, other: Correction, is_narrow: bool
) -> Iterator[tuple[NDArray[np.float64], dict[str, Input]]]:
    """Relative changes, and where: at middles of bins, for the texts that both know, nominal ones of what only one varies."""
    both = [it for it in one.axes if it in other.axes and one.axes[it].type == other.axes[it].type]
    for given, length in points(one, other, both, is_narrow):
        values = []
        for each in (one, other):
            chooser, keys = variations_of(each, given)
            full = {**given, **({chooser: keys["nominal"]} if chooser else {})}
            if set(full) != set(each.inputs):  # of an input that only one has nothing is known
                return
            values.append(each.tried(full, length))
        size = np.abs(values[0])  # values near 0 count as 1 % of the largest one
        yield (values[1] - values[0]) / (np.maximum(size, np.nanmax(size, initial=0.0) / 100) + (not size.any())), given


def _curve(found: list[tuple[NDArray[np.float64], dict[str, Input]]]) -> Optional[Curve]:
    """The change by the first input that has several values, pt before others."""
    change = np.concatenate([each for each, _ in found])
    names = [name for name, it in found[0][1].items() if not isinstance(it, str)]
    for name in sorted(names, key=lambda name: not name.lower().endswith("pt")):
        x = np.concatenate([np.asarray(given[name], np.float64) for _, given in found])
        places = np.unique(x[np.isfinite(change)])
        if len(places) > 1:
            bands = [np.quantile(change[(x == it) & np.isfinite(change)], (0, 0.5, 1)) for it in places]
            return Curve(name, places, np.array(bands))
    return None
