"""Classes that nothing separates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.metrics.measured import Measured, number
from ML_processing.metrics.roc import auc_matrix
from MLTools.NanoML.report.page import Answer

_NOTHING = 0.55  # AUC: two classes that are surely below are not separated


@dataclass(frozen=True)
class Unseparated:
    """Two classes whose AUC are compatible with 0.5: that of the networks, and that of a BDT if there is one."""

    classes: tuple[str, str]
    has_signal: bool
    auc: list[Measured]


@section("separation", only="classification", place="last")
@dataclass(frozen=True)
class Separation(Part):
    """The pairs of classes that neither networks nor BDT tell apart."""

    pairs: list[Unseparated]

    @classmethod
    def compute(cls, of: Measurement) -> Separation:
        """By the AUC of one against one."""
        scored, pairs = of.scored, []
        every = [it for it in (scored.network, scored.baseline) if it is not None]
        matrices = [auc_matrix(scores, scored.labels, scored.weights) for scores in every]
        for i, j in combinations(range(scored.classes), 2):
            both = [matrix[i][j] for matrix in matrices]
            if all(it.value is not None and it.value - 0.5 < 2 * (it.error or 0) for it in both):
                pairs.append(Unseparated((scored.names[i], scored.names[j]), scored.signal in (i, j), both))
        return cls(pairs)

    @classmethod
    def answers(cls, page: Evaluation) -> Iterator[Answer]:
        """One about each pair, if it is sure or has the signal."""
        found = page.of(cls)
        for it in found.pairs if found else ():
            areas = " by the networks, ".join(map(number, it.auc)) + (" by a BDT" if it.auc[1:] else "")
            text = f"AUC of {' and '.join(it.classes)} {areas}: "
            if all((each.value or 0) + 2 * (each.error or 0) < _NOTHING for each in it.auc):
                advice = "Is each the process that it is named after? If so, give inputs in which they differ, or make them one class."
                text += f"nothing separates them, so longer training will not. {advice}"
                yield Answer("Separated?", "bad" if it.has_signal else "look", text)
            elif it.has_signal:
                yield Answer("Separated?", "open", f"{text}more events are needed to tell.")
