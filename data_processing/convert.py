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
from numpy.typing import NDArray

from MLTools.NanoML import __version__, nanoaod
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.books import Books, Provenance, all_events_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.hdf5 import EVENTS, METADATA, SCHEMA, new_hdf5
from MLTools.NanoML.progress import progress
from MLTools.NanoML.rootfile import Branch, RootFile

__all__ = [
    "RESERVED",
    "ConvertJob",
    "Objects",
    "Sample",
    "convert_files",
    "event_level_branches",
    "truncation_lines",
]

VALID = "valid"
"""Field of a collection that tells real objects from padding."""
_IDENTIFIER_TYPES = {"run": "u4", "luminosityBlock": "u4", "event": "u8"}
RESERVED = (*_IDENTIFIER_TYPES, "label", "weight", "genWeight")
"""Fields of every file: a feature cannot have such a name."""
_TRIGGER_BITS = ("HLT_*", "L1_*", "Flag_*", "DST_*")
_HEADER_LIMIT = 60_000  # bytes; HDF5 cannot describe a compound type that takes more than 64 KiB
_ROWS_PER_CHUNK = 4096
_TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class Objects:
    """A collection to be stored.

    Attributes
    ----------
    fields
        Names without the prefix; empty for all.
    max
        How many objects are stored per event.
    order
        Field to sort by before truncation, "-pt" for descending; None for the file's order.
    """

    fields: Sequence[str]
    max: int
    order: str | None = "-pt"


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


@dataclass(frozen=True)
class _Layout:
    """Types of the datasets, taken from the first file, which all others must match."""

    features: dict[str, Branch]
    objects: dict[str, dict[str, Branch]]
    selection: str | None
    made: dict[str, dict[str, str]]


def event_level_branches(file: RootFile, patterns: Sequence[str] = ()) -> tuple[list[str], int]:
    """The event-level numbers of a file that match globs; without globs all but trigger bits and counters.

    Returns
    -------
    Their names, and how many trigger bits and counters were left out.

    Raises
    ------
    NanoMLError
        A pattern matches nothing, or a name is not an event-level number.
    """
    flat = [
        branch.name for branch in file.branches.values() if branch.is_flat and branch.name not in RESERVED
    ]
    if not patterns:
        counters = {f"n{branch.collection}" for branch in file.branches.values() if branch.is_jagged}
        counters |= {f"n{branch.name}" for branch in file.branches.values() if branch.is_jagged}
        bits = {name for pattern in _TRIGGER_BITS for name in nanoaod.expand(pattern, flat)}
        kept = [name for name in flat if name not in counters and name not in bits]
        return kept, len(flat) - len(kept)
    found: dict[str, None] = {}
    for pattern in patterns:
        if not nanoaod.is_glob(pattern):
            file.name_of(pattern)
            found[pattern] = None
            continue
        matches = nanoaod.expand(pattern, flat)
        if not matches:
            raise NanoMLError(
                f'{file.path}: no event-level branch matches "{pattern}". `nanoml inspect {file.path}` lists the branches.'
            )
        found.update(dict.fromkeys(matches))
    return [name for name in found if name not in RESERVED], 0


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
    layout, books, entries = _survey(job)
    weight = _weight_per_genweight(job, books)
    lost = {name: [0, 0] for name in job.objects}
    with replacing(job.output) as aside, new_hdf5(aside) as file:
        events = _create(file, EVENTS, (entries,), _event_dtype(layout, books, weight), job.compression)
        collections = {
            name: _create(
                file, name, (entries, objects.max), _object_dtype(layout.objects[name]), job.compression
            )
            for name, objects in job.objects.items()
        }
        row = 0
        with progress(f"convert {job.output.name}", entries) as bar:
            for arrays, length in _chunks(job, layout, books):
                block = slice(row, row + length)
                events[block] = _event_rows(arrays, length, events.dtype, job, weight)
                for name, dataset in collections.items():
                    rows, seen, cut = _object_rows(
                        arrays, length, job.objects[name], layout.objects[name], dataset.dtype
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
        metadata = _metadata(job, layout, books, lost)
        _describe(file, events, metadata)
    return metadata


def _survey(job: ConvertJob) -> tuple[_Layout, Books, int]:
    """Look into every file before anything is written: columns, types, books."""
    layout: _Layout | None = None
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
            found = _layout_of(file, job, provenance)
            if layout is None:
                layout = found
            else:
                _same(layout, found, job.sources[0], source)
    if layout is None:
        raise NanoMLError(f"{job.sample.name or job.output}: there are no files to convert.")
    if books.is_data is None:
        simulated = next(file.file for file in books.files if not file.is_data)
        data = next(file.file for file in books.files if file.is_data)
        raise NanoMLError(
            f"{job.sample.name or job.output}: mixes data ({data}) and simulation ({simulated}): convert them apart."
        )
    _check_kind(job.sample, books)
    return layout, books, entries


def _check_kind(sample: Sample, books: Books) -> None:
    if sample.is_data and not books.is_data:
        raise NanoMLError(
            f"dataset {sample.name}: `data: true`, but {books.files[0].file} has generator weights: it is simulation."
        )
    if sample.is_data is False and sample.cross_section is not None and books.is_data:
        raise NanoMLError(
            f"dataset {sample.name}: has a cross section, but {books.files[0].file} has no generator weights: it is data."
        )


def _layout_of(file: RootFile, job: ConvertJob, provenance: Provenance | None) -> _Layout:
    features = {}
    for name in job.features:
        if name in RESERVED:
            raise NanoMLError(
                f"{job.output}: {name} cannot be a feature: every file has it anyway, and a network must not learn from it."
            )
        branch = file.branch(name)
        if not branch.is_flat:
            raise NanoMLError(
                f"{file.path}: feature {name} is of type {branch.typename}, not one number per event. "
                "Objects of a collection go to convert.objects."
            )
        features[name] = branch
    objects = {name: _fields(file, name, wanted) for name, wanted in job.objects.items()}
    return _Layout(
        features,
        objects,
        provenance.selection if provenance else None,
        provenance.columns if provenance else {},
    )


def _fields(file: RootFile, collection: str, wanted: Objects) -> dict[str, Branch]:
    members = {
        branch.field: branch
        for branch in file.branches.values()
        if branch.is_jagged and branch.collection == collection
    }
    if not members:
        known = {branch.collection for branch in file.branches.values() if branch.collection}
        raise NanoMLError(
            f"{file.path}: has no collection {collection}.{nanoaod.did_you_mean(collection, known)} Did skim.keep keep it?"
        )
    names = list(wanted.fields) or [name for name in members if name != VALID]
    if VALID in wanted.fields:
        raise NanoMLError(
            f"{file.path}: {collection}_{VALID} cannot be stored: the schema has a field of this name, which marks real objects."
        )
    needed = [*names, wanted.order.lstrip("-")] if wanted.order else names
    for name in needed:
        if name not in members:
            raise NanoMLError(
                f"{file.path}: collection {collection} has no field {name}.{nanoaod.did_you_mean(name, members)}"
            )
    return {name: members[name] for name in dict.fromkeys(needed)}


def _same(first: _Layout, other: _Layout, path: str, other_path: str) -> None:
    for name, branch in first.features.items():
        if other.features[name].dtype != branch.dtype:
            raise NanoMLError(
                f"{other_path}: {name} is {other.features[name].dtype}, but {branch.dtype} in {path}: "
                "files of different NanoAOD versions do not go into one HDF5 file; make them datasets of their own."
            )
    for name, members in first.objects.items():
        for key, branch in members.items():
            if other.objects[name][key].dtype != branch.dtype:
                raise NanoMLError(
                    f"{other_path}: {name}_{key} is {other.objects[name][key].dtype}, but {branch.dtype} in {path}."
                )
    if first.selection != other.selection:
        raise NanoMLError(
            f"{other_path}: was skimmed by {other.selection}, but {path} by {first.selection}: convert them apart."
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


def _event_dtype(layout: _Layout, books: Books, weight: float | None) -> np.dtype[Any]:
    fields: list[tuple[str, str]] = [*_IDENTIFIER_TYPES.items(), ("label", "i4")]
    if weight is not None:
        fields.append(("weight", "f4"))
    if not books.is_data:
        fields.append(("genWeight", "f4"))
    fields += [(name, str(branch.dtype)) for name, branch in layout.features.items()]
    return _checked_dtype(EVENTS, fields)


def _object_dtype(members: Mapping[str, Branch]) -> np.dtype[Any]:
    return _checked_dtype(
        next(iter(members.values())).collection or "",
        [*((name, str(b.dtype)) for name, b in members.items()), (VALID, "?")],
    )


def _checked_dtype(name: str, fields: list[tuple[str, str]]) -> np.dtype[Any]:
    if sum(len(field_name) + 50 for field_name, _ in fields) > _HEADER_LIMIT:
        raise NanoMLError(
            f"{name}: {len(fields)} columns are more than one HDF5 dataset can describe. Choose fewer by their names."
        )
    return np.dtype(fields)


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


def _chunks(job: ConvertJob, layout: _Layout, books: Books) -> Iterator[tuple[dict[str, ak.Array], int]]:
    names = {*nanoaod.IDENTIFIERS, *layout.features}
    if not books.is_data:
        names.add("genWeight")
    for members in layout.objects.values():
        names.update(branch.name for branch in members.values())
    for source in job.sources:
        with RootFile(source) as file:
            for start in range(0, file.entries, job.chunk):
                stop = min(start + job.chunk, file.entries)
                yield file.read(names, start, stop), stop - start


def _event_rows(
    arrays: dict[str, ak.Array], length: int, dtype: np.dtype[Any], job: ConvertJob, weight: float | None
) -> NDArray[Any]:
    rows = np.zeros(length, dtype)
    for name in dtype.names or ():
        if name in arrays:
            rows[name] = ak.to_numpy(arrays[name])
    rows["label"] = job.classes.index(job.sample.class_) if job.sample.class_ is not None else -1
    if weight is not None:
        rows["weight"] = weight * (
            np.asarray(ak.to_numpy(arrays["genWeight"]), np.float64) if "genWeight" in arrays else 1.0
        )
    return rows


def _object_rows(
    arrays: dict[str, ak.Array],
    length: int,
    objects: Objects,
    members: Mapping[str, Branch],
    dtype: np.dtype[Any],
) -> tuple[NDArray[Any], int, int]:
    """Padded objects of a chunk; how many there were, and how many were cut off."""
    rows = np.zeros((length, objects.max), dtype)
    values = {field_name: arrays[branch.name] for field_name, branch in members.items()}
    counts = np.asarray(ak.num(next(iter(values.values()))))
    if objects.order:
        by = ak.argsort(
            values[objects.order.lstrip("-")],
            axis=1,
            ascending=not objects.order.startswith("-"),
            stable=True,
        )
        values = {key: value[by] for key, value in values.items()}
    rows[VALID] = np.arange(objects.max) < counts[:, np.newaxis]
    for key, value in values.items():
        rows[key][rows[VALID]] = ak.to_numpy(ak.flatten(value[:, : objects.max]))
    return rows, int(counts.sum()), int(np.maximum(counts - objects.max, 0).sum())


def _metadata(job: ConvertJob, layout: _Layout, books: Books, lost: dict[str, list[int]]) -> dict[str, Any]:
    sample = job.sample
    return {
        "schema": SCHEMA,
        "creator": f"NanoML {__version__}",
        "classes": list(job.classes),
        "features": [_column(branch, name, layout) for name, branch in layout.features.items()],
        "objects": {
            name: {
                "max": objects.max,
                "order": objects.order,
                "fields": [
                    _column(branch, field_name, layout) for field_name, branch in layout.objects[name].items()
                ],
                "truncated": {"objects": lost[name][0], "lost": lost[name][1]},
            }
            for name, objects in job.objects.items()
        },
        "selection": layout.selection,
        "settings": {
            "compression": job.compression,
            "objects": {name: asdict(o) for name, o in job.objects.items()},
        },
        "datasets": [
            {
                "name": sample.name,
                "class": sample.class_,
                "label": job.classes.index(sample.class_) if sample.class_ is not None else -1,
                "cross_section": sample.cross_section,
                "luminosity": job.luminosity,
                "is_data": bool(books.is_data),
                "books": books.as_dict(),
            }
        ],
    }


def _column(branch: Branch, name: str, layout: _Layout) -> dict[str, Any]:
    made = layout.made.get(branch.name)
    title = made["title"] if made else branch.title
    return {"name": name, "dtype": branch.dtype, "title": title, "source": "selection" if made else "branch"}


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
