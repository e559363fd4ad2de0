"""A network behind the scaling of its inputs, the networks of all folds as one, and networks by their names in the configuration."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, ObjectTensors, Shape
from ML_processing.models.hooks import Boosted, first, sizes_of_heads
from ML_processing.models.scaling import Scaler, Scaling, Unscaled, center_and_width
from MLTools.NanoML.config.training import MODELS
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.loading import load_module
from MLTools.NanoML.model import CLASSES, TARGETS, Discriminant
from MLTools.NanoML.model.entries import SMALLEST, coefficients
from MLTools.NanoML.rootio.versions import did_you_mean


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one core.

    Networks for tables are too small to gain from more, and so the numbers do not depend on how many cores a
    machine has: sums are made in the same order everywhere.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Network(nn.Module):
    """A network that reads inputs as they are in the files: their scaling, and a core behind it.

    The core goes from scaled `Inputs` to outputs, float32 (N, shape.outputs), or to those of several heads; `models.hooks.Hooks` says
    what else it may have. Targets have a scale, too: `target_center` and `target_width`, float32 (targets,), which are 0 and 1 for
    a classification without.

    Attributes
    ----------
    has_scale, has_target_scale
        Whether the scales of inputs and of targets are known, and do not follow from the training events.
    others
        The number of outputs of each head, if there are several, without the one by which the network is judged; "targets" comes first.
    """

    target_center: Tensor
    target_width: Tensor

    def __init__(self, shape: Shape, core: nn.Module, is_own: bool = False, is_raw: bool = False) -> None:
        super().__init__()
        self.shape = shape
        limit = Scaler.FARTHEST if is_raw else Scaler.LIMIT
        self.scaling = Unscaled(shape) if isinstance(core, Boosted) else Scaling(shape, limit)
        self.has_scale = self.has_target_scale = is_raw
        self.core = core
        size = shape.targets or shape.outputs
        self.register_buffer("target_center", torch.zeros(size))
        self.register_buffer("target_width", torch.ones(size))
        sizes = sizes_of_heads(core, self.scaling(_example(shape)), {CLASSES: shape.outputs, TARGETS: size}, is_own)
        main = CLASSES if CLASSES in sizes else TARGETS
        rest = (name for name in sizes if name != main)
        self.others = {name: sizes[name] for name in sorted(rest, key=lambda name: name != TARGETS)}

    def fit(
        self,
        features: NDArray[np.float32],
        objects: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        """Take the scales of the inputs (see `Scaling.fit`) and of targets (N, targets) from the training events, if need be."""
        if not self.has_scale:
            self.scaling.fit(features, objects)
        if targets is None or self.has_target_scale:
            return
        for i, column in enumerate(targets.T):
            center, width = center_and_width(column[np.isfinite(column)])
            self.target_center[i] = center
            self.target_width[i] = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, or regression outputs on the scale of `standardize`, float32 of shape (N, outputs)."""
        return first(self.core(self.scaling(inputs)))

    def standardize(self, targets: Tensor) -> Tensor:
        """Targets (N, outputs) of a regression, shifted and scaled to a centre of 0 and a width of 1."""
        return (targets - self.target_center) / self.target_width

    def outputs(self, inputs: Inputs) -> Tensor:
        """Logits, or estimates on the scale of the targets, float32 of shape (N, outputs), and behind them those of `others`."""
        found = self.core(self.scaling(inputs))
        if isinstance(found, Tensor):
            return found * self.target_width + self.target_center
        if TARGETS in found:
            found = {**found, TARGETS: found[TARGETS] * self.target_width + self.target_center}
        return torch.cat([first(found), *(found[name] for name in self.others)], dim=1)


def scores_of(outputs: Tensor, classes: int) -> Tensor:
    """Outputs (N, M) of a network with probabilities instead of the logits of its first columns, one for each class."""
    return torch.cat([torch.softmax(outputs[:, :classes], dim=1), outputs[:, classes:]], dim=1)


def _example(shape: Shape) -> Inputs:
    """Two events for trying a network."""
    objects = {
        it.name: ObjectTensors(torch.zeros(2, it.max, len(it.fields)), torch.ones(2, it.max).bool())
        for it in shape.collections
    }
    return Inputs(torch.zeros(2, len(shape.features)), objects)


class Ensemble(nn.Module):
    """The networks of all folds as one module on tensors: what is exported.

    The task is "classification" for probabilities, "regression" for values. A classification into `classes` may have
    `discriminants`, which follow from the probabilities.
    """

    above: Tensor  # float32, (outputs, discriminants): how the probabilities enter the numerators
    below: Tensor  # and the denominators

    def __init__(
        self,
        networks: Sequence[Network],
        shape: Shape,
        task: Literal["classification", "regression"],
        discriminants: Sequence[Discriminant] = (),
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shape = shape
        self.task = task
        self.has_discriminants = bool(discriminants)
        self.has_others = any(each.others for each in networks)
        if discriminants:
            above, below = coefficients(discriminants, classes)
            self.register_buffer("above", torch.from_numpy(above))
            self.register_buffer("below", torch.from_numpy(below))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities and discriminants, or estimates, and other heads, from float32 tensors as in `shape.tensors`.

        Returned are those of the mean over the networks, shape (N, outputs + discriminants + others), and those of each network,
        shape (N, networks, ...). The discriminants of the mean follow from the mean probabilities.
        """
        inputs = Inputs.of_tensors(self.shape, tensors)
        parts = [self._outputs(network, inputs) for network in self.networks]
        each = torch.stack(parts, dim=1)
        if not self.has_discriminants:
            return each.mean(dim=1), each
        # joined network by network, so that the part of one network can be cut out of the exported graph
        return self._complete(each.mean(dim=1)), torch.stack([self._complete(part) for part in parts], dim=1)

    def _complete(self, outputs: Tensor) -> Tensor:
        """Probabilities (N, outputs), behind them the discriminants, and then the other heads."""
        probabilities, others = outputs, []
        if self.has_others:
            probabilities, others = outputs[:, : self.shape.outputs], [outputs[:, self.shape.outputs :]]
        discriminants = (probabilities @ self.above) / (probabilities @ self.below).clamp(min=SMALLEST)
        return torch.cat([probabilities, discriminants, *others], dim=1)

    def _outputs(self, network: nn.Module, inputs: Inputs) -> Tensor:
        assert isinstance(network, Network)
        if self.task == "regression":
            return network.outputs(inputs)
        if self.has_others:
            return scores_of(network.outputs(inputs), self.shape.outputs)
        return torch.softmax(network(inputs), dim=1)


_NETWORKS: dict[str, type[nn.Module]] = {}


def network(core: type[nn.Module]) -> type[nn.Module]:
    """Register a class as the network that `train.model` names by its module, which is in ML_processing/networks/.

    A class that needs collections of objects says so by `object_fields`: the fields that it needs of each, maybe none. It may
    also have `defaults`, and as `unused` settings, or what these are about (`Train.about`). The configuration reads all this in its
    source, so it must be written as it is.
    """
    _NETWORKS[core.__module__.rpartition(".")[2]] = core
    return core


def make_network(model: str, options: Mapping[str, object], shape: Shape, is_raw: bool = False) -> Network:
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
        Its inputs and outputs.
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


def options_of(model: str) -> dict[str, object]:
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
    return found


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


def _check_options(model: str, core: type[nn.Module], options: Mapping[str, object]) -> str:
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
