"""What the report says of data against simulation: whether the one describes the other, in plain words, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from ML_processing.evaluation.data_comparison.classifier_test import ClassifierTest
from ML_processing.evaluation.data_comparison.comparison import DataComparison
from ML_processing.evaluation.tables import value
from ML_processing.metrics.measured import Measured, number
from MLTools.NanoML.report.page import Answer, table

_MOST_LISTED = 10  # inputs by which a BDT tells the two apart
_CHANCE = 0.01  # below this probability it is not chance, all tests together
_DEVIATIONS = 3  # of an AUC above 0.5, or of a ratio from 1
_TOLD_APART = 0.55  # an AUC of data against simulation that is more than a detail
_YIELD = 0.2  # distance of data over expected events from 1
_SIGNAL = 1.0  # S / sqrt(B) in a bin: data there may well show the signal
_LISTED = 3  # of them, in words


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


def with_data(found: DataComparison) -> str:
    """What was compared where, how many events there are, the tests of shapes, and what a BDT finds."""
    return (
        "\n".join(_paragraph(text) for text in _where(found))
        + _events(found)
        + _shapes(found)
        + _told(found.classifier)
    )


def _paragraph(text: str) -> str:
    return f"<p>{text}</p>"


def _where(found: DataComparison) -> Iterator[str]:
    text = f"<code>{escape(found.cut)}</code>. Data are read in this region only."
    if found.left_out:
        text += f" Events that are also in {escape(', '.join(found.left_out))}, where data are blind, are left out."
    if found.share < 1:
        text += f" They are {100 * found.share:g} % of all, to which what is expected is scaled."
    if found.limit is not None:
        text += (
            f" Hatched bins, with an expected S / √B above {found.limit:g}, are blind. Events in such a bin of a discriminant or of the "
            "probability of the signal are left out of everything but the figures of scores."
        )
    if found.data < found.data_in_all:
        text += (
            f" {found.data:,} of {found.data_in_all:,} data events fit into train.memory; simulation is scaled to them."
        )
    yield text
    text = "The expected events are those of all classes."
    if found.signal is not None:
        text = f"The expected events are those of all classes except {escape(found.signal)}, which is drawn as a line."
        if found.signal_over_root_background is not None:
            text += f" Its S / √B is at most {found.signal_over_root_background:.2g} in a bin of a score."
    if not found.physical:
        text += " A dataset has no cross section, or there is no luminosity: simulation is scaled to the number of events of data."
    yield text


def _events(found: DataComparison) -> str:
    rows = [
        ["all events", f"{found.data:,}", value(found.expected), _ratio(found.ratio)],
        *([f"assigned to {it.name}", f"{it.data:,}", value(it.expected), _ratio(it.ratio)] for it in found.assigned),
    ]
    return table(["", "data", "expected", "data / expected"], rows)


def _ratio(found: Measured) -> str:
    return "" if found.value is None else number(found)


def _shapes(found: DataComparison) -> str:
    """Probabilities of the tests: of each variable for all events, and of each input by assigned class."""
    head = ["p of the shape", "all events", *(f"assigned to {it.name}" for it in found.assigned)]
    rows = [
        [it.name, _p(it.agreement.probability), *(_p(one.probabilities.get(it.name)) for one in found.assigned)]
        for it in found.inputs
    ]
    for panel in found.scores:
        own = [_p(it.score.agreement.probability) if it.name == panel.name else "" for it in found.assigned]
        rows.append([panel.label, _p(panel.agreement.probability), *own])
    text = (
        "Probabilities that a shape in data differs as much from the expected one by chance, after a chi2 test with the statistical "
        "errors of both (physics/0605123); “few” where there are too few events for it."
    )
    return table(head, rows) + _paragraph(text)


def _p(probability: float | None) -> str:
    return "few" if probability is None else f"{probability:.2g}"


def _told(found: ClassifierTest | None) -> str:
    if found is None:
        return _paragraph("There are too few events for a BDT to be trained on the difference of data and simulation.")
    text = (
        f"A BDT trained to separate data from simulation by all inputs together, tested on events that it has not seen, has the AUC "
        f"{number(found.auc)}: {found.standard_deviations:.1f} standard deviations above 0.5, where there is no difference, p = "
        f"{found.probability:.2g} (arXiv:1610.06545; shapes alone, {found.events:,} events). By these inputs it tells them apart:"
    )
    rows = [[it.name, number(Measured(it.loss, it.error), 4)] for it in found.inputs[:_MOST_LISTED]]
    return _paragraph(text) + table(["input", "loss of this AUC when shuffled"], rows)
