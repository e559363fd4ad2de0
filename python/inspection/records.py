"""What files of the pipeline say of the events they were made from: accounting and cut flows, as content."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from MLTools.NanoML.contracts.provenance import Criteria
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.selection import Step

__all__ = ["describe_accounting", "describe_criteria", "describe_cutflow", "finite"]


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON has not."""
    return value if math.isfinite(value) else None


def describe_accounting(accounting: Accounting) -> dict[str, Any]:
    """Accounting with its sums, and each file's numbers without its cut flow."""
    return {
        "entries": accounting.entries,
        "selected": accounting.selected,
        "duplicates": accounting.duplicates,
        "is_data": accounting.is_data,
        "sum_of_weights": finite(accounting.sum_of_weights),
        "sum_of_weights_sources": sorted({file.sum_of_weights_source for file in accounting.files}),
        "cutflow": describe_cutflow(accounting.cutflow),
        "files": [
            {
                "file": file.file,
                "entries": file.entries,
                "selected": file.selected,
                "duplicates": file.duplicates,
                "sum_of_weights": finite(file.sum_of_weights),
                "sum_of_weights_source": file.sum_of_weights_source,
                "part": None if file.part is None else asdict(file.part),
            }
            for file in accounting.files
        ],
    }


def describe_criteria(criteria: Criteria) -> dict[str, Any]:
    """What decided beside the selection, as in the record."""
    return asdict(criteria)


def describe_cutflow(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Each step with its efficiencies.

    Returns
    -------
    Of each step `cut`, `events`, `weights`; the share of the events that the step before left (`of_previous`)
    and of all (`of_all`), and the share of all weights (`weights_of_all`); None where nothing can be divided by.
    """
    return [
        {
            "cut": step.cut,
            "events": step.events,
            "of_previous": _share(step.events, steps[max(number - 1, 0)].events),
            "of_all": _share(step.events, steps[0].events),
            "weights": step.weights,
            "weights_of_all": _share(step.weights, steps[0].weights),
        }
        for number, step in enumerate(steps)
    ]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
