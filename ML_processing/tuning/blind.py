"""Events for a search: all but those on which its result will be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ML_processing.events.data import Table, TrainingFiles
from ML_processing.events.survey import split_count

if TYPE_CHECKING:
    from MLTools.NanoML.config.training import Train

__all__ = ["FOLD", "Blind", "open_blind"]

FOLD = 0
"""The network that is trained in a trial: it tests on the fold of this number."""


@dataclass(frozen=True)
class Blind(TrainingFiles):
    """HDF5 files without the events of the test fold, which no trial can read.

    Attributes
    ----------
    folds
        Number of folds.
    """

    folds: int

    def block(self, number: int) -> Table:
        """The labelled events of a block that are not in the test fold."""
        table = super().block(number)
        return table[np.flatnonzero(table.folds(self.folds) != FOLD)]


def open_blind(files: Sequence[Path], config: Train) -> Blind:
    """Look at what files say of themselves, as `TrainingFiles.open` does, whose errors it raises."""
    data = TrainingFiles.open(files, config)
    return Blind(data.files, data.columns, data.rows, data.chunks, data.blocks, split_count(config.folds)[0])
