"""The columns of an HDF5 file: which they are, of which type, and whether a ROOT file has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from MLTools.NanoML import nanoaod
from MLTools.NanoML.books import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootfile import Branch, RootFile

__all__ = [
    "IDENTIFIER_TYPES",
    "RESERVED",
    "VALID",
    "Columns",
    "Objects",
    "check_same",
    "columns_of",
    "event_level_branches",
]

VALID = "valid"
"""Field of a collection that tells real objects from padding."""
IDENTIFIER_TYPES = {"run": "u4", "luminosityBlock": "u4", "event": "u8"}
RESERVED = (*IDENTIFIER_TYPES, "label", "weight", "genWeight")
"""Fields of every file: a feature cannot have such a name."""
_TRIGGER_BITS = ("HLT_*", "L1_*", "Flag_*", "DST_*")


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
class Columns:
    """The columns as a file has them.

    Attributes
    ----------
    features
        Event-level columns by name.
    objects
        Fields of each collection.
    selection
        The selection that skimmed the file, or None.
    made
        {"dtype", "title"} of the columns that it made.
    """

    features: dict[str, Branch]
    objects: dict[str, dict[str, Branch]]
    selection: str | None
    made: dict[str, dict[str, str]]

    @property
    def branches(self) -> set[str]:
        """Names of all branches to be read."""
        return {
            *self.features,
            *(branch.name for members in self.objects.values() for branch in members.values()),
        }

    def describe(self, branch: Branch, name: str) -> dict[str, Any]:
        """A column as the metadata describe it."""
        made = self.made.get(branch.name)
        title = made["title"] if made else branch.title
        return {
            "name": name,
            "dtype": branch.dtype,
            "title": title,
            "source": "selection" if made else "branch",
        }


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


def columns_of(
    file: RootFile, features: Sequence[str], objects: Mapping[str, Objects], provenance: Provenance | None
) -> Columns:
    """Find the columns in a file.

    Raises
    ------
    NanoMLError
        The file lacks one, or it is of a type that cannot be stored there.
    """
    found = {}
    for name in features:
        if name in RESERVED:
            raise NanoMLError(
                f"{name} cannot be a feature: every file has it anyway, and a network must not learn from it."
            )
        branch = file.branch(name)
        if not branch.is_flat:
            raise NanoMLError(
                f"{file.path}: feature {name} is of type {branch.typename}, not one number per event. "
                "Objects of a collection go to convert.objects."
            )
        found[name] = branch
    members = {name: _fields(file, name, wanted) for name, wanted in objects.items()}
    return Columns(
        found,
        members,
        provenance.selection if provenance else None,
        provenance.columns if provenance else {},
    )


def check_same(first: Columns, other: Columns, path: str, other_path: str) -> None:
    """Refuse two files whose columns differ in type, or that different selections made."""
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
