"""Networks by their names in the configuration."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ML_processing.events.inputs import Shape
from ML_processing.models.network import Network
from MLTools.NanoML.config.training import MODELS
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import load_module
from MLTools.NanoML.model import CLASSES, TARGETS
from MLTools.NanoML.rootio.versions import did_you_mean

_NETWORKS: dict[str, type[nn.Module]] = {}


def network(core: type[nn.Module]) -> type[nn.Module]:
    """Register a class as the network that `train.model` names by its module, which is in ML_processing/networks/.

    A class that needs collections of objects says so by `object_fields`: the fields that it needs of each, maybe none. It may
    also have `defaults` and `unused`. The configuration reads these in its source, so they must be written as they are.
    """
    _NETWORKS[core.__module__.rpartition(".")[2]] = core
    return core


def make_network(model: str, options: Mapping[str, Any], shape: Shape, is_raw: bool = False) -> Network:
    """A fresh network with random weights; its scaling is not fitted yet.

    Parameters
    ----------
    model
        A module of ML_processing/networks/, or "module:Class" or "file.py:Class": a `torch.nn.Module` whose constructor
        takes the shape and options, each with a default, and whose forward takes scaled `Inputs` and returns outputs
        of shape (N, shape.outputs). It may have `object_fields`, as explained by `network`, and what `hooks.Hooks` declares.
        Modules and files are looked for in the current directory, modules also on the import path.
    options
        Options of its constructor.
    shape
        What it reads and gives.
    is_raw
        Whether it reads inputs as they are in the files, but for missing values and padding, which are 0.

    Raises
    ------
    ConfigError
        There is no such model, it has no such option, an option has no meaning, or it cannot use such inputs.
    NanoMLError
        `forward` of a user's own network fails, or returns something else.
    """
    core = model_class(model)
    known = _check_options(model, core, options)
    _check_objects(model, getattr(core, "object_fields", None), shape)
    try:
        made = core(shape.inside, **options)
    except (TypeError, ValueError) as problem:
        raise ConfigError(
            f'train.options: the model "{model}" cannot be made with {dict(options)}: '
            f"{type(problem).__name__}: {problem}. Its options: {known}."
        ) from problem
    return Network(shape, made, model not in MODELS, is_raw)


def heads_of(model: str) -> tuple[str, ...]:
    """The heads that the class of a model names, as `Hooks` explains; none for a network that has one only."""
    if model in MODELS:
        return ()
    heads = getattr(model_class(model), "heads", ())
    if not isinstance(heads, (tuple, list)) or not all(isinstance(name, str) for name in heads):
        raise ConfigError(f'train.model: "{model}": its `heads` are {heads!r}, but must be a tuple of texts.')
    if heads and not {CLASSES, TARGETS} & set(heads):
        raise ConfigError(
            f'train.model: "{model}": its `heads` are {", ".join(heads)}: "{CLASSES}" or "{TARGETS}" is missing.'
        )
    return tuple(heads)


def options_of(model: str) -> dict[str, Any]:
    """The options of a model, with their defaults (None without one); a ConfigError if there is no such model."""
    named = _named(_parameters(model_class(model)))
    return {it.name: None if it.default is it.empty else it.default for it in named}


def _parameters(core: type[nn.Module]) -> list[inspect.Parameter]:
    """Parameters of the constructor of a model after the shape."""
    return list(inspect.signature(core).parameters.values())[1:]


def _named(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    return [it for it in parameters if it.kind in (it.POSITIONAL_OR_KEYWORD, it.KEYWORD_ONLY)]


def model_class(model: str) -> type[nn.Module]:
    """The class of a model; a ConfigError if there is none."""
    if model in MODELS:
        # imported here: a training depends on its own network, not on the others
        importlib.import_module(f"ML_processing.networks.{model}")
        return _NETWORKS[model]
    place, _, name = model.rpartition(":")
    if not place or not name:
        raise ConfigError(
            f'train.model: "{model}" is not a model.{did_you_mean(model, MODELS)} Known: {", ".join(MODELS)}; '
            "one of your own is named as module:Class or file.py:Class."
        )
    module = load_module(f'train.model: "{model}"', place, "nanoml_model")
    found = getattr(module, name, None)
    if found is None:
        known = [key for key, value in vars(module).items() if _is_module(value)]
        raise ConfigError(
            f'train.model: "{model}": {place} has no class {name}.{did_you_mean(name, known)} '
            f"It has: {', '.join(known) or 'no torch.nn.Module'}."
        )
    if not _is_module(found):
        raise ConfigError(f'train.model: "{model}": {name} is not a class made from torch.nn.Module.')
    own: type[nn.Module] = found
    return own


def _check_objects(model: str, needed: Sequence[str] | None, shape: Shape) -> None:
    """Make sure that there are collections with the fields that the network needs, if it needs any."""
    if needed is None:
        return
    if not shape.collections:
        raise ConfigError(
            f'train.model: "{model}" reads collections of objects, but there is none. Name one in '
            f"`convert.objects` (and in `train.objects`, if that is given), or use {MODELS[0]}."
        )
    lacking = [f"{it.name}_{field}" for it in shape.collections for field in needed if field not in it.fields]
    if lacking:
        raise ConfigError(
            f'train.model: "{model}" needs {", ".join(needed)} of every collection. Add {", ".join(lacking)} in '
            "`convert.objects`, train without the collection (`train.objects`), or use another model."
        )


def _is_module(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _check_options(model: str, core: type[nn.Module], options: Mapping[str, Any]) -> str:
    """Make sure that the constructor takes these options; return the names of all that it takes."""
    parameters = _parameters(core)
    names = [it.name for it in _named(parameters)]
    known = ", ".join(names) or "none"
    if any(it.kind is it.VAR_KEYWORD for it in parameters):
        return known
    for option in options:
        if option not in names:
            raise ConfigError(
                f'train.options.{option}: the model "{model}" has no such option.{did_you_mean(option, names)} '
                f"Its options: {known}."
            )
    return known
