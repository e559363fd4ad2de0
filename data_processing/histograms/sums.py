"""Sums of weights in the cells of histograms, added up over files, and what they say of a process: nominally and under variations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.histograms.fill import NOMINAL
from data_processing.score.eventcolumns import Normalisation
from MLTools.NanoML.contracts.templates import Template
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL as UNVARIED
from MLTools.NanoML.nanoaod.fileaccounting import combined, weight_column
from MLTools.NanoML.nanoaod.weights import UP_DOWN
from MLTools.NanoML.schema.plain import parsed
from MLTools.NanoML.schema.roles import READS

Floats = NDArray[np.float64]
Key = tuple[str, str, Optional[str], str]
"""Histogram, region, era and process."""
Sample = tuple[str, Optional[str], str]
"""Region, era and process."""


@dataclass(frozen=True)
class Part:
    """A file with filled histograms, and its era."""

    path: Path = field(metadata=READS)
    era: Optional[str]


@dataclass(frozen=True)
class VariedParts:
    """The files of a dataset that stands in for others under a variation."""

    variation: str  # "hdamp_up"
    dataset: str
    parts: Sequence[Part]
    instead_of: Sequence[Part]

    @property
    def ending(self) -> str:
        """The ending that the variation's columns of weights would have: _hdampUp."""
        source, _, direction = self.variation.rpartition("_")
        is_one_of_two = source and direction in UP_DOWN
        column = weight_column(source, direction) if is_one_of_two else weight_column(self.variation)
        return column[len("weight") :]


@dataclass(frozen=True)
class Set:
    """Variations of a weight that are one uncertainty, and how."""

    endings: tuple[str, ...]
    how: str


@dataclass
class Sums:
    """Sums of weights in the cells of a histogram and of their squares, by ending."""

    sums: dict[str, Floats]
    squares: dict[str, Floats]
    without: tuple[str, ...] = ()

    def changed(self, change: Callable[[Floats], Floats]) -> Sums:
        """The same with other cells, both in sums and in sums of squares."""
        sums, squares = ({ending: change(it) for ending, it in of.items()} for of in (self.sums, self.squares))
        return Sums(sums, squares, self.without)

    def half(self, number: int) -> Sums:
        """The first or the second half of the events, scaled to all of them, with the relative errors of all."""
        halves, of = self.sums[NOMINAL].reshape(2, -1).sum(axis=1), len(self.sums[NOMINAL]) // 2
        factor = halves.sum() / halves[number] if halves[number] * halves.sum() > 0 else 1.0
        return self.changed(lambda it: factor * it[number * of : (number + 1) * of])

    @property
    def whole(self) -> Sums:
        """Both halves of the events."""
        return self.changed(lambda it: it.reshape(2, -1).sum(axis=0))

    def folded(self, cells: tuple[int, ...]) -> Sums:
        """The same with what is below and above each axis in its first and last bin."""
        places: NDArray[np.intp] = np.clip(np.indices(cells).reshape(len(cells), -1), 1, np.array(cells)[:, None] - 2)
        places = np.ravel_multi_index(tuple(places), cells)
        return self.changed(lambda it: np.bincount(places, it, len(it)).astype(np.float64))

    def scale(self, factor: float) -> None:
        """Multiply all weights."""
        self.sums = {ending: factor * values for ending, values in self.sums.items()}
        self.squares = {ending: factor**2 * values for ending, values in self.squares.items()}

    def __add__(self, other: Sums) -> Sums:
        endings = dict.fromkeys([*self.sums, *other.sums])
        sums, squares = (
            {ending: mine.get(ending, mine[NOMINAL]) + more.get(ending, more[NOMINAL]) for ending in endings}
            for mine, more in ((self.sums, other.sums), (self.squares, other.squares))
        )
        return Sums(sums, squares, self.without + other.without)


def sets_of(normalisations: Sequence[Path]) -> dict[str, Set]:
    """The sets of variations that are one uncertainty, by the names of their weights."""
    found = {}
    for path in normalisations:
        for weight in Normalisation.read(path).weights:
            if weight.combine:
                columns = (column for variation, column in weight.columns.items() if variation != UNVARIED)
                endings = tuple(column[len("weight") :] for column in columns)
                found[weight.weight] = Set(endings, weight.combine)
    return found


def added_parts(parts: Sequence[Part]) -> dict[Key, Sums]:
    """The sums over files; a file has its nominal sums for a variation that it lacks.

    Where only events with a score of a network that has not seen them count, these stand for all events of their process and era in
    datasets that were trained on, by the sums of weights.
    """
    found: dict[tuple[Key, bool], Sums] = {}
    # sums of weights, by histogram, era and process: of all events, and of these; not all histograms have the same files
    weights: dict[tuple[str, Optional[str], str], Floats] = {}
    for part in parts:
        era = part.era
        with h5py.File(part.path, "r") as file:
            of_file = dict(file.attrs)
            for name, regions in file.items():
                scored = set()
                for region, processes in regions.items():
                    for process, group in processes.items():
                        endings = parsed(group.attrs["endings"])
                        without = tuple(parsed(group.attrs["without"]))
                        values, squares = (dict(zip(endings, group[it][()])) for it in ("sums", "squares"))
                        more = Sums(values, squares, without)
                        key = (name, region, era, process), bool(group.attrs["of_scores"])
                        found[key] = found[key] + more if key in found else more
                        scored |= {process} if key[1] else set()
                for process in scored:
                    weights[name, era, process] = weights.get((name, era, process), np.zeros(2)) + of_file[process]
    whole: dict[Key, Sums] = {}
    for (place, of_scores), each in found.items():
        name, _, era, process = place
        every, unseen = weights[name, era, process] if of_scores else (1.0, 1.0)
        if every != unseen:
            if unseen * every <= 0:
                raise NanoMLError(
                    f"histogram {name}: the events of {process} that the network has not seen have the sum of weights {unseen:.4g}, all of "
                    f"them {every:.4g}: they cannot stand for all. Train several folds (train.folds), or use more events."
                )
            each.scale(every / unseen)
        whole[place] = whole[place] + each if place in whole else each
    return whole


def vary(found: Mapping[Key, Sums], varied: Sequence[VariedParts]) -> None:
    """Add the variations that other datasets show: their events in the place of those that they stand in for."""
    known = {key: set(each.sums) for key, each in found.items()}
    for each in varied:
        new, old = added_parts(each.parts), added_parts(each.instead_of)
        processes = {process for *_, process in new}
        for key in (key for key in dict.fromkeys([*new, *old]) if key[-1] in processes and key in found):
            if each.ending in known[key]:
                raise NanoMLError(
                    f"dataset {each.dataset}: {each.variation} is a variation of a weight, too. Rename it in `variation`."
                )
            for kind in ("sums", "squares"):
                sums: dict[str, Floats] = getattr(found[key], kind)
                change = [getattr(it[key], kind)[NOMINAL] if key in it else 0.0 for it in (new, old)]
                sums[each.ending] = sums.get(each.ending, sums[NOMINAL]) + change[0] - change[1]
            squares = found[key].squares
            squares[each.ending] = np.maximum(squares[each.ending], 0.0)  # rounding may make them negative


def template_of(sums: Sums, sets: Mapping[str, Set], shaped: Callable[[Floats], Floats]) -> Template:
    """What is expected nominally and under each nuisance parameter, from sums that are `shaped` first."""
    nominal, variances = shaped(sums.sums[NOMINAL]), shaped(sums.squares[NOMINAL])
    up: dict[str, Floats] = {}
    down: dict[str, Floats] = {}
    own: tuple[dict[str, Floats], ...] = ({}, {})  # variances up and down
    varied = {ending: shaped(values) for ending, values in sums.sums.items() if ending != NOMINAL}
    for name, each in sets.items():
        members = [varied.pop(ending) for ending in each.endings if ending in varied]
        if members:
            up[name], down[name] = combined(each.how, nominal, np.array(members))
    for ending, values in varied.items():
        is_down = ending.endswith("Down")
        name = ending[1:].removesuffix("Down" if is_down else "Up")  # _btag_hfUp varies btag_hf
        (down if is_down else up)[name] = values
        own[is_down][name] = shaped(sums.squares[ending])
    for name in dict.fromkeys([*up, *down]):  # what has one direction alone is the same to the other side
        up.setdefault(name, 2 * nominal - down.get(name, nominal))
        down.setdefault(name, 2 * nominal - up[name])
        for it in own:  # what is made of others has no weights of its own
            it.setdefault(name, variances)
    return Template(nominal, variances, up, down, *own)
