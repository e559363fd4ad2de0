"""Two states of files of corrections: what appeared, what vanished, and what changed its inputs or values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import variations_of
from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile, Input
from MLTools.NanoML.corrections.survey.tree import files_in, points
from MLTools.NanoML.errors import ConfigError, listed

_LEAST = 1e-9  # relative change that is one


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
