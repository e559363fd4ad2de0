"""Figures of a search: its history, the importance of each setting, and the metric at each value."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from ML_processing.tuning.study import Study
from MLTools.NanoML.config.training import Axis
from MLTools.NanoML.report.figures import LEGEND, grid, in_style, line, save, shorten, single

_ENDS = {TrialState.COMPLETE: "Ended", TrialState.PRUNED: "Pruned"}
_METRICS = {
    "validation_loss": "Validation loss",
    "validation_auc": "Validation AUC",
    "validation_significance": "Expected significance (validation)",
}
_MOST_TEXT = 16  # characters of a choice below an axis


def draw(study: Study, directory: Path) -> None:
    """Write history, slices and importance (.png and .pdf) of a search that has a best trial."""
    save(history(study), directory / "history")
    save(slices(study), directory / "slices")
    found = importances(study)
    if found:
        save(importance(found), directory / "importance")


def importances(study: Study) -> dict[str, float]:
    """Share of each setting in the variance of the metric (fANOVA); empty if the trials are too few to tell."""
    complete = [it for it in study.trials() if it.state == TrialState.COMPLETE]
    if len(complete) < 4 or len({it.value for it in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=study.tune.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(study.study, evaluator=evaluator)


@in_style
def history(study: Study) -> Figure:
    """The metric of each trial, and the best so far."""
    figure, axes = single(f"{len(study.trials())} trials")
    for i, (state, label) in enumerate(_ENDS.items()):
        found = [it for it in study.trials() if it.state == state and it.value is not None]
        if found:
            style = {"color": line(i, 2)["color"], "mec": "black", "mew": 0.5, "ms": 8, "ls": ""}
            numbers, values = [it.number for it in found], [_value(it) for it in found]
            axes.plot(numbers, values, "os"[i], label=label, **style)
    best: list[tuple[int, float]] = []
    choose = max if study.larger_is_better else min
    for trial in study.trials():
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best.append((trial.number, choose(trial.value, best[-1][1]) if best else trial.value))
    best.append((study.trials()[-1].number, best[-1][1]))
    axes.step(*zip(*best, strict=True), where="post", color="black", lw=2, label="Best so far")
    axes.set_xlabel("Trial")
    axes.set_ylabel(_metric(study))
    _zoom(axes, study)
    axes.legend(loc="best", fontsize=LEGEND)
    return figure


@in_style
def importance(found: dict[str, float]) -> Figure:
    """Bars of how much each setting matters."""
    figure, axes = single("fANOVA", 9.0)
    names = list(reversed(found))
    axes.barh(range(len(names)), [found[name] for name in names], color=line(0, 1)["color"], height=0.6)
    axes.set_yticks(range(len(names)), [shorten(name.removeprefix("options."), 20) for name in names])
    axes.tick_params(axis="y", which="both", length=0)
    axes.minorticks_off()
    axes.set_xlabel("Share in the variance of the metric")
    axes.set_xlim(0, None)
    return figure


@in_style
def slices(study: Study) -> Figure:
    """The metric of each trial against each setting; later trials are darker."""
    names = list(study.space.axes)
    columns = 3 if len(names) in (3, 5, 6, 9) else 4
    figure, panels = grid(len(names), f"{len(study.trials())} trials", columns)
    trials = [it for it in study.trials() if it.state in _ENDS and it.value is not None]
    best = study.best()
    for name, axes in zip(names, panels, strict=False):
        _slice(axes, study, name, trials, best)
    return figure


def _slice(axes: Axes, study: Study, name: str, trials: list[FrozenTrial], best: FrozenTrial | None) -> None:
    distribution = study.space.distributions[name]
    choices = getattr(distribution, "choices", None)

    def place(trial: FrozenTrial) -> float:
        value = trial.params[name]
        return float(choices.index(value)) if choices else float(value)

    for state, shape in zip(_ENDS, "os", strict=True):
        of = [it for it in trials if it.state == state]
        style: dict[str, Any] = {"cmap": "Blues", "vmin": -len(trials), "vmax": len(trials), "s": 26}
        axes.scatter(
            [place(it) for it in of], [_value(it) for it in of], c=[it.number for it in of], marker=shape,
            edgecolors="black", linewidths=0.4, **style,
        )  # fmt: skip
    if best is not None:
        axes.plot(place(best), _value(best), "*", color="#e42536", mec="black", ms=15)
    if choices:
        slanted: dict[str, Any] = {"rotation": 35, "ha": "right"} if max(map(len, choices)) > 4 else {}
        texts = [f"{i}: {it}" if name == "features" else it.strip('"') for i, it in enumerate(choices, 1)]
        axes.set_xticks(range(len(choices)), [shorten(it, _MOST_TEXT) for it in texts], **slanted)
        axes.tick_params(axis="x", which="minor", length=0)
        axes.set_xlim(-0.6, len(choices) - 0.4)
    else:
        _set_range(axes, study.space.axes[name])
    axes.set_xlabel(name.removeprefix("options."))
    axes.set_ylabel(_metric(study))
    _zoom(axes, study)


def _set_range(axes: Axes, axis: Axis) -> None:
    """Show all of the range, with a little room."""
    assert axis.low is not None
    assert axis.high is not None
    if axis.log:
        axes.set_xscale("log")
        room = (axis.high / axis.low) ** 0.04
        axes.set_xlim(axis.low / room, axis.high * room)
    else:
        room = (axis.high - axis.low) * 0.04
        axes.set_xlim(axis.low - room, axis.high + room)


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _metric(study: Study) -> str:
    return _METRICS[study.tune.metric]


def _zoom(axes: Axes, study: Study) -> None:
    """Show the better trials: a few bad ones would leave no room for them."""
    values = [it.value for it in study.trials() if it.state in _ENDS and it.value is not None]
    values = [value for value in values if math.isfinite(value)]
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    if study.larger_is_better:
        low = max(low, middle - 4 * (high - middle) - 1e-9)
    else:
        high = min(high, middle + 4 * (middle - low) + 1e-9)
    room = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - room, high + room)
