"""What a selection reads: from the file, or from what modules before it make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaodtools.columns import Made
from MLTools.NanoML.rootio.rootfile import Branch
from MLTools.NanoML.selection import Selection

__all__ = ["Reads"]


@dataclass(frozen=True)
class Reads:
    """Where the branches come from that a selection reads. All dictionaries go from its names for them.

    Attributes
    ----------
    selection
        The selection.
    path
        The file.
    branches
        The file's branches.
    earlier
        Branches that modules before this one have declared.
    from_file
        To the file's names.
    from_modules
        To the names that modules before this one have given.
    undeclared
        Names that are nowhere: modules may still give such an attribute to each event.
    """

    selection: Selection
    path: str
    branches: Mapping[str, Branch]
    earlier: Mapping[str, Made]
    from_file: dict[str, str]
    from_modules: dict[str, str]
    undeclared: list[str]

    @classmethod
    def of(
        cls, selection: Selection, path: str, branches: Mapping[str, Branch], earlier: Mapping[str, Made]
    ) -> Reads:
        """Find them. What a module before this one makes hides a branch of the file."""
        available = list(dict.fromkeys([*branches, *earlier]))
        undeclared = [
            name
            for name in selection.branches
            if not versions.is_glob(name)
            and name not in selection.optional
            and versions.resolve(name, available) is None
        ]
        found = selection.resolve([*available, *undeclared], path)
        made = {asked: name for asked, name in found.items() if name in earlier or name in undeclared}
        read = {asked: name for asked, name in found.items() if asked not in made}
        return cls(selection, path, branches, earlier, read, made, undeclared)

    def collections(self, made: Mapping[str, ak.Array]) -> dict[str, str]:
        """The collections of all lists, those of the file and those among `made`."""
        found = {
            asked: self.branches[name].collection or ""
            for asked, name in self.from_file.items()
            if self.branches[name].is_jagged
        }
        available = [*self.branches, *self.earlier]
        for asked, values in made.items():
            if values.ndim > 1:
                name = self.from_modules[asked]
                counter = self.earlier[name].counter if name in self.earlier else None
                found[asked] = versions.collection_of(name, counter, available)
        return found

    def made(self, event: Any) -> dict[str, ak.Array]:
        """What modules before this one made for an event, in the types of their branches, as arrays of length one.

        Raises
        ------
        NanoMLError
            They made no such thing.
        """
        return {asked: self._value(event, name) for asked, name in self.from_modules.items()}

    def _value(self, event: Any, name: str) -> ak.Array:
        try:
            value = getattr(event, name)
        except (RuntimeError, AttributeError):
            value = None
        if value is None:
            if name in self.undeclared:
                self.selection.resolve([*self.branches, *self.earlier], self.path)  # says what is missing
            raise NanoMLError(
                f"{self.path}: selection {self.selection.name} reads {name}, which a module before it declares, "
                f"but did not fill for event {event._entry}."
            )
        dtype = self.earlier[name].dtype if name in self.earlier else None
        if np.isscalar(value):
            return ak.Array(np.array([value], dtype))
        # ROOT gives numbers of eight bits as characters
        numbers = np.array([ord(one) if isinstance(one, str) else one for one in value], dtype)
        return ak.unflatten(numbers, [len(numbers)])
