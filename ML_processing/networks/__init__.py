"""The networks that can be trained, a module each with the name that train.model has for it; and the code behind them.

A user's own network is named as module:Class or file.py:Class.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import importable

TRAINING = ("ML_processing.training.fold", "ML_processing.training.description")
"""The modules that decide what a training gives, beside that of its network."""


def resolve_model(model: str, base: Path) -> str:
    """`train.model` in a form that means the same in every directory.

    A name of NanoML's stays as it is, and so does a module on the import path. Files are relative to `base`, where modules
    may be, too.
    """
    place, _, name = model.rpartition(":")
    if place.endswith(".py"):
        return f"{(base / Path(place).expanduser()).resolve()}:{name}"
    if place and (base / f"{place}.py").is_file():
        return f"{(base / place).resolve()}.py:{name}"
    return model


def code_behind(model: str, *roots: str) -> str:
    """A hash of the code behind some modules and a model, as returned by `resolve_model`; a ConfigError if it is missing."""
    place = model.rpartition(":")[0]
    return code_of(*roots, _source_of(model, place) if place else f"ML_processing.networks.{model}")


def _source_of(model: str, place: str) -> Path:
    """The source file of a user's own model."""
    found = Path(place)
    if not place.endswith(".py"):
        importlib.invalidate_caches()
        with importable(Path()):
            try:
                spec = importlib.util.find_spec(place)
            except ModuleNotFoundError:  # there is no such package
                spec = None
        if spec is not None and spec.origin:
            found = Path(spec.origin)
    if not found.is_file():
        raise ConfigError(f'train.model: "{model}": there is no {place}. A file is named relative to the YAML file.')
    return found
