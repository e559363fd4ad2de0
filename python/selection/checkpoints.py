"""Checkpoints of a selection: under a shift, it goes on after the last cut before the shift matters.

Python cannot enter a function in the middle. But after a cut, a selection needs nothing but what the cut narrowed, since anything
from before has entries for other events. So up to that cut it runs without any events, which takes next to no time, and the cut
returns what it returned in the nominal run. A selection that needs more fails because lengths differ, or gives another result for
the nominal events; it is repeated as a whole.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Weight
from MLTools.NanoML.selection.cutflow import Cutflow, Place


@dataclass(frozen=True)
class Checkpoint:
    """The state of a selection after a cut.

    Attributes
    ----------
    cutflow
        The cut flow as it was then.
    kept
        What the cut returned.
    """

    cutflow: Cutflow
    kept: tuple[Any, ...]

    def is_free_of(self, branches: Set[str], events: Events) -> bool:
        """Whether what was kept has, and will have, no values of these branches, but for the events themselves."""
        return all(self._is_free(each, branches, events) for each in self.kept)

    def _is_free(self, kept: Any, branches: Set[str], events: Events) -> bool:
        if isinstance(kept, Events):
            return np.array_equal(kept.rows, self.cutflow.rows) and not kept.differing(events)
        if isinstance(kept, Flat):
            return not kept.later & branches
        return isinstance(kept, (np.ndarray, ak.Array))

    def resumed(self, select: Callable[[Events, Cutflow], Any], events: Events, begun: int) -> Any:
        """What `select` returns if it goes on from here with other events at the same positions.

        It is None if it cannot: it needs something else from before, or cannot do without events. `begun` is the number of cuts
        that came before `select`.
        """
        cutflow = _ResumedCutflow(self, events, begun)
        try:
            found = select(events[np.zeros(0, np.int64)], cutflow)
        except NanoMLError:
            return None
        return None if cutflow.is_ahead else found


@dataclass(frozen=True)
class PlaceAfterCheckpoint(Place):
    """A place in a cut flow, and the last checkpoint before it."""

    checkpoint: Checkpoint | None


class CheckpointCutflow(Cutflow):
    """A cut flow that keeps the last checkpoint."""

    checkpoint: Checkpoint | None = None

    @property
    def place(self) -> PlaceAfterCheckpoint:
        """How far it has come."""
        return PlaceAfterCheckpoint(len(self._masks), len(self._given), self.rows, self.checkpoint)

    def cut(self, name: str, mask: Any, *narrowed: Any) -> Any:
        """As that of any cut flow."""
        kept = super().cut(name, mask, *narrowed)
        then = Cutflow(np.zeros(0), self.declared, self.weighs)
        then.go_on_from(self)
        self.checkpoint = Checkpoint(then, tuple(map(_copied, kept if len(narrowed) != 1 else (kept,))))
        return kept


class _ResumedCutflow(Cutflow):
    """A cut flow without events, which goes on from a checkpoint when it comes to its cut."""

    def __init__(self, checkpoint: Checkpoint, events: Events, begun: int) -> None:
        then = checkpoint.cutflow
        super().__init__(np.zeros(0), then.declared, then.weighs)
        self._ahead: Cutflow | None = None
        for step in then.steps[1 : begun + 1]:
            self.cut(step.cut, np.zeros(0, bool))
        self._ahead = then
        self._kept = tuple(events if isinstance(each, Events) else _copied(each) for each in checkpoint.kept)

    @property
    def is_ahead(self) -> bool:
        """Whether the checkpoint has not been reached."""
        return self._ahead is not None

    def cut(self, name: str, mask: Any, *narrowed: Any) -> Any:
        """As that of any cut flow, but the last one before the checkpoint returns what was kept there."""
        kept = super().cut(name, mask, *narrowed)
        if self._ahead is None or len(self.steps) < len(self._ahead.steps):
            return kept
        if [each.cut for each in self.steps] != [each.cut for each in self._ahead.steps]:
            raise NanoMLError(f'cut "{name}": there are other cuts before it if there are no events.')
        self.go_on_from(self._ahead)
        things, self._ahead, self._kept = self._kept, None, ()
        return things[0] if len(things) == 1 else things


class _FirstCutError(Exception):
    """A selection came to its first cut."""


class _BeforeCuts(Cutflow):
    """A cut flow that ends at the first cut."""

    def cut(self, name: str, mask: Any, *narrowed: Any) -> Any:
        """As that of any cut flow."""
        raise _FirstCutError


def weighed_before_cuts(
    select: Callable[[Events, Cutflow], Any],
    events: Events,
    weights: NDArray[np.float64],
    declared: Mapping[str, Weight],
) -> Cutflow:
    """The cut flow of a selection with the weights that it gives before its first cut, of the declared ones."""
    cutflow = _BeforeCuts(weights, declared)
    if len(events):
        with contextlib.suppress(_FirstCutError):
            select(events, cutflow)
    return cutflow


def _copied(thing: Any) -> Any:
    """A copy of an array, which a selection may change; it changes nothing else."""
    return copy.copy(thing) if isinstance(thing, (np.ndarray, ak.Array)) else thing
