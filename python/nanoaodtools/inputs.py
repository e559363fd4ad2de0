"""The branches that a selection reads in nanoAOD-tools: of the file, and of modules before it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional, cast

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaodtools.output import Made
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.selection import Selected, Selection


class Inputs:
    """The selection with its branches: those that earlier modules have declared come before those of the file.

    Modules may also give each event attributes that exist nowhere else, which are taken for their branches.
    """

    def __init__(
        self, selection: Selection, path: str, branches: Mapping[str, Branch], earlier: Mapping[str, Made]
    ) -> None:
        self._selection, self._path, self._earlier = selection, path, earlier
        self._available = list(dict.fromkeys([*branches, *earlier]))
        self._undeclared = [
            name
            for name in selection.branches
            if not versions.is_glob(name)
            and name not in selection.optional
            and versions.resolve(name, self._available) is None
        ]
        made = {name: self._branch(name, each.counter) for name, each in earlier.items()}
        made.update({name: self._branch(name, None) for name in self._undeclared})
        self._bound = selection.bind(ChainMap(made, cast("dict[str, Branch]", branches)), path)
        self.from_modules = [name for name in self._bound.branches if name in made]
        self.from_file = [name for name in self._bound.branches if name not in made]

    def _branch(self, name: str, counter: Optional[str]) -> Branch:
        if counter is None:
            return Branch(name, "", "flat", "", None, "")
        return Branch(name, "", "jagged", "", versions.collection_of(name, counter, self._available), "")

    def apply(self, arrays: Mapping[str, ak.Array], weights: NDArray[np.float64]) -> Selected:
        """Evaluate the selection; whether an undeclared attribute is a list shows in `arrays` only."""
        lists = {
            name: versions.collection_of(name, None, self._available)
            for name in self._undeclared
            if arrays[name].ndim > 1
        }
        bound = replace(self._bound, collections={**self._bound.collections, **lists})
        return bound.apply(arrays, weights)

    def made(self, event: Any) -> dict[str, ak.Array]:
        """What earlier modules made for an event, in the types of their branches, as arrays of length one."""
        return {name: self._value(event, name) for name in self.from_modules}

    def _value(self, event: Any, name: str) -> ak.Array:
        try:
            value = getattr(event, name)
        except (RuntimeError, AttributeError):
            value = None
        if value is None:
            if name in self._undeclared:
                self._selection.resolve(self._available, self._path)  # says what is missing
            raise NanoMLError(
                f"{self._path}: selection {self._selection.name} reads {name}, which an earlier module declares, "
                f"but did not fill for event {event._entry}."
            )
        dtype = self._earlier[name].dtype if name in self._earlier else None
        if np.isscalar(value):
            return ak.Array(np.array([value], dtype))
        # ROOT gives numbers of eight bits as characters
        numbers = np.array([ord(one) if isinstance(one, str) else one for one in value], dtype)
        return ak.unflatten(numbers, [len(numbers)])
