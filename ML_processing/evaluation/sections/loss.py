"""The losses of a training, and what training on the result of a fit gained."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.training.description import Epoch, best_epoch
from ML_processing.training.loss_figure import losses
from ML_processing.training.result_training import FEWEST, Gain
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.report.section import Caption, Style
from MLTools.NanoML.schema.plain import build


@section("loss", place="", after="faults")
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

    histories: list[list[Epoch]]
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


@section("gain", only="classification", place="last", after="loss", asked_after="separation")
@dataclass(frozen=True)
class ResultGain(Part):
    """The expected uncertainty by the fit before and after, with the weights that the events had in the training."""

    gain: Gain

    @classmethod
    def compute(cls, of: Measurement) -> ResultGain | None:
        """None if the objective was another."""
        found = (of.training.description.metrics or {}).get("result")
        return None if found is None else cls(build(Gain, found))

    def answer(self, page: Evaluation) -> Answer | None:
        """By the sign of the change, if there are enough events."""
        gain, text = self.gain, self.gain.text
        few = [f"{name} ({count:,})" for name, count in gain.events.items() if count < FEWEST]
        if few:
            text += f" {listed(few)}: with fewer than {FEWEST:,} events in the channels of the fit, networks learn fluctuations."
        if not gain.is_kept:
            text += " Remove train.objective: it costs time and changes nothing."
        state = "good" if gain.is_kept and not few else "look"
        return Answer("Better by training on the result?", state, text[0].upper() + text[1:], "#loss")
