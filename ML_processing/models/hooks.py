"""The class of a network beside its layers: `Hooks` declares what it may say of its training, and `Boosted` grows round by round."""

from __future__ import annotations

import inspect
import traceback
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ML_processing.events.inputs import EventTensors, Inputs
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import CLASSES, TARGETS

Outputs = Tensor | dict[str, Tensor]
"""The outputs of a network: logits or standardized estimates, float32 of shape (N, outputs); or those of each head, by its name."""


class Hooks(Protocol):
    """The attributes and methods of a class under `train.model`: each is optional, and used if the class itself or a base class has it.

    Attributes
    ----------
    heads
        Names of the heads, if there are several: `forward` then returns a dict with the tensor of each, float32 of shape (N, M).
        "classes" has a logit for each class (M is `shape.outputs`), "targets" an estimate for each of `train.targets` (M is
        `shape.targets`, or `shape.outputs` without classes) with a centre of 0 and a width of 1. One of these two must be there.
        Any other name is an auxiliary head: what it gives is exported as it is. Write them as a tuple of texts.
    """

    heads: tuple[str, ...]

    def loss(self, outputs: Outputs, batch: EventTensors) -> Tensor:
        """The loss in training and validation, instead of the cross entropy of the classes and the Huber loss of the targets.

        Parameters
        ----------
        outputs
            The outputs of `forward` for N events.
        batch
            These events: `labels`, int64 of shape (N,); `weights` of the training, float32 (N,), which may be negative; `targets`,
            standardized, float32 (N, targets), not finite where there is none; and the scaled `inputs`.

        Returns
        -------
        The loss of each event, shape (N,), whose mean with the weights is taken; or of all, a single number, with the weights in it.
        """

    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups of parameters for the optimizer, instead of one with all.

        Returns
        -------
        Groups of parameters for an optimizer of PyTorch: dicts with "params" and, where they are not `train.learning_rate` and
        `train.weight_decay`, "lr" and "weight_decay". `train.schedule` and `train.warmup` multiply all rates by the same factor.
        """

    def optimizer(self, parameters: list[dict[str, object]], learning_rate: float) -> Optimizer:
        """The optimizer, instead of AdamW.

        Parameters
        ----------
        parameters
            The groups, as `parameter_groups` returns them.
        learning_rate
            That of `train`, which a search may vary.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Be called before an epoch, counted from 1; once more if the training continues in it after an interruption."""

    def end_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Be called after an epoch with its numbers: train_loss, validation_loss, learning_rate, validation_auc of a classification."""


def hook(core: nn.Module, name: str) -> Hook | None:
    """One of the methods of `Hooks`, if the class of a network has it."""
    # not an attribute of the instance: `self.loss = nn.CrossEntropyLoss()` is usual and means something else
    return Hook(core, name) if inspect.isfunction(getattr(type(core), name, None)) else None


@dataclass(frozen=True)
class Hook:
    """A method of a user's class, whose mistakes are told with the file and line."""

    core: nn.Module
    name: str

    def __call__(self, *arguments: object) -> Any:
        """Call it; a NanoMLError if it fails."""
        with own_code(self.core, self.name):
            return getattr(self.core, self.name)(*arguments)

    @property
    def where(self) -> str:
        """Its place: "mine.py:12: `loss` of Mine"."""
        code = inspect.unwrap(getattr(type(self.core), self.name)).__code__
        return f"{code.co_filename}:{code.co_firstlineno}: `{self.name}` of {type(self.core).__name__}"

    def error(self, message: str) -> NanoMLError:
        """The error that says where the method is and what is wrong with it."""
        return NanoMLError(f"{self.where} {message}")


@contextmanager
def own_code(core: nn.Module, name: str) -> Iterator[None]:
    """Tell of a failure of a user's method the file and line; without memory torch says so itself."""
    try:
        yield
    except (NanoMLError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as problem:
        own = inspect.getfile(type(core))
        frames = [each for each in traceback.extract_tb(problem.__traceback__) if each.filename == own]
        line = frames[-1].lineno if frames else inspect.unwrap(getattr(type(core), name)).__code__.co_firstlineno
        text = str(problem).partition("\n")[0]
        raise NanoMLError(
            f"{own}:{line}: `{name}` of {type(core).__name__} fails: {type(problem).__name__}: {text}"
        ) from problem


def first(outputs: Outputs) -> Tensor:
    """Outputs of the head by which a training is judged: the classes if there are any, else the targets."""
    return outputs if isinstance(outputs, Tensor) else outputs[CLASSES if CLASSES in outputs else TARGETS]


def as_float(outputs: Outputs) -> Outputs:
    """The same as float32."""
    return outputs.float() if isinstance(outputs, Tensor) else {name: it.float() for name, it in outputs.items()}


def joined(parts: list[Outputs]) -> Outputs:
    """Outputs of all events from those of some events each."""
    one = parts[0]
    if isinstance(one, Tensor):
        return torch.cat(parts)  # type: ignore[arg-type]
    return {name: torch.cat([part[name] for part in parts]) for name in one}  # type: ignore[index]


def pieces_of(outputs: Outputs, size: int) -> list[Outputs]:
    """Outputs of N events, those of `size` events at a time."""
    if isinstance(outputs, Tensor):
        return [*outputs.split(size)]
    parts = {name: it.split(size) for name, it in outputs.items()}
    return [{name: it[i] for name, it in parts.items()} for i in range(len(first(outputs).split(size)))]


@torch.no_grad()
def sizes_of_heads(core: nn.Module, inputs: Inputs, sizes: Mapping[str, int], is_own: bool) -> dict[str, int]:
    """Outputs of each head of a network, found by trying it on N scaled inputs; those of `sizes` are known. Empty without heads.

    A NanoMLError says that `forward` of a user's own class fails, or does not return what it should.
    """
    heads: tuple[str, ...] = tuple(getattr(type(core), "heads", ()))
    if not (heads or is_own):
        return {}
    count, forward, was_training = len(inputs.features), Hook(core, "forward"), core.training
    core.eval()
    with own_code(core, "forward"):
        outputs = core(inputs)
    core.train(was_training)
    if not heads:
        _check(forward, outputs, "", (count, sizes[CLASSES]))
        return {}
    if not isinstance(outputs, dict) or set(outputs) != set(heads):
        found = f"heads {', '.join(map(str, outputs))}" if isinstance(outputs, dict) else shown(outputs)
        raise forward.error(
            f"returns {found}, but must return a dict with the tensors of the heads {', '.join(heads)}."
        )
    for name in heads:
        _check(forward, outputs[name], f' as "{name}"', (count, sizes.get(name)))
        if name not in sizes and hook(core, "loss") is None:
            raise forward.error(f'gives a head "{name}" that is in no loss: add a method `loss` that has it.')
    return {name: outputs[name].shape[1] for name in heads}


def _check(forward: Hook, outputs: object, what: str, shape: tuple[int, int | None]) -> None:
    count, size = shape
    found = outputs.shape if isinstance(outputs, Tensor) else ()
    if len(found) != 2 or found[0] != count or found[1] != (size or found[1]):
        raise forward.error(
            f"returns {shown(outputs)}{what} for {count} events, but must return a tensor of shape ({count}, {size or 'M'})."
        )


def shown(value: object) -> str:
    """The value that a method returned, in words."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


class Boosted(nn.Module):
    """A core that adds something to its outputs in each round, on the CPU.

    It reads inputs as they are in the files: not scaled, missing values not finite, padding with any numbers. Losses, the number of
    rounds and what is reported are the business of `ML_processing.training.fold`.
    """

    @abstractmethod
    def grow(
        self, training: EventTensors, others: Sequence[EventTensors], rate: float, seed: int
    ) -> Iterator[list[Tensor]]:
        """Learn from events, from nothing: as many rounds as are asked for.

        Parameters
        ----------
        training
            The events that are learnt from, with the weights of the training, of either sign.
        others
            Events whose outputs are wanted after each round.
        rate
            `train.learning_rate`: the share of what would fit best that a round adds.
        seed
            Seed of all random numbers.

        Yields
        ------
        After each round, logits or standardized estimates of each of `others`, float32 (N, outputs).
        """

    @abstractmethod
    def keep(self, rounds: int) -> None:
        """End the growth, and be what it was after that many rounds."""
