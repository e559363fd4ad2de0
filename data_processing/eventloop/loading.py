"""Loads a user's modules by their names, with our `PhysicsTools.NanoAODTools` and `ROOT` where these are not installed."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from data_processing.eventloop import postprocessing, root
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import import_file, importable
from MLTools.NanoML.rootio import versions

_TOOLS = "PhysicsTools.NanoAODTools.postprocessing"
_PLACES: dict[str, Sequence[str]] = {
    # what of our modules `postprocessing` and `root` is found there; nothing in a package
    "PhysicsTools": (),
    "PhysicsTools.NanoAODTools": (),
    _TOOLS: (),
    f"{_TOOLS}.tools": (
        *("closest", "deltaPhi", "deltaR", "matchObjectCollection", "matchObjectCollectionMultiple"),
        *("ensureTFile", "extractTH1", "hasbit"),
    ),
    f"{_TOOLS}.framework": (),
    f"{_TOOLS}.framework.datamodel": ("Collection", "Event", "InputTree", "Object", "statusflags"),
    f"{_TOOLS}.framework.eventloop": ("Module",),
    f"{_TOOLS}.framework.postprocessor": ("PostProcessor",),
    "ROOT": (*root.__all__, "__getattr__"),
}
_NOT_USERS = tuple(
    {str(Path(__file__).parent) + os.sep, *(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "platstdlib"))}
)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds our modules under the names that they have in nanoAOD-tools."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname not in _PLACES:
            return None
        return ModuleSpec(fullname, self, is_package=not _PLACES[fullname])

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        ours = root if module.__name__ == "ROOT" else postprocessing
        vars(module).update({name: getattr(ours, name) for name in _PLACES[module.__name__]})


@contextmanager
def standing_in(always: bool = False) -> Iterator[None]:
    """Inside the block, let our modules be imported in place of what is not installed, or `always`."""
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


def line_of(problem: BaseException) -> str:
    """The innermost line of a user's code in a traceback, as "FILE:LINE: "; empty if there is none.

    A user's code belongs neither to Python, nor to an installed package, nor to this one.
    """
    lines = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(problem.__traceback__)]
    if isinstance(problem, SyntaxError) and problem.filename is not None:
        lines.append((problem.filename, problem.lineno or 0))
    for file, line in reversed(lines):
        if not file.startswith(("<", *_NOT_USERS)) and "site-packages" not in file:
            return f"{file}:{line}: "
    return ""


def load_module(spec: str, base: str | os.PathLike[str] = ".", always: bool = False) -> list[Any]:
    """Find modules by "module:NAME" or "file.py:NAME", as `nano_postproc.py -I module NAME` does.

    NAME is a class or a function that is called without arguments, a module itself, or a list of these; several names
    are separated by commas. A file is relative to the directory `base`; a Python module is looked for on the import path
    and in `base`. With `always`, our own `PhysicsTools.NanoAODTools` and `ROOT` are imported also where others are
    installed. The modules found are objects with the method `analyze`.
    """
    place, _, names = spec.rpartition(":")
    if not place or not names:
        raise ConfigError(f'module "{spec}": write it as module:NAME or file.py:NAME.')
    with standing_in(always):
        found = _imported(spec, place, Path(base), always)
        made: list[Any] = []
        for name in names.split(","):
            if not hasattr(found, name):
                hint = versions.did_you_mean(name, vars(found))
                raise ConfigError(f'module "{spec}": {place} has no {name}.{hint}')
            made += _made(spec, name, getattr(found, name))
    return made


def _made(spec: str, name: str, thing: Any) -> list[Any]:
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [module for part in thing for module in _made(spec, name, part)]
    if callable(thing) and (inspect.isclass(thing) or not hasattr(thing, "analyze")):
        try:
            thing = thing()
        except Exception as problem:  # whatever a user's code raises, its line is what helps
            raise ConfigError(
                f'module "{spec}": {line_of(problem)}{name}() failed: {type(problem).__name__}: {problem}'
            ) from problem
    if not callable(getattr(thing, "analyze", None)):
        raise ConfigError(f'module "{spec}": {name} gives {type(thing).__name__}, which has no method analyze.')
    return [thing]


def _imported(spec: str, place: str, base: Path, always: bool) -> ModuleType:
    path = base / place if place.endswith(".py") else None
    if path and not path.is_file():
        raise ConfigError(f'module "{spec}": {path}: no such file.')
    try:
        if path:
            return import_file(path, "nanoml_own" if always else "nanoml_user")
        with importable(base):
            return importlib.import_module(place)
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, ImportError) and problem.name == "ROOT":
            reason += ": install ROOT (pip install root) or run under --engine nanoaodtools"
        raise ConfigError(f'module "{spec}": {line_of(problem)}cannot be imported: {reason}') from problem
