"""Whether simulation describes data, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

from ML_processing.evaluation.data_comparison.comparison import DataComparison
from ML_processing.plots import number
from MLTools.NanoML.report.page import Answer

_CHANCE = 0.01  # below this probability it is not chance, all tests together
_DEVIATIONS = 3  # of an AUC above 0.5, or of a ratio from 1
_TOLD_APART = 0.55  # an AUC of data against simulation that is more than a detail
_YIELD = 0.2  # distance of data over expected events from 1
_SIGNAL = 1.0  # S / sqrt(B) in a bin: data there may well show the signal
_LISTED = 3


def data_answers(compared: Mapping[str, DataComparison]) -> list[Answer]:
    """One answer for each region in which data were compared."""
    return [_answer(name, found) for name, found in compared.items()]


def _answer(name: str, found: DataComparison) -> Answer:
    question, state = f"Does simulation describe data in {name}?", "good"
    if not found.data or not found.tests:
        return Answer(question, "open", f"{found.data:,} events of data: too few to compare a shape.")
    texts = [f"{found.data:,} events of data"]
    ratio = found.ratio
    if ratio.value is not None and ratio.error is not None:
        texts[0] += f", {number(ratio, 2)} of what is expected (statistical error)."
        if abs(ratio.value - 1) > max(_YIELD, _DEVIATIONS * ratio.error):
            state = "look"
    else:
        texts[0] += "."
    worst, smallest = min(found.tests.items(), key=lambda item: item[1])
    together = min(1.0, smallest * len(found.tests))
    texts.append(
        f"The worst of {len(found.tests)} shapes is {worst}: p = {smallest:.2g}, or {together:.2g} for the worst of so many."
    )
    if together < _CHANCE:
        state = "look"
    tested = found.classifier
    if tested is None:
        state = "open" if state == "good" else state
        texts.append("There are too few events for a classifier test.")
    else:
        text = (
            f"A BDT trained to separate data from simulation has AUC {number(tested.auc)}, {tested.standard_deviations:.1f} standard "
            "deviations from the 0.5 of no difference"
        )
        apart = tested.standard_deviations > _DEVIATIONS
        told_by = tested.telling[:_LISTED]
        texts.append(f"{text}; they differ in {', '.join(told_by)}." if apart and told_by else f"{text}.")
        if apart:
            area = tested.auc.value or 0.5
            state = "bad" if area > _TOLD_APART else "look"
        elif state == "good" and (tested.auc.error or 0) > _TOLD_APART - 0.5:
            state = "open"
            texts.append("Its error is so large that a difference that matters would not show.")
    if state in ("look", "bad"):
        texts.append(
            "A network exploits what is wrong in simulation: correct it, or leave out what betrays the difference."
        )
    if (found.signal_over_root_background or 0) > _SIGNAL:
        state = "look" if state == "good" else state
        texts.append(
            f"In a bin of a score the expected signal is {found.signal_over_root_background:.2g} times the square root of the "
            "background: this region is hardly a control region."
        )
    return Answer(question, state, " ".join(texts))
