"""Conversion: ROOT files to one HDF5 file of the schema in doc/hdf5.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np

from data_processing.columns import Columns, Objects, check_same, columns_of
from data_processing.rows import event_dtype, event_rows, object_dtype, object_rows
from MLTools.NanoML import __version__, nanoaod
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.books import Books, Provenance, all_events_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.hdf5 import EVENTS, METADATA, SCHEMA, new_hdf5
from MLTools.NanoML.progress import progress
from MLTools.NanoML.rootfile import RootFile

__all__ = [
    "ConvertJob",
    "Sample",
    "convert_files",
    "truncation_lines",
]

_ROWS_PER_CHUNK = 4096
_TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class Sample:
    """What an analysis says of a dataset.

    Attributes
    ----------
    name
        Its name.
    class_
        Name of its class, or None.
    cross_section
        In pb, or None.
    is_data
        Whether it is said to be collision data; None if nothing is said.
    """

    name: str
    class_: str | None = None
    cross_section: float | None = None
    is_data: bool | None = None


@dataclass(frozen=True)
class ConvertJob:
    """One HDF5 file to be made.

    Attributes
    ----------
    sources
        The ROOT files of one dataset.
    output
        Path of the HDF5 file.
    features
        Event-level columns, by the names of branches or of a selection's columns.
    objects
        Collections to be stored.
    sample
        The dataset.
    classes
        All classes of the analysis, in the order of their labels.
    luminosity
        In /fb, or None.
    compression
        "gzip:LEVEL", "lzf" or "none".
    chunk
        Events read at once.
    """

    sources: Sequence[str]
    output: Path
    features: Sequence[str]
    objects: Mapping[str, Objects] = field(default_factory=dict)
    sample: Sample = Sample("")
    classes: Sequence[str] = ()
    luminosity: float | None = None
    compression: str = "gzip:4"
    chunk: int = 200_000

    @property
    def label(self) -> int:
        """Number of the class, -1 without one."""
        return self.classes.index(self.sample.class_) if self.sample.class_ is not None else -1


def convert_files(job: ConvertJob) -> dict[str, Any]:
    """Convert the files of one dataset into one HDF5 file.

    Parameters
    ----------
    job
        What to do.

    Returns
    -------
    The metadata that was written (see doc/hdf5.md).

    Raises
    ------
    NanoMLError
        A file cannot be read or lacks a column, or the sum of weights is not positive; nothing is written then.
    """
    columns, books, entries = _survey(job)
    weight = _weight_per_genweight(job, books)
    dtype = event_dtype(columns, bool(books.is_data), weight is not None)
    lost = {name: [0, 0] for name in job.objects}
    with replacing(job.output) as aside, new_hdf5(aside) as file:
        events = _create(file, EVENTS, (entries,), dtype, job.compression)
        collections = {
            name: _create(
                file, name, (entries, objects.max), object_dtype(columns.objects[name]), job.compression
            )
            for name, objects in job.objects.items()
        }
        row = 0
        with progress(f"convert {job.output.name}", entries) as bar:
            for arrays, length in _chunks(job, columns, books):
                block = slice(row, row + length)
                events[block] = event_rows(arrays, length, dtype, job.label, weight)
                for name, dataset in collections.items():
                    rows, seen, cut = object_rows(
                        arrays, length, job.objects[name], columns.objects[name], dataset.dtype
                    )
                    dataset[block] = rows
                    lost[name][0] += seen
                    lost[name][1] += cut
                row += length
                bar.advance(length)
        if row != entries:
            raise NanoMLError(
                f"{job.output}: {row} events were read of {entries}: nothing was written. Run it again."
            )
        metadata = _metadata(job, columns, books, lost)
        _describe(file, events, metadata)
    return metadata


def _survey(job: ConvertJob) -> tuple[Columns, Books, int]:
    """Look into every file before anything is written: columns, types, books."""
    columns: Columns | None = None
    books = Books()
    entries = 0
    for source in job.sources:
        with RootFile(source) as file:
            provenance = Provenance.of(file)
            books.files += provenance.books.files if provenance else [all_events_of(file)]
            entries += file.entries
            if provenance and provenance.books.selected != file.entries:
                raise NanoMLError(
                    f"{source}: has {file.entries} events, but its books say {provenance.books.selected}: it was changed after the skim. "
                    "Skim it again."
                )
            found = columns_of(file, job.features, job.objects, provenance)
            if columns is None:
                columns = found
            else:
                check_same(columns, found, job.sources[0], source)
    if columns is None:
        raise NanoMLError(f"{job.sample.name or job.output}: there are no files to convert.")
    if books.is_data is None:
        simulated = next(file.file for file in books.files if not file.is_data)
        data = next(file.file for file in books.files if file.is_data)
        raise NanoMLError(
            f"{job.sample.name or job.output}: mixes data ({data}) and simulation ({simulated}): convert them apart."
        )
    _check_kind(job.sample, books)
    return columns, books, entries


def _check_kind(sample: Sample, books: Books) -> None:
    if sample.is_data and not books.is_data:
        raise NanoMLError(
            f"dataset {sample.name}: `data: true`, but {books.files[0].file} has generator weights: it is simulation."
        )
    if sample.is_data is False and sample.cross_section is not None and books.is_data:
        raise NanoMLError(
            f"dataset {sample.name}: has a cross section, but {books.files[0].file} has no generator weights: it is data."
        )


def _weight_per_genweight(job: ConvertJob, books: Books) -> float | None:
    """Factor from generator weight to the number of events expected, or None if it cannot be known."""
    if books.is_data:
        return 1.0
    if job.sample.cross_section is None or job.luminosity is None:
        return None
    total = books.sum_of_weights
    if not total > 0:
        raise NanoMLError(
            f"dataset {job.sample.name}: the sum of weights of its {len(books.files)} files is {total:g}, so it cannot be "
            "normalised to a cross section. Add files with events."
        )
    return job.sample.cross_section * 1000 * job.luminosity / total  # 1 pb = 1000 fb


def _create(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], compression: str
) -> h5py.Dataset:
    codec, _, level = compression.partition(":")
    options: dict[str, Any] = {}
    if shape[0] and codec != "none":
        options = {"compression": codec, "shuffle": True}
        if level:
            options["compression_opts"] = int(level)
    chunks = (min(_ROWS_PER_CHUNK, shape[0]), *shape[1:]) if shape[0] else None
    return file.create_dataset(name, shape, dtype, chunks=chunks, **options)


def _chunks(job: ConvertJob, columns: Columns, books: Books) -> Iterator[tuple[dict[str, ak.Array], int]]:
    names = {*nanoaod.IDENTIFIERS, *columns.branches}
    if not books.is_data:
        names.add("genWeight")
    for source in job.sources:
        with RootFile(source) as file:
            for start in range(0, file.entries, job.chunk):
                stop = min(start + job.chunk, file.entries)
                yield file.read(names, start, stop), stop - start


def _metadata(job: ConvertJob, columns: Columns, books: Books, lost: dict[str, list[int]]) -> dict[str, Any]:
    sample = job.sample
    return {
        "schema": SCHEMA,
        "creator": f"NanoML {__version__}",
        "classes": list(job.classes),
        "features": [columns.describe(branch, name) for name, branch in columns.features.items()],
        "objects": {
            name: {
                "max": objects.max,
                "order": objects.order,
                "fields": [
                    columns.describe(branch, field_name)
                    for field_name, branch in columns.objects[name].items()
                ],
                "truncated": {"objects": lost[name][0], "lost": lost[name][1]},
            }
            for name, objects in job.objects.items()
        },
        "selection": columns.selection,
        "settings": {
            "compression": job.compression,
            "objects": {name: asdict(o) for name, o in job.objects.items()},
        },
        "datasets": [
            {
                "name": sample.name,
                "class": sample.class_,
                "label": job.label,
                "cross_section": sample.cross_section,
                "luminosity": job.luminosity,
                "is_data": bool(books.is_data),
                "books": books.as_dict(),
            }
        ],
    }


def _describe(file: h5py.File, events: h5py.Dataset, metadata: dict[str, Any]) -> None:
    file.create_dataset(METADATA, data=json.dumps(metadata), dtype=_TEXT)
    file.attrs["schema"] = SCHEMA
    file.attrs["creator"] = metadata["creator"]
    events.attrs.create("classes", metadata["classes"] or [""], dtype=_TEXT)


def truncation_lines(name: str, metadata: Mapping[str, Any]) -> list[str]:
    """Warnings of objects that did not fit into their collection's maximum."""
    lines = []
    for collection, stored in metadata["objects"].items():
        seen, lost = stored["truncated"]["objects"], stored["truncated"]["lost"]
        if lost:
            lines.append(
                f"WARNING {name}: {lost / seen:.1%} of {collection} lost ({lost:,} of {seen:,}): "
                f"more than {stored['max']} in an event. Raise its max."
            )
    return lines
