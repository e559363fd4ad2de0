"""Cuts, and the cut flow that counts them."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.accounting import Step
from MLTools.NanoML.errors import NanoMLError


class Cutflow:
    """Applies cuts one after the other and counts the events that are left.

    Parameters
    ----------
    weights
        Generator weight of each event of the chunk, shape (events,).
    """

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._all = self._weights = np.asarray(weights, dtype=np.float64)
        self.steps: list[Step] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._count("all")

    def _count(self, name: str) -> None:
        if any(step.cut == name for step in self.steps):
            raise NanoMLError(f'cut "{name}": there is a cut of this name already. Give each cut a name of its own.')
        self.steps.append(Step(name, len(self._weights), float(self._weights.sum())))

    def steps_of(self, chosen: NDArray[np.bool_]) -> list[Step]:
        """What the steps would be with only some events of the chunk, given by a mask of shape (events,)."""
        weights, found = self._all, []
        for number, step in enumerate(self.steps):
            if number:
                passed = self._masks[number - 1]
                chosen, weights = chosen[passed], weights[passed]
            found.append(Step(step.cut, int(chosen.sum()), float(weights[chosen].sum())))
        return found

    def cut(self, name: str, mask: Any, *narrowed: Any) -> Any:
        """Keep the events for which `mask` is true.

        Parameters
        ----------
        name
            Name of the cut in the cut flow.
        mask
            One boolean for each event that is still there.
        *narrowed
            Events, collections and other arrays with one entry for each event that is still there.

        Returns
        -------
        `narrowed` with only the events that pass: a tuple, or a single array if there is one.

        Raises
        ------
        NanoMLError
            The mask is not one boolean per event, or an array to be narrowed has another length.
        """
        passed = self._checked(name, mask)
        for position, thing in enumerate(narrowed, 1):
            if len(thing) != len(passed):
                raise NanoMLError(
                    f'cut "{name}": argument {position} after the mask has {len(thing)} entries, the mask {len(passed)}: '
                    "narrow it in every cut, or compute it after the cut."
                )
        self._weights = self._weights[passed]
        self._masks.append(passed.copy())  # it may be changed later
        self._count(name)
        kept = tuple(thing[passed] for thing in narrowed)
        return kept[0] if len(kept) == 1 else kept

    def _checked(self, name: str, mask: Any) -> NDArray[np.bool_]:
        passed = mask
        try:
            if type(mask) is not np.ndarray:
                passed = ak.to_numpy(mask if isinstance(mask, (np.ndarray, ak.Array)) else ak.Array(mask))
        except (ValueError, TypeError):
            raise NanoMLError(
                f'cut "{name}": the mask has a list for each event. Give one boolean per event, as in ak.any(mask, axis=1).'
            ) from None
        if type(passed) is not np.ndarray and np.ma.isMaskedArray(passed):
            if np.ma.getmaskarray(passed).any():
                raise NanoMLError(f'cut "{name}": the mask has missing values (None). Use ak.fill_none(mask, False).')
            passed = passed.data
        if passed.ndim != 1 or passed.dtype != np.bool_:
            raise NanoMLError(
                f'cut "{name}": the mask is {passed.ndim}-dimensional of {passed.dtype}, not one boolean per event. '
                "Give one boolean per event, as in ak.any(mask, axis=1), or by a comparison."
            )
        if len(passed) != len(self._weights):
            raise NanoMLError(
                f'cut "{name}": the mask has {len(passed)} entries, but {len(self._weights)} events are left: '
                "was it computed before an earlier cut?"
            )
        return passed
