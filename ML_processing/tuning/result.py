"""The result of a search: its table and figures, the best settings, and what they are worth on unseen events."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from ML_processing.events.data import Table, TrainingFiles
from ML_processing.events.survey import make_splits, split_count
from ML_processing.metrics.measured import Measured, number
from ML_processing.metrics.significance import by_bins_of_others, fine_sums, standing_for
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.tracking import finish
from ML_processing.training.description import Epoch, TrainingDescription
from ML_processing.training.directory import Training, load_network, one_thread
from ML_processing.tuning import figures
from ML_processing.tuning.study import Study
from ML_processing.tuning.trial import FOLD, TrialData, columns_of, tracking_of, train_one
from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.progress import Bar, progress, say

_SCHEMA = 1
_Scored = tuple[Table, Mapping[str, NDArray[np.float32]]]
"""Events, and their class probabilities by several networks."""
_NAMES = {"best": "the best", "own": "the configuration's own"}


def conclude(study: Study, files: Sequence[Path], config: Config) -> None:
    """Write table, figures and best settings of a search, and test these once on the events kept for that.

    The best settings are a variant of the section `train` of the configuration. Raises NanoMLError if no trial ended
    well.
    """
    _write_table(study)
    best = study.best()
    if best is None:
        raise NanoMLError(_nothing(study))
    figures.draw(study, study.directory)
    say(f"tune: {_counts(study)}. The best, {best.number}: {study.tune.metric} {best.value:.4f}.")
    result = _tested(study, best, files)
    _write_best(study, best, config, result)
    for line in _words(result):
        say(f"tune: {line}")
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
    words = {
        TrialState.COMPLETE: "ended",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "not ended",
    }
    parts = [f"{count[it]} {word}" for it, word in words.items() if count[it]]
    return f"{count.total()} trials: {', '.join(parts)}"


def _row(study: Study, trial: FrozenTrial) -> dict[str, Any]:
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


def _write_best(study: Study, best: FrozenTrial, config: Config, result: Mapping[str, Any]) -> None:
    """The section `train` of the configuration with the best settings."""
    section = config.document.data.get("train") or {}
    content = yaml.safe_dump({"train": study.space.merge(section, best.params)}, sort_keys=False)
    first = f"Trial {best.number}, {study.tune.metric} {best.value:.4f}, the best of {_counts(study)}."
    lines = [first, *_words(result)]
    write_text(study.directory / "best.yaml", "".join(f"# {line}\n" for line in lines) + content)


def _tested(study: Study, best: FrozenTrial, files: Sequence[Path]) -> dict[str, Any]:
    """Train with the best settings and with those of the configuration, and test both on the events kept for that.

    The seed differs from that of the trials, so that the settings are tested and not the luck of one network. Settings
    that were tested are not tested again.
    """
    base = study.space.train
    fixed: dict[str, Any] = {"processes": 1, "seed": (base.seed + 1) % 2**32}
    fixed["tracking"] = tracking_of(base, study.tune)
    own, chosen = replace(base, **fixed), replace(study.space.apply(best.params), **fixed)
    variants = {"best": chosen} if chosen == own else {"best": chosen, "own": own}
    place, settings = study.directory / "result.json", {name: plain(it) for name, it in variants.items()}
    known = _read(place)
    if known.get("settings") == settings:
        return known
    data = TrialData.read(files, study.space)
    for name, train in variants.items():
        with progress(f"train with {_NAMES[name]} settings", train.epochs, "epochs") as bar:

            def report(epochs: list[Epoch], note: str, bar: Bar = bar) -> None:
                bar.advance(len(epochs), note)

            train_one(data, train, study.directory / name, report)
            finish(train.tracking, study.directory / name, {})
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


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _test(study: Study, files: Sequence[Path], train: Train, variants: Mapping[str, Train]) -> dict[str, Any]:
    """Numbers from the events of the test fold, which nothing has read before."""
    k = split_count(train.folds)[0]
    every, survey = TrainingFiles.open(files, study.space.widest).sample(train.memory, k)
    choices = columns_of(files, study.space)
    table = every[np.flatnonzero(every.folds(k) == FOLD)]
    runs = {name: _run(study.directory / name) for name in variants}

    def scored(events: Table) -> dict[str, NDArray[np.float32]]:
        taken = {name: events.taking(choices[json.dumps(it.features)]) for name, it in variants.items()}
        with one_thread():
            return {name: run.scores(run.networks[0], taken[name]) for name, run in runs.items()}

    scores = scored(table)
    if table.about.targets:
        return {"events": len(table), **{name: {"rmse": _rmse(it, table)} for name, it in scores.items()}}
    judge, events = runs["best"].discriminant, (table.labels, table.weights)
    found = {name: judge.area(it, *events) for name, it in scores.items()}
    if "own" in scores:
        found["gain"] = judge.area_difference(scores["best"], scores["own"], *events)
    numbers = {name: {"auc": it.value, "auc_error": it.error} for name, it in found.items()}
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


def _run(directory: Path) -> Training:
    description = TrainingDescription.read(directory)
    return Training(description, [load_network(directory, FOLD, description)], [])


def _rmse(scores: Any, table: Table) -> dict[str, float]:
    distance = scores.astype(np.float64) - table.targets()
    found = np.sqrt((distance**2).mean(axis=0)).tolist()
    return dict(zip(table.about.targets, found, strict=True))


def _words(result: Mapping[str, Any]) -> list[str]:
    test = result["test"]
    lines = [f"On the {test['events']:,} events of the test fold, which no trial has read:"]
    for name in [it for it in _NAMES if it in test]:
        if "rmse" in test[name]:
            text = ", ".join(f"RMSE of {target} {value:.4g}" for target, value in test[name]["rmse"].items())
        else:
            text = f"{_numbers(test[name])} of the {test['score']}"
        lines.append(f"{text} with {_NAMES[name]} settings")
    if "own" not in test:
        lines.append("The configuration's own settings are the best.")
    if "gain" in test:
        lines.append(f"difference: {_numbers(test['gain'])}")
    return lines


def _numbers(found: Mapping[str, float | None]) -> str:
    """The AUC, and the expected significance if the search was for it."""
    texts = [f"AUC {number(Measured(found['auc'], found['auc_error']), 4)}"]
    if "significance" in found:
        value = number(Measured(found["significance"], found["significance_error"]), 3)
        texts.append(f"expected significance {value}")
    return ", ".join(texts)
