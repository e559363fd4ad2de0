"""The networks that can be trained, a module each with the name that train.model has for it; and the code behind them.

A user's own network is named as module:Class or file.py:Class.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import file_of
from MLTools.NanoML.observing import as_planned

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

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


def resolved(train: Train, base: Path) -> Train:
    """The section with a model and a checkpoint that mean the same in every directory; paths are relative to `base`."""
    start = train.start
    if start is not None:
        start = replace(start, file=str((base / Path(start.file).expanduser()).resolve()))
    return replace(train, model=resolve_model(train.model, base), init=start)


def beginning(train: Train) -> list[object] | None:
    """The part of `train.init` that decides a training: the hash of the checkpoint, and the parts that are fresh and frozen.

    None without a checkpoint, and a ConfigError if there is no such file.
    """
    start = train.start
    if start is None:
        return None
    try:
        return [file_hash(start.file), start.fresh, start.frozen]
    except OSError as problem:
        raise ConfigError(f"train.init: {start.file}: {problem.strerror}.") from None


def code_behind(model: str, *roots: str) -> str:
    """A hash of the code behind some modules and a model, as returned by `resolve_model`; a ConfigError if it is missing."""
    place = model.rpartition(":")[0]
    own = as_planned(file_of(f'train.model: "{model}"', place)) if place else f"ML_processing.networks.{model}"
    return code_of(*roots, own)
