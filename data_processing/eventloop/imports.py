"""Makes `PhysicsTools.NanoAODTools` and `ROOT` importable where they are not installed."""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Optional

__all__ = ["standing_in"]

_TOOLS = "PhysicsTools.NanoAODTools.postprocessing"
_HERE = "data_processing.eventloop"
_PLACES: dict[str, Optional[str]] = {  # None: a package, which has nothing of its own
    "ROOT": f"{_HERE}.root",
    "PhysicsTools": None,
    "PhysicsTools.NanoAODTools": None,
    _TOOLS: None,
    f"{_TOOLS}.tools": f"{_HERE}.tools",
    f"{_TOOLS}.framework": None,
    f"{_TOOLS}.framework.datamodel": f"{_HERE}.datamodel",
    f"{_TOOLS}.framework.eventloop": f"{_HERE}.eventloop",
    f"{_TOOLS}.framework.postprocessor": f"{_HERE}.postprocessor",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds our modules under the names that they have in nanoAOD-tools."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname not in _PLACES:
            return None
        return ModuleSpec(fullname, self, is_package=_PLACES[fullname] is None)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        place = _PLACES[module.__name__]
        if place is not None:
            ours = importlib.import_module(place)
            names = [*getattr(ours, "__all__", ()), *({"__getattr__"} & set(vars(ours)))]
            vars(module).update({name: getattr(ours, name) for name in names})


@contextmanager
def standing_in(always: bool = False) -> Iterator[None]:
    """Let ours be imported, inside the block, in the place of what is not installed.

    Parameters
    ----------
    always
        Also in the place of what is installed.
    """
    finder = _Finder()
    hidden = {name: sys.modules.pop(name) for name in _PLACES if always and name in sys.modules}
    # the last finder is asked for what no other one has
    sys.meta_path.insert(0 if always else len(sys.meta_path), finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in _PLACES:
            module = sys.modules.get(name)
            if module is not None and getattr(module.__spec__, "loader", None) is finder:
                del sys.modules[name]
                parent, _, child = name.rpartition(".")
                vars(sys.modules.get(parent, module)).pop(child, None)
        sys.modules.update(hidden)
