"""What in a configuration contradicts something else in it, or can never work without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from MLTools.NanoML.config.complaints import suggestion
from MLTools.NanoML.config.document import Problem

if TYPE_CHECKING:
    from MLTools.NanoML.config import Config

__all__ = ["contradictions"]


def contradictions(config: Config) -> list[Problem]:
    """All contradictions between settings that are each right."""
    checks = (
        _names,
        _skim,
        _objects,
        _data,
        _cross_sections,
        _luminosity,
        _sections,
        _shuffle,
        _training,
        _signal,
    )
    return [problem for check in checks for problem in check(config)]


def _names(config: Config) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in config.datasets:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            yield (
                ("datasets", name),
                f'differs from "{other}" only in upper and lower case, which not every disk tells apart. Rename one',
            )


def _skim(config: Config) -> Iterator[Problem]:
    skim = config.skim
    if skim and not (skim.selection or skim.modules or skim.cut or skim.certified):
        yield ("skim",), 'selects nothing. Give "selection", as in "selection: my_selection.py:DiMuon"'


def _objects(config: Config) -> Iterator[Problem]:
    for name, objects in config.convert.objects.items() if config.convert else ():
        if (objects.max is None) == (objects.quantile is None):
            problem = 'takes "max" or "quantile", one of them, as in "max: 6"'
            yield ("convert", "objects", name), problem


def _data(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        if dataset.is_data and dataset.cross_section is not None:
            yield (
                ("datasets", name, "cross_section"),
                'data has no cross section. Remove this or "data: true"',
            )
        if dataset.is_data and dataset.class_ is not None:
            yield ("datasets", name, "class"), 'data is not trained on. Remove this or "data: true"'


def _cross_sections(config: Config) -> Iterator[Problem]:
    known = [name for name, dataset in config.datasets.items() if dataset.cross_section is not None]
    if not known:
        return
    for name, dataset in config.datasets.items():
        if dataset.class_ is not None and not dataset.is_data and dataset.cross_section is None:
            yield (
                ("datasets", name, "cross_section"),
                f'missing, while "{known[0]}" has one. Give it for every dataset with a class, or for none',
            )


def _luminosity(config: Config) -> Iterator[Problem]:
    if config.luminosity is not None:
        return
    for name, dataset in config.datasets.items():
        if dataset.cross_section is not None:
            yield (
                ("datasets", name, "cross_section"),
                'is of no use without a luminosity. Add it, in /fb, as in "luminosity: 59.8"',
            )
            return


def _sections(config: Config) -> Iterator[Problem]:
    if config.datasets:
        return
    for section in ("skim", "convert"):
        if getattr(config, section) is not None:
            yield (section,), 'there are no datasets to read. Add some under "datasets:"'
    if config.score is not None and config.score.files is None:
        yield ("score",), 'there is nothing to score. Add datasets or "score.files"'


def _shuffle(config: Config) -> Iterator[Problem]:
    if config.convert is None or config.convert.shuffle is None or not config.datasets:
        return
    if not config.classes:
        yield (
            ("convert", "shuffle"),
            'takes the datasets with a class, and none has one. Remove this, or add "class: ..." to them',
        )
    for name in config.datasets:
        if name.lower() == "all":
            yield (
                ("datasets", name),
                "the file of all datasets, which convert.shuffle makes, has this name. Rename it",
            )


def _training(config: Config) -> Iterator[Problem]:
    train = config.train
    if train is None:
        return
    if train.folds == 2:
        yield (
            ("train", "folds"),
            "2 is too few: one fold tests, one validates, the rest trains. Give 3 or more, or 1 for a single network",
        )
    if train.files is not None:
        return
    if config.convert is None:
        yield ("train",), 'there is nothing to train on. Add a "convert" section or "train.files"'
    if len(config.classes) < 2:
        has = f'only "{config.classes[0]}" is given' if config.classes else "none is given"
        yield ("train",), f'takes at least two classes, {has}. Add "class: ..." to the datasets to train on'


def _signal(config: Config) -> Iterator[Problem]:
    train, classes = config.train, config.classes
    if train is not None and train.files is None and train.signal is not None and train.signal not in classes:
        yield ("train", "signal"), f'"{train.signal}" is no class. {suggestion(train.signal, classes)}'
