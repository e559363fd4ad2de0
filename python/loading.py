"""Finds a user's selection by its name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from MLTools.NanoML import nanoaod
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.selection import Selection

__all__ = ["load_selection"]


def load_selection(spec: str, base: str | os.PathLike[str] = ".") -> Selection:
    """Find a selection by "module:Class" or "file.py:Class".

    Parameters
    ----------
    spec
        Where it is. A file is relative to `base`; a module is looked for on the import path and in `base`.
    base
        A directory.

    Raises
    ------
    ConfigError
        There is no such module, file or class, or it is no selection.
    """
    place, _, attribute = spec.rpartition(":")
    if not place or not attribute:
        raise ConfigError(f'selection "{spec}": write it as module:Class or file.py:Class.')
    module = _load_file(spec, Path(base, place)) if place.endswith(".py") else _load_module(spec, place, base)
    found = getattr(module, attribute, None)
    known = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Selection) and value is not Selection
    ]
    if found is None:
        raise ConfigError(
            f'selection "{spec}": {place} has no class {attribute}.{nanoaod.did_you_mean(attribute, known)} '
            f"It has: {', '.join(known) or 'no selection'}."
        )
    if not (inspect.isclass(found) and issubclass(found, Selection)):
        raise ConfigError(
            f'selection "{spec}": {attribute} is not a class made from MLTools.NanoML.selection.Selection.'
        )
    return found()


def _load_file(spec: str, path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f'selection "{spec}": {path}: no such file.')
    name = "nanoml_selection_" + "_".join(path.resolve().with_suffix("").parts[1:])
    if name in sys.modules:
        return sys.modules[name]
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        with _Importable(path.parent):
            module_spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        raise _import_failed(spec, problem) from problem
    return module


def _load_module(spec: str, name: str, base: str | os.PathLike[str]) -> Any:
    try:
        with _Importable(Path(base)):
            return importlib.import_module(name)
    except Exception as problem:
        raise _import_failed(spec, problem) from problem


class _Importable:
    """Puts a directory at the end of the import path: a selection's helpers may stand beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory.resolve())

    def __enter__(self) -> None:
        sys.path.append(self.directory)

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self.directory)


def _import_failed(spec: str, problem: Exception) -> ConfigError:
    where = ""
    if isinstance(problem, SyntaxError):
        where = f" ({problem.filename}:{problem.lineno})"
    elif problem.__traceback__ is not None:
        last = inspect.getinnerframes(problem.__traceback__)[-1]
        where = f" ({last.filename}:{last.lineno})" if "importlib" not in last.filename else ""
    return ConfigError(f'selection "{spec}": cannot be imported: {type(problem).__name__}: {problem}{where}.')
