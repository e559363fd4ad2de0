"""How good a training is: numbers, plots and a report, all on events that the networks have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ML_processing import plots
from ML_processing.baseline import DESCRIPTION, baseline
from ML_processing.data import Table, read
from ML_processing.loop import probabilities
from ML_processing.provenance import now
from ML_processing.report import report
from ML_processing.run import Run, one_thread
from ML_processing.scored import Scored
from ML_processing.splits import Split, make_splits
from ML_processing.verdict import verdict
from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.progress import say

__all__ = ["evaluate"]

_EDGES = np.linspace(0, 1, 26)


def evaluate(run: Path, files: Sequence[Path], directory: Path) -> dict[str, Any]:
    """Measure a training and write its report.

    Parameters
    ----------
    run
        Directory of the training.
    files
        HDF5 files, normally those that it was trained on. Each event is scored by the network that has not seen
        its fold.
    directory
        Where metrics.json, report.html and roc, scores, confusion and loss (.png and .pdf) are written.

    Returns
    -------
    Content of metrics.json.

    Raises
    ------
    NanoMLError
        The training is not finished, or the events do not fit it.
    """
    training, table = Run.load(run), read(files)
    training.check(table)
    config = training.description["config"]
    splits = make_splits(table, config["folds"])
    with one_thread():
        rows, scores = training.out_of_fold(table)
        seen = [_training_scores(training, table, split) for split in splits]
    trees = baseline(table, splits, config["seed"])
    scored = Scored(table.labels[rows], table.weights[rows], scores, trees[rows], training.signal)
    content = _measure(training, table, scored, seen)
    make_directory(directory)
    _draw(training, scored, seen, directory)
    write_json(directory / "metrics.json", content)
    write_text(directory / "report.html", report(training.description, content, directory))
    say(f"evaluate: {content['verdict'][0]} More in {directory / 'report.html'}.")
    return content


def _training_scores(training: Run, table: Table, split: Split) -> Scored:
    """A network on the events that it was trained on."""
    features = torch.from_numpy(table.features[split.training])
    scores = probabilities(training.networks[split.fold], features).numpy()
    return Scored(
        table.labels[split.training], table.weights[split.training], scores, scores, training.signal
    )


def _measure(training: Run, table: Table, scored: Scored, seen: Sequence[Scored]) -> dict[str, Any]:
    """Content of metrics.json."""
    names, description = table.classes, training.description
    notes = [*table.notes, *_unfinished(training)]
    if table.sha256() != description["data"]["sha256"]:
        notes.append(
            "These are not the events of the training: the trees learned from these, the networks from others."
        )
    fitted = [part.auc()["network"] for part in seen]
    known = [value for value in fitted if value is not None]
    content: dict[str, Any] = {
        "schema": 1,
        "created": now(),
        "classes": names,
        "signal": names[scored.signal],
        "auc": scored.auc(),
        "auc_unweighted": scored.unweighted().auc(),
        "auc_against": {
            names[i]: {"weighted": part.auc(), "unweighted": part.unweighted().auc()}
            for i in scored.backgrounds
            for part in [scored.against(i)]
        },
        "auc_on_training_events": float(np.mean(known)) if known else None,
        "cuts": scored.cuts(),
        "confusion": scored.confusion().tolist(),
        "events": {"total": len(table), "tested": len(scored), "classes": table.summary()},
        "baseline": DESCRIPTION,
        "notes": notes,
        "training": {key: description[key] for key in ("fingerprint", "created", "versions", "git")},
    }
    return {**content, "verdict": verdict(content)}


def _unfinished(training: Run) -> list[str]:
    """A sentence about networks that might still have improved."""
    most = training.description["config"]["epochs"]
    best = [
        min(history, key=lambda entry: entry["validation_loss"])["epoch"] for history in training.histories
    ]
    count = sum(epoch == most for epoch in best)
    of = f"{count} of {len(best)} networks were"
    return (
        [f"{of} at their best in their last epoch: a larger train.epochs should improve them."]
        if count
        else []
    )


def _draw(training: Run, scored: Scored, seen: Sequence[Scored], directory: Path) -> None:
    names, right = training.classes, f"{len(scored):,} events"
    parts = [("Network (vs all)", scored, "network")]
    if len(scored.backgrounds) > 1:
        parts += [(f"Network (vs {names[i]})", scored.against(i), "network") for i in scored.backgrounds]
    parts += [("Trees (vs all)", scored, "baseline")]
    curves = [(label, *found) for label, part, of in parts if (found := part.roc(of)) is not None]
    plots.save(plots.roc(curves, right), directory / "roc")
    distributions = plots.scores(
        _EDGES,
        names,
        Scored.join(seen).histograms(_EDGES),
        scored.histograms(_EDGES),
        names[scored.signal],
        right,
    )
    plots.save(distributions, directory / "scores")
    matrix = plots.confusion(scored.confusion(), scored.unweighted().confusion(), names, right)
    plots.save(matrix, directory / "confusion")
    plots.save(plots.losses(training.histories), directory / "loss")
