"""The result of a search: its table and figures, the best settings, and what they are worth on unseen events."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from ML_processing.events.data import Table
from ML_processing.events.survey import make_splits, split_count
from ML_processing.metrics.measured import Measured, number
from ML_processing.metrics.significance import by_bins_of_others, fine_sums, standing_for
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.network import one_thread
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import Epoch, TrainingDescription
from ML_processing.training.directory import Training, load_network
from ML_processing.training.fold import rmse
from ML_processing.training.following import beside, finish
from ML_processing.training.result import ResultEvents
from ML_processing.training.result_training import expected_result, scores_by_name
from ML_processing.tuning.study import Study
from ML_processing.tuning.trial import FOLD, TrialData, columns_of, train_one
from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.evaluation import Axis
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.figures import LEGEND, grid, in_style, line, save, shorten, single
from MLTools.NanoML.report.section import Style, style_of
from MLTools.NanoML.schema.plain import content_of, plain
from MLTools.NanoML.terminal.progress import Bar, progress, say

_SCHEMA = 1
_Scored = tuple[Table, Mapping[str, NDArray[np.float32]]]
"""Events, and their class probabilities by several networks."""
_NAMES = {"best": "the best", "own": "the configuration's own"}


def conclude(study: Study, files: Sequence[Path], config: Config) -> None:
    """Write table, figures and best settings of a search, and test these once on the events kept for that.

    The best settings are a variant of the section `train` of the configuration. A NanoMLError says that no trial ended well.
    """
    _write_table(study)
    best = study.best()
    if best is None:
        raise NanoMLError(_nothing(study))
    draw(study, study.directory, style_of(config))
    say(f"tune: {_counts(study)}. The best, {best.number}: {study.metric} {best.value:.4f}.")
    result = _tested(study, best, files)
    _write_best(study, best, config, result)
    for text in _words(result):
        say(f"tune: {text}")
    say(f"tune: {study.directory / 'best.yaml'}")


def _nothing(study: Study) -> str:
    trials = study.trials()
    reasons = Counter(it.user_attrs.get("reason") for it in trials if it.state == TrialState.FAIL)
    if not reasons:
        return "tune: no trial has ended yet. Run the same command again to continue."
    reason, count = reasons.most_common(1)[0]
    failed = sum(reasons.values())
    if failed < len(trials):
        return f"tune: no trial has ended well yet; {failed} of {len(trials)} failed, {count} of them with: {reason}"
    return f"tune: all {failed} trials failed, {count} of them with: {reason}"


def _counts(study: Study) -> str:
    count = Counter(it.state for it in study.trials())
    words = {"COMPLETE": "ended", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "not ended"}
    parts = [f"{count[TrialState[it]]} {word}" for it, word in words.items() if count[TrialState[it]]]
    return f"{count.total()} trials: {', '.join(parts)}"


def _row(study: Study, trial: FrozenTrial) -> dict[str, object]:
    facts = trial.user_attrs
    settings = study.space.settings(trial.params)
    options = settings.pop("options", {})
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        study.tune.metric: trial.value if trial.state == TrialState.COMPLETE else None,
        **settings,
        **{f"options.{name}": value for name, value in options.items()},
        **{name: facts.get(name) for name in ("epochs", "best_epoch", "seconds", "host", "reason")},
    }


def _write_table(study: Study) -> None:
    rows = [_row(study, trial) for trial in study.trials()]
    write_json(study.directory / "table.json", rows)
    text, columns = io.StringIO(), list(dict.fromkeys(name for row in rows for name in row))
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(study.directory / "table.csv", text.getvalue())


def _write_best(study: Study, best: FrozenTrial, config: Config, result: Mapping[str, object]) -> None:
    """The section `train` of the configuration with the best settings."""
    section = config.document.data.get("train") or {}
    content = yaml.safe_dump({"train": study.space.merge(section, best.params)}, sort_keys=False)
    first = f"Trial {best.number}, {study.metric} {best.value:.4f}, the best of {_counts(study)}."
    lines = [first, *_words(result)]
    write_text(study.directory / "best.yaml", "".join(f"# {line}\n" for line in lines) + content)


def _tested(study: Study, best: FrozenTrial, files: Sequence[Path]) -> dict[str, Any]:
    """Train with the best settings and with those of the configuration, and test both on the events kept for that.

    The seed differs from that of the trials, so that the settings are tested and not the luck of one network. Settings
    that were tested are not tested again.
    """
    base = study.space.train
    fixed: dict[str, Any] = {"processes": 1, "seed": (base.seed + 1) % 2**32}
    both = base, study.space.apply(best.params)
    own, chosen = (beside(replace(it, **fixed), study.tune) for it in both)
    variants = {"best": chosen} if chosen == own else {"best": chosen, "own": own}
    place, settings = study.directory / "result.json", {name: plain(it) for name, it in variants.items()}
    with suppress(FileNotFoundError, ValueError, AttributeError):  # it is not there, or damaged
        known = content_of(place)
        if known.get("settings") == settings:
            return known
    data = TrialData.read(files, study.space)
    for name, train in variants.items():
        with progress(f"train with {_NAMES[name]} settings", train.epochs, "epochs") as bar:

            def report(epochs: list[Epoch], note: str, bar: Bar = bar) -> None:
                bar.advance(len(epochs) if base.target is None else 0, note)  # nobody knows how many that will be

            train_one(data, train, study.directory / name, report)
            finish(train, study.directory / name, {})
    del data
    result = {
        "schema": _SCHEMA,
        "trial": best.number,
        study.tune.metric: best.value,
        "settings": settings,
        "test": _test(study, files, own, variants),
    }
    write_json(place, result)
    return result


def _test(study: Study, files: Sequence[Path], train: Train, variants: Mapping[str, Train]) -> dict[str, object]:
    """Numbers from the events of the test fold, which nothing has read before."""
    k = split_count(train.folds)[0]
    every, survey = TrainingFiles.open(files, study.space.widest).sample(train.memory, k)
    choices = columns_of(files, study.space)
    table = every[np.flatnonzero(every.folds(k) == FOLD)]
    runs = {}
    for name in variants:
        directory = study.directory / name
        description = TrainingDescription.read(directory)
        runs[name] = Training(description, [load_network(directory, FOLD, description)], [])

    def scored(events: Table) -> dict[str, NDArray[np.float32]]:
        taken = {name: events.taking(choices[json.dumps(it.features)]) for name, it in variants.items()}
        with one_thread():
            return {name: run.scores(run.networks[0], taken[name]) for name, run in runs.items()}

    scores = scored(table)
    if table.about.targets:
        errors = {name: {"rmse": rmse(table.about.targets, it, table)} for name, it in scores.items()}
        return {"events": len(table), **errors}
    judge, events = runs["best"].discriminant, (table.labels, table.weights)
    found = {name: judge.area(it, *events) for name, it in scores.items()}
    if "own" in scores:
        found["gain"] = judge.area_difference(scores["best"], scores["own"], *events)
    numbers = {name: {"auc": it.value, "auc_error": it.error} for name, it in found.items()}
    for name, run in runs.items() if train.target is not None else ():
        of_fit = ResultEvents.read(variants[name], scores_by_name(run.description))
        numbers[name]["result"] = expected_result(run.description, run.networks, of_fit)
    if study.tune.metric == "validation_significance":
        (split, *_) = make_splits(every, train.folds)
        learnt, totals = every[split.training], survey.sums.sum(axis=1)
        for name, it in _significances(judge, (table, scores), (learnt, scored(learnt)), totals, train).items():
            numbers[name] |= {"significance": it.value, "significance_error": it.error}
    return {"events": len(table), "score": judge.text, **numbers}


def _significances(
    judge: BoundDiscriminant, test: _Scored, seen: _Scored, totals: NDArray[np.float64], train: Train
) -> dict[str, Measured]:
    """Expected significances on events of the test fold, in bins that the events of the training choose, and the gain."""
    (here, scores), (there, others) = test, seen
    weights, more = (standing_for(it.labels, it.weights, totals) for it in (here, there))
    if weights is None or more is None:
        return {}
    (folds, networks), is_signal = split_count(train.folds), here.labels == judge.signal
    found, effects = {}, {}
    for name, probabilities in scores.items():
        score = judge.values(probabilities)
        choosing = fine_sums(judge.values(others[name]), there.labels == judge.signal, more)
        choosing[2:] *= folds - 2  # as many effective events as a fold has
        binned = by_bins_of_others(fine_sums(score, is_signal, weights), choosing, networks)
        found[name], effects[name] = binned.significance(), weights * binned.influence(score, is_signal)
    if "own" in found:  # the events are the same
        gain = (found["best"].value or 0.0) - (found["own"].value or 0.0)
        found["gain"] = Measured.of(gain, float(np.sqrt(((effects["best"] - effects["own"]) ** 2).sum())))
    return found


def _words(result: Mapping[str, Any]) -> list[str]:
    test = result["test"]
    lines = [f"On the {test['events']:,} events of the test fold, which no trial has read:"]
    for name in [it for it in _NAMES if it in test]:
        if "rmse" in test[name]:
            text = ", ".join(f"RMSE of {target} {value:.4g}" for target, value in test[name]["rmse"].items())
        else:
            text = f"{_numbers(test[name])} of the {test['score']}"
            if "result" in test[name]:
                text += f", expected uncertainty {test[name]['result']:.4g}"
        lines.append(f"{text} with {_NAMES[name]} settings")
    if "own" not in test:
        lines.append("The configuration's own settings are the best.")
    if "gain" in test:
        lines.append(f"difference: {_numbers(test['gain'])}")
    return lines


def _numbers(found: Mapping[str, float | None]) -> str:
    """The AUC, and the expected significance if the search was for it."""
    texts = [f"AUC {number(Measured(found['auc'], found['auc_error']))}"]
    if "significance" in found:
        texts.append(f"expected significance {number(Measured(found['significance'], found['significance_error']))}")
    return ", ".join(texts)


_ENDS = {TrialState.COMPLETE: "Ended", TrialState.PRUNED: "Pruned"}
_METRICS = {
    "validation_loss": "Validation loss",
    "validation_auc": "Validation AUC",
    "validation_significance": "Expected significance (validation)",
}
_MOST_TEXT = 16  # characters of a choice below an axis


def draw(study: Study, directory: Path, style: Style) -> None:
    """Write history, slices and importance (.png, .pdf, and .json with their numbers) of a search that has a best trial."""
    rows = [_row(study, trial) for trial in study.trials()]
    save(history(study, style), directory / "history", rows)
    save(slices(study, style), directory / "slices", rows)
    found = importances(study)
    if found:
        save(importance(found, style), directory / "importance", found)


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
def history(study: Study, style: Style) -> Figure:
    """The metric of each trial, and the best so far."""
    figure, axes = single(style, f"{len(study.trials())} trials")
    for i, (state, label) in enumerate(_ENDS.items()):
        found = [it for it in _ended(study) if it.state == state]
        if found:
            look = {"color": line(i, 2)["color"], "mec": "black", "mew": 0.5, "ms": 8, "ls": ""}
            numbers, values = [it.number for it in found], [_value(it) for it in found]
            axes.plot(numbers, values, "os"[i], label=label, **look)
    complete = [it for it in _ended(study) if it.state == TrialState.COMPLETE]
    best = [*accumulate(map(_value, complete), max if study.larger_is_better else min)]
    numbers = [*(it.number for it in complete), study.trials()[-1].number]
    axes.step(numbers, [*best, best[-1]], where="post", color="black", lw=2, label="Best so far")
    axes.set_xlabel("Trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(_metric(study))
    _zoom(axes, study)
    axes.legend(loc="best", fontsize=LEGEND)
    return figure


@in_style
def importance(found: dict[str, float], style: Style) -> Figure:
    """Bars of how much each setting matters."""
    figure, axes = single(style, "fANOVA", 9.0)
    names = list(reversed(found))
    axes.barh(range(len(names)), [found[name] for name in names], color=line(0, 1)["color"], height=0.6)
    axes.set_yticks(range(len(names)), [shorten(name.removeprefix("options."), 20) for name in names])
    axes.tick_params(axis="y", which="both", length=0)
    axes.minorticks_off()
    axes.set_xlabel("Share in the variance of the metric")
    axes.set_xlim(0, None)
    return figure


@in_style
def slices(study: Study, style: Style) -> Figure:
    """The metric of each trial against each setting; later trials are darker."""
    names = list(study.space.axes)
    columns = 3 if len(names) in (3, 5, 6, 9) else 4
    figure, panels = grid(style, len(names), f"{len(study.trials())} trials", columns)
    trials, best = _ended(study), study.best()
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


def _ended(study: Study) -> list[FrozenTrial]:
    """The trials that have a value."""
    return [it for it in study.trials() if it.state in _ENDS and it.value is not None]


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _metric(study: Study) -> str:
    return _METRICS[study.tune.metric] if study.space.train.target is None else "Expected uncertainty (validation)"


def _zoom(axes: Axes, study: Study) -> None:
    """Show the better trials: a few bad ones would leave no room for them."""
    values = [value for it in _ended(study) if math.isfinite(value := _value(it))]
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    if study.larger_is_better:
        low = max(low, middle - 4 * (high - middle) - 1e-9)
    else:
        high = min(high, middle + 4 * (middle - low) + 1e-9)
    room = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - room, high + room)
