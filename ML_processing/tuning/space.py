"""The space of a search: settings of the training, with range or choices of each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ML_processing.models.network import model_class, options_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.evaluation import Axis
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.schema.document import Problem
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.schema.settings import suggestion

_OPTION = "options."
_TRAINING = {"weight_decay": Axis(low=1e-6, high=1e-1, log=True), "batch_size": Axis(choices=[128, 256, 512, 1024])}
_DROPOUT = Axis(low=0.0, high=0.5, step=0.05)
_WIDTH = Axis(choices=[32, 64, 96, 128])
_BLOCKS = Axis(low=1, high=4)
_SHARE = Axis(low=0.4, high=1.0, step=0.1)
_OPTIONS = {
    "mlp": {
        "hidden": Axis(choices=[[64], [128], [64, 64], [128, 128], [256, 256], [128, 128, 128], [256, 256, 256]]),
        "dropout": _DROPOUT,
    },
    "deepsets": {"width": _WIDTH, "hidden": Axis(choices=[[64], [64, 64], [128, 128], [256, 256]]), "dropout": _DROPOUT},
    "particlenet": {"width": _WIDTH, "blocks": _BLOCKS, "neighbors": Axis(low=3, high=15), "dropout": _DROPOUT},
    "transformer": {"width": _WIDTH, "blocks": _BLOCKS, "heads": Axis(choices=[2, 4, 8]), "dropout": _DROPOUT},
    "tabular": {"members": Axis(choices=[4, 8, 16]), "width": _WIDTH, "depth": Axis(low=1, high=3), "dropout": _DROPOUT},
    "bdt": {
        "leaves": Axis(low=4, high=128, log=True),
        "min_events": Axis(low=5, high=200, log=True),
        "event_share": _SHARE,
        "feature_share": _SHARE,
        "l2": Axis(low=0.1, high=100, log=True),
    },
}  # fmt: skip
"""Options that are varied without `tune.space`."""


def _axes(model: str) -> dict[str, Axis]:
    """The space of a model without `tune.space`."""
    core = model_class(model)
    rate = {"learning_rate": Train.learning_rate, **getattr(core, "defaults", {})}["learning_rate"]
    axes = {"learning_rate": Axis(low=rate / 10, high=10 * rate, log=True), **_TRAINING}
    axes |= {f"{_OPTION}{name}": axis for name, axis in _OPTIONS.get(model, {}).items()}
    unused = Train.about(getattr(core, "unused", ()))
    return {name: axis for name, axis in axes.items() if name not in unused}


@dataclass(frozen=True)
class Space:
    """The settings that are varied.

    Values are as Optuna has them: a number in a range, or the JSON text of one of the choices.
    """

    train: Train  # the section of the configuration
    axes: Mapping[str, Axis]  # range or choices of each setting
    place: str = ""  # of the choices of features, for messages

    @classmethod
    def of(cls, config: Config, train: Train) -> Space:
        """The space of a configuration, or that of its model if it gives none; `train` is its section `train`.

        A ConfigError says that the model has no such option.
        """
        assert config.tune is not None
        axes = dict(config.tune.space)
        if not axes:
            axes = _axes(train.model)
        known = options_of(train.model)
        unknown = f'the model "{train.model}" has no such option.'
        options = {name: name.removeprefix(_OPTION) for name in axes if name.startswith(_OPTION)}
        problems: list[Problem] = [
            (("tune", "space", name), f"{unknown} {suggestion(option, known)}")
            for name, option in options.items()
            if option not in known
        ]
        problems += [
            (("tune", "space", name), f"is a list in a {train.model}: give choices, as in choices: [[64], [128, 64]]")
            for name, axis in axes.items()
            if axis.choices is None and isinstance(known.get(name.removeprefix(_OPTION)), (list, tuple))
        ]
        if problems:
            raise config.document.error(problems)
        return cls(train, axes, config.place("tune", "space", "features"))

    @property
    def features(self) -> list[list[str] | None]:
        """The features of the configuration, and those of each choice; None for all."""
        choices = self.axes["features"].choices if "features" in self.axes else ()
        return [self.train.features, *([it] if isinstance(it, str) else it for it in choices)]

    @property
    def widest(self) -> Train:
        """The section `train` with all features that any trial reads."""
        names = [name for choice in self.features for name in choice or ()]
        return replace(self.train, features=None if None in self.features else list(dict.fromkeys(names)))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The same for Optuna."""
        own = self._own()
        return {name: _distribution(axis, isinstance(own[name], int)) for name, axis in self.axes.items()}

    def own(self) -> dict[str, object]:
        """The configuration's own settings that lie in the space."""
        found = {}
        for name, value in self._own().items():
            axis = self.axes[name]
            if axis.choices is not None:
                value = json.dumps(value)
                inside = value in [json.dumps(choice) for choice in axis.choices]
            else:
                inside = value is not None and _contains(axis, value)
            if inside:
                found[name] = value
        return found

    def _own(self) -> dict[str, Any]:
        settings, options = plain(self.train), options_of(self.train.model)
        values = {f"{_OPTION}{name}": value for name, value in {**options, **self.train.options}.items()}
        return {name: {**settings, **values}.get(name) for name in self.axes}

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of the section `train`, options in a mapping of their own."""
        found: dict[str, Any] = {}
        for name, value in values.items():
            if self.axes[name].choices is not None:
                value = json.loads(value)
            elif isinstance(value, float):
                value = float(f"{value:.4g}")  # more digits mean nothing, and look bad in a configuration
            if name.startswith(_OPTION):
                found.setdefault("options", {})[name.removeprefix(_OPTION)] = value
            else:
                found[name] = value
        return found

    def apply(self, values: Mapping[str, object]) -> Train:
        """The section `train` with these values."""
        return replace(build(Train, self.merge(plain(self.train), values)), target=self.train.target)

    def merge(self, section: Mapping[str, Any], values: Mapping[str, object]) -> dict[str, object]:
        """A section `train`, as its YAML has it, with these values."""
        found = self.settings(values)
        options = {**(section.get("options") or {}), **found.pop("options", {})}
        return {**section, **found, **({"options": options} if options else {})}

    def lines(self) -> list[str]:
        """The space in words, a line for each setting."""
        return [f"{name}: {_words(axis)}" for name, axis in self.axes.items()]


def _distribution(axis: Axis, whole: bool) -> BaseDistribution:
    if axis.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in axis.choices])
    assert axis.low is not None
    assert axis.high is not None
    high = axis.high
    if axis.step is not None:  # the last value that steps reach
        high = axis.low + math.floor((axis.high - axis.low) / axis.step + 1e-9) * axis.step
    if whole and all(value is None or float(value).is_integer() for value in (axis.low, high, axis.step)):
        return IntDistribution(int(axis.low), int(high), axis.log, int(axis.step or 1))
    return FloatDistribution(axis.low, high, axis.log, axis.step)


def _contains(axis: Axis, value: float) -> bool:
    assert axis.low is not None
    assert axis.high is not None
    steps = (value - axis.low) / axis.step if axis.step else 0.0
    return axis.low <= value <= axis.high and abs(steps - round(steps)) < 1e-6


def _words(axis: Axis) -> str:
    if axis.choices is not None:
        return "one of " + ", ".join(json.dumps(choice) for choice in axis.choices)
    how = ", logarithmic" if axis.log else f" in steps of {axis.step:g}" if axis.step else ""
    return f"from {axis.low:g} to {axis.high:g}{how}"
