"""Finds a user's modules by their names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from data_processing.eventloop.blame import line_of
from data_processing.eventloop.imports import standing_in
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import import_file, importable
from MLTools.NanoML.nanoaod import versions

__all__ = ["load_module"]


def load_module(spec: str, base: str | os.PathLike[str] = ".", always: bool = False) -> list[Any]:
    """Find modules by "module:NAME" or "file.py:NAME", as `nano_postproc.py -I module NAME` does.

    Parameters
    ----------
    spec
        Where they are. NAME is a class or a function that is called without arguments, a module itself, or a list
        of such things; several names are separated by commas. A file is relative to `base`; a Python module is
        looked for on the import path and in `base`.
    base
        A directory.
    always
        Whether our own `PhysicsTools.NanoAODTools` and `ROOT` are imported also where others are installed.

    Returns
    -------
    The modules: objects with the method `analyze`.

    Raises
    ------
    ConfigError
        There is no such module, file or name, it cannot be imported, or it is no module of nanoAOD-tools.
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
        raise ConfigError(
            f'module "{spec}": {name} gives {type(thing).__name__}, which has no method analyze.'
        )
    return [thing]


def _imported(spec: str, place: str, base: Path, always: bool) -> ModuleType:
    path = base / place
    if place.endswith(".py") and not path.is_file():
        raise ConfigError(f'module "{spec}": {path}: no such file.')
    try:
        if place.endswith(".py"):
            return import_file(path, "nanoml_own" if always else "nanoml_user")
        with importable(base):
            return importlib.import_module(place)
    except Exception as problem:
        told = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, ImportError) and problem.name == "ROOT":
            told += ": install ROOT (pip install root) or run under --engine nanoaodtools"
        raise ConfigError(f'module "{spec}": {line_of(problem)}cannot be imported: {told}') from problem
