"""The tables of stability."""

from __future__ import annotations

from ML_processing.evaluation.stability.eras import Eras
from ML_processing.evaluation.stability.repeats import Repeats
from ML_processing.evaluation.tables import table, value
from ML_processing.plots import number


def by_era(found: Eras) -> str:
    """Expected events of each class, and the AUC, in each era."""
    what = "expected events" if found.physical else "sum of weights"
    head = ["era", *(f"{name}, {what}" for name in found.classes), "AUC of the signal"]
    rows = [
        [era, *(value(it.yields[name].sum_of_weights) for name in found.classes), number(it.measured.auc)]
        for era, it in found.eras.items()
    ]
    return table(head, rows)


def by_training(found: Repeats) -> str:
    """The AUC of each training that repeats the first."""
    every = dict.fromkeys([*found.seeds, *found.curve])
    rows = [[str(it.seed), f"{it.events:,}", number(it.auc, 4)] for it in every]
    return table(["seed", "training events of a network", "AUC of the signal"], rows)
