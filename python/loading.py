"""Imports files and modules of users."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Optional

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.observing import imported
from MLTools.NanoML.observing.whose import is_of_user


def load_module(what: str, place: str, prefix: str, base: str | os.PathLike[str] = ".") -> ModuleType:
    """Import a user's `place`: a file.py, relative to the directory `base`, or a module on the import path or in `base`.

    Raises ConfigError, which begins with `what`, if there is no such file or module, or it fails.
    """
    path = file_of(what, place, base) if place.endswith(".py") else None
    try:
        with importable(Path(base)) if path is None else nullcontext():
            make = partial(importlib.import_module, place) if path is None else partial(import_file, path, prefix)
            return imported(make, prefix == "nanoml_selection")
    except Exception as problem:
        raise _import_failed(what, problem) from problem


def file_of(what: str, place: str, base: str | os.PathLike[str] = ".") -> Path:
    """Where `load_module` finds a user's `place`, without importing it; a ConfigError as from there."""
    path = Path(base, place)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"{what}: {path}: no such file.")
        return path
    importlib.invalidate_caches()
    with importable(Path(base)), suppress(ModuleNotFoundError):  # one of its packages
        spec = importlib.util.find_spec(place)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise ConfigError(f"{what}: there is no module {place} on the import path or in {base}.")


def import_file(path: Path, prefix: str) -> ModuleType:
    """Import a Python file that is not on the import path, once; it may import helpers beside it.

    The name of the module is `prefix` and the path of the file.
    """
    name = "_".join((prefix, *path.resolve().with_suffix("").parts[1:]))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Beside:
    """Finds helpers beside the file of a user that imports them, also those that a function imports later."""

    @staticmethod
    def find_spec(name: str, path: Optional[Sequence[str]] = None, target: object = None) -> Optional[ModuleSpec]:
        """Where a module is that is found nowhere else."""
        frame: Optional[FrameType] = sys._getframe(1)
        while frame is not None and (
            "importlib" in frame.f_code.co_filename or frame.f_code.co_name == "_import_for_users"
        ):
            frame = frame.f_back
        if path is not None or frame is None or not is_of_user(frame):
            return None
        return PathFinder.find_spec(name, [os.path.dirname(frame.f_code.co_filename)])


sys.meta_path.append(_Beside)


@contextmanager
def importable(directory: Path) -> Iterator[None]:
    """Put a directory at the end of the import path, for helpers beside a user's file."""
    path = str(directory.resolve())
    sys.path.append(path)
    try:
        yield
    finally:
        sys.path.remove(path)


def _import_failed(what: str, problem: Exception) -> ConfigError:
    if isinstance(problem, NanoMLError):  # which says all
        return ConfigError(f"{what}: {problem}")
    where = ""
    if isinstance(problem, SyntaxError):
        where = f" ({problem.filename}:{problem.lineno})"
    elif problem.__traceback__ is not None:
        last = inspect.getinnerframes(problem.__traceback__)[-1]
        where = f" ({last.filename}:{last.lineno})" if "importlib" not in last.filename else ""
    return ConfigError(f"{what}: cannot be imported: {type(problem).__name__}: {problem}{where}.")
