"""What is in a ROOT file that a test made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uproot

from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile

__all__ = ["Short", "branches_of", "lists_of", "record_of", "values_of"]


class Short(RootFile):
    """Does not give the last range of entries."""

    def ranges(self, *arguments: Any, **settings: Any) -> Iterator[tuple[int, int]]:
        yield from list(super().ranges(*arguments, **settings))[:-1]


def record_of(path: str | Path) -> Provenance:
    """Its record, which it must have."""
    with RootFile(path) as file:
        found = Provenance.of(file)
    assert found is not None
    return found


def branches_of(path: str | Path) -> dict[str, Any]:
    """The branches of its events, as arrays of NumPy."""
    with uproot.open(path) as file:
        return dict(file["Events"].arrays(library="np"))


def lists_of(path: str | Path, *names: str) -> dict[str, Any]:
    """All branches of its events, or these, as arrays of Awkward Array."""
    with uproot.open(path) as file:
        return {name: file["Events"][name].array() for name in names or file["Events"].keys()}


def values_of(path: str | Path, tree: str = "Events") -> dict[str, list[Any]]:
    with uproot.open(path) as file:
        return {name: array.tolist() for name, array in file[tree].arrays(how=dict).items()}
