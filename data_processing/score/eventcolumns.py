"""The columns beside the scores, from which histograms are filled: weights, regions, class, era.

The weight of an event needs to know of all files of its dataset: the sum of generator weights, the sums of weights that keep the
yield, and which events of data are copies of others. Files with scores are made one by one, so this normalisation is found before,
and kept in a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import events_of, find_duplicates, identify, scratch
from data_processing.convert.expressions import (
    BoundExpression,
    Estimate,
    EventWeights,
    Expression,
    Region,
    given_weights,
)
from data_processing.convert.reading import OpenFiles, Sample, described, has_generator_weights, survey
from MLTools.NanoML.atomic import replacing, write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import EVENT_WEIGHT, NOMINAL, SELECTED, ShiftSums, WeightSums, under_shift
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.branches import Branch, flat_branch
from MLTools.NanoML.rootio.lists import Arrays
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.plain import plain, read
from MLTools.NanoML.schema.roles import HOW, READS, WRITES

_READ_AT_ONCE = 500_000  # events


@dataclass(frozen=True)
class NormaliseJob:
    """The normalisation of a dataset to be found."""

    sources: Sequence[str] = field(metadata=READS)  # the ROOT files of the dataset
    output: Path = field(metadata=WRITES)  # path of the file that is made
    sample: Sample
    luminosity: float | None = None  # integrated luminosity [/fb], or None
    # for data: the ROOT files of the datasets whose events are copies here, by the names of these datasets
    earlier: Mapping[str, Sequence[str]] = field(default_factory=dict, metadata=READS)
    allow_gaps: bool = False  # whether files that nanoAOD-tools read in ranges may lack entries
    region: Region | None = None  # the region whose events are taken, if its class is estimated from data


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of a dataset."""

    is_generated: bool  # whether its events have generator weights, which count
    scale: Optional[float]  # number of events expected per generator weight; None if that is not known
    weights: tuple[WeightSums, ...]  # of the weights that the selection gave, over all files
    shifts: tuple[ShiftSums, ...]
    # of data: the first byte of each file in `copies_of`, by its name, or by its path if another one has the same name
    copies: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Normalisation:
        """Read the file of a normalisation; a NanoMLError says what is wrong with it."""
        return read(cls, path, "Remove it, and run `nanoml normalise` again.")

    def first_byte(self, path: str) -> int:
        """Where the bits of a file begin."""
        name = Path(path).name
        if name not in self.copies and path not in self.copies:
            raise NanoMLError(f"{path}: is not among the files that were normalised: run `nanoml normalise` again.")
        return self.copies.get(path, self.copies.get(name, 0))


def copies_of(path: Path) -> Path:
    """The file beside that of a normalisation with a bit for each event of data: whether it is a copy of another one."""
    return path.with_suffix(".npy")


def normalise(job: NormaliseJob) -> dict[str, Any]:
    """Find the normalisation of a dataset, and write it.

    It is an error if the accounting of the files is not right, or their sum of weights not positive.
    """
    with OpenFiles() as opened:
        accounting = survey(job.sample, job.sources, opened, job.allow_gaps)
        scale = described(job.sample, -1, job.luminosity, accounting).weight_per_genweight
        places: dict[str, int] = {}
        copies = 0
        if accounting.is_data:
            with replacing(copies_of(job.output)) as aside:
                bits, places, copies = _find_copies(job, opened)
                np.save(aside, bits)
    found = Normalisation(
        has_generator_weights(accounting), scale, tuple(accounting.weights), tuple(accounting.shifts), places
    )
    write_json(job.output, plain(found))
    return {"events_per_weight": scale, "copies": copies}


def _find_copies(job: NormaliseJob, opened: OpenFiles) -> tuple[NDArray[np.uint8], dict[str, int], int]:
    """A bit for each event, the first byte of each file, and how many events are copies."""
    inside: dict[str, tuple[int, NDArray[np.uint8]]] = {}  # the number of events of each file; which of them count

    def cut_in(file: RootFile) -> BoundExpression | None:
        return BoundExpression(job.region.cut, file) if job.region else None

    def own() -> Iterator[NDArray[Any]]:
        for path in job.sources:
            file = opened(path)
            cut = cut_in(file)
            names = list(dict.fromkeys([*IDENTIFIERS, *(cut.branches if cut else ())]))
            masks: list[NDArray[Any]] = [np.zeros(0, bool)]
            for start, stop in file.ranges(names, _READ_AT_ONCE):
                arrays = file.read(names, start, stop)
                masks.append(cut.passes(arrays, stop - start) if cut else np.ones(stop - start, bool))
                yield identify(path, arrays)[masks[-1]]
            inside[path] = file.entries, np.packbits(np.concatenate(masks))

    with scratch(job.output) as directory, OpenFiles() as others:
        earlier = [
            (events for file in map(others, paths) for events in events_of(file, cut_in(file)))
            for paths in job.earlier.values()
        ]
        found = find_duplicates([*earlier, own()], directory)
    bits: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
    places, size, first, copies = {}, 0, 0, 0
    names = Counter(Path(path).name for path in inside)
    for path, (entries, packed) in inside.items():
        counted = np.unpackbits(packed, count=entries).astype(bool)
        stop = first + int(counted.sum())
        copy = np.zeros(entries, bool)
        copy[counted] = ~found.is_first(len(job.earlier), first, stop)
        name = Path(path).name
        places[name if names[name] == 1 else path] = size
        first, copies = stop, copies + int(copy.sum())
        bits.append(np.packbits(copy))
        size += len(bits[-1])
    return np.concatenate(bits), places, copies


def prefix_of(class_: str) -> str:
    """The prefix of the branches of a class that is estimated from data."""
    return re.sub(r"\W", "_", class_) + "_"


@dataclass(frozen=True)
class Role:
    """A role of a dataset's events: they are those of the dataset, or events of a class that is estimated from data."""

    normalisation: Path = field(metadata=READS)  # path of its normalisation
    is_data: bool
    weight: Expression | None  # of the dataset
    regions: Sequence[Region]  # of the analysis
    estimate: Estimate | None = None

    @property
    def also_read(self) -> list[Path]:
        """The files that it reads beside the events."""
        return [self.normalisation, *([copies_of(self.normalisation)] if self.is_data else [])]

    @property
    def prefix(self) -> str:
        """The prefix of its branches: none, or the class that is estimated from data."""
        return prefix_of(self.estimate.transfer.class_) if self.estimate else ""


@dataclass(frozen=True)
class Mark:
    """A number that all events of a dataset have, as that of their class."""

    name: str  # of its branch
    number: int
    title: str = field(metadata=HOW)  # what the numbers mean


class EventColumns:
    """The columns of the events of a file, for each of their roles.

    It is an error if the file lacks what they need, or has a branch of the same name. `reads` are the branches that must be read,
    `made` those that are made.
    """

    def __init__(self, roles: Sequence[Role], marks: Sequence[Mark], file: RootFile, record: Provenance | None) -> None:
        self._marks = marks
        self._roles = [_RoleColumns(role, file, record) for role in roles]
        self.made = {mark.name: flat_branch(mark.name, "int32", mark.title) for mark in marks}
        for each in self._roles:
            self.made.update(each.made)
        self.reads = list(dict.fromkeys(name for each in self._roles for name in each.reads))
        clash = next((name for name in self.made if name in file.branches), None)
        if clash is not None:
            raise NanoMLError(
                f"{file.path}: has a branch {clash} of its own, which files with scores have with another meaning. Rename that column, or "
                "drop the branch in the skim."
            )

    def rows(self, arrays: Arrays, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """The columns of a range of events, given all of `reads`."""
        found: dict[str, NDArray[Any]] = {
            mark.name: np.full(stop - start, mark.number, np.int32) for mark in self._marks
        }
        for each in self._roles:
            found.update(each.rows(arrays, start, stop))
        return found


class _RoleColumns:
    """The columns of a role, nominal and under each shift."""

    def __init__(self, role: Role, file: RootFile, record: Provenance | None) -> None:
        self._normalisation = Normalisation.read(role.normalisation)
        self._bits, self._first = None, 0
        if role.is_data:
            self._bits = np.load(copies_of(role.normalisation), mmap_mode="r")
            self._first = self._normalisation.first_byte(file.path)
        flag = SELECTED if record and record.shifts else ""
        self._views = [_View(role, self._normalisation, file, self._normalisation.weights, flag)]
        for each in self._normalisation.shifts if record else ():
            flag = under_shift(SELECTED, each.shift)
            self._views.append(_View(role, self._normalisation, file, each.weights, flag, each.shift))
        self.reads = [name for view in self._views for name in view.reads]
        self.made = {branch.name: branch for view in self._views for branch in view.made}

    def rows(self, arrays: Arrays, start: int, stop: int) -> dict[str, NDArray[Any]]:
        counts = np.ones(stop - start, bool)
        if self._bits is not None:
            packed = self._bits[self._first + start // 8 : self._first + -(-stop // 8)]
            counts = np.unpackbits(packed)[start % 8 :][: stop - start] == 0
        return {name: values for view in self._views for name, values in view.rows(arrays, counts).items()}


class _View:
    """The columns of a role, nominal or under one shift, where some branches have other values."""

    def __init__(
        self,
        role: Role,
        normalisation: Normalisation,
        file: RootFile,
        sums: Sequence[WeightSums],
        flag: str,
        shift: str = "",
    ) -> None:
        estimate = role.estimate
        transfers = [estimate.factor] if estimate else []
        if shift:
            transfers = [it.unvaried for it in transfers]
        self._flag, self._scale = flag, 1.0 if normalisation.scale is None else normalisation.scale
        self._weights = EventWeights(
            self._scale, normalisation.is_generated, given_weights(sums, role.weight, transfers, file)
        )
        self._inside = BoundExpression(estimate.region.cut, file) if estimate else None
        ending = f"_{shift}" if shift else ""
        self._regions = {
            f"{role.prefix}{region.describe().column}{ending}": BoundExpression(region.cut, file)
            for region in (estimate.into if estimate else role.regions)
        }
        # the branch that is read for each of those that it needs
        self._names: dict[str, str] = {}
        cuts = [*self._regions.values(), *([self._inside] if self._inside else [])]
        for name in [*self._weights.branches, *(name for cut in cuts for name in cut.branches)]:
            other = under_shift(name, shift, file.branch(name).collection or "") if shift else name
            self._names[name] = other if other in file.branches else name
        self.reads = ["run", *self._names.values(), *([file.branch(flag).name] if flag else [])]
        # the names of weights, by those in HDF5 files
        start = len("weight")
        self._columns = {each: f"{role.prefix}{EVENT_WEIGHT}{each[start:]}" for each in self._weights.columns}
        self._columns[NOMINAL] = f"{role.prefix}{EVENT_WEIGHT}{ending}"
        self.made = [*self._titled(role, normalisation, shift)]

    def _titled(self, role: Role, normalisation: Normalisation, shift: str) -> list[Branch]:
        is_known = role.is_data or normalisation.scale is not None
        other = "genWeight and corrections, not normalised to a cross section"
        what = f"weight: {'expected events' if is_known else other}"
        of = f" in the class {role.estimate.transfer.class_}" if role.estimate else ""
        under = f", under the shift {shift}" if shift else ""
        found = []
        for column, name in sorted(self._columns.items(), key=lambda it: it[0] != NOMINAL):
            varied = "" if column == NOMINAL else f", under the variation {column[len('weight_') :]}"
            title = f"{what}{of}{varied}{under}; 0 for an event that does not count"
            found.append(flat_branch(name, "float32", title))
        for name, cut in self._regions.items():
            found.append(flat_branch(name, "bool", f"the event counts{of}, and passes {cut.text}{under}"))
        return found

    def rows(self, arrays: Arrays, counts: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Its columns for some events, of which those that are copies of others do not count."""
        length = len(counts)
        seen = {"run": arrays["run"], **{name: arrays[other] for name, other in self._names.items()}}
        if self._flag:
            counts = counts & np.asarray(ak.to_numpy(arrays[self._flag]), bool)
        if self._inside is not None:
            counts = counts & self._inside.passes(seen, length)
        per_event = self._scale * self._weights.generated(seen, length).astype(np.float64)
        found: dict[str, NDArray[Any]] = {}
        for column, values in self._weights.corrections(seen, length).items():
            found[self._columns[column]] = np.where(counts, per_event * values, 0).astype(np.float32)
        for name, cut in self._regions.items():
            found[name] = counts & cut.passes(seen, length)
        return found
