"""Numbers and curves of a classification, and how a cut on its score depends on features and shapes masses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.scored import EFFICIENCIES, Json, OutOfFold, Scored, label, listed, shape, spectators
from ML_processing.metrics.classification import reliability, scan_cuts
from ML_processing.metrics.distances import bonferroni, kolmogorov, sculpting
from ML_processing.metrics.measured import Floats, Measured, bin_of, efficiency, even_edges, quantile_edges
from ML_processing.metrics.roc import Bootstrap, Roc, WorkingPoint, auc, auc_matrix, bootstrap

_EDGES = np.linspace(0, 1, 26)
_POINTS = 400  # of a drawn curve
_MOST_FEATURES, _MOST_MASSES = 12, 3
_BINS, _MASS_BINS = 8, 20
_KEPT = (0.5, 0.1)  # of the background, by cuts whose shapes are compared


def discrimination(scored: Scored, sample: Scored, seen: Scored, names: Sequence[str], seed: int) -> tuple[Json, Json]:
    """AUCs, working points and confusion matrix; and the plots of ROC curves, scores (`seen` in the training) and confusion."""
    resampled = bootstrap(sample.score, sample.truth, sample.weights, EFFICIENCIES, seed)
    pairs = auc_matrix(scored.network, scored.labels, scored.weights)
    numbers = {
        "auc": scored.auc(),
        "auc_unweighted": scored.unweighted().auc(),
        "auc_against": {
            names[i]: {"weighted": part.auc(), "unweighted": part.unweighted().auc()}
            for i in scored.backgrounds
            for part in [scored.against(i)]
        },
        "auc_bootstrap_error": resampled.auc_error if resampled else None,
        "auc_one_against_all": {
            name: auc(scored.network[:, i], scored.labels == i, scored.weights).to_json()
            for i, name in enumerate(names)
        },
        "auc_one_against_one": {
            name: {other: pairs[i][j].to_json() for j, other in enumerate(names) if i != j}
            for i, name in enumerate(names)
        },
        "cuts": _working_points(scored, resampled),
        "confusion": scored.confusion().tolist(),
    }
    band = {name: listed(getattr(resampled, name)) for name in ("signal", "low", "high")} if resampled else None
    drawn = {
        "roc": {"curves": _curves(scored, names), "band": band, "events": len(scored)},
        "scores": {
            "signal": names[scored.signal],
            "edges": listed(_EDGES),
            "classes": [
                {"name": name, "training": _scores(seen, i), "test": _scores(scored, i)} for i, name in enumerate(names)
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
    return numbers, drawn


def _working_points(scored: Scored, resampled: Bootstrap | None) -> list[Json]:
    """Cuts on the signal probability for some efficiencies of the signal, measured on all events."""
    found = scored.roc("network")
    if found is None or resampled is None:
        return []
    curve, points = found[0], []
    for point in resampled.working_points:
        i = int(np.argmax(curve.signal >= point.signal - 1e-12))
        background = Measured(float(curve.background[i]), point.background.error)
        rejection = WorkingPoint(point.signal, point.threshold, background).rejection
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


def _curves(scored: Scored, names: Sequence[str]) -> list[Json]:
    parts = [("Network (vs all)", scored, "network")]
    if len(scored.backgrounds) > 1:
        parts += [(f"Network (vs {names[i]})", scored.against(i), "network") for i in scored.backgrounds]
    parts += [("BDT (vs all)", scored, "baseline")]
    return [
        {"label": title, **_thinned(found[0]), "auc": found[1].value, "auc_error": found[1].error}
        for title, part, of in parts
        if (found := part.roc(of)) is not None
    ]


def _thinned(curve: Roc) -> Json:
    """A curve of few points: evenly spaced in signal efficiency, and in the logarithm of background efficiency."""
    count = len(curve.signal)
    rows = np.arange(count)
    if count > 2 * _POINTS:
        by_signal = np.searchsorted(np.maximum.accumulate(curve.signal), np.linspace(0, 1, _POINTS))
        by_background = np.searchsorted(np.maximum.accumulate(curve.background), np.geomspace(1e-7, 1, _POINTS))
        rows = np.unique(np.clip(np.concatenate([by_signal, by_background, [0, count - 1]]), 0, count - 1))
    return {"signal": listed(curve.signal[rows]), "background": listed(curve.background[rows])}


def _scores(scored: Scored, class_: int) -> Json:
    mine = scored.labels == class_
    return shape(scored.score[mine], scored.weights[mine], _EDGES)


def at_parameter(tested: OutOfFold) -> list[Json]:
    """AUC at each value of the parameter, if there is one: signal with this value against all background, scored at it."""
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
        measured = auc(scores[:, training.signal], truth, part.weights[rows])
        found.append({"parameter": value, "signal_events": int(truth.sum()), **measured.to_json()})
    return found


def overtraining(seen: Sequence[Scored], unseen: Sequence[Scored], names: Sequence[str]) -> Json:
    """Compare each network's scores on the events that it was trained on (`seen`) with those that it tests on.

    There is one Kolmogorov-Smirnov test for each network, since its two samples share no event, and the probability
    that the least probable of them is one by chance.
    """
    areas = []
    for parts in (seen, unseen):
        values = [auc(part.score, part.truth, part.weights).value for part in parts]
        known = [value for value in values if value is not None]
        areas.append(float(np.mean(known)) if known else None)
    classes = {}
    for i, name in enumerate(names):
        tests = []
        for pair in zip(seen, unseen, strict=True):
            a, b = (part.select(part.labels == i) for part in pair)
            tests.append(kolmogorov(a.score, a.weights, b.score, b.weights))
        classes[name] = {
            "probability": bonferroni([it.probability for it in tests if it.probability is not None]),
            "networks": [{"distance": it.distance, "probability": it.probability} for it in tests],
        }
    return {"auc_on_training_events": areas[0], "auc_on_test_events": areas[1], "kolmogorov_smirnov": classes}


def calibration(scored: Scored, names: Sequence[str]) -> Json | None:
    """Calibration of every class probability, with the equal weights of the classes that they had in the training."""
    weights = scored.balanced()
    if weights is None:
        return None
    classes = []
    for i, name in enumerate(names):
        found = reliability(scored.network[:, i], scored.labels == i, weights)
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


def significance(scored: Scored, totals: Sequence[float], physical: bool) -> Json | None:
    """Expected significance against the cut on the signal probability.

    Yields are those of all events, tested or not: `totals` are their sums of weights by class. They are expected
    numbers of events if the weights are `physical`.
    """
    tested = np.bincount(scored.labels, scored.weights.astype(np.float64), scored.classes)
    scale = np.divide(totals, tested, out=np.ones_like(tested), where=tested != 0)
    found = scan_cuts(scored.score, scored.truth, scored.weights * scale[scored.labels])
    if found is None or found.best is None:
        return None
    best = found.best
    arrays = ("cuts", "signal", "background", "plain", "plain_error", "significance")
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
        **{key: listed(getattr(found, key)) for key in arrays},
        "usable": found.usable.tolist(),
        "events": len(scored),
    }


def by_feature(tested: OutOfFold, scored: Scored, cut: float) -> Json:
    """Efficiency of a cut for each class, in bins of the features with about the same number of events each."""
    passed, features = scored.score >= cut, []
    for name, values in islice(spectators(tested.table).items(), _MOST_FEATURES):
        edges = quantile_edges(values, _BINS)
        if not edges.size:
            continue
        known, index, classes = np.isfinite(values), bin_of(values, edges), []
        for i, class_ in enumerate(tested.table.classes):
            mine = known & (scored.labels == i)
            bins = [mine & (index == number) for number in range(len(edges) - 1)]
            found = [efficiency(passed[inside], scored.weights[inside]) for inside in bins]
            kept, errors = [it.value for it in found], [it.error for it in found]
            classes.append({"name": class_, "values": listed(kept), "errors": listed(errors)})
        features.append({"name": name, "label": label(tested.table, name), "edges": listed(edges), "classes": classes})
    return {"score_at_least": cut, "features": features, "events": len(scored)}


def is_mass(name: str) -> bool:
    """Whether a column is a mass by its name: ..._mass, ..._mT, m_..., invMass and the like."""
    return bool(re.search(r"mass|Mass|(^|_)(m[TtZW]?|mjj|mll)(_|$)|mT(?![a-z])", name))


def sculpted(tested: OutOfFold, scored: Scored, column: str | None, cut: float | None) -> Json | None:
    """Shapes of masses for each background, before and after cuts; None if there is no mass, or no cut.

    The mass is the `column` that the training was decorrelated from, or else all masses among the features. The cuts
    keep 50 % and 10 % of the background; `cut` is one more.
    """
    columns, cuts, panels = spectators(tested.table), _cuts(scored, cut), []
    masses = [column] if column is not None else [name for name in columns if is_mass(name)]
    for name in masses[:_MOST_MASSES] if cuts else ():
        values = columns[name]
        edges = even_edges(values[~scored.truth], _MASS_BINS)
        if not edges.size:
            continue
        for i in scored.backgrounds:
            mine = scored.labels == i
            x, score, weights = values[mine], scored.score[mine], scored.weights[mine]
            after = [_after(x, score >= it["score_at_least"], weights, edges, tested.seed) for it in cuts]
            panels.append(
                {
                    "feature": name,
                    "label": label(tested.table, name),
                    "background": tested.table.classes[i],
                    "edges": listed(edges),
                    "before": shape(x, weights, edges),
                    "after": after,
                }
            )
    return {"cuts": cuts, "panels": panels, "events": len(scored)} if panels else None


def _cuts(scored: Scored, best: float | None) -> list[dict[str, float]]:
    values = {at for kept in _KEPT if (at := scored.cut_at(kept)) is not None}
    if best is not None:
        values.add(best)
    score, weights = scored.score[~scored.truth], scored.weights[~scored.truth]
    found = []
    for at in sorted(values):
        kept = efficiency(score >= at, weights).value
        found.append({"score_at_least": at, "background_efficiency": float("nan") if kept is None else kept})
    return found


def _after(values: NDArray[Any], passed: NDArray[np.bool_], weights: NDArray[Any], edges: Floats, seed: int) -> Json:
    found = sculpting(values, passed, weights, edges, seed)
    return {
        **shape(values[passed], weights[passed], edges),
        "events": int(passed.sum()),
        "jensen_shannon": found.divergence,
        "by_chance": found.by_chance,
        "standard_deviations": found.excess,
    }
