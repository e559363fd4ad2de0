"""The columns of an HDF5 file: their names and types, and whether a ROOT file has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from MLTools.NanoML.contracts.hdf5 import EVENTS, METADATA, PARAMETER, RESERVED, ConvertedColumn
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch, counters_in
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.roles import HOW

VALID = "valid"
"""Field of a collection that marks real objects; it is false in padding."""
IDENTIFIER_TYPES = {"run": "u4", "luminosityBlock": "u4", "event": "u8"}
_COPIED = (*IDENTIFIER_TYPES, "genWeight")
_TRIGGER_BITS = ("HLT_*", "L1_*", "Flag_*", "DST_*")


@dataclass(frozen=True)
class StoredCollection:
    """A collection to be stored."""

    fields: Sequence[str]  # names without the prefix; empty for all
    max: int | None  # how many objects are stored per event; None if `quantile` decides
    # field to sort by before truncation, "-pt" for descending; None for the file's order
    order: str | None = "-pt"
    quantile: float | None = None  # fraction of the events in which all objects shall fit


@dataclass(frozen=True)
class Feature:
    """Where an event-level column comes from: a branch, or one component of an array of fixed size."""

    branch: Branch
    component: int | None = None


@dataclass(frozen=True)
class DatasetParameter:
    """A number that is the same for all events of a dataset, such as the mass of a hypothesis."""

    name: str  # of its column
    value: float  # NaN if the dataset does not define it
    where: str = field(metadata=HOW)  # its place in the configuration, for messages

    def describe(self) -> ConvertedColumn:
        """The description of its column in the metadata."""
        return ConvertedColumn(self.name, "float32", "", PARAMETER)


@dataclass(frozen=True)
class CollectionColumns:
    """The columns of a collection, as a ROOT file has them."""

    fields: dict[str, Branch]  # by their names without the prefix
    max: int  # objects that are stored per event
    order: str | None = None  # "-pt" for descending

    @property
    def order_branch(self) -> str:
        """The branch that gives the number of objects, and by which they are sorted."""
        return (self.fields[self.order.lstrip("-")] if self.order else next(iter(self.fields.values()))).name


@dataclass(frozen=True)
class FileColumns:
    """The columns that are stored, as a ROOT file has them."""

    features: dict[str, Feature]
    collections: dict[str, CollectionColumns]
    float16: Sequence[str] = ()  # globs of the columns that are stored in reduced precision
    missing: Mapping[str, Sequence[float]] = field(default_factory=dict)  # values that stand for "no value", by globs
    skimmed: Provenance | None = None

    def dtype_of(self, name: str, branch: Branch) -> str:
        """Type in which a column is stored: that of the branch, or float16."""
        is_reduced = branch.dtype in ("float32", "float64") and _matches(name, self.float16)
        return "float16" if is_reduced else str(branch.dtype)

    def describe(self, name: str, branch: Branch, column: str) -> ConvertedColumn:
        """The description of a column in the metadata: `name` in its dataset, `column` in full."""
        made = self.skimmed.columns.get(branch.name) if self.skimmed else None
        title = made.title if made else branch.title
        said = [tuple(values) for glob, values in self.missing.items() if fnmatchcase(column, glob)]
        if not said and made and made.missing is not None:
            said = [(made.missing,)]
        source = "selection" if made else "branch"
        return ConvertedColumn(name, self.dtype_of(column, branch), title, source, said[-1] if said else None)


def event_level_branches(
    file: RootFile, patterns: Sequence[str] = (), drop: Sequence[str] = ()
) -> tuple[list[str], int]:
    """The event-level branches of a file that match names and globs; without any, all but trigger bits and counters.

    Those that match a glob in `drop` are left out, and what only concerns shifts of objects, as the events are nominal. It is
    an error if a pattern matches nothing, or a branch that cannot be stored. Returns their names, and how many trigger bits and
    counters were left out.
    """
    record = Provenance.of(file)
    left_out = {*_COPIED, *((*record.flags, *record.shifted(file.branches)) if record else ())}
    names = [name for name in file.branches if not _matches(name, drop) and name not in left_out]
    stored = [name for name in names if file.branches[name].shape in ("flat", "fixed")]
    if not patterns:
        _refuse(file, names)
        counters = counters_in(file.branches.values())
        kept = [name for name in stored if name not in counters and not _matches(name, _TRIGGER_BITS)]
        return kept, len(stored) - len(kept)
    found: dict[str, None] = {}
    for pattern in patterns:
        if not versions.is_glob(pattern):
            _refuse(file, [file.name_of(pattern)])
            found[pattern] = None
            continue
        matches = versions.expand(pattern, names)
        _refuse(file, matches)
        matches = [name for name in matches if name in stored]
        if not matches:
            raise NanoMLError(
                f'{file.path}: no event-level branch matches "{pattern}". `nanoml inspect {file.path}` lists the branches.'
            )
        found.update(dict.fromkeys(matches))
    return [name for name in found if name not in _COPIED], 0


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _refuse(file: RootFile, names: Sequence[str], advice: str = "") -> None:
    """Refuse branches that would be lost."""
    odd = [name for name in names if file.branches[name].shape == "other"]
    if odd:
        named = listed([f"{name} ({file.branches[name].typename})" for name in odd], 5)
        raise NanoMLError(
            f"{file.path}: cannot store {named}: not lists of numbers. Leave out: --drop '{odd[0]}'{advice}."
        )
    for name in names:
        if name in RESERVED and name not in _COPIED and file.branches[name].is_flat:
            raise NanoMLError(
                f"{file.path}: cannot store {name}: the schema has a column of this name with another meaning. "
                f"Leave out: --drop '{name}'."
            )


def _members(file: RootFile, collection: str, wanted: StoredCollection, drop: Sequence[str]) -> dict[str, Branch]:
    if collection in (EVENTS, METADATA):
        raise NanoMLError(
            f"{file.path}: a collection cannot be called {collection}: every HDF5 file has a dataset of this name."
        )
    members = {
        branch.field: branch
        for branch in file.branches.values()
        if branch.is_jagged and branch.collection == collection and not _matches(branch.name, drop)
    }
    if not members:
        known = {branch.collection for branch in file.branches.values() if branch.collection}
        hint = versions.did_you_mean(collection, known)
        raise NanoMLError(f"{file.path}: has no collection {collection}.{hint} Did skim.keep keep it?")
    advice = f", or name the fields of {collection}"
    if not wanted.fields:
        # branches that belong to the collection, by their names, but are not lists of numbers
        odd = [
            name
            for name, branch in file.branches.items()
            if branch.shape == "other"
            and (branch.collection or versions.collection_of(name, None, file.branches)) == collection
            and not _matches(name, drop)
        ]
        _refuse(file, odd, advice)
    names = list(wanted.fields) or list(members)
    needed = [*names, wanted.order.lstrip("-")] if wanted.order else names
    if VALID in needed:
        raise NanoMLError(
            f"{file.path}: {collection}_{VALID} cannot be stored: the schema has a field of this name, which marks real objects. "
            f"Leave out: --drop '{collection}_{VALID}'{advice}."
        )
    for name in needed:
        if name not in members:
            raise NanoMLError(
                f"{file.path}: collection {collection} has no field {name}.{versions.did_you_mean(name, members)}"
            )
    return {name: members[name] for name in dict.fromkeys(needed)}


def _features(file: RootFile, names: Sequence[str]) -> dict[str, Feature]:
    found: dict[str, Feature] = {}
    for name in names:
        if name in RESERVED:
            raise NanoMLError(
                f"{name} cannot be a feature: every file has it anyway, and a network must not learn from it."
            )
        branch = file.branch(name)
        if branch.shape == "fixed":
            columns = {f"{name}_{number}": Feature(branch, number) for number in range(branch.size)}
        elif branch.is_flat:
            columns = {name: Feature(branch)}
        else:
            raise NanoMLError(
                f"{file.path}: feature {name} is of type {branch.typename}, not one number per event. "
                "Objects of a collection go to convert.objects."
            )
        for column, feature in columns.items():
            if found.setdefault(column, feature) != feature:
                raise NanoMLError(
                    f"{file.path}: {found[column].branch.name} and {branch.name} would both be column {column}: "
                    "leave one of them out."
                )
    return found


def columns_of(
    file: RootFile,
    features: Sequence[str],
    objects: Mapping[str, StoredCollection],
    provenance: Provenance | None,
    float16: Sequence[str] = (),
    drop: Sequence[str] = (),
    missing: Mapping[str, Sequence[float]] | None = None,
) -> FileColumns:
    """Find the columns in a file; an error if one is lacking, or of a type that cannot be stored there."""
    collections = {
        name: CollectionColumns(_members(file, name, wanted, drop), wanted.max or 0, wanted.order)
        for name, wanted in objects.items()
    }
    found = FileColumns(_features(file, features), collections, float16, missing or {}, provenance)
    names = _branches(found)
    unknown = next((glob for glob in found.missing if not any(fnmatchcase(name, glob) for name in names)), None)
    if unknown is not None:
        raise ConfigError(
            f'convert.missing: "{unknown}" is not a column that is converted.{versions.did_you_mean(unknown, names)}'
        )
    return found


def check_parameters(file: RootFile, columns: FileColumns, parameters: Sequence[DatasetParameter]) -> None:
    """Refuse parameters that have the name of a branch or feature of a file."""
    for parameter in parameters:
        if parameter.name in file.branches or parameter.name in columns.features:
            raise ConfigError(
                f"{parameter.where}: {file.path} has a column of this name with another meaning. Rename the parameter."
            )


def check_same(first: FileColumns, other: FileColumns, path: str, other_path: str) -> None:
    """Refuse two files whose columns differ in type, or that different selections made."""
    one, two = (_branches(each) for each in (first, other))
    for name, branch in one.items():
        if name in two and two[name].dtype != branch.dtype:
            raise NanoMLError(
                f"{other_path}: {name} is {two[name].dtype}, but {branch.dtype} in {path}: "
                "files of different NanoAOD versions do not go into one HDF5 file; make them datasets of their own."
            )
    if one.keys() != two.keys():
        odd = sorted(one.keys() ^ two.keys())[0]
        raise NanoMLError(
            f"{other_path if odd in one else path}: has no {odd}, but {path if odd in one else other_path} has it."
        )
    if (first.skimmed is None) != (other.skimmed is None):
        skim, original = (other_path, path) if other.skimmed else (path, other_path)
        raise NanoMLError(f"{skim}: is a skim, but {original} is not: convert them separately.")
    different = first.skimmed.difference(other.skimmed) if first.skimmed and other.skimmed else None
    if different is not None:
        raise NanoMLError(f"{other_path}: was {different[1]}, but {path} was {different[0]}: convert them separately.")


def _branches(columns: FileColumns) -> dict[str, Branch]:
    """The branch of each column, by its full name."""
    found = {name: feature.branch for name, feature in columns.features.items()}
    for name, collection in columns.collections.items():
        found.update({f"{name}_{field}": branch for field, branch in collection.fields.items()})
    return found
