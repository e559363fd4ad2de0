"""The discriminants of a training: which class is looked for, and in which shares the others stand against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ML_processing.events.survey import ClassTotal, Survey
from ML_processing.models.discriminant import BoundDiscriminant
from MLTools.NanoML.config.schema import suggestion
from MLTools.NanoML.config.training import DISCRIMINANT, Against
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Discriminant

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train


def signal_of(config: Train, classes: list[str]) -> str:
    """The signal: the class named by `train.signal`, else that of the first discriminant, else "signal", else the first class.

    A ConfigError says that a setting names no class.
    """
    if config.signal is not None:
        return _known(config.signal, classes, "train.signal")
    for name, against in config.against.items():
        return _known(against.signal, classes, f"train.discriminants.{name}")
    return config.signal_among(classes)


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
    """What one should know of their shares, as sentences."""
    against = config.against
    shared = [each for each in discriminants if each.name not in against or not against[each.name].shares]
    if not shared or len(survey.about.classes) < 3:
        return []
    if not survey.about.physical:
        title = BoundDiscriminant(shared[0], survey.about.classes).title
        return [
            "How many events of each class are expected is not known without cross sections and luminosity: the "
            f"{title} takes all backgrounds to be equally frequent. Give train.discriminants.{shared[0].name} shares."
        ]
    return []


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
    return Discriminant(
        name,
        signal,
        {signal: wanted.shares.get(signal, 1.0), **{each: share / every for each, share in shares.items()}},
    )


def _expected(name: str, totals: Mapping[str, ClassTotal]) -> dict[str, float]:
    for each, total in totals.items():
        if total.sum_of_weights <= 0:
            raise NanoMLError(
                f'the discriminant {name} needs the share of class "{each}", but its {total.events:,} events have the sum of '
                f"weights {total.sum_of_weights:.4g}. Give train.discriminants.{name} shares of the classes, as in "
                f"{{signal: ..., shares: {{{', '.join(f'{other}: {1 / len(totals):.2g}' for other in totals)}}}}}."
            )
    return {each: total.sum_of_weights for each, total in totals.items()}
