"""What is asked for: a model, the selection that is put into it, and the events by which both are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from MLTools.NanoML.schema.roles import HOW, READS, WRITES

if TYPE_CHECKING:
    from MLTools.NanoML.selection import DatasetInfo


@dataclass(frozen=True)
class Source:
    """The files of a dataset, from which events are taken, and what the selection knows of it."""

    dataset: DatasetInfo
    files: tuple[str, ...] = field(metadata=READS)


@dataclass(frozen=True)
class Compilation:
    """How a selection is put into a model.

    Attributes
    ----------
    selection
        The selection, as "module:Class" or "file.py:Class".
    base
        The directory that files are relative to.
    events
        How many events of each dataset are compared.
    sizes
        For how many objects of a collection there is room, where that is not to follow from the events.
    cut
        A cut before the selection, in the language of TTree::Draw; empty without one.
    """

    selection: str
    base: str = field(metadata=HOW)
    events: int
    sizes: Mapping[str, int]
    cut: str = ""


@dataclass(frozen=True)
class CompileJob:
    """A model, the one with the selection inside, the datasets of events by which they are compared, and the selection."""

    model: Path = field(metadata=READS)
    output: Path = field(metadata=WRITES)
    sources: Sequence[Source]
    wanted: Compilation
