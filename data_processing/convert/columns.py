"""The columns of an HDF5 file: which they are, of which type, and whether a ROOT file has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from MLTools.NanoML.contracts.hdf5 import EVENTS, METADATA, PARAMETER, RESERVED, ConvertedColumn
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.rootio.rootfile import Branch, RootFile

__all__ = [
    "IDENTIFIER_TYPES",
    "RESERVED",
    "VALID",
    "Columns",
    "Feature",
    "Objects",
    "Parameter",
    "check_parameters",
    "check_same",
    "columns_of",
    "event_level_branches",
]

VALID = "valid"
"""Field of a collection that tells real objects from padding."""
IDENTIFIER_TYPES = {"run": "u4", "luminosityBlock": "u4", "event": "u8"}
_COPIED = (*IDENTIFIER_TYPES, "genWeight")
_TRIGGER_BITS = ("HLT_*", "L1_*", "Flag_*", "DST_*")


@dataclass(frozen=True)
class Objects:
    """A collection to be stored.

    Attributes
    ----------
    fields
        Names without the prefix; empty for all.
    max
        How many objects are stored per event; None if `quantile` says it.
    order
        Field to sort by before truncation, "-pt" for descending; None for the file's order.
    quantile
        Share of the events of which all objects shall fit.
    """

    fields: Sequence[str]
    max: int | None
    order: str | None = "-pt"
    quantile: float | None = None


@dataclass(frozen=True)
class Feature:
    """Where an event-level column comes from.

    Attributes
    ----------
    branch
        The branch.
    component
        Number of the element, of an array of fixed size.
    """

    branch: Branch
    component: int | None = None


@dataclass(frozen=True)
class Parameter:
    """A number that is the same for all events of a dataset, such as the mass of a hypothesis.

    Attributes
    ----------
    name
        Of its column.
    value
        NaN if the dataset does not define it.
    where
        Its place in the configuration, for messages.
    """

    name: str
    value: float
    where: str

    def describe(self) -> ConvertedColumn:
        """Its column as the metadata describe it."""
        return ConvertedColumn(self.name, "float32", "", PARAMETER)


@dataclass(frozen=True)
class Columns:
    """The columns as a file has them.

    Attributes
    ----------
    features
        Event-level columns by name.
    objects
        Fields of each collection.
    max
        How many objects of each collection are stored.
    order
        Field that each collection is sorted by, "-pt" for descending; None for the file's order.
    float16
        Globs of the columns that are stored in reduced precision.
    selection
        The selection that skimmed the file, or None.
    made
        {"dtype", "title"} of the columns that it made.
    skimmed
        How the file was skimmed, or None.
    """

    features: dict[str, Feature]
    objects: dict[str, dict[str, Branch]]
    max: dict[str, int]
    order: dict[str, str | None]
    float16: Sequence[str]
    selection: str | None
    made: dict[str, dict[str, str]]
    skimmed: Provenance | None = None

    def dtype_of(self, name: str, branch: Branch) -> str:
        """Type in which a column is stored: the branch's own, or float16."""
        reduced = branch.dtype in ("float32", "float64") and any(
            fnmatchcase(name, glob) for glob in self.float16
        )
        return "float16" if reduced else str(branch.dtype)

    def order_branch(self, collection: str) -> str:
        """The branch that tells the number of objects, and by which they are sorted."""
        order, members = self.order[collection], self.objects[collection]
        return members[order.lstrip("-")].name if order else next(iter(members.values())).name

    def describe(self, name: str, branch: Branch, column: str) -> ConvertedColumn:
        """A column as the metadata describe it: `name` in its dataset, `column` in full."""
        made = self.made.get(branch.name)
        title = made["title"] if made else branch.title
        source = "selection" if made else "branch"
        return ConvertedColumn(name, self.dtype_of(column, branch), title, source)


def event_level_branches(
    file: RootFile, patterns: Sequence[str] = (), drop: Sequence[str] = ()
) -> tuple[list[str], int]:
    """The event-level numbers of a file that match globs; without globs all but trigger bits and counters.

    Parameters
    ----------
    file
        The file.
    patterns
        Names and globs.
    drop
        Globs of what is left out.

    Returns
    -------
    Their names, and how many trigger bits and counters were left out.

    Raises
    ------
    NanoMLError
        A pattern matches nothing, or something that cannot be stored.
    """
    names = [name for name in file.branches if not _matches(name, drop) and name not in _COPIED]
    stored = [name for name in names if file.branches[name].shape in ("flat", "fixed")]
    if not patterns:
        _refuse(file, names)
        counters = {f"n{branch.collection}" for branch in file.branches.values() if branch.is_jagged}
        counters |= {f"n{branch.name}" for branch in file.branches.values() if branch.is_jagged}
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
        told = ", ".join(f"{name} ({file.branches[name].typename})" for name in odd[:5])
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise NanoMLError(
            f"{file.path}: cannot store {told}{more}: no lists of numbers. Leave out: --drop '{odd[0]}'{advice}."
        )
    for name in names:
        if name in RESERVED and name not in _COPIED and file.branches[name].is_flat:
            raise NanoMLError(
                f"{file.path}: cannot store {name}: the schema has a column of this name, with a meaning of its own. "
                f"Leave out: --drop '{name}'."
            )


def _members(file: RootFile, collection: str, wanted: Objects, drop: Sequence[str]) -> dict[str, Branch]:
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
        _refuse(file, _odd_members(file, collection, drop), advice)
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


def _odd_members(file: RootFile, collection: str, drop: Sequence[str]) -> list[str]:
    """What belongs to a collection, by its name, but is no list of numbers."""
    return [
        name
        for name, branch in file.branches.items()
        if branch.shape == "other"
        and (branch.collection or versions.collection_of(name, None, file.branches)) == collection
        and not _matches(name, drop)
    ]


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
    objects: Mapping[str, Objects],
    provenance: Provenance | None,
    float16: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Columns:
    """Find the columns in a file.

    Raises
    ------
    NanoMLError
        The file lacks one, or it is of a type that cannot be stored there.
    """
    return Columns(
        _features(file, features),
        {name: _members(file, name, wanted, drop) for name, wanted in objects.items()},
        {name: wanted.max or 0 for name, wanted in objects.items()},
        {name: wanted.order for name, wanted in objects.items()},
        float16,
        provenance.selection if provenance else None,
        provenance.columns if provenance else {},
        provenance,
    )


def check_parameters(file: RootFile, columns: Columns, parameters: Sequence[Parameter]) -> None:
    """Refuse parameters that are also something in a file.

    Raises
    ------
    ConfigError
        A branch or a feature has the same name.
    """
    for parameter in parameters:
        if parameter.name in file.branches or parameter.name in columns.features:
            raise ConfigError(
                f"{parameter.where}: {file.path} has a column of this name, with a meaning of its own. Rename the parameter."
            )


def check_same(first: Columns, other: Columns, path: str, other_path: str) -> None:
    """Refuse two files whose columns differ in type, or that different selections made."""
    pairs = [
        (name, feature.branch, other.features[name].branch)
        for name, feature in first.features.items()
        if name in other.features
    ]
    for name, members in first.objects.items():
        pairs += [
            (f"{name}_{key}", branch, other.objects[name][key])
            for key, branch in members.items()
            if key in other.objects[name]
        ]
    for name, branch, others in pairs:
        if others.dtype != branch.dtype:
            raise NanoMLError(
                f"{other_path}: {name} is {others.dtype}, but {branch.dtype} in {path}: "
                "files of different NanoAOD versions do not go into one HDF5 file; make them datasets of their own."
            )
    one, two = (
        {*each.features, *(f"{name}_{key}" for name, members in each.objects.items() for key in members)}
        for each in (first, other)
    )
    if one != two:
        odd = sorted(one ^ two)[0]
        raise NanoMLError(
            f"{other_path if odd in one else path}: has no {odd}, but {path if odd in one else other_path} has it."
        )
    if (first.skimmed is None) != (other.skimmed is None):
        skim, original = (other_path, path) if other.skimmed else (path, other_path)
        raise NanoMLError(f"{skim}: is a skim, but {original} is none: convert them apart.")
    different = first.skimmed.difference(other.skimmed) if first.skimmed and other.skimmed else None
    if different is not None:
        raise NanoMLError(
            f"{other_path}: was {different[1]}, but {path} was {different[0]}: convert them apart."
        )
