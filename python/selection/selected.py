"""The input and the output of a selection: the dataset of its events, and its results on a chunk of them.

Nominal results are joined with those under shifts of objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.nanoaod.fileaccounting import SELECTED, ShiftSums, under_shift
from MLTools.NanoML.rootio.lists import Entries
from MLTools.NanoML.schema.roles import HOW, READS
from MLTools.NanoML.selection.cutflow import Cutflow


@dataclass(frozen=True)
class DatasetInfo:
    """The dataset whose events a selection selects, as `self.dataset`.

    Attributes
    ----------
    name
        Its name in the configuration; empty without one.
    era
        The era that it belongs to; empty if the analysis has none.
    is_data
        Whether it is collision data; None if nobody said so, and no file was seen.
    parameters
        Its parameters, such as the mass of a hypothesis.
    triggers
        The triggers by which its events are taken.
    corrections_file
        Path of the YAML file with the corrections of its era; empty without one.
    """

    name: str = ""
    era: str = ""
    is_data: Optional[bool] = field(default=None, metadata=HOW)  # each file says it
    parameters: Mapping[str, float] = field(default_factory=dict)
    triggers: Sequence[str] = ()
    corrections_file: str = field(default="", metadata=READS)

    def to_json(self) -> dict[str, object]:
        """The content on which the events of a skim may depend; nothing for a dataset of which nothing is said."""
        content = {**asdict(self), "parameters": dict(self.parameters), "triggers": list(self.triggers)}
        return {key: value for key, value in content.items() if value and key not in ("is_data", "corrections_file")}

    @property
    def also_read(self) -> list[str]:
        """The file with the corrections, and the files that it names."""
        if not self.corrections_file:
            return []
        from MLTools.NanoML.corrections.era import read_once  # few selections need it

        return [self.corrections_file, *map(str, read_once(self.corrections_file).files)]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that the file with the corrections names, by their names there."""
        if not self.corrections_file:
            return {}
        from MLTools.NanoML.corrections.era import read_once

        return dict(read_once(self.corrections_file).digests)

    @property
    def corrections(self) -> Any:
        """The `Corrections` of its era.

        The files are read when a correction is first asked for: data, and selections that give no weight, need none.
        """
        return _Corrections(self)


class _Corrections:
    """The corrections of a dataset, read on first use."""

    def __init__(self, dataset: DatasetInfo) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from MLTools.NanoML.corrections.era import read_once  # few selections need it

        if not self._dataset.corrections_file:
            era = f"era {self._dataset.era}" if self._dataset.era else "the analysis"
            raise ConfigError(
                f"the selection asks for the correction {name}, but {era} has none: write "
                "`corrections: corrections/2018.yaml` into its configuration, or give the option --corrections."
            )
        return getattr(read_once(self._dataset.corrections_file), name)


@dataclass(frozen=True)
class Shift:
    """One shift of objects in one direction."""

    name: str
    direction: str

    def __str__(self) -> str:
        return f"{self.name}_{self.direction}"

    @property
    def suffix(self) -> str:
        """The ending of names of columns: "jesUp"."""
        return f"{self.name}{self.direction.capitalize()}"

    def column(self, name: str, collection: str = "") -> str:
        """The column with the values of another one under this shift."""
        return under_shift(name, self.suffix, collection)


def each_shift(declared: Mapping[str, Sequence[str]]) -> Iterator[Shift]:
    """All shifts that a selection declares."""
    for name, directions in declared.items():
        for direction in directions:
            yield Shift(name, direction)


@dataclass(frozen=True)
class Selected:
    """Result of a selection on a chunk of events.

    Attributes
    ----------
    rows
        Positions of the events that passed, in the chunk, int64; with shifts, those that passed nominally or under one of them.
    columns
        Values of each column for these events, in the declared types: numpy arrays, and awkward arrays of lists for the columns
        of collections, GoodJet_pt. With shifts, `selected` and `selected_jesUp` say which events passed, and there are columns
        such as `ZCand_mass_jesUp` or `GoodJet_jesUp_pt` where some values differ. An event that passed only under shifts has
        the values of the first of these.
    cutflow
        Events and weights after each cut.
    shifts
        The cut flow under each shift, by the ending of its columns: "jesUp".
    """

    rows: NDArray[np.int64]
    columns: dict[str, Entries]
    cutflow: Cutflow
    shifts: dict[str, Cutflow] = field(default_factory=dict)

    def passed(self, suffix: str = "") -> NDArray[np.bool_]:
        """Which of the events passed: nominally, or under a shift given by the ending of its columns."""
        if not self.shifts:
            return np.ones(len(self.rows), bool)
        return np.asarray(self.columns[under_shift(SELECTED, suffix) if suffix else SELECTED])

    def shift_sums(self, chosen: NDArray[np.bool_] | None = None) -> list[ShiftSums]:
        """Cut flow and sums of weights under each shift; of some events of the chunk only, if a mask of shape (events,) says so."""
        found = []
        for suffix, cutflow in self.shifts.items():
            steps = list(cutflow.steps) if chosen is None else cutflow.steps_of(chosen)
            found.append(ShiftSums(suffix, steps, cutflow.weight_sums(chosen, unvaried=True)))
        return found


def joined(
    nominal: Selected, shifted: Mapping[Shift, Selected], varied: Mapping[Shift, Sequence[Mapping[str, str]]]
) -> Selected:
    """The events that pass nominally or under a shift."""
    passed = np.zeros(len(nominal.cutflow.depth), bool)
    for each in (nominal, *shifted.values()):
        passed[each.rows] = True
    rows, place_of = np.flatnonzero(passed), np.cumsum(passed) - 1
    places = {shift: place_of[each.rows] for shift, each in shifted.items()}
    flags = {SELECTED: _flag(place_of[nominal.rows], len(rows))}
    flags.update({shift.column(SELECTED): _flag(place, len(rows)) for shift, place in places.items()})
    columns = _first_values([nominal, *shifted.values()], [place_of[nominal.rows], *places.values()], len(rows))
    differing = {}
    for shift, each in shifted.items():
        place = places[shift]
        for group in varied[shift] if each is not nominal else ():
            if any(
                each.columns[of] is not nominal.columns[of] and not is_same(_at(columns[of], place), each.columns[of])
                for of in group
            ):
                differing.update({name: _changed(columns[of], place, each.columns[of]) for of, name in group.items()})
    cutflows = {shift.suffix: each.cutflow for shift, each in shifted.items()}
    return Selected(rows, {**columns, **flags, **differing}, nominal.cutflow, cutflows)


def _flag(places: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """True at some places."""
    flag = np.zeros(length, bool)
    flag[places] = True
    return flag


def _first_values(
    selected: Sequence[Selected], all_places: Sequence[NDArray[np.int64]], length: int
) -> dict[str, Entries]:
    """The columns for all rows, those of each row from the first result that has it, at places among them."""
    missing, order, picked = np.ones(length, bool), np.zeros(length, np.int64), []
    count = 0
    for each, places in zip(selected, all_places):
        fresh = missing[places]
        if fresh.any():
            picked.append((each, fresh))
            missing[places] = False
            order[places[fresh]] = count + np.arange(fresh.sum())
            count += int(fresh.sum())
    if not picked:
        return selected[0].columns
    parts = {name: [each.columns[name][fresh] for each, fresh in picked] for name in selected[0].columns}
    return {name: _concatenated(arrays)[order] for name, arrays in parts.items()}


def _at(column: Entries, places: NDArray[np.int64]) -> Entries:
    """A column at increasing places, which are often all."""
    return column if len(places) == len(column) else column[places]


def _changed(column: Entries, places: NDArray[np.int64], values: Entries) -> Entries:
    """A column with other values at some places."""
    if len(places) == len(column):
        return values
    order = np.arange(len(column))
    order[places] = len(column) + np.arange(len(places))
    return _concatenated([column, values])[order]


def _concatenated(arrays: Sequence[Entries]) -> Entries:
    """Arrays of numbers, or of lists of numbers, one after the other."""
    return np.concatenate(arrays) if isinstance(arrays[0], np.ndarray) else ak.concatenate(arrays)


def is_same(one: Entries, other: Entries) -> bool:
    """Whether two columns of one length have the same numbers."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    same_counts = np.array_equal(ak.num(one), ak.num(other))
    return same_counts and np.array_equal(ak.flatten(one), ak.flatten(other))
