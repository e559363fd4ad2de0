"""The evaluation of a training from its directory to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import plots
from ML_processing.evaluation import classification, inputs, regression
from ML_processing.evaluation.baseline import DESCRIPTION, REGRESSION, baseline, regression_baseline
from ML_processing.evaluation.report import report
from ML_processing.evaluation.scored import MOST_EVENTS, Json, OutOfFold, Scored, sampled
from ML_processing.evaluation.verdict import verdict
from ML_processing.events.data import Table, TrainingFiles
from ML_processing.events.survey import Split, Survey, make_splits
from ML_processing.metrics.measured import Measured, effective_events
from ML_processing.metrics.roc import auc_difference
from ML_processing.training.description import best_epoch, now
from ML_processing.training.directory import Training, one_thread
from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.terminal.progress import say

_KEPT = 0.1  # share of the background behind the cut if no significance suggests a better one


def evaluate(run: Path, files: Sequence[Path], directory: Path, compare: Sequence[Path] = ()) -> dict[str, Any]:
    """Measure a training and write its report.

    Parameters
    ----------
    run
        Directory of the training.
    files
        HDF5 files, normally those that it was trained on. Each event is scored by the network that has not seen
        its fold.
    directory
        Where metrics.json, report.html and the plots (.png and .pdf) are written.
    compare
        HDF5 files of other events, such as data, whose features are compared with those of `files`.

    Returns
    -------
    Content of metrics.json.

    Raises
    ------
    NanoMLError
        The training is not finished, or the events do not fit it.
    """
    training = Training.load(run)
    settings = training.description.config
    data = TrainingFiles.open(files, settings, everything=True)
    table, survey = data.sample(settings.memory, max(settings.folds, 1))
    training.check(table)
    notes = _notes(training, table, survey)
    if training.parameter:  # to a BDT its absence would mean background
        table = replace(table, features=training.parameter.filled(table))
    splits = make_splits(table, settings.folds)
    with one_thread():
        rows, scores = training.out_of_fold(table)
        tested = OutOfFold(training, table[rows], scores)
        part = tested.select(*sampled(tested.table.labels, MOST_EVENTS, tested.seed))
        measure = _regression if training.targets else _classification
        content = {
            **_common(tested, part, table, survey),
            "notes": [*notes, *_sampling(tested, part)],
            **measure(tested, part, table, splits, rows, survey.summary()),
        }
        content["plots"] |= {
            "features": inputs.distributions(part),
            "correlations": inputs.correlations(part),
            "drift": inputs.drift(part, compare) if compare else None,
        }
    content["verdict"] = [asdict(answer) for answer in verdict(content)]
    make_directory(directory)
    drawn = plots.draw(content, training.histories, directory)
    write_json(directory / "metrics.json", content)
    write_text(directory / "report.html", report(training.description, content, drawn, directory))
    say(f"evaluate: {content['verdict'][0]['text']} More in {directory / 'report.html'}.")
    return content


def _notes(training: Training, table: Table, survey: Survey) -> list[str]:
    """What one should know about these events and networks."""
    notes, every = [*survey.notes(), *_unfinished(training)], int(survey.counts.sum())
    if len(table) < every:
        notes.append(f"The events do not fit into train.memory: {len(table):,} of {every:,} are measured.")
    if not _same_events(training, table, survey):
        notes.append("These are not the events of the training: the BDT learned from these, the networks from others.")
    return notes


def _same_events(training: Training, table: Table, survey: Survey) -> bool:
    """Whether these are the events of the training; judged by their numbers if not all fit into memory."""
    data, decorrelate = training.description.data, training.description.config.decorrelate
    counts = [entry["events"] for entry in data.classes.values()]
    if len(table) < sum(counts):
        return counts == [entry["events"] for entry in survey.summary().values()]
    read = {*training.targets, *([decorrelate.column] if decorrelate else [])}
    extras = {name: values for name, values in table.extras.items() if name in read}
    return bool(replace(table, extras=extras).sha256() == data.sha256)


def _sampling(tested: OutOfFold, part: OutOfFold) -> list[str]:
    """What is measured on a part of the events."""
    if len(part.table) == len(tested.table):
        return []
    of_all = "" if tested.training.targets else ", but for AUC, ROC curves, scores, calibration and significance,"
    return [
        f"There are many events: all{of_all} is measured on a random choice of {len(part.table):,} of them, with as many "
        "of each class as there are or its equal share."
    ]


def _common(tested: OutOfFold, part: OutOfFold, table: Table, survey: Survey) -> Json:
    """What a classification and a regression have in common."""
    classes: dict[str, dict[str, float]] = {}
    for i, (name, entry) in enumerate(table.summary().items()):
        weights = table.weights[table.labels == i]
        negative = float((weights < 0).mean()) if weights.size else 0.0
        classes[name] = {**entry, "effective": effective_events(weights), "negative": negative}
    for name, entry in survey.summary().items():
        classes[name] |= entry
    description = tested.training.description
    return {
        "schema": 2,
        "created": now(),
        "classes": table.classes,
        "events": {
            "total": int(survey.counts.sum()),
            "tested": len(tested.table),
            "sampled": len(part.table),
            "classes": classes,
        },
        "training": {key: getattr(description, key) for key in ("fingerprint", "created", "versions", "git")},
    }


def _classification(
    tested: OutOfFold,
    part: OutOfFold,
    table: Table,
    splits: Sequence[Split],
    rows: NDArray[np.int64],
    summary: dict[str, dict[str, float]],
) -> Json:
    training, names, seed = tested.training, table.classes, tested.seed
    bdt = baseline(table, splits, seed)[rows]
    scored = Scored(tested.table.labels, tested.table.weights, tested.scores, bdt, training.signal)
    some = scored.select(sampled(scored.labels, MOST_EVENTS, seed)[0])
    some = replace(some, weights=part.table.weights)
    seen = [_training_scores(training, table, split, seed) for split in splits]
    unseen = [scored.select(np.searchsorted(rows, split.test)) for split in splits]
    content, drawn = classification.discrimination(scored, some, Scored.join(seen), names, seed)
    checked = classification.overtraining(seen, unseen, names)
    totals = [entry["sum_of_weights"] for entry in summary.values()]
    expected = classification.significance(scored, totals, _physical(table))
    best = expected["best"]["score_at_least"] if expected else None
    drawn |= {"calibration": classification.calibration(scored, names), "significance": expected}
    cut = best if best is not None else some.cut_at(_KEPT)
    drawn["efficiency"] = classification.by_feature(part, some, cut) if cut is not None else None
    decorrelate = training.description.config.decorrelate
    column = decorrelate.column if decorrelate else None
    drawn["sculpting"] = classification.sculpted(part, some, column, best)
    drawn["importance"] = inputs.importance(part, _auc_loss)
    for entry in drawn["scores"]["classes"]:
        entry["probability"] = checked["kolmogorov_smirnov"][entry["name"]]["probability"]
    return {
        "task": "classification",
        "signal": names[scored.signal],
        **content,
        "auc_at_parameter": classification.at_parameter(part),
        "auc_on_training_events": checked["auc_on_training_events"],
        "overtraining": checked,
        "baseline": DESCRIPTION,
        "plots": drawn,
    }


def _regression(
    tested: OutOfFold,
    part: OutOfFold,
    table: Table,
    splits: Sequence[Split],
    rows: NDArray[np.int64],
    summary: dict[str, dict[str, float]],
) -> Json:
    bdt = regression_baseline(table, splits, tested.seed)[rows]
    chosen = sampled(tested.table.labels, MOST_EVENTS, tested.seed)[0]
    seen = [_some_of(table, split, tested.seed) for split in splits]
    values = [tested.training.scores(tested.training.networks[i], it) for i, it in enumerate(seen)]
    truths, weights = [it.targets() for it in seen], [it.weights for it in seen]
    known = tuple(np.concatenate(it) for it in (truths, values, weights))
    return {
        "task": "regression",
        "targets": regression.accuracy(part, bdt[chosen]),
        "baseline": REGRESSION,
        "plots": {
            "predictions": regression.predictions(part, bdt[chosen], known),
            "importance": inputs.importance(part, regression.residual_loss),
        },
    }


def _some_of(table: Table, split: Split, seed: int) -> Table:
    """Events that a network was trained on, or some of them."""
    chosen, factors = sampled(table.labels[split.training], MOST_EVENTS, seed)
    found = table[split.training[chosen]]
    return replace(found, weights=found.weights * factors)


def _training_scores(training: Training, table: Table, split: Split, seed: int) -> Scored:
    """A network on the events that it was trained on."""
    some = _some_of(table, split, seed)
    scores = training.scores(training.networks[split.fold], some)
    return Scored(some.labels, some.weights, scores, scores, training.signal)


def _auc_loss(part: OutOfFold) -> Callable[[NDArray[Any]], Measured]:
    """Loss in AUC with changed scores."""
    signal = part.training.signal
    before, truth, weights = part.scores[:, signal], part.table.labels == signal, part.table.weights
    return lambda scores: auc_difference(before, scores[:, signal], truth, weights)


def _physical(table: Table) -> bool:
    """Whether the weights are expected numbers of events."""
    return all(dataset.cross_section is not None and dataset.luminosity is not None for dataset in table.datasets)


def _unfinished(training: Training) -> list[str]:
    """A sentence about networks that might still have improved."""
    most = training.description.config.epochs
    best = [best_epoch(history).epoch for history in training.histories]
    count = sum(epoch == most for epoch in best)
    text = f"{count} of {len(best)} networks were at their best in their last epoch: a larger train.epochs should improve them."
    return [text] if count else []
