"""The losses of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ML_processing.evaluation.content import Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.training.description import Epoch, best_epoch
from ML_processing.training.loss_figure import losses
from MLTools.NanoML.report.section import Caption, Style


@section("loss", place="")
@dataclass(frozen=True)
class Losses(Part):
    """All epochs of each network, which are rounds if it `is_boosted`; they are in the directory of the training."""

    caption = Caption(
        "Loss",
        "Smaller is better; solid lines are events that only decide when to stop, dashed ones those of the training, "
        "and a dot marks the epoch, or round of trees, that was kept. Both should fall and flatten.",
        "Solid lines that rise far above the dashed ones before the dot, lines that still fall at the end (a larger train.epochs "
        "would help), or one fold far from the others.",
        is_small=True,
    )

    histories: Sequence[Sequence[Epoch]]
    is_boosted: bool

    @property
    def unfinished(self) -> int:
        """How many networks were at their best in their last epoch."""
        return sum(best_epoch(history) == history[-1] for history in self.histories)

    @classmethod
    def compute(cls, of: Measurement) -> Losses:
        """The losses of the training."""
        return cls(of.training.histories, of.training.is_boosted)

    def draw(self, style: Style) -> Figure:
        """Training and validation loss of each network."""
        return losses(style, self.histories, self.is_boosted)
