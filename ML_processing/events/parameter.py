"""The parameter of a network, such as the mass of a signal: events that have none get a value at random.

Every value counts the same in the training, however large its cross section, and comes as often among the events that
have none. So the parameter tells nothing by itself, and the network learns to tell the classes apart at any value of it
(Baldi et al., Eur. Phys. J. C 76 (2016) 235).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.events.batches import Events
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.folds import mixed

__all__ = ["Parameter"]


@dataclass(frozen=True)
class Parameter:
    """The values of a parameter.

    Attributes
    ----------
    column
        Name of the column, the last feature.
    values
        In increasing order.
    shares
        Share of each among the events that have the parameter, by weight; they sum to 1.
    """

    column: str
    values: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, survey: Survey) -> Parameter | None:
        """The parameter of a training, if it has one."""
        if survey.about.parameter is None:
            return None
        values = sorted(survey.parameters)
        total = sum(survey.parameters.values())
        for value in values:
            if survey.parameters[value] <= 0:
                raise NanoMLError(
                    f"the weights of the events with {survey.about.parameter} {value:g} sum to "
                    f"{survey.parameters[value]:.4g}, so they cannot be scaled to the total of the others. Use more events."
                )
        return cls(
            survey.about.parameter, tuple(values), tuple(survey.parameters[it] / total for it in values)
        )

    @classmethod
    def from_json(cls, content: dict[str, Any] | None) -> Parameter | None:
        """Undo `dataclasses.asdict`."""
        if content is None:
            return None
        return cls(content["column"], tuple(content["values"]), tuple(content["shares"]))

    def filled(self, table: Table) -> NDArray[np.float32]:
        """The features of a table, with a value wherever there is none: the same for an event at any time."""
        features = table.features.copy()
        free = np.isnan(features[:, -1])
        run, block, event = (ids[free] for ids in table.identifiers)
        uniform = mixed(block, event, run).astype(np.float64) / 2.0**64
        chosen = (uniform * len(self.values)).astype(np.int64).clip(max=len(self.values) - 1)
        features[free, -1] = np.array(self.values, np.float32)[chosen]
        return features

    def balance(self, table: Table) -> NDArray[np.float64]:
        """What gives every value the same total weight, float64 of shape (N,); 1 for events that have none."""
        values = table.features[:, -1]
        places = np.searchsorted(np.array(self.values, np.float32), values).clip(max=len(self.values) - 1)
        factors = 1 / (len(self.values) * np.array(self.shares))
        return np.where(np.isnan(values), 1.0, factors[places])

    def redraw(self, events: Events, scaled: Tensor, generator: torch.Generator) -> None:
        """Give new values, in place, to the events that are free.

        Parameters
        ----------
        events
            Events whose inputs are scaled.
        scaled
            The values as the network reads them, float32 of shape (values,).
        generator
            Where the random numbers come from.
        """
        count = int(events.free.sum())
        if count:
            drawn = torch.randint(len(self.values), (count,), generator=generator)
            events.inputs.features[events.free, -1] = scaled[drawn.to(scaled.device)]
