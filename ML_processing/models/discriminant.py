"""Discriminants of networks: which class is looked for, in which shares the others stand against it, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.survey import ClassTotal, Survey
from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import auc, auc_difference
from MLTools.NanoML.config.training import DISCRIMINANT, Against
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.schema.settings import suggestion

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train


@dataclass(frozen=True)
class BoundDiscriminant:
    """A discriminant, and the classes of a network in the order of its outputs."""

    of: Discriminant
    classes: Sequence[str]

    @classmethod
    def probability(cls, name: str, classes: Sequence[str]) -> BoundDiscriminant:
        """The probability of one of the classes."""
        return cls(Discriminant(name, name, dict.fromkeys(classes, 1.0)), classes)

    @property
    def signal(self) -> int:
        """Index of the class that is looked for."""
        return self.classes.index(self.of.signal)

    @property
    def backgrounds(self) -> list[int]:
        """Indices of the classes that stand against it."""
        return [i for i, name in enumerate(self.classes) if name in self.of.shares and name != self.of.signal]

    @property
    def is_probability(self) -> bool:
        """Whether it is nothing but the probability of a class, whose name it has."""
        return self.of.name in self.classes

    @property
    def title(self) -> str:
        """Its title: "probability of signal", "discriminant wprime"."""
        kind = "probability of" if self.is_probability else "discriminant"
        return kind if self.of.name == DISCRIMINANT else f"{kind} {self.of.name}"

    @property
    def label(self) -> str:
        """The title of an axis."""
        return self.title[0].upper() + self.title[1:]

    @property
    def text(self) -> str:
        """Its title and what it tells apart: "discriminant wprime, signal against WZ (60 %) and ZG (40 %)"."""
        shares = self.shares[self.backgrounds] / self.shares[self.backgrounds].sum()
        parts = [f"{self.classes[i]} ({share:.3g} %)" for i, share in zip(self.backgrounds, 100 * shares, strict=True)]
        against = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else self.classes[self.backgrounds[0]]
        return f"{self.title}, {self.of.signal} against {against}"

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each class, 0 of those that do not count, shape (classes,)."""
        return np.array([self.of.shares.get(name, 0.0) for name in self.classes])

    def counts(self, labels: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Whether events of these classes, given by their indices (N,), are signal or stand against it."""
        return (self.shares > 0)[labels]

    def values(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Its values, shape (N,), from probabilities (N, classes)."""
        return probabilities[:, self.signal] if self.is_probability else self.of.of(probabilities, self.classes)

    def area(
        self, probabilities: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> Measured:
        """AUC of the signal against the classes that count, with the weights of N events, from probabilities (N, classes)."""
        use = self.counts(labels)
        return auc(self.values(probabilities[use]), labels[use] == self.signal, weights[use])

    def area_difference(
        self,
        probabilities: NDArray[np.float32],
        others: NDArray[np.float32],
        labels: NDArray[np.int64],
        weights: NDArray[np.float32],
    ) -> Measured:
        """The AUC with some probabilities minus that with others of the same events."""
        use = self.counts(labels)
        first, second = (self.values(each[use]) for each in (probabilities, others))
        return auc_difference(first, second, labels[use] == self.signal, weights[use])

    def log_odds(self, logits: Tensor) -> Tensor:
        """The logarithm of D / (1 - D), shape (N,), from the logits of a network (N, classes)."""
        shifts = torch.from_numpy(np.log(self.shares[self.backgrounds] / self.shares[self.signal])).to(logits)
        return logits[:, self.signal] - torch.logsumexp(logits[:, self.backgrounds] + shifts, dim=1)


def signal_of(config: Train, classes: list[str]) -> str:
    """The signal: the class named by `train.signal`, else that of the first discriminant, else "signal", else the first class.

    A ConfigError says that a setting names no class.
    """
    place = "train.signal" if config.signal is not None else f"train.discriminants.{next(iter(config.against), '')}"
    return _known(config.signal_among(classes), classes, place)


def discriminants_of(config: Train, survey: Survey) -> tuple[Discriminant, ...]:
    """The discriminants, with the shares that were given or that are expected in the events of the training.

    The expected share of a background is its part of the sum of the weights of all backgrounds; the signal has as much as they
    have together. Without cross sections all backgrounds are taken to be equal.

    Raises
    ------
    ConfigError
        A setting names no class, or leaves no background.
    NanoMLError
        A class is expected with no events or fewer, and no share of it is given.
    """
    classes, totals = survey.about.classes, survey.summary()
    if survey.about.targets:
        return ()
    wanted = config.against
    if not wanted and len(classes) > 2:
        wanted[DISCRIMINANT] = Against(signal_of(config, classes))
    if not survey.about.physical:
        totals = {name: ClassTotal(total.events, 1.0) for name, total in totals.items()}
    return tuple(_discriminant(name, each, totals) for name, each in wanted.items())


def notes_on(discriminants: tuple[Discriminant, ...], config: Train, survey: Survey) -> list[str]:
    """Sentences on their shares that one should know."""
    against = config.against
    shared = [each for each in discriminants if each.name not in against or not against[each.name].shares]
    if not shared or len(survey.about.classes) < 3 or survey.about.physical:
        return []
    title = BoundDiscriminant(shared[0], survey.about.classes).title
    return [
        "How many events of each class are expected is not known without cross sections and luminosity: the "
        f"{title} takes all backgrounds to be equally frequent. Give train.discriminants.{shared[0].name} shares."
    ]


def _known(name: str, classes: list[str], place: str) -> str:
    if name not in classes:
        raise ConfigError(f'{place}: "{name}" is not a class. {suggestion(name, classes)}')
    return name


def _discriminant(name: str, wanted: Against, totals: Mapping[str, ClassTotal]) -> Discriminant:
    place, classes = f"train.discriminants.{name}", list(totals)
    if name in classes:
        raise ConfigError(f"{place}: a class has this name, and so its probability. Rename the discriminant.")
    signal = _known(wanted.signal, classes, f"{place}.signal")
    for each in wanted.shares:
        _known(each, classes, f"{place}.shares")
    shares = {each: share for each, share in wanted.shares.items() if each != signal}
    if not shares:
        shares = _expected(name, {each: total for each, total in totals.items() if each != signal})
    every = sum(shares.values())
    of_backgrounds = {each: share / every for each, share in shares.items()}
    return Discriminant(name, signal, {signal: wanted.shares.get(signal, 1.0), **of_backgrounds})


def _expected(name: str, totals: Mapping[str, ClassTotal]) -> dict[str, float]:
    for each, total in totals.items():
        if total.sum_of_weights <= 0:
            raise NanoMLError(
                f'the discriminant {name} needs the share of class "{each}", but its {total.events:,} events have the sum of '
                f"weights {total.sum_of_weights:.4g}. Give train.discriminants.{name} shares of the classes, as in "
                f"{{signal: ..., shares: {{{', '.join(f'{other}: {1 / len(totals):.2g}' for other in totals)}}}}}, or leave the class to "
                'the fit by "only: fit".'
            )
    return {each: total.sum_of_weights for each, total in totals.items()}
