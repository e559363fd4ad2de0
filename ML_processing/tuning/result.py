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
from optuna.trial import FrozenTrial, TrialState

from ML_processing import plots
from ML_processing.events.data import Table, TrainingFiles
from ML_processing.events.survey import split_count
from ML_processing.metrics.measured import Measured
from ML_processing.tracking import finish
from ML_processing.training.description import Epoch, TrainingDescription
from ML_processing.training.directory import Training, load_network, one_thread
from ML_processing.tuning import figures
from ML_processing.tuning.study import Study
from ML_processing.tuning.trial import FOLD, TrialData, tracking_of, train_one
from MLTools.NanoML.atomic import write_json, write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.plain import plain
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import Bar, progress, say

_SCHEMA = 1
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
    data = TrialData.read(files, own)
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
        "test": _test(study, files, own, list(variants)),
    }
    write_json(place, result)
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _test(study: Study, files: Sequence[Path], train: Train, names: Sequence[str]) -> dict[str, Any]:
    """Numbers from the events of the test fold, which nothing has read before."""
    k = split_count(train.folds)[0]
    table, _ = TrainingFiles.open(files, train).sample(train.memory, k)
    table = table[np.flatnonzero(table.folds(k) == FOLD)]
    runs = {name: _run(study.directory / name) for name in names}
    with one_thread():
        scores = {name: run.scores(run.networks[0], table) for name, run in runs.items()}
    if table.about.targets:
        return {"events": len(table), **{name: {"rmse": _rmse(it, table)} for name, it in scores.items()}}
    judge, events = runs["best"].discriminant, (table.labels, table.weights)
    found = {name: judge.area(it, *events) for name, it in scores.items()}
    if "own" in scores:
        found["gain"] = judge.area_difference(scores["best"], scores["own"], *events)
    numbers = {name: {"auc": it.value, "auc_error": it.error} for name, it in found.items()}
    return {"events": len(table), "score": judge.text, **numbers}


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
            text = f"AUC {_number(test[name])} of the {test['score']}"
        lines.append(f"{text} with {_NAMES[name]} settings")
    if "own" not in test:
        lines.append("The configuration's own settings are the best.")
    if "gain" in test:
        lines.append(f"difference {_number(test['gain'])}")
    return lines


def _number(found: Mapping[str, float | None]) -> str:
    return plots.number(Measured(found["auc"], found["auc_error"]), 4)
