"""Where the code of a network is, NanoML's or the user's own, which is named as module:Class or file.py:Class."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import importable

__all__ = ["TRAINING", "code_behind", "resolve_model"]

TRAINING = ("ML_processing.training.fold", "ML_processing.training.description")
"""The modules that decide what a training gives, beside that of its network."""


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


def code_behind(model: str, *roots: str) -> str:
    """A hash of the code behind a model that `resolve_model` gave, and behind some modules.

    Raises
    ------
    ConfigError
        There is no such file or module.
    """
    source = _source_of(model)
    return code_of(*roots, source or f"ML_processing.networks.{model}")


def _source_of(model: str) -> Path | None:
    """The source file of a model that `resolve_model` gave; none of a model of NanoML's.

    Raises
    ------
    ConfigError
        There is no such file or module.
    """
    place = model.rpartition(":")[0]
    if not place:
        return None
    if place.endswith(".py"):
        found = Path(place)
    else:
        importlib.invalidate_caches()
        with importable(Path()):
            found = _file_of_module(place)
    if not found.is_file():
        raise ConfigError(
            f'train.model: "{model}": there is no {place}. A file is named relative to the YAML file.'
        )
    return found


def _file_of_module(name: str) -> Path:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # of the package that it is in
        spec = None
    return Path(spec.origin) if spec is not None and spec.origin else Path(name)
