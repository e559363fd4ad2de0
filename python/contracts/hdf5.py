"""The HDF5 schema that joins conversion and training (doc/hdf5.md): its names, what a file says of itself, opening and creating."""

from __future__ import annotations

import io
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import EntryRange, RecordedAccounting
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.plain import DAMAGE, build, parsed, plain

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

SCHEMA = 2
"""The version of files with events under shifts of objects; files without them have version 1."""
EVENTS = "events"
METADATA = "metadata"
SHIFTS = "shifts"
"""The group in which there is one for each shift of objects, with the same content as the file."""
CORRECTION = "correction"
"""The product of all weights beside the generator's; there only if a dataset of the analysis has any."""
RESERVED = (*IDENTIFIERS, "genWeight", "label", "weight", CORRECTION)
"""Event-level fields that the schema gives a meaning: no feature or parameter can have such a name."""

PARAMETER = "parameter"
"""The `source` of a column that is the same for all events of a dataset, and NaN where the dataset has no such parameter."""
_BLOCK = 64 << 20  # bytes that are read at once
_SPARSE = {"sparse": True}


def region_column(name: str) -> str:
    """The column that says whether an event is in a region."""
    return f"in_{name}"


@dataclass(frozen=True)
class ConvertedColumn:
    """A feature of the events, or a field of a collection."""

    name: str  # its name in its HDF5 dataset: "met", or "pt" for Muon_pt
    dtype: str  # numpy name of its type
    title: str  # its documentation, with the unit
    source: str  # "selection", "branch" or "parameter"
    # values that stand for "no value", beside those that are not finite: none if it is (); None if nothing is said
    missing: Optional[tuple[float, ...]] = field(default=None, metadata=_SPARSE)


@dataclass(frozen=True)
class Truncated:
    """The objects that were cut off of a collection."""

    objects: int  # how many objects there were in all events
    lost: int  # how many of these were cut off


@dataclass(frozen=True)
class ConvertedCollection:
    """A collection of objects, padded to the same number for each event."""

    max: int  # number of objects stored for each event
    # the field by which they are sorted, "-pt" for descending; None for the order of the ROOT file
    order: Optional[str]
    # the share of events that `max` is enough for, if it was chosen by that; else None
    quantile: Optional[float] = field(metadata={"older": None})
    fields: tuple[ConvertedColumn, ...]  # its columns
    truncated: Truncated


@dataclass(frozen=True)
class ConvertedWeight:
    """A weight that the selection gave, in the weights of events."""

    name: str
    # for each variation the column with the weights of events under it, which has all other weights as well
    variations: dict[str, str] = field(default_factory=dict)
    normalised: bool = False  # whether it keeps the yield by the sums of the accounting
    combine: str = field(default="", metadata=_SPARSE)  # how its variations are one uncertainty, as in `WeightSums`


@dataclass(frozen=True)
class ConvertedRegion:
    """A region of the analysis."""

    name: str
    cut: str  # the expression of columns that its events fulfil

    @property
    def column(self) -> str:
        """The column that says whether an event is in it."""
        return region_column(self.name)


@dataclass(frozen=True)
class DataDrivenPart:
    """The part of the events of a dataset in a class that is estimated from data."""

    dataset: str  # the dataset whose events they are
    region: str  # the region in which they are
    weight: str  # the expression by which their own weights are multiplied
    subtracted: bool  # simulation, which has minus this weight
    into: tuple[ConvertedRegion, ...]  # the regions in which they count, each with the cut that they pass there
    sum_of_weights: float  # of all of them
    variations: dict[str, str] = field(default_factory=dict, metadata=_SPARSE)  # of the transfer weight, as expressions


@dataclass(frozen=True)
class ConvertedDataset:
    """A dataset of the analysis in an HDF5 file."""

    name: str  # its name in the configuration
    class_: Optional[str]  # its class; None without one
    label: int  # number of the class; -1 without one
    cross_section: Optional[float] = field(metadata={"older": None})  # in pb; None if it was not given
    luminosity: Optional[float] = field(metadata={"older": None})  # in /fb; None if it was not given
    parameters: dict[str, float] = field(metadata={"older": {}})  # the parameters that it defines
    is_data: bool  # whether it is collision data
    accounting: RecordedAccounting = field(metadata={"key": "books"})  # of its ROOT files
    missing: tuple[Missing, ...] = field(default=(), metadata=_SPARSE)  # files that could not be read and were left out
    # events of data that were left out as copies, by the name of the dataset that has them
    duplicates: dict[str, int] = field(default_factory=dict, metadata=_SPARSE)
    gaps: tuple[EntryRange, ...] = field(default=(), metadata=_SPARSE)  # entries of files that were not read
    data_driven: Optional[DataDrivenPart] = field(default=None, metadata=_SPARSE)  # if its class is estimated from data

    @property
    def has_generator_weights(self) -> bool:
        """Whether its events have genWeight: those of a class always do, so that they can be put together."""
        return not self.is_data or self.class_ is not None

    @property
    def weight_per_genweight(self) -> Optional[float]:
        """Number of events expected per generator weight; None if unknown, NaN if the sum of weights is not positive."""
        if self.is_data:
            return 1.0
        if self.cross_section is None or self.luminosity is None:
            return None
        total = self.accounting.sum_of_weights
        return self.cross_section * 1000 * self.luminosity / total if total > 0 else math.nan  # 1 pb = 1000 fb


@dataclass(frozen=True)
class Shuffled:
    """How the events of several files came into one."""

    seed: int  # of their random order


@dataclass(frozen=True)
class HDF5Metadata:
    """The description that an HDF5 file of the conversion has of itself: the content of its dataset `metadata` (see doc/hdf5.md)."""

    creator: str  # "NanoML" and its version
    classes: list[str]  # all classes of the analysis, in the order of their labels
    features: tuple[ConvertedColumn, ...]  # event-level columns
    objects: dict[str, ConvertedCollection]  # collections, by name
    selection: Optional[str]  # the selection of the skim, or None
    settings: dict[str, Any] = field(metadata={"older": {}})  # of the conversion, for information
    datasets: tuple[ConvertedDataset, ...]  # the datasets whose events it has: several in a shuffled file
    shuffled: Optional[Shuffled] = field(default=None, metadata=_SPARSE)  # None for a file of one conversion
    weights: tuple[ConvertedWeight, ...] = field(default=(), metadata=_SPARSE)  # that the selection gave
    regions: tuple[ConvertedRegion, ...] = field(default=(), metadata=_SPARSE)  # of the analysis
    core: str = field(default="", metadata=_SPARSE)  # the hash of all but weights and the flags of regions
    shifts: tuple[str, ...] = field(default=(), metadata=_SPARSE)  # of objects under which it has its events as well

    @property
    def schema(self) -> int:
        """The version of the schema that readers must know."""
        return SCHEMA if self.shifts else 1

    @property
    def of_core(self) -> HDF5Metadata:
        """The metadata of the core: without regions, directories, cross section and luminosity, and weights that these scale."""
        parts = (
            replace(
                it,
                cross_section=None,
                luminosity=None,
                accounting=replace(
                    it.accounting,
                    files=[replace(each, file=os.path.basename(each.file)) for each in it.accounting.files],
                ),
                missing=(),
                data_driven=driven and replace(driven, sum_of_weights=0.0),
            )
            for it in self.datasets
            for driven in [it.data_driven]
        )
        return replace(self, datasets=tuple(parts), regions=(), core="", shifts=())

    @classmethod
    def from_json(cls, content: Mapping[str, object], path: str | os.PathLike[str] = METADATA) -> HDF5Metadata:
        """Undo `to_json`; `path` is named in messages. Raises NanoMLError if something is missing or of the wrong kind."""
        try:
            return build(cls, content)
        except DAMAGE as problem:
            reason = f"{type(problem).__name__}: {problem}"
            raise NanoMLError(
                f"{os.fspath(path)}: its `{METADATA}` cannot be understood ({reason}). Convert again."
            ) from None

    def to_json(self) -> dict[str, object]:
        """The content, as JSON holds it."""
        return {"schema": self.schema, **plain(self)}


def open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises NanoMLError if there is no such file, or it is not an HDF5 file, or damaged.
    """
    import h5py

    name = os.fspath(path)
    if not os.path.isfile(name):
        raise NanoMLError(f"{name}: no such file. `nanoml convert` makes HDF5 files.")
    try:
        return h5py.File(name, "r")
    except OSError as problem:
        reason = "is not an HDF5 file, or is truncated" if not h5py.is_hdf5(name) else f"cannot be read: {problem}"
        raise NanoMLError(f"{name}: {reason}. Make it again with `nanoml convert`.") from None


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Explain what goes wrong while an open HDF5 file is being read.

    Raises NanoMLError if something of the file is damaged, or not there.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError) as problem:
        raise NanoMLError(
            f"{os.fspath(path)}: cannot be read: {problem}. It may be damaged: copy it again, or convert again."
        ) from problem


def blocks(dataset: h5py.Dataset, names: Optional[Sequence[str]] = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """A dataset of a compound type, or some of its fields, block by block, each with the number of its first row."""
    rows = max(_BLOCK // (dataset.dtype.itemsize * math.prod(dataset.shape[1:])), 1)
    if dataset.chunks:
        rows = max(rows // dataset.chunks[0], 1) * dataset.chunks[0]  # so that no chunk is decompressed twice
    source = dataset if names is None or tuple(names) == dataset.dtype.names else dataset.fields(names)
    for start in range(0, len(dataset), rows):
        yield start, source[start : start + rows]


class _Disk(io.FileIO):
    """The file under an HDF5 file. After a failed write it accepts everything and keeps nothing.

    The HDF5 library cannot close a file that it cannot write, and crashes when Python ends; so it never learns of the failure.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and self.failure is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as problem:
            self.failure = problem
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        return super().truncate(size) if self.failure is None else size or 0


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Create an HDF5 file. Use it inside `atomic.replacing`.

    Raises OSError if the disk is full, and the like; at the end of the block at the latest.
    """
    import h5py

    with _Disk(path, "w+") as disk:
        try:
            with h5py.File(disk, "w") as hdf5:
                yield hdf5
        except (OSError, RuntimeError):
            if disk.failure is None:
                raise
        # HDF5's complaint about a file that lost a part of itself would hide the reason
        if disk.failure is not None:
            raise disk.failure


def read_metadata(path: str | os.PathLike[str]) -> HDF5Metadata:
    """The description that an HDF5 file of the conversion has of itself.

    Raises NanoMLError if the file is not one of `nanoml convert`, is of a newer schema, or its metadata is damaged.
    """
    return HDF5Metadata.from_json(metadata_content(path), path)


def metadata_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of an HDF5 file of the conversion as a JSON object whose schema alone is checked.

    Raises NanoMLError if the file is not one of `nanoml convert`, is of a newer schema, or its metadata is not a JSON object.
    """
    with open_hdf5(path) as file:
        return content_of(file, path)


def content_of(group: h5py.Group, path: str | os.PathLike[str]) -> dict[str, object]:
    """As `metadata_content`, of an open `h5py.File` or of the group of a shift; `path` is named in messages."""
    if METADATA not in group or EVENTS not in group:
        raise NanoMLError(f"{os.fspath(path)}: was not written by `nanoml convert`: it has no `{METADATA}`.")
    try:
        text = group[METADATA].asstr()[()]
        content, check = parsed(text), zlib.crc32(text.encode())
        if not isinstance(content, dict) or group[METADATA].attrs.get("crc32", check) != check:
            raise ValueError(content)
    except (OSError, ValueError, TypeError):
        raise NanoMLError(f"{os.fspath(path)}: its `{METADATA}` cannot be understood. Convert again.") from None
    if content.get("schema") not in range(1, SCHEMA + 1):
        raise NanoMLError(
            f"{os.fspath(path)}: schema {content.get('schema')}, this NanoML reads 1 to {SCHEMA}. Update NanoML or convert again."
        )
    return content


def core_of(path: str | os.PathLike[str]) -> Optional[str]:
    """The hash of the core of an HDF5 file of the conversion, as the file says it; None if it does not, or is another file."""
    try:
        return metadata_content(path).get("core")
    except NanoMLError:
        return None


def write_metadata(file: h5py.File, metadata: HDF5Metadata) -> None:
    """Write metadata to a `h5py.File`, or the group of a shift, which has its dataset `events` already."""
    import h5py

    text, content = h5py.string_dtype("utf-8"), json.dumps(metadata.to_json())
    file.create_dataset(METADATA, data=content, dtype=text).attrs["crc32"] = zlib.crc32(content.encode())
    file.attrs["schema"] = metadata.schema
    file.attrs["creator"] = metadata.creator
    file[EVENTS].attrs.create("classes", metadata.classes or [""], dtype=text)


def check_events_differ(paths: Sequence[str | os.PathLike[str]], contents: Sequence[HDF5Metadata]) -> None:
    """Refuse files made from the same ROOT file, such as a shuffled file and one of those that it was made from.

    Raises NanoMLError if two have events of the same ROOT file, unless one has them in a class that is estimated from data.
    """
    owner: dict[tuple[str, Optional[str]], int] = {}
    for number, content in enumerate(contents):
        files = (
            (each.file, dataset.class_ if dataset.data_driven else None)
            for dataset in content.datasets
            for each in dataset.accounting.files
        )
        for file, estimate in files:
            other = owner.setdefault((file, estimate), number)
            if other != number:
                raise NanoMLError(
                    f"{os.fspath(paths[number])}: has events of {file}, which {os.fspath(paths[other])} has, "
                    "too: they would count twice. Leave one of the two out."
                )
