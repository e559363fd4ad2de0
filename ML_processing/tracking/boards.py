"""TensorBoard: one directory of event files for each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ML_processing.training.description import Epoch

__all__ = ["Board"]


class Board:
    """Scalars of one network.

    Parameters
    ----------
    directory
        Of the training; the event files are in tensorboard/fold_I. Older ones of this network are removed: an
        interrupted training reports its epochs again.
    fold
        Number of the network.
    """

    def __init__(self, directory: Path, fold: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        mine = directory / "tensorboard" / f"fold_{fold}"
        for outdated in mine.glob("events.out.tfevents.*"):
            outdated.unlink()
        self._writer = SummaryWriter(str(mine))

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Record epochs."""
        for epoch in epochs:
            for name, value in asdict(epoch).items():
                if name != "epoch" and value is not None:
                    self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Write all that is not written yet."""
        self._writer.close()
