"""Accounting: what was read, what was kept, and the weights, file by file. Nothing is lost in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.entryranges import (
    EntryRange,
    Part,
    check_ranges,
    gaps_between,
    place_of,
    sum_of_ranges,
)
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Step
from MLTools.NanoML.terminal.progress import say_once

__all__ = [
    "UNWEIGHTED",
    "Accounting",
    "FileAccounting",
    "accounting_of",
    "add_steps",
    "all_events_of",
    "event_weights",
    "is_simulation",
]

UNWEIGHTED = "number of events (simulation without genWeight)"
"""Source of the sum of weights of simulation that has no generator weights: each event counts 1."""

_RUNS_AT_ONCE = 1_000_000  # run numbers that are read at once


@dataclass
class FileAccounting:
    """The accounting of one input file, or of a range of its entries.

    Attributes
    ----------
    file
        Its path or URL.
    entries
        Events that were read.
    selected
        Events that were kept.
    sum_of_weights
        Sum of the generator weights of all events behind the file: of its Runs tree, which also counts events that
        were skimmed away before. In data, and in simulation without
        generator weights, the number of events. It is the whole file's, whatever range was read.
    sum_of_weights_source
        Where that number comes from.
    is_data
        Whether it is collision data: it has neither generator weights nor other marks of simulation.
    cutflow
        What was left after each cut; empty if there was no selection.
    luminosity_sections
        Of data that were skimmed: the sections that were read, as in a luminosity JSON; else empty.
    duplicates
        Of data: events that passed the last cut and were left out, since an earlier file or dataset has them, too.
    uuid
        The identifier that ROOT gave the file, which a copy has too; empty if it has none.
    part
        The range of entries that was read; None for the whole file.
    """

    file: str
    entries: int
    selected: int
    sum_of_weights: float
    sum_of_weights_source: str
    is_data: bool
    cutflow: list[Step] = field(default_factory=list)
    luminosity_sections: dict[str, list[list[int]]] = field(default_factory=dict)
    duplicates: int = 0
    uuid: str = ""
    part: Optional[Part] = None

    @property
    def file_entries(self) -> int:
        """Events in the file."""
        return self.entries if self.part is None else self.part.file_entries

    @property
    def read(self) -> Optional[EntryRange]:
        """The entries that were read; None if they are not known."""
        first = 0 if self.part is None else self.part.first
        return None if first is None else EntryRange(self.file, first, first + self.entries)

    @property
    def has_beginning(self) -> bool:
        """Whether the first entry is among those that were read: nanoAOD-tools copies Runs with it, and only then."""
        return self.part is None or self.part.first == 0

    @property
    def identity(self) -> tuple[str, int, float]:
        """What two ranges of one file have in common, whatever directories it was read from."""
        return self.uuid or self.file, self.file_entries, self.sum_of_weights

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> FileAccounting:
        """Undo `dataclasses.asdict`."""
        cutflow = [Step(**step) for step in content["cutflow"]]
        part = Part(**content["part"]) if content.get("part") else None
        return cls(**{**content, "cutflow": cutflow, "part": part})


@dataclass
class Accounting:
    """The accounting of any number of input files."""

    files: list[FileAccounting] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """Events read."""
        return sum(file.entries for file in self.files)

    @property
    def selected(self) -> int:
        """Events kept."""
        return sum(file.selected for file in self.files)

    @property
    def duplicates(self) -> int:
        """Events that were left out as copies."""
        return sum(file.duplicates for file in self.files)

    @property
    def sum_of_weights(self) -> float:
        """Sum of the generator weights behind all files.

        A file's sum counts once, however many ranges of entries it was read in. If entries were left out, it counts by
        the share that the events that were read have in the generator weights of the file's events.
        """
        return math.fsum(sum_of_ranges(ranges) for ranges in self._by_file())

    @property
    def sum_in_runs(self) -> float:
        """Sum of weights of the Runs tree beside these events: the range that has a file's first entry has its rows."""
        return math.fsum(
            ranges[0].sum_of_weights
            for ranges in self._by_file()
            if any(each.has_beginning for each in ranges)
        )

    @property
    def gaps(self) -> list[EntryRange]:
        """The entries that no range covers, of files that were read in ranges."""
        return [gap for ranges in self._by_file() for gap in gaps_between(ranges)]

    def check(self, owners: Sequence[str] = (), allow_gaps: bool = False) -> None:
        """Refuse accounting by which events would count twice, or weights would be wrong.

        Parameters
        ----------
        owners
            For each of `files` the ROOT file that has the events in it now, for messages.
        allow_gaps
            Whether entries of a file may be left out.

        Raises
        ------
        NanoMLError
            Entries of a file were read twice, or were not read, or nobody knows whether they were, or the file was changed
            between the passes.
        """
        owner = dict(zip(map(id, self.files), owners))
        for ranges in self._by_file():
            if len(ranges) > 1 or ranges[0].part is not None:
                check_ranges(ranges, [owner.get(id(each), each.file) for each in ranges], allow_gaps)

    def _by_file(self) -> list[list[FileAccounting]]:
        """The ranges of each file, in their order."""
        found: dict[tuple[str, int, float], list[FileAccounting]] = {}
        for file in self.files:
            found.setdefault(file.identity, []).append(file)
        return [sorted(ranges, key=place_of) for ranges in found.values()]

    @property
    def is_data(self) -> bool | None:
        """Whether all files are data; None if data and simulation are mixed, or if there are no files."""
        kinds = {file.is_data for file in self.files}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def cutflow(self) -> list[Step]:
        """Sum of the files' cut flows."""
        return add_steps(file.cutflow for file in self.files)

    @property
    def luminosity_sections(self) -> LumiMask:
        """The luminosity sections of data that were read."""
        found = LumiMask()
        for file in self.files:
            found |= LumiMask.from_dict(file.luminosity_sections, file.file)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain content, for JSON, with the sums."""
        return {
            "files": [asdict(file) for file in self.files],
            "entries": self.entries,
            "selected": self.selected,
            "duplicates": self.duplicates,
            "sum_of_weights": self.sum_of_weights,
            "cutflow": [asdict(step) for step in self.cutflow],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Accounting:
        """Undo `as_dict`."""
        return cls([FileAccounting.from_dict(file) for file in content["files"]])


def add_steps(flows: Iterable[Iterable[Step]]) -> list[Step]:
    """Add cut flows, cut by cut, in the order in which the cuts first appear."""
    total: dict[str, Step] = {}
    for flow in flows:
        for step in flow:
            sofar = total.setdefault(step.cut, Step(step.cut, 0, 0.0))
            sofar.events += step.events
            sofar.weights += step.weights
    return list(total.values())


def event_weights(arrays: dict[str, ak.Array], length: int) -> NDArray[np.float64]:
    """Generator weights of a chunk, float64 of shape (length,): `genWeight`, or ones if there is none, as in data."""
    if "genWeight" not in arrays:
        return np.ones(length)
    return np.asarray(ak.to_numpy(arrays["genWeight"]), dtype=np.float64)


def all_events_of(file: RootFile) -> FileAccounting:
    """The accounting of a file of which every event is taken, without a selection."""
    accounting = accounting_of(file)
    accounting.selected = file.entries
    return accounting


def accounting_of(file: RootFile) -> FileAccounting:
    """The accounting of a file that was not skimmed here: entries and sum of weights, nothing selected yet."""
    runs = file.other_tree("Runs") or {}
    name = next((name for name in versions.SUM_OF_WEIGHTS if name in runs), None)
    if name is not None:
        total = math.fsum(ak.to_list(runs[name]))
        return FileAccounting(file.path, file.entries, 0, total, f"Runs/{name}", False, uuid=file.uuid)
    if "genWeight" in file.branches:
        weights = file.read(["genWeight"])["genWeight"]
        return FileAccounting(
            file.path,
            file.entries,
            0,
            float(np.asarray(weights, dtype=np.float64).sum()),
            "genWeight of the file's events",
            False,
            uuid=file.uuid,
        )
    mark = _mark_of_simulation(file)
    if mark is None:
        return FileAccounting(
            file.path, file.entries, 0, float(file.entries), "number of events (data)", True, uuid=file.uuid
        )
    if file.entries:
        say_once(
            UNWEIGHTED,
            f"WARNING: {file.path}: is simulation (its run number is 1, and it has {mark}), but has neither genWeight nor "
            "a sum of weights in Runs. Each event counts 1, here and in all files like it: that is right only if all "
            "generator weights are equal and no events were cut away before.",
        )
    return FileAccounting(file.path, file.entries, 0, float(file.entries), UNWEIGHTED, False, uuid=file.uuid)


def is_simulation(file: RootFile) -> bool:
    """Whether the events of a file were simulated, also if they have no generator weights."""
    return "genWeight" in file.branches or _mark_of_simulation(file) is not None


def _mark_of_simulation(file: RootFile) -> str | None:
    """A branch that only simulation has, if all events are of run 1 as well, which data never are; else None."""
    mark = versions.generator_branch(file.branches)
    if mark is None or "run" not in file.branches:
        return None
    for start in range(0, file.entries, _RUNS_AT_ONCE):
        runs = np.asarray(file.read(["run"], start, start + _RUNS_AT_ONCE)["run"])
        if (runs != 1).any():
            return None
    return mark
