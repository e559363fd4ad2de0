"""Numbers and curves of a classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ML_processing import metrics
from ML_processing.evaluation.scored import EFFICIENCIES, Scored
from ML_processing.evaluation.tested import Tested, listed
from ML_processing.metrics import Kolmogorov, Measured, Roc

__all__ = ["at_parameter", "calibration", "curves", "discrimination", "overtraining", "significance"]

Content = dict[str, Any]

_EDGES = np.linspace(0, 1, 26)
_POINTS = 400  # of a drawn curve


def discrimination(scored: Scored, sample: Scored, names: Sequence[str], seed: int) -> Content:
    """Areas under ROC curves, working points, and the confusion matrix.

    Parameters
    ----------
    scored
        All tested events.
    sample
        Those of them that are resampled.
    names
        Of the classes.
    seed
        Of the resampling.
    """
    resampled = metrics.resample(sample.score, sample.truth, sample.weights, EFFICIENCIES, seed)
    pairs = metrics.auc_matrix(scored.network, scored.labels, scored.weights)
    return {
        "auc": scored.auc(),
        "auc_unweighted": scored.unweighted().auc(),
        "auc_against": {
            names[i]: {"weighted": part.auc(), "unweighted": part.unweighted().auc()}
            for i in scored.backgrounds
            for part in [scored.against(i)]
        },
        "auc_bootstrap_error": resampled.auc_error if resampled else None,
        "auc_one_against_all": {
            name: metrics.auc(scored.network[:, i], scored.labels == i, scored.weights).to_json()
            for i, name in enumerate(names)
        },
        "auc_one_against_one": {
            name: {other: pairs[i][j].to_json() for j, other in enumerate(names) if i != j}
            for i, name in enumerate(names)
        },
        "cuts": _working_points(scored, resampled),
        "confusion": scored.confusion().tolist(),
    }


def at_parameter(tested: Tested) -> list[Content]:
    """AUC at each value of the parameter: the signal that has it against all background, to which it is given.

    Parameters
    ----------
    tested
        The events, and the training; without a parameter there is nothing to say.
    """
    training, table = tested.training, tested.table
    is_signal, own = table.labels == training.signal, table.features[:, -1:]
    found = []
    for value in training.parameter.values if training.parameter else ():
        part = table[~is_signal | (own[:, 0] == np.float32(value))]
        features = part.features.copy()
        features[:, -1] = value
        part = replace(part, features=features)
        rows, scores = training.out_of_fold(part)
        truth = part.labels[rows] == training.signal
        measured = metrics.auc(scores[:, training.signal], truth, part.weights[rows])
        found.append({"parameter": value, "signal_events": int(truth.sum()), **measured.to_json()})
    return found


def _working_points(scored: Scored, resampled: metrics.Resampled | None) -> list[Content]:
    """Cuts on the signal probability for some efficiencies of the signal, measured on all events."""
    found = scored.roc("network")
    if found is None or resampled is None:
        return []
    curve, points = found[0], []
    for working in resampled.working:
        i = int(np.argmax(curve.signal >= working.signal - 1e-12))
        background = Measured(float(curve.background[i]), working.background.error)
        rejection = metrics.Working(working.signal, working.threshold, background).rejection
        points.append(
            {
                "score_at_least": float(curve.thresholds[i]),
                "signal_efficiency": float(curve.signal[i]),
                "background_efficiency": background.value,
                "background_efficiency_error": background.error,
                "background_rejection": rejection.value,
                "background_rejection_error": rejection.error,
            }
        )
    return points


def curves(scored: Scored, sample: Scored, seen: Scored, names: Sequence[str], seed: int) -> Content:
    """What the plots "roc", "scores" and "confusion" show; `seen` are the events of the training."""
    signal = names[scored.signal]
    parts = [("Network (vs all)", scored, "network")]
    if len(scored.backgrounds) > 1:
        parts += [(f"Network (vs {names[i]})", scored.against(i), "network") for i in scored.backgrounds]
    parts += [("Trees (vs all)", scored, "baseline")]
    drawn = [
        {"label": label, **_thinned(found[0]), "auc": found[1].value, "auc_error": found[1].error}
        for label, part, of in parts
        if (found := part.roc(of)) is not None
    ]
    resampled = metrics.resample(sample.score, sample.truth, sample.weights, (), seed)
    band = (
        {name: listed(getattr(resampled, name)) for name in ("signal", "low", "high")} if resampled else None
    )
    return {
        "roc": {"curves": drawn, "band": band, "events": len(scored)},
        "scores": {
            "signal": signal,
            "edges": listed(_EDGES),
            "classes": [
                {"name": name, "training": _shape(seen, i), "test": _shape(scored, i)}
                for i, name in enumerate(names)
            ],
            "events": len(scored),
        },
        "confusion": {
            "classes": list(names),
            "weights": listed(scored.confusion()),
            "counts": listed(scored.unweighted().confusion()),
            "events": len(scored),
        },
    }


def _thinned(curve: Roc) -> Content:
    """A curve of few points: evenly spaced in signal efficiency, and in the logarithm of background efficiency."""
    count = len(curve.signal)
    rows = np.arange(count)
    if count > 2 * _POINTS:
        by_signal = np.searchsorted(np.maximum.accumulate(curve.signal), np.linspace(0, 1, _POINTS))
        by_background = np.searchsorted(
            np.maximum.accumulate(curve.background), np.geomspace(1e-7, 1, _POINTS)
        )
        rows = np.unique(np.clip(np.concatenate([by_signal, by_background, [0, count - 1]]), 0, count - 1))
    return {"signal": listed(curve.signal[rows]), "background": listed(curve.background[rows])}


def _shape(scored: Scored, label: int) -> Content:
    mine = scored.labels == label
    values, errors = metrics.histogram(scored.score[mine], scored.weights[mine], _EDGES)
    return {"values": listed(values), "errors": listed(errors)}


def overtraining(seen: Sequence[Scored], unseen: Sequence[Scored], names: Sequence[str]) -> Content:
    """Compare each network's scores on the events that it was trained on with those that it tests on.

    Parameters
    ----------
    seen, unseen
        Of each network the events of its training, and those of its test.
    names
        Of the classes.

    Returns
    -------
    AUC on both, and of each class the Kolmogorov-Smirnov tests, one for each network since its two samples share
    no event, and the probability that the least probable of them is one by chance.
    """
    areas = [
        [
            value
            for part in parts
            if (value := metrics.auc(part.score, part.truth, part.weights).value) is not None
        ]
        for parts in (seen, unseen)
    ]
    fitted, tested = (float(np.mean(values)) if values else None for values in areas)
    classes = {}
    for i, name in enumerate(names):
        tests = [_compare(a, b, i) for a, b in zip(seen, unseen, strict=True)]
        known = [test.probability for test in tests if test.probability is not None]
        classes[name] = {
            "probability": metrics.combined(known),
            "networks": [{"distance": test.distance, "probability": test.probability} for test in tests],
        }
    return {"auc_on_training_events": fitted, "auc_on_test_events": tested, "kolmogorov_smirnov": classes}


def _compare(first: Scored, other: Scored, label: int) -> Kolmogorov:
    a, b = (part.select(part.labels == label) for part in (first, other))
    return metrics.kolmogorov(a.score, a.weights, b.score, b.weights)


def calibration(scored: Scored, names: Sequence[str]) -> Content | None:
    """Calibration of every class probability, the classes having the equal weight that they had in the training."""
    weights = scored.balanced()
    if weights is None:
        return None
    classes = []
    for i, name in enumerate(names):
        found = metrics.reliability(scored.network[:, i], scored.labels == i, weights)
        if found is None:
            return None
        classes.append(
            {
                "name": name,
                **{key: listed(getattr(found, key)) for key in ("predicted", "observed", "error", "share")},
                "expected_calibration_error": found.deviation,
                "by_chance": found.by_chance,
            }
        )
    return {"classes": classes, "events": len(scored)}


def significance(scored: Scored, totals: Sequence[float], physical: bool) -> Content | None:
    """Expected significance against the cut on the signal probability.

    Parameters
    ----------
    scored
        The tested events.
    totals
        Sum of weights of each class over all events, tested or not: yields are those of all.
    physical
        Whether the weights are expected numbers of events.
    """
    tested = np.bincount(scored.labels, scored.weights.astype(np.float64), scored.classes)
    scale = np.divide(totals, tested, out=np.ones_like(tested), where=tested != 0)
    found = metrics.scan(scored.score, scored.truth, scored.weights * scale[scored.labels])
    if found is None or found.best is None:
        return None
    best = found.best
    return {
        "physical": physical,
        "best": {
            "score_at_least": float(found.cuts[best]),
            "signal": float(found.signal[best]),
            "background": float(found.background[best]),
            "asimov": float(found.plain[best]),
            "asimov_error": float(found.plain_error[best]),
            "asimov_with_background_error": float(found.significance[best]),
            "signal_efficiency": float(found.signal[best] / found.signal[0]),
            "background_efficiency": float(found.background[best] / found.background[0]),
        },
        "without_cut": float(found.plain[0]),
        **{
            key: listed(getattr(found, key))
            for key in ("cuts", "signal", "background", "plain", "plain_error", "significance")
        },
        "usable": found.usable.tolist(),
        "events": len(scored),
    }
