"""The evaluation of a training from its directory to its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import metrics, plots
from ML_processing.evaluation import classification, dependence, inputs, regression
from ML_processing.evaluation.baseline import DESCRIPTION, REGRESSION, baseline, regression_baseline
from ML_processing.evaluation.drift import drift
from ML_processing.evaluation.scored import Scored, sampled
from ML_processing.evaluation.tested import MOST_EVENTS, Tested
from ML_processing.evaluation.verdict import verdict
from ML_processing.events.data import Data
from ML_processing.events.splits import Split, make_splits
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from ML_processing.metrics import Measured
from ML_processing.report import report
from ML_processing.training.loop import at_best
from ML_processing.training.provenance import now
from ML_processing.training.run import Run, one_thread
from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.config.setting import build
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.terminal.progress import say

__all__ = ["evaluate"]

_KEPT = 0.1  # of the background, where no significance tells a better cut


def evaluate(
    run: Path, files: Sequence[Path], directory: Path, compare: Sequence[Path] = ()
) -> dict[str, Any]:
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
        HDF5 files of other events, such as real data, whose features are compared with those of `files`.

    Returns
    -------
    Content of metrics.json.

    Raises
    ------
    NanoMLError
        The training is not finished, or the events do not fit it.
    """
    training = Run.load(run)
    settings = _settings(training)
    table, survey = Data.open(files, settings, everything=True).sample(
        settings.memory, max(settings.folds, 1)
    )
    training.check(table)
    notes = _notes(training, table, survey)
    if training.parameter:  # trees would take its absence for what tells background
        table = replace(table, features=training.parameter.filled(table))
    splits = make_splits(table, settings.folds)
    with one_thread():
        rows, scores = training.out_of_fold(table)
        tested = Tested(training, table[rows], scores)
        part = tested.select(*sampled(tested.table.labels, MOST_EVENTS, tested.seed))
        measure = _regression if training.targets else _classification
        content = {
            **_common(tested, part, table, survey),
            "notes": [*notes, *_sampling(tested, part)],
            **measure(tested, part, table, splits, rows, survey.summary()),
        }
        content["plots"] |= _inputs(part, compare)
    content["verdict"] = verdict(content)
    make_directory(directory)
    drawn = plots.draw(content, training.histories, directory)
    write_json(directory / "metrics.json", content)
    write_text(directory / "report.html", report(training.description, content, drawn, directory))
    say(f"evaluate: {content['verdict'][0]['text']} More in {directory / 'report.html'}.")
    return content


def _settings(training: Run) -> Train:
    """The section `train` of the training."""
    return build(Train, training.description["config"])


def _notes(training: Run, table: Table, survey: Survey) -> list[str]:
    """What one should know of these events and networks."""
    notes, every = [*survey.notes(), *_unfinished(training)], int(survey.counts.sum())
    if len(table) < every:
        notes.append(f"The events do not fit into train.memory: {len(table):,} of {every:,} are measured.")
    if not _same_events(training, table, survey):
        notes.append(
            "These are not the events of the training: the trees learned from these, the networks from others."
        )
    return notes


def _same_events(training: Run, table: Table, survey: Survey) -> bool:
    """Whether these are the events of the training; where only some of them fit into memory, by their numbers."""
    data, decorrelate = training.description["data"], training.description["config"]["decorrelate"]
    counts = [entry["events"] for entry in data["classes"].values()]
    if len(table) < sum(counts):
        return counts == [entry["events"] for entry in survey.summary().values()]
    read = {*training.targets, *([decorrelate["column"]] if decorrelate else [])}
    extras = {name: values for name, values in table.extras.items() if name in read}
    return bool(replace(table, extras=extras).sha256() == data["sha256"])


def _sampling(tested: Tested, part: Tested) -> list[str]:
    """What is measured on a part of the events only."""
    if len(part.table) == len(tested.table):
        return []
    of_all = (
        "" if tested.training.targets else ", but for AUC, ROC curves, scores, calibration and significance,"
    )
    return [
        f"There are many events: all{of_all} is measured on a random choice of {len(part.table):,} of them, with as many "
        "of each class as there are or its equal share."
    ]


def _common(tested: Tested, part: Tested, table: Table, survey: Survey) -> dict[str, Any]:
    """What a classification and a regression have both."""
    description = tested.training.description
    classes = _classes(table)
    for name, entry in survey.summary().items():
        classes[name] |= entry
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
        "training": {key: description[key] for key in ("fingerprint", "created", "versions", "git")},
    }


def _classes(table: Table) -> dict[str, dict[str, float]]:
    """Of each class its events, and how much their weights leave of them."""
    found: dict[str, dict[str, float]] = {}
    for i, (name, entry) in enumerate(table.summary().items()):
        weights = table.weights[table.labels == i]
        negative = float((weights < 0).mean()) if weights.size else 0.0
        found[name] = {**entry, "effective": metrics.effective(weights), "negative": negative}
    return found


def _classification(
    tested: Tested,
    part: Tested,
    table: Table,
    splits: Sequence[Split],
    rows: NDArray[np.int64],
    summary: dict[str, dict[str, float]],
) -> dict[str, Any]:
    training, names, seed = tested.training, table.classes, tested.seed
    scored = _scored(tested, baseline(table, splits, seed)[rows])
    some = scored.select(sampled(scored.labels, MOST_EVENTS, seed)[0])
    some = Scored(some.labels, part.table.weights, some.network, some.baseline, some.signal)
    seen = [_training_scores(training, table, split, seed) for split in splits]
    unseen = [scored.select(np.searchsorted(rows, split.test)) for split in splits]
    content = classification.discrimination(scored, some, names, seed)
    drawn: dict[str, Any] = classification.curves(scored, some, Scored.join(seen), names, seed)
    checked = classification.overtraining(seen, unseen, names)
    totals = [entry["sum_of_weights"] for entry in summary.values()]
    expected = classification.significance(scored, totals, _physical(table))
    best = expected["best"]["score_at_least"] if expected else None
    drawn |= {"calibration": classification.calibration(scored, names), "significance": expected}
    cut = best if best is not None else some.cut_at(_KEPT)
    drawn["efficiency"] = dependence.by_feature(part, some, cut) if cut is not None else None
    decorrelate = training.description["config"]["decorrelate"]
    column = decorrelate["column"] if decorrelate else None
    drawn["sculpting"] = dependence.sculpted(part, some, column, best)
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
    tested: Tested,
    part: Tested,
    table: Table,
    splits: Sequence[Split],
    rows: NDArray[np.int64],
    summary: dict[str, dict[str, float]],
) -> dict[str, Any]:
    trees = regression_baseline(table, splits, tested.seed)[rows]
    chosen = sampled(tested.table.labels, MOST_EVENTS, tested.seed)[0]
    seen = [_some_of(table, split, tested.seed) for split in splits]
    values = [tested.training.scores(tested.training.networks[i], it) for i, it in enumerate(seen)]
    truths, weights = [it.targets() for it in seen], [it.weights for it in seen]
    known = tuple(np.concatenate(it) for it in (truths, values, weights))
    return {
        "task": "regression",
        "targets": regression.accuracy(part, trees[chosen]),
        "baseline": REGRESSION,
        "plots": {
            "predictions": regression.predictions(part, trees[chosen], known),
            "importance": inputs.importance(part, regression.residual_loss),
        },
    }


def _inputs(part: Tested, compare: Sequence[Path]) -> dict[str, Any]:
    return {
        "features": inputs.distributions(part),
        "correlations": inputs.correlations(part),
        "drift": drift(part, compare) if compare else None,
    }


def _scored(tested: Tested, trees: NDArray[np.float32]) -> Scored:
    table = tested.table
    return Scored(table.labels, table.weights, tested.scores, trees, tested.training.signal)


def _some_of(table: Table, split: Split, seed: int) -> Table:
    """Events that a network was trained on, or some of them."""
    chosen, factors = sampled(table.labels[split.training], MOST_EVENTS, seed)
    found = table[split.training[chosen]]
    return replace(found, weights=found.weights * factors)


def _training_scores(training: Run, table: Table, split: Split, seed: int) -> Scored:
    """A network on the events that it was trained on."""
    some = _some_of(table, split, seed)
    scores = training.scores(training.networks[split.fold], some)
    return Scored(some.labels, some.weights, scores, scores, training.signal)


def _auc_loss(part: Tested) -> Any:
    """Loss in AUC with changed scores."""
    signal = part.training.signal
    before, truth, weights = part.scores[:, signal], part.table.labels == signal, part.table.weights

    def loss(scores: NDArray[Any]) -> Measured:
        return metrics.auc_difference(before, scores[:, signal], truth, weights)

    return loss


def _physical(table: Table) -> bool:
    """Whether the weights are expected numbers of events."""
    return all(
        dataset["cross_section"] is not None and dataset["luminosity"] is not None
        for dataset in table.datasets
    )


def _unfinished(training: Run) -> list[str]:
    """A sentence about networks that might still have improved."""
    most = training.description["config"]["epochs"]
    best = [at_best(history)["epoch"] for history in training.histories]
    count = sum(epoch == most for epoch in best)
    of = f"{count} of {len(best)} networks were"
    return (
        [f"{of} at their best in their last epoch: a larger train.epochs should improve them."]
        if count
        else []
    )
