"""The directory of a training: its files, and its networks, loaded again or begun with the weights of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.data import Table
from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.hooks import Boosted
from ML_processing.models.network import Network, make_network, scores_of
from ML_processing.models.scaling import Scaling
from ML_processing.training.data import ParameterGrid, inputs_of
from ML_processing.training.description import Epoch, TrainingDescription, damaged, read_json, training_file
from ML_processing.training.outputs import KeptOutputs
from ML_processing.training.reweighting import Reweighted
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.model import TARGETS, Head
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.schema.settings import suggestion

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Init

_AT_ONCE = 1 << 10  # events in one forward pass: their activations fit into the processor's caches


def network_file(directory: Path, fold: int) -> Path:
    """The trained network of a fold: its state dict."""
    return directory / f"network_{fold}.pt"


def history_file(directory: Path, fold: int) -> Path:
    """The epochs of a fold."""
    return directory / f"history_{fold}.json"


def weights_file(directory: Path, fold: int) -> Path:
    """The file on the negative weights in the training of a fold; there is none if they stayed as they are."""
    return directory / f"weights_{fold}.json"


def checkpoint_file(directory: Path, fold: int, phase: str = "") -> Path:
    """State of an unfinished network, in a phase of its training that has a name or none."""
    return directory / f"checkpoint_{phase}{fold}.pt"


def read_history(directory: Path, fold: int) -> list[Epoch]:
    """The epochs of a trained network; a NanoMLError if its file is missing or damaged."""
    path = history_file(directory, fold)
    content = read_json(path)
    try:
        return [Epoch(**entry) for entry in content]
    except TypeError:
        raise damaged(path) from None


def read_reweighted(directory: Path, fold: int) -> dict[str, Reweighted]:
    """The classes whose weights were made positive in the training of a fold."""
    path = weights_file(directory, fold)
    content = read_json(path) if path.is_file() else {}
    try:
        return {name: build(Reweighted, each) for name, each in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged(path) from None


def new_network(description: TrainingDescription) -> Network:
    """A fresh network; a ConfigError if the model or an option is unknown, or does not fit the inputs."""
    config = description.config
    return make_network(config.model, config.options, description.shape, config.scaling == "none")


def initial_network(description: TrainingDescription) -> Network:
    """A fresh network, or one with the weights of a checkpoint; a NanoMLError if that does not fit, besides."""
    network, start = new_network(description), description.config.start
    if start is not None:
        begin_with(network, start)
    return network


def load_network(directory: Path, fold: int, description: TrainingDescription) -> Network:
    """A trained network, on the CPU, without dropout; a NanoMLError if its file is missing or damaged."""
    path = network_file(directory, fold)
    with torch.random.fork_rng(devices=[]):  # a fresh network draws random numbers
        network = new_network(description)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. Run `nanoml train` again.") from None
    except Exception as problem:  # what torch.load raises for a damaged file depends on the damage
        reason = why_not_loaded(problem)
        raise NanoMLError(f"{path}: is damaged ({reason}). Remove it and run `nanoml train` again.") from None
    return network.eval()


@dataclass(frozen=True)
class Training:
    """A finished training; network i tests on fold i."""

    description: TrainingDescription
    networks: list[Network]
    histories: list[list[Epoch]]
    # by network and class, what became of negative weights, if they were made positive
    reweighted: list[dict[str, Reweighted]] = field(default_factory=list)
    kept: KeptOutputs | None = field(default=None, compare=False)  # what the networks gave before
    # of the outputs of heads that have any
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict, kw_only=True)

    @classmethod
    def load(cls, directory: Path, model: str | None = None) -> Training:
        """Read a training's directory.

        A network of the user's own is taken from where `train.model` has it now, if that is given as `model`: not from where training.json
        says that it was, in which there could be any program.

        A NanoMLError says that there is no training, it is not finished, or a file of it is missing or damaged.
        """
        description = TrainingDescription.read(directory)
        if not description.complete:
            raise NanoMLError(f"{directory}: this training is not finished. Run `nanoml train` again: it continues.")
        own = description.config.model
        if model is not None and ":" in own:
            if own.rpartition(":")[2] != model.rpartition(":")[2]:
                raise NanoMLError(
                    f"{directory}: is a training of {own}, and train.model is {model}. Run `nanoml train`."
                )
            description = replace(description, config=replace(description.config, model=model))
        return cls.of(directory, description)

    @classmethod
    def of(cls, directory: Path, description: TrainingDescription) -> Training:
        """Read the networks and histories of a training that is described already; the errors are those of `load`."""
        folds = range(description.folds.networks)
        networks = [load_network(directory, fold, description) for fold in folds]
        histories = [read_history(directory, fold) for fold in folds]
        return cls(description, networks, histories, [read_reweighted(directory, fold) for fold in folds])

    @property
    def shape(self) -> Shape:
        """The inputs and outputs of the networks."""
        return self.description.shape

    @property
    def is_boosted(self) -> bool:
        """Whether they grew round by round, and have no gradients."""
        return isinstance(self.networks[0].core, Boosted)

    @property
    def targets(self) -> list[str]:
        """Targets of a regression; empty for a classification."""
        return list(self.description.targets)

    @property
    def parameter(self) -> ParameterGrid | None:
        """The parameter of the networks, if they have one."""
        return self.description.parameter

    @property
    def signal(self) -> int:
        """Index of the signal among the classes."""
        return self.description.signal_index

    @property
    def discriminant(self) -> BoundDiscriminant:
        """By which a classification is judged: the first discriminant, or the probability of the signal."""
        return self.description.discriminant

    @property
    def discriminants(self) -> list[BoundDiscriminant]:
        """All discriminants."""
        return [BoundDiscriminant(each, self.description.classes) for each in self.description.discriminants]

    @property
    def sentinels(self) -> dict[str, list[float]]:
        """Values that count as missing for any of the networks, by column."""
        found: dict[str, set[float]] = {}
        for scaling in (network.scaling for network in self.networks):
            for name, values in (scaling.sentinels if isinstance(scaling, Scaling) else {}).items():
                found.setdefault(name, set()).update(values)
        return {name: sorted(values) for name, values in found.items()}

    def check(self, table: Table) -> None:
        """Raise a NanoMLError if the events have other columns or classes than those of the training."""
        mine_, theirs_, labels = self.shape, table.shape, table.about.labels
        for what, mine, theirs in (
            ("objects", [self.description.collection or "none"], [labels.collection if labels else "none"]),
            ("features", list(mine_.features), table.names),
            ("collections", [str(it) for it in mine_.collections], [str(it) for it in theirs_.collections]),
            ("targets", self.targets, list(table.about.targets)),
            ("estimates", list(self.description.estimates), list(table.about.estimates)),
            ("classes", self.description.classes, table.classes),
        ):
            if mine != theirs:
                raise NanoMLError(
                    f"the training has the {what} {', '.join(mine)}, but these events have {', '.join(theirs)}. "
                    "Train again, or give the files of the training."
                )

    def scores(self, network: Network, table: Table) -> NDArray[np.float32]:
        """Class probabilities or estimates that a network gives for events, float32 of shape (N, outputs).

        An event without a value of the parameter gets one of the training's.
        """
        return self.predictions(network, table)[:, : self.shape.outputs]

    def predictions(self, network: Network, table: Table) -> NDArray[np.float32]:
        """The same with what `heads` give, float32 of shape (N, outputs + others)."""
        inputs = inputs_of(table, self.parameter.filled(table) if self.parameter else None)
        return self.once("outputs", network, inputs, lambda: self._predictions(network, inputs))

    def once(
        self, what: str, network: Network, inputs: Inputs, compute: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Numbers that follow from a network and its inputs, float32 of shape (N, ...): as it is `kept`, or else computed."""
        if self.kept is None:
            return compute()
        tensors = [inputs.features, *(tensor for it in inputs.objects.values() for tensor in it[:2])]
        of = [what, self.description.fingerprint, network, *tensors]
        return np.asarray(self.kept.get(of, lambda: [compute()]))

    @torch.no_grad()
    def _predictions(self, network: Network, inputs: Inputs) -> NDArray[np.float32]:
        parts = []
        network.eval()
        for start in range(0, max(len(inputs.features), 1), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            outputs = network.outputs(inputs.map(lambda tensor, rows=rows: tensor[rows]))  # type: ignore[misc]
            parts.append(outputs if self.targets else scores_of(outputs, self.shape.outputs))
        return torch.cat(parts).numpy()

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads beside the first, with the names of their outputs."""
        return tuple(
            Head(name, self.description.estimates if name == TARGETS else self.names.get(name, _numbered(name, size)))
            for name, size in self.networks[0].others.items()
        )

    def out_of_fold(self, table: Table, k: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score each event by the network that has not seen its fold.

        Returned are the rows (M,) of `table` that a network tests on (all, unless only one network was trained), and their
        class probabilities or estimates of the targets, float32 (M, outputs). With as many folds `k` as networks, all are scored.
        """
        rows, predictions = self.all_out_of_fold(table, k)
        return rows, predictions[:, : self.shape.outputs]

    def all_out_of_fold(self, table: Table, k: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same with what `heads` give, float32 (M, outputs + others)."""
        fold = table.folds(k or self.description.folds.k)
        rows = np.flatnonzero(fold < len(self.networks))
        width = self.shape.outputs + sum(self.networks[0].others.values())
        found = np.empty((len(rows), width), np.float32)
        for i, network in enumerate(self.networks):
            mine = fold[rows] == i
            if mine.any():
                found[mine] = self.predictions(network, table[rows[mine]])
        return rows, found


def _numbered(name: str, size: int) -> tuple[str, ...]:
    return (name,) if size == 1 else tuple(f"{name}_{i}" for i in range(size))


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
    network.has_scale = True
    network.has_target_scale = center is not None and center.shape == network.target_center.shape
    if not network.has_target_scale:
        without += ["target_center", "target_width"]
    _load(network, scales, without, path)


def why_not_loaded(problem: Exception) -> str:
    """The reason that `torch.load` gives for a file, without its advice to trust it."""
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
    inside = [content.get(key) for key in _INSIDE] if isinstance(content, Mapping) else []
    found = next((it for it in inside if isinstance(it, Mapping)), content)
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
    kinds = {"it lacks": missing, "has what the network has not": found.unexpected_keys, "shapes differ": shapes}
    problems = [f"{what}: {listed(names, _MOST)}" for what, names in kinds.items() if names]
    if problems:
        raise NanoMLError(
            f"train.init: {path}: does not fit the network {type(module).__name__}: {'; '.join(problems)}. Name parts that are to "
            "begin with random weights in train.init.fresh."
        )


def _inside(names: Iterable[str], parts: Iterable[str]) -> bool:
    """Whether any of these weights is one of the parts, or inside one."""
    return any(name == part or name.startswith(f"{part}.") for name in names for part in parts)
