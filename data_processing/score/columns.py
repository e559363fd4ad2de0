"""Branches that a model reads and makes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.model import ScoreColumn
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile


def branch_of(column: ScoreColumn) -> Branch:
    """The branch of a score."""
    shape = "jagged" if column.collection else "flat"
    return Branch(column.name, column.dtype, shape, column.title, column.collection, "")


def bytes_per_event(model: Model, made: Collection[str]) -> int:
    """Size of an event's tensors, and of the branches that are made of it."""
    objects = sum(tensor.max * (len(tensor.columns) + 1) for tensor in model.objects)
    return 4 * (len(model.columns) + objects + len(made))


def check_branches(model: Model, file: RootFile, names: Sequence[str]) -> None:
    """Make sure that a file has what a model reads, in the right form."""
    collection = model.description.collection
    collections = {name: tensor.collection for tensor in model.objects for name in tensor.branches}
    for name in names:
        branch = file.branch(name)
        wanted = collections.get(name) or (collection if branch.is_jagged else None)
        if wanted is None and not branch.is_flat:
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name} as one number per event, but it is of type {branch.typename}."
            )
        if wanted is not None and not (branch.is_jagged and branch.collection == wanted):
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name} as a number for each object of {wanted}, "
                f"but it is of type {branch.typename}{f', of {branch.collection}' if branch.collection else ''}."
            )
    if collection is not None and not any(file.branch(name).is_jagged for name in names):
        raise NanoMLError(
            f"{file.path}: model {model.name} is of objects of {collection}, but none of its inputs is a branch of {collection} here."
        )
