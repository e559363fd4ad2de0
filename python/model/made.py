"""The columns and collections that a selection makes of an event if it is compiled into a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MadeNumber:
    """A column that a selection in a model gives.

    Attributes
    ----------
    name, dtype, title
        As the selection declares it.
    """

    name: str
    dtype: str
    title: str


@dataclass(frozen=True)
class MadeCollection:
    """A collection that a selection in a model gives, as a tensor made_NAME and its mask made_NAME_mask.

    Attributes
    ----------
    name
        Its name.
    size
        For how many objects of an event there is room.
    fields
        The columns of its objects, in the order of the last axis.
    """

    name: str
    size: int
    fields: tuple[MadeNumber, ...]


@dataclass(frozen=True)
class SelectionInside:
    """The selection that is compiled into a model, in front of its networks.

    Attributes
    ----------
    name
        The selection, as "module:Class".
    dataset
        What it was compiled for, as far as it depends on that: "era", "is_data", "triggers".
    cuts
        Its cuts: columns of the tensor `cuts`, which are 1 for an event that passes this one and all before.
    columns
        Its columns: those of the tensor `columns`.
    collections
        The collections that it makes.
    defaults
        Branches that an input may lack, and the number to take then.
    corrected
        Branches that must have corrected values.
    corrections
        SHA-256 of the files with these corrections, by their names.
    events
        On how many events it was compared with the selection itself.
    """

    name: str
    dataset: dict[str, Any]
    cuts: tuple[str, ...]
    columns: tuple[MadeNumber, ...]
    collections: tuple[MadeCollection, ...]
    defaults: dict[str, float]
    corrected: tuple[str, ...]
    corrections: dict[str, str]
    events: int
