"""A network of the user's own, named as module:Class or file.py:Class: where its code is."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import importable
from MLTools.NanoML.task import source_of

__all__ = ["resolve_model", "source_of_model"]


def resolve_model(model: str, base: Path) -> str:
    """`train.model` so that it means the same in every directory.

    Parameters
    ----------
    model
        The setting. A name of NanoML's stays as it is, and so does a module on the import path.
    base
        To which files are relative, and where modules may be, too.
    """
    place, _, name = model.rpartition(":")
    if place.endswith(".py"):
        return f"{(base / Path(place).expanduser()).resolve()}:{name}"
    if place and (base / f"{place}.py").is_file():
        return f"{(base / place).resolve()}.py:{name}"
    return model


def source_of_model(model: str) -> tuple[Path, ...]:
    """Source files of a model that `resolve_model` gave; none of a model of NanoML's.

    Raises
    ------
    ConfigError
        There is no such file or module.
    """
    place = model.rpartition(":")[0]
    if not place:
        return ()
    if place.endswith(".py"):
        found = tuple(path for path in [Path(place)] if path.is_file())
    else:
        importlib.invalidate_caches()
        with importable(Path()):
            found = _source_of_module(place)
    if not found:
        raise ConfigError(
            f'train.model: "{model}": there is no {place}. A file is named relative to the YAML file.'
        )
    return found


def _source_of_module(name: str) -> tuple[Path, ...]:
    try:
        return source_of(name)
    except ModuleNotFoundError:  # of the package that it is in
        return ()
