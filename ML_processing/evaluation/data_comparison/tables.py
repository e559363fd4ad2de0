"""The tables of data against simulation."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ML_processing.evaluation.data_comparison.classifier_test import ClassifierTest
from ML_processing.evaluation.data_comparison.comparison import DataComparison
from ML_processing.evaluation.tables import value
from ML_processing.metrics.measured import Measured
from ML_processing.plots import number
from MLTools.NanoML.report.page import table

_MOST_LISTED = 10  # inputs by which a BDT tells the two apart


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
