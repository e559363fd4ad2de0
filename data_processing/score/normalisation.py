"""Normalisation: what the weight of an event needs to know of all files of its dataset.

That is the sum of generator weights, the sums of weights that keep the yield, and which events of data are copies of others.
Files with scores are made one by one, so it is found before, and kept in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import events_of, find_duplicates, identify, scratch
from data_processing.convert.expressions import BoundExpression, Region
from data_processing.convert.reading import OpenFiles, Sample, described, has_generator_weights, survey
from MLTools.NanoML.atomic import replacing, write_json
from MLTools.NanoML.nanoaod.fileaccounting import ShiftSums, WeightSums
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.plain import plain, read

_READ_AT_ONCE = 500_000  # events


@dataclass(frozen=True)
class NormaliseJob:
    """The normalisation of a dataset to be found."""

    sources: Sequence[str]  # the ROOT files of the dataset
    output: Path  # path of the file that is made
    sample: Sample
    luminosity: float | None = None  # integrated luminosity [/fb], or None
    # for data: the ROOT files of the datasets whose events are copies here, by the names of these datasets
    earlier: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allow_gaps: bool = False  # whether files that nanoAOD-tools read in ranges may lack entries
    region: Region | None = None  # the region whose events are taken, if its class is estimated from data


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of a dataset."""

    is_generated: bool  # whether its events have generator weights, which count
    scale: Optional[float]  # number of events expected per generator weight; None if that is not known
    weights: tuple[WeightSums, ...]  # of the weights that the selection gave, over all files
    shifts: tuple[ShiftSums, ...]
    copies: dict[str, int]  # of data: the first byte of each file in `copies_of`

    @classmethod
    def read(cls, path: Path) -> Normalisation:
        """Read the file of a normalisation; a NanoMLError says what is wrong with it."""
        return read(cls, path, "Remove it, and run `nanoml normalise` again.")


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

    def own() -> Iterator[NDArray[Any]]:
        for path in job.sources:
            file = opened(path)
            cut = BoundExpression(job.region.cut, file) if job.region else None
            names = list(dict.fromkeys([*IDENTIFIERS, *(cut.branches if cut else ())]))
            masks: list[NDArray[Any]] = [np.zeros(0, bool)]
            for start, stop in file.ranges(names, _READ_AT_ONCE):
                arrays = file.read(names, start, stop)
                masks.append(cut.passes(arrays, stop - start) if cut else np.ones(stop - start, bool))
                yield identify(path, arrays)[masks[-1]]
            inside[path] = file.entries, np.packbits(np.concatenate(masks))

    with scratch(job.output) as directory, OpenFiles() as others:
        earlier = [
            (events for path in paths for events in events_of(others(path), _cut(job, others, path)))
            for paths in job.earlier.values()
        ]
        found = find_duplicates([*earlier, own()], directory)
    bits: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
    places, size, first, copies = {}, 0, 0, 0
    for path, (entries, packed) in inside.items():
        counted = np.unpackbits(packed, count=entries).astype(bool)
        stop = first + int(counted.sum())
        copy = np.zeros(entries, bool)
        copy[counted] = ~found.is_first(len(job.earlier), first, stop)
        places[path], first, copies = size, stop, copies + int(copy.sum())
        bits.append(np.packbits(copy))
        size += len(bits[-1])
    return np.concatenate(bits), places, copies


def _cut(job: NormaliseJob, others: OpenFiles, path: str) -> BoundExpression | None:
    return BoundExpression(job.region.cut, others(path)) if job.region else None
