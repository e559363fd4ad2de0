"""Which nanoAOD-tools is installed, and an event loop like its own for machines without it.

Without output a module only needs the tree's names, the entry list, and the values of an event from nanoAOD-tools.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.nanoaodtools.source import input_tree
from MLTools.NanoML.rootio.rootfile import RootFile

_OUTPUT = "PhysicsTools.NanoAODTools.postprocessing.framework.output"


def is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def postprocessor() -> Any:
    """The class PostProcessor of nanoAOD-tools; a test without it is skipped."""
    if MISSING:
        pytest.skip(f"needs {' and '.join(MISSING)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ROOT of PyPI says that it is new
        from PhysicsTools.NanoAODTools.postprocessing.framework import postprocessor as module
    module.InputTree = input_tree  # a job that fails leaves its tree, and the next one's may come to its address
    return module.PostProcessor


Postprocess = Callable[..., Path]
"""Runs nanoAOD-tools on a file, with modules and options of its PostProcessor; returns the output."""


MISSING = [name for name in ("ROOT", _OUTPUT) if not is_there(name)]
needs_nanoaodtools = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")


def record(path: Path, tree: str = "Events") -> Provenance:
    """What a file says of itself, which it does not contradict."""
    with RootFile(path, tree) as file:
        found = Provenance.of(file)
        assert found is not None
        assert found.contradiction(file) is None
    return found


class Tree:
    def __init__(self, listed: Optional[Sequence[int]] = None) -> None:
        self._entrylist: Optional[SimpleNamespace] = None
        if listed is not None:
            self._entrylist = SimpleNamespace(GetN=listed.__len__, GetEntry=listed.__getitem__)
        self._extrabranches: dict[str, Any] = {}

    def GetName(self) -> str:  # noqa: N802
        return "Events"

    def GetListOfFriends(self) -> None:  # noqa: N802
        return None


class Event:
    def __init__(self, tree: Tree, entry: int) -> None:
        self._tree, self._entry = tree, entry

    def __getattr__(self, name: str) -> Any:
        if name not in self._tree._extrabranches:
            raise RuntimeError(f"Unknown branch {name}")
        return self._tree._extrabranches[name]


class Plain:
    """A module that is not a selection: a function of the event."""

    def __init__(self, function: Callable[[Any], bool]) -> None:
        self.analyze = function

    def beginFile(self, *_: Any) -> None:  # noqa: N802
        pass

    endFile = beginFile  # noqa: N815


class Making(Plain):
    """A module that is no selection and makes branches: their types, lengths, and values for an event."""

    def __init__(self, function: Callable[[Any], Any], **branches: tuple[str, Optional[str]]) -> None:
        self.function, self.branches = function, branches

    def beginJob(self) -> None:  # noqa: N802
        pass

    endJob = beginJob  # noqa: N815

    def beginFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:  # noqa: N802
        self.out = output_tree
        for name, (letter, counter) in self.branches.items():
            self.out.branch(name, letter, lenVar=counter)

    def analyze(self, event: Any) -> bool:
        values = self.function(event)
        for name, value in (values or {}).items():
            self.out.fillBranch(name, value)
        return values is not None


def loop(
    modules: Sequence[Any], path: Path, entries: Optional[Iterable[int]] = None, listed: Optional[Sequence[int]] = None
) -> list[tuple[int, dict[str, Any]]]:
    """Events that all modules let through, with the values that they set."""
    tree = Tree(listed)
    with RootFile(path) as file:
        whole = range(file.entries if listed is None else len(listed))
    for module in modules:
        module.beginFile(SimpleNamespace(GetName=lambda: str(path)), None, tree, None)
    found = []
    for number in whole if entries is None else entries:
        event = Event(tree, number)
        tree._extrabranches = {}
        if all(module.analyze(event) for module in modules):
            found.append((number, tree._extrabranches))
    for module in modules:
        module.endFile(None, None, tree, None)
    return found
