"""How a cut on the score depends on features, and what it does to their shapes."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import metrics
from ML_processing.evaluation.scored import Scored
from ML_processing.evaluation.tested import Tested, label, listed, spectators
from ML_processing.events.table import Table

__all__ = ["by_feature", "is_mass", "sculpted"]

_MOST_FEATURES, _MOST_MASSES = 12, 3
_BINS, _MASS_BINS = 8, 20
_KEPT = (0.5, 0.1)  # of the background, by cuts whose shapes are compared


def by_feature(tested: Tested, scored: Scored, cut: float) -> dict[str, Any]:
    """Efficiency of a cut for each class, in bins of the features with about the same number of events each."""
    passed, features = scored.score >= cut, []
    for name, values in islice(spectators(tested.table).items(), _MOST_FEATURES):
        edges = metrics.quantile_edges(values, _BINS)
        if not edges.size:
            continue
        classes = []
        for i, class_ in enumerate(tested.table.classes):
            found = _in_bins(values, edges, scored.labels == i, passed, scored.weights)
            classes.append({"name": class_, **{key: listed(array) for key, array in found.items()}})
        features.append(
            {"name": name, "label": label(tested.table, name), "edges": listed(edges), "classes": classes}
        )
    return {"score_at_least": cut, "features": features, "events": len(scored)}


def _in_bins(
    values: NDArray[Any],
    edges: NDArray[np.float64],
    mine: NDArray[np.bool_],
    passed: NDArray[np.bool_],
    weights: NDArray[Any],
) -> dict[str, NDArray[np.float64]]:
    use = mine & np.isfinite(values)
    index = metrics.bin_of(values, edges)
    found = [
        metrics.efficiency(passed[inside], weights[inside])
        for bin_ in range(len(edges) - 1)
        for inside in [use & (index == bin_)]
    ]
    return {
        "values": np.array([it.value if it.value is not None else np.nan for it in found]),
        "errors": np.array([it.error if it.error is not None else np.nan for it in found]),
    }


def is_mass(name: str) -> bool:
    """Whether a column is a mass by its name: ..._mass, ..._mT, m_..., invMass and the like."""
    return bool(re.search(r"mass|Mass|(^|_)(m[TtZW]?|mjj|mll)(_|$)|mT(?![a-z])", name))


def sculpted(tested: Tested, scored: Scored, column: str | None, cut: float | None) -> dict[str, Any] | None:
    """Shapes of masses for each background, before and after cuts.

    Parameters
    ----------
    tested, scored
        The events and their scores.
    column
        What the training was told to be independent of; None takes the masses among the features.
    cut
        A cut of interest beside those that keep 50 % and 10 % of the background.

    Returns
    -------
    None where there is no mass, or no cut.
    """
    masses = _masses(tested.table, column)
    cuts = _cuts(scored, cut)
    if not masses or not cuts:
        return None
    panels = []
    for name, values in masses:
        edges = metrics.even_edges(values[~scored.truth], _MASS_BINS)
        if not edges.size:
            continue
        for i in scored.backgrounds:
            mine = scored.labels == i
            x, score, weights = values[mine], scored.score[mine], scored.weights[mine]
            before = metrics.histogram(x, weights, edges)
            panels.append(
                {
                    "feature": name,
                    "label": label(tested.table, name),
                    "background": tested.table.classes[i],
                    "edges": listed(edges),
                    "before": {"values": listed(before[0]), "errors": listed(before[1])},
                    "after": [
                        _after(x, score >= it["score_at_least"], weights, edges, tested.seed) for it in cuts
                    ],
                }
            )
    return {"cuts": cuts, "panels": panels, "events": len(scored)} if panels else None


def _masses(table: Table, column: str | None) -> list[tuple[str, NDArray[np.float32]]]:
    known = spectators(table)
    names = [column] if column is not None else [name for name in known if is_mass(name)]
    return [(name, known[name]) for name in names[:_MOST_MASSES]]


def _cuts(scored: Scored, best: float | None) -> list[dict[str, float]]:
    cuts = [{"score_at_least": at} for kept in _KEPT if (at := scored.cut_at(kept)) is not None]
    if best is not None:
        cuts.append({"score_at_least": best})
    background = ~scored.truth
    for it in cuts:
        kept = metrics.efficiency(
            scored.score[background] >= it["score_at_least"], scored.weights[background]
        )
        it["background_efficiency"] = kept.value if kept.value is not None else float("nan")
    by_cut = {it["score_at_least"]: it for it in cuts}
    return sorted(by_cut.values(), key=lambda it: it["score_at_least"])


def _after(
    values: NDArray[Any],
    passed: NDArray[np.bool_],
    weights: NDArray[Any],
    edges: NDArray[np.float64],
    seed: int,
) -> dict[str, Any]:
    sums, errors = metrics.histogram(values[passed], weights[passed], edges)
    found = metrics.sculpting(values, passed, weights, edges, seed)
    return {
        "values": listed(sums),
        "errors": listed(errors),
        "events": int(passed.sum()),
        "jensen_shannon": found.divergence,
        "by_chance": found.by_chance,
        "standard_deviations": found.excess,
    }
