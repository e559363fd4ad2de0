"""The beginning of a fine-tuning: weights out of a checkpoint, and parts of the network that stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Shape
from ML_processing.models import Network
from ML_processing.training.description import TrainingDescription, training_file
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.schema.settings import suggestion

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Init

_INSIDE = ("state_dict", "model_state_dict", "model")
"""Under what the state of a network is kept in checkpoints that have more."""

_PARALLEL = "module."
"""How the names begin that `DistributedDataParallel` and `AveragedModel` give."""

_MOST = 8  # names in a message


def begin_with(network: Network, init: Init) -> None:
    """Take the weights of a fresh network from a checkpoint, and freeze parts of it.

    The file has the `state_dict` of the core, or of a network of a training, whose scaling is taken as well: these weights know no other.

    Raises
    ------
    ConfigError
        The network has no such part.
    NanoMLError
        There is no such file, it is no checkpoint, or it does not fit.
    """
    core, state = network.core, _read(Path(init.file))
    for key in ("fresh", "frozen"):
        for part in getattr(init, key):
            if not _inside(core.state_dict(), [part]):
                known = suggestion(part, [name for name, _ in core.named_children()])
                raise ConfigError(f'train.init.{key}: the network has no part "{part}". {known}')
    if any(name.startswith("core.") for name in state):
        scales = {name: it for name, it in state.items() if not name.startswith("core.")}
        state = {name.removeprefix("core."): it for name, it in state.items() if name.startswith("core.")}
        if not (network.has_scale and init.fresh):
            _check_inputs(network.shape, Path(init.file))
        if not network.has_scale:
            _take_scales(network, scales, init.file)
    _load(core, state, init.fresh, init.file)
    for name, parameter in core.named_parameters():
        if _inside([name], init.frozen):
            parameter.requires_grad_(False)


def _check_inputs(mine: Shape, path: Path) -> None:
    """Raise a ConfigError if a training had other inputs, or in another order: its scales and weights know only their places."""
    if not training_file(path.parent).is_file():
        return
    theirs = TrainingDescription.read(path.parent).shape
    names = ([*it.features, *(column for each in it.collections for column in each.columns)] for it in (theirs, mine))
    for learned, read in zip_longest(*names, fillvalue="nothing"):
        if learned != read:
            raise ConfigError(
                f"train.init: {path}: was trained on {learned} where this network reads {read}. The inputs must be the same, in the "
                "same order: see train.features and train.objects."
            )


def _take_scales(network: Network, scales: Mapping[str, Tensor], path: str) -> None:
    """Take the scales of the inputs, and those of targets if there are as many."""
    without = [name for name in network.state_dict() if name.startswith("core.")]
    center = scales.get("target_center")
    network.has_scale, network.has_target_scale = (
        True,
        center is not None and center.shape == network.target_center.shape,
    )
    if not network.has_target_scale:
        without += ["target_center", "target_width"]
    _load(network, scales, without, path)


def frozen_parts(core: nn.Module, init: Init | None) -> list[nn.Module]:
    """The modules that are frozen: in training they stay as in evaluation, without dropout and with the averages that they have."""
    return [it for name, it in core.named_modules() if init is not None and name in init.frozen]


def why_not_loaded(problem: Exception) -> str:
    """What `torch.load` says of a file, without its advice to trust it."""
    if isinstance(problem, UnpicklingError):
        kind = re.search(r"Unsupported global: GLOBAL (\S+)", str(problem))
        return f"it holds objects of {kind[1]}" if kind else "it holds more than tensors, or is damaged"
    return str(problem).partition("\n")[0]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise NanoMLError(f"train.init: {path}: no such file.") from None
    except Exception as problem:  # what torch.load raises for another file depends on the file
        reason = why_not_loaded(problem)
        raise NanoMLError(
            f"train.init: {path}: is not a checkpoint of tensors only ({reason}). Write one by torch.save(network.state_dict(), PATH)."
        ) from None
    found: Any = content
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            found = content[key]
            break
    if not isinstance(found, Mapping) or not any(isinstance(it, Tensor) for it in found.values()):
        raise NanoMLError(f"train.init: {path}: has no state_dict, but a {type(found).__name__}.")
    state = {str(name): it for name, it in found.items() if isinstance(it, Tensor)}
    if any(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): it for name, it in state.items() if name.startswith(_PARALLEL)}
    return state


def _load(module: nn.Module, state: Mapping[str, Tensor], without: Iterable[str], path: str) -> None:
    """Load a state, but for some parts; a NanoMLError names all that is missing, unexpected, or of another shape."""
    parts = [*without]
    given = {name: it for name, it in state.items() if not _inside([name], parts)}
    own = module.state_dict()
    others = {name: it for name, it in given.items() if name in own and it.shape != own[name].shape}
    # this also calls what a user has registered by register_load_state_dict_pre_hook, to rename weights for instance
    found = module.load_state_dict({name: it for name, it in given.items() if name not in others}, strict=False)
    missing = [name for name in found.missing_keys if name not in others and not _inside([name], parts)]
    shapes = [f"{name} {tuple(it.shape)} instead of {tuple(own[name].shape)}" for name, it in others.items()]
    problems = [
        f"{what}: {listed(names, _MOST)}"
        for what, names in (
            ("it lacks", missing),
            ("has what the network has not", found.unexpected_keys),
            ("shapes differ", shapes),
        )
        if names
    ]
    if problems:
        raise NanoMLError(
            f"train.init: {path}: does not fit the network {type(module).__name__}: {'; '.join(problems)}. Name parts that are to "
            "begin with random weights in train.init.fresh."
        )


def _inside(names: Iterable[str], parts: Iterable[str]) -> bool:
    """Whether any of these weights is one of the parts, or inside one."""
    return any(name == part or name.startswith(f"{part}.") for name in names for part in parts)
