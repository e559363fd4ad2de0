"""Counts in a file what the efficiencies of a selection are measured of: jets, and those that pass, by flavour, |eta| and pt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import weights_in
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.rootio.baskets import rows_at_once
from MLTools.NanoML.rootio.lists import Picker
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.schema.roles import HOW, READS, WRITES
from MLTools.NanoML.selection import DatasetInfo, Flat, load_selection
from MLTools.NanoML.selection.cutflow import Candidates
from MLTools.NanoML.terminal.progress import progress

_Table = list[list[float]]
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """The edges of bins of |eta| and of pt [GeV]. What is beyond them is in the first or last bin."""

    abseta: Sequence[float]
    pt: Sequence[float]

    @property
    def shape(self) -> tuple[int, int]:
        """How many bins there are of each."""
        return len(self.abseta) - 1, len(self.pt) - 1

    def place(self, eta: _Numbers, pt: _Numbers) -> NDArray[np.int64]:
        """The bin of each jet in a table of this shape, laid out row by row."""
        rows, columns = (
            np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
            for edges, values in ((self.abseta, abs(eta)), (self.pt, pt))
        )
        return np.asarray(rows * self.shape[1] + columns)


@dataclass(frozen=True)
class CountingJob:
    """A file in which jets are counted, and where the numbers go."""

    source: str = field(metadata=READS)  # path or URL
    output: Path = field(metadata=WRITES)  # a JSON file
    selection: str  # "module:Class" or "file.py:Class"
    bins: Bins
    base: str = field(default=".", metadata=HOW)  # the directory that files are relative to
    cut: str = ""  # a cut in the language of ROOT's TTree::Draw, before the selection; empty without one
    dataset: DatasetInfo = field(default_factory=DatasetInfo)
    chunk: int = field(default=100_000, metadata=HOW)  # maximum number of events read at once
    memory: int = field(default=100, metadata=HOW)  # memory for their branches [MB]


@dataclass
class Counts:
    """Jets of one flavour, of which some pass: sums of generator weights in bins of |eta| (outside) and pt (inside)."""

    name: str  # of the efficiency
    flavour: int
    jets: int
    all_: _Table
    squares: _Table  # sums of the squares of the weights of all
    passed: _Table


@dataclass
class FileCounts:
    """The jets that were counted in a file."""

    events: int
    counts: list[Counts]


def count_file(job: CountingJob) -> dict[str, int]:
    """Count the jets of a file, and write their numbers; return how many events and jets there are.

    It is an error if the input lacks branches, or the selection made a mistake; nothing is written then.
    """
    selection = load_selection(job.selection, job.base).of_dataset(job.dataset)
    found: dict[tuple[str, int], Counts] = {}
    with RootFile(job.source) as file:
        bound = selection.bind(file.branches, file.path)
        cut = Formula(job.cut).bind(file.branches, file.path) if job.cut else None
        names = list(dict.fromkeys([*bound.branches, *(cut.branches if cut else ())]))
        most = min(job.chunk, rows_at_once(file.bytes_per_event(names), job.memory))
        with progress(f"count {Path(job.source).name}", file.entries) as bar:
            for start, stop in file.ranges(names, most):
                arrays, weights = file.read(names, start, stop), weights_in(file, start, stop)
                if cut is not None:
                    passed = cut.mask(arrays, stop - start)
                    pick, weights = Picker(np.flatnonzero(passed)), weights[passed]
                    arrays = {name: pick(array) for name, array in arrays.items()}
                cutflow = bound.apply(arrays, weights, plain=True, count=True).cutflow
                for candidates in cutflow.candidates:
                    for counts in _counted(candidates, job.bins):
                        _add(found, counts)
                bar.advance(stop - start)
        content = FileCounts(file.entries, list(found.values()))
    write_json(job.output, plain(content))
    return {"events": content.events, "jets": sum(each.jets for each in content.counts)}


def added(parts: Iterable[Counts]) -> list[Counts]:
    """The counts of the same efficiency and flavour, added up."""
    found: dict[tuple[str, int], Counts] = {}
    for counts in parts:
        _add(found, counts)
    return list(found.values())


def in_effective_jets(counts: Counts) -> Counts:
    """Counts with weights that make their sum the number of effective jets: generators give weights of any size."""
    sums = np.array([counts.all_, counts.squares, counts.passed])
    total, squares = sums[0].sum(), sums[1].sum()
    scale = total / squares if total > 0 else 0.0
    tables = (sums * np.array([scale, scale**2, scale])[:, None, None]).tolist()
    return Counts(counts.name, counts.flavour, counts.jets, *tables)


def _add(found: dict[tuple[str, int], Counts], more: Counts) -> None:
    key = more.name, more.flavour
    if key not in found:
        found[key] = more
        return
    known = found[key]
    sums = (
        (np.array(one) + np.array(other)).tolist()
        for one, other in ((known.all_, more.all_), (known.squares, more.squares), (known.passed, more.passed))
    )
    found[key] = Counts(*key, known.jets + more.jets, *sums)


def _counted(candidates: Candidates, bins: Bins) -> Iterable[Counts]:
    """The jets of each flavour in a chunk."""
    pt, eta, flavour, passed, event = _columns(candidates)
    place, weights = bins.place(eta, pt), candidates.weights[event]

    def table(mask: NDArray[np.bool_], values: _Numbers) -> _Table:
        sums = np.bincount(place[mask], values[mask], minlength=bins.shape[0] * bins.shape[1])
        return sums.astype(np.float64).reshape(bins.shape).tolist()

    for each in np.unique(flavour).tolist():
        mine = flavour == each
        tables = table(mine, weights), table(mine, weights**2), table(mine & passed, weights)
        yield Counts(candidates.name, int(each), int(mine.sum()), *tables)


def _columns(
    candidates: Candidates,
) -> tuple[_Numbers, _Numbers, NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """pt, eta, flavour and whether they pass of all jets in one row, and the event of each."""
    jets, passed = candidates.jets, candidates.passed
    if isinstance(jets, Flat):
        event, columns = jets.event, [np.asarray(each) for each in (jets.pt, jets.eta, jets.hadronFlavour, passed)]
    else:
        event = np.repeat(np.arange(len(jets)), ak.to_numpy(ak.num(jets)))
        columns = [ak.to_numpy(ak.flatten(each)) for each in (jets.pt, jets.eta, jets.hadronFlavour, passed)]
    if len(columns[3]) != len(columns[0]) or columns[3].dtype != np.bool_:
        raise NanoMLError(
            f'efficiency "{candidates.name}": give one boolean for each of the {len(columns[0])} jets, by a comparison; these '
            f"are {len(columns[3])} of {columns[3].dtype}."
        )
    pt, eta, flavour, is_passed = columns
    return pt.astype(np.float64), eta.astype(np.float64), flavour.astype(np.int64), is_passed, event
