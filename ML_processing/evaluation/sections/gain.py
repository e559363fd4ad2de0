"""The gain by a training on the result of the fit, if that was its objective."""

from __future__ import annotations

from dataclasses import dataclass

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.training.result_training import FEWEST, Gain
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.schema.plain import build


@section("gain", only="classification", place="last")
@dataclass(frozen=True)
class ResultGain(Part):
    """The expected uncertainty by the fit before and after, with the weights that the events had in the training."""

    gain: Gain

    @classmethod
    def compute(cls, of: Measurement) -> ResultGain | None:
        """None if the objective was another."""
        found = (of.training.description.metrics or {}).get("result")
        return None if found is None else cls(build(Gain, found))

    @classmethod
    def answer(cls, page: Evaluation) -> Answer | None:
        """By the sign of the change, if there are enough events."""
        content = page.of(cls)
        if content is None:
            return None
        gain, text = content.gain, content.gain.text
        few = [f"{name} ({count:,})" for name, count in gain.events.items() if count < FEWEST]
        if few:
            text += f" {listed(few)}: with fewer than {FEWEST:,} events in the channels of the fit, networks learn fluctuations."
        if not gain.is_kept:
            text += " Remove train.objective: it costs time and changes nothing."
        state = "good" if gain.is_kept and not few else "look"
        return Answer("Better by training on the result?", state, text[0].upper() + text[1:])
