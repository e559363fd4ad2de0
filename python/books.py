"""The books: what was read, what was kept, and the weights, file by file. Nothing is lost in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML import __version__, nanoaod
from MLTools.NanoML.cutflow import Step
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.lumimask import LumiMask
from MLTools.NanoML.progress import say_once
from MLTools.NanoML.rootfile import PROVENANCE, RootFile

__all__ = [
    "UNWEIGHTED",
    "Books",
    "Criteria",
    "FileBooks",
    "Provenance",
    "add_steps",
    "all_events_of",
    "books_of",
    "event_weights",
    "is_simulation",
]

UNWEIGHTED = "number of events (simulation without genWeight)"
"""Source of the sum of weights of simulation that has no generator weights: each event counts 1."""

_RUNS_AT_ONCE = 1_000_000  # run numbers that are read at once


@dataclass
class FileBooks:
    """The books of one input file.

    Attributes
    ----------
    file
        Its path or URL.
    entries
        Events in it.
    selected
        Events of it that were kept.
    sum_of_weights
        Sum of the generator weights of all events that stand behind the file: of the Runs tree, which also
        counts events that were skimmed away before. In data, and in simulation without generator weights, the number
        of events.
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

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> FileBooks:
        """Undo `dataclasses.asdict`."""
        return cls(**{**content, "cutflow": [Step(**step) for step in content["cutflow"]]})


@dataclass
class Books:
    """The books of any number of input files."""

    files: list[FileBooks] = field(default_factory=list)

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
        """Sum of the generator weights behind all files."""
        return math.fsum(file.sum_of_weights for file in self.files)

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
    def from_dict(cls, content: dict[str, Any]) -> Books:
        """Undo `as_dict`."""
        return cls([FileBooks.from_dict(file) for file in content["files"]])


def add_steps(flows: Iterable[Iterable[Step]]) -> list[Step]:
    """Add cut flows, cut by cut, in the order in which the cuts first appear."""
    total: dict[str, Step] = {}
    for flow in flows:
        for step in flow:
            sofar = total.setdefault(step.cut, Step(step.cut, 0, 0.0))
            sofar.events += step.events
            sofar.weights += step.weights
    return list(total.values())


@dataclass(frozen=True)
class Criteria:
    """What decided, beside a selection, which events and branches a skim has.

    Attributes
    ----------
    certified
        Of data that were skimmed by a luminosity JSON: its `file` and the `sha256` of its sections, however they are
        written; else None.
    cut
        The cut in the language of TTree::Draw; empty without one.
    modules
        Modules of nanoAOD-tools, in their order.
    code
        Hash of the source files of selection and modules; empty without any.
    keep
        Rules for the input's branches, those of a branch selection file first.
    """

    certified: dict[str, str] | None = None
    cut: str = ""
    modules: tuple[str, ...] = ()
    code: str = ""
    keep: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Criteria:
        """Undo `dataclasses.asdict`."""
        return cls(**{**content, **{name: tuple(content.get(name, ())) for name in ("modules", "keep")}})


@dataclass
class Provenance:
    """What a ROOT file of the pipeline says of itself, in its TObjString `nanoml`.

    Attributes
    ----------
    kind
        "skim", "scores" or "attached".
    books
        Of the files that it was made from.
    selection
        The selection that was run, or None.
    columns
        Column name to {"dtype", "title"} of the columns that were made.
    model
        For scores: name and hash of the model.
    not_copied
        Objects of the input that could not be copied.
    criteria
        What else decided, in a skim or in what was made from one.
    """

    kind: str
    books: Books
    selection: str | None = None
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    model: dict[str, Any] | None = None
    not_copied: list[str] = field(default_factory=list)
    criteria: Criteria = field(default_factory=Criteria)

    def to_json(self) -> str:
        """Text for the file."""
        content = {
            "schema": 1,
            "creator": f"NanoML {__version__}",
            "kind": self.kind,
            "selection": self.selection,
            "criteria": asdict(self.criteria),
            "columns": self.columns,
            "model": self.model,
            "not_copied": self.not_copied,
            "books": self.books.as_dict(),
        }
        return json.dumps(content, allow_nan=False)

    def difference(self, other: Provenance) -> tuple[str, str] | None:
        """How the events of this file were selected, and how those of another one; None if in the same way.

        A class or function is the same by any name of its file, if the code is the same. Which branches were kept does
        not matter.
        """
        is_same_code = bool(self.criteria.code) and self.criteria.code == other.criteria.code
        mine, others = (record._compared(is_same_code) for record in (self, other))
        for (what, key), (but, other_key) in zip(mine, others):
            if key != other_key:
                return what, but
        return None

    def _compared(self, is_same_code: bool) -> list[tuple[str, Any]]:
        """What is compared: in words, and in the form in which it is compared."""

        def known_as(specs: Sequence[str]) -> list[str]:
            return [spec.rpartition(":")[2] if is_same_code else spec for spec in specs]

        criteria = self.criteria
        certified = criteria.certified or {"file": "", "sha256": ""}
        modules = ", ".join(criteria.modules)
        by = f"{certified['file']} {certified['sha256'][:8]}"
        return [
            (f"selected by {self.selection or 'nothing'}", known_as((self.selection or "").split(","))),
            (
                f"selected by the modules {modules}" if modules else "selected without modules",
                known_as(criteria.modules),
            ),
            (
                f"selected by the cut {criteria.cut}" if criteria.cut else "selected without a cut",
                "".join(criteria.cut.split()),
            ),
            (f"certified by {by}" if criteria.certified else "not certified", certified["sha256"]),
        ]

    @classmethod
    def of(cls, file: RootFile) -> Provenance | None:
        """Read it from a file; None for a file that NanoML did not write.

        Raises
        ------
        NanoMLError
            There is one that cannot be understood.
        """
        text = file.string(PROVENANCE)
        if text is None:
            return None
        try:
            content = json.loads(text)
            return cls(
                content["kind"],
                Books.from_dict(content["books"]),
                content["selection"],
                content["columns"],
                content["model"],
                content["not_copied"],
                Criteria.from_dict(content.get("criteria", {})),
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise NanoMLError(
                f"{file.path}: its record `{PROVENANCE}` cannot be understood ({problem}): make the file again."
            ) from None


def event_weights(arrays: dict[str, ak.Array], length: int) -> NDArray[np.float64]:
    """Generator weights of a chunk, float64 of shape (length,): `genWeight`, or ones if there is none, as in data."""
    if "genWeight" not in arrays:
        return np.ones(length)
    return np.asarray(ak.to_numpy(arrays["genWeight"]), dtype=np.float64)


def all_events_of(file: RootFile) -> FileBooks:
    """The books of a file of which every event is taken, without a selection."""
    books = books_of(file)
    books.selected = file.entries
    return books


def books_of(file: RootFile) -> FileBooks:
    """Open the books of a file that was not skimmed here: entries and sum of weights, nothing selected yet."""
    runs = file.other_tree("Runs") or {}
    name = next((name for name in nanoaod.SUM_OF_WEIGHTS if name in runs), None)
    if name is not None:
        total = math.fsum(ak.to_list(runs[name]))
        return FileBooks(file.path, file.entries, 0, total, f"Runs/{name}", False)
    if "genWeight" in file.branches:
        weights = file.read(["genWeight"])["genWeight"]
        return FileBooks(
            file.path,
            file.entries,
            0,
            float(np.asarray(weights, dtype=np.float64).sum()),
            "genWeight of the file's events",
            False,
        )
    mark = _mark_of_simulation(file)
    if mark is None:
        return FileBooks(file.path, file.entries, 0, float(file.entries), "number of events (data)", True)
    if file.entries:
        say_once(
            UNWEIGHTED,
            f"WARNING: {file.path}: is simulation (its run number is 1, and it has {mark}), but has neither genWeight nor "
            "a sum of weights in Runs. Each event counts 1, here and in all files like it: that is right only if all "
            "generator weights are equal and no events were cut away before.",
        )
    return FileBooks(file.path, file.entries, 0, float(file.entries), UNWEIGHTED, False)


def is_simulation(file: RootFile) -> bool:
    """Whether the events of a file were simulated, also if they have no generator weights."""
    return "genWeight" in file.branches or _mark_of_simulation(file) is not None


def _mark_of_simulation(file: RootFile) -> str | None:
    """A branch that only simulation has, if all events are of run 1 as well, which data never are; else None."""
    mark = nanoaod.generator_branch(file.branches)
    if mark is None or "run" not in file.branches:
        return None
    for start in range(0, file.entries, _RUNS_AT_ONCE):
        runs = np.asarray(file.read(["run"], start, start + _RUNS_AT_ONCE)["run"])
        if (runs != 1).any():
            return None
    return mark
