"""What a selection counts of events that come one by one: cut flow and sums of weights, nominally and under each shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.accounting import ShiftSums, Step, WeightSums
from MLTools.NanoML.nanoaod.accounting import add_shift_sums, add_steps, add_weight_sums
from MLTools.NanoML.selection import Selected


@dataclass(frozen=True)
class Counts:
    """Cut flow and sums of weights, nominally and under each shift of objects."""

    steps: list[Step] = field(default_factory=list)
    weights: list[WeightSums] = field(default_factory=list)
    shifts: list[ShiftSums] = field(default_factory=list)

    def __add__(self, more: Counts) -> Counts:
        return Counts(
            add_steps([self.steps, more.steps]),
            add_weight_sums([self.weights, more.weights]),
            add_shift_sums([self.shifts, more.shifts]),
        )

    @property
    def flows(self) -> list[list[Step]]:
        """The cut flows: the nominal one, then those under shifts."""
        return [self.steps, *(each.cutflow for each in self.shifts)]


def counts_of(selected: Selected, shifts: Sequence[str], reached: NDArray[np.bool_]) -> Counts:
    """What a selection counts of the events of a chunk that reached it.

    `reached` has shape (events, 1 + shifts) and says for each event whether it did nominally, and under each of the `shifts` of
    an earlier selection. A selection with shifts of its own comes after none with shifts: then the events did or did not.
    """
    cutflow, nominal = selected.cutflow, reached[:, 0]
    found = [
        ShiftSums(shift, cutflow.steps_of(mask), [each.unvaried for each in cutflow.weight_sums(mask)])
        for shift, mask in zip(shifts, reached.T[1:])
    ]
    return Counts(cutflow.steps_of(nominal), cutflow.weight_sums(nominal), found or selected.shift_sums(nominal))
