"""How well networks classify: the numbers, and whether they are better than trees, and overtrained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np

from ML_processing.evaluation.baseline import DESCRIPTION
from ML_processing.evaluation.content import Evaluation, Part, finding, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import EFFICIENCIES, Areas, Scored
from ML_processing.evaluation.sections.faults import advice
from ML_processing.evaluation.sections.regions import Regions
from ML_processing.evaluation.sections.significance import FitSignificance, Significance
from ML_processing.evaluation.sections.variations import varied
from ML_processing.metrics.distances import Kolmogorov, bonferroni, kolmogorov
from ML_processing.metrics.measured import MERGED, PAIR, UNDEFINED, Measured, number
from ML_processing.metrics.roc import WorkingPoint, auc, auc_matrix, working_points
from ML_processing.models.discriminant import BoundDiscriminant
from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.report.page import Answer, percentage, rounded, table, with_error

_MATTERS = 0.005  # a difference in AUC that a physicist would care about, however small its error
_GAP, _LARGE_GAP = 0.01, 0.05  # the same, for training events against others
_CHANCE = 0.01  # below this probability it is not chance
_DISTANCE = 0.02  # of Kolmogorov-Smirnov: no cut on the score has an efficiency that differs by more


@dataclass(frozen=True)
class AreasAgainst:
    """AUC against one other class, with the weights of the events and without."""

    weighted: Areas
    unweighted: Areas


@dataclass(frozen=True)
class DiscriminantAreas:
    """A discriminant, and its AUC against the classes that count in it."""

    of: Discriminant = field(metadata=MERGED)
    auc: Areas


@dataclass(frozen=True)
class ParameterArea:
    """AUC at one value of the parameter."""

    parameter: float
    signal_events: int
    auc: Measured = field(metadata=MERGED)
    without: Measured = field(default=UNDEFINED, metadata=PAIR)  # of networks that were trained without this value


@dataclass(frozen=True)
class ClassTests:
    """Tests of each network, and the probability that the least probable of them is one by chance."""

    probability: float | None
    networks: list[Kolmogorov]


@dataclass(frozen=True)
class Overtraining:
    """The scores of events that the networks were trained on against those of others."""

    auc_on_training_events: float | None
    auc_on_test_events: float | None
    kolmogorov_smirnov: dict[str, ClassTests]  # by class


@section("classification", only="classification", place="first", after="features", asked_after="gain")
@dataclass(frozen=True)
class Classification(Part):
    """How well networks classify."""

    task: str
    signal: str
    score: str  # the discriminant or probability in words, with the classes that it tells apart
    auc: Areas
    auc_unweighted: Areas
    auc_against: dict[str, AreasAgainst]
    discriminants: list[DiscriminantAreas]
    auc_bootstrap_error: float | None
    auc_one_against_all: dict[str, Measured]
    auc_one_against_one: dict[str, dict[str, Measured]]
    significance: FitSignificance | None  # None without expected numbers of events
    cuts: list[WorkingPoint]  # for some efficiencies of the signal
    confusion: list[list[float]]
    auc_at_parameter: list[ParameterArea]  # none without a parameter
    auc_on_training_events: float | None
    overtraining: Overtraining
    baseline: str | None  # what the BDT is; None without one

    @classmethod
    def compute(cls, of: Measurement) -> Classification:
        """All numbers, on all events."""
        scored, resampled, tests = of.scored, of.resampled, of.once(overtraining)
        counted, names = scored.counted(), scored.names
        against = {names[i]: scored.against(i) for i in scored.backgrounds}
        pairs = auc_matrix(scored.network, scored.labels, scored.weights)
        return cls(
            "classification",
            names[scored.signal],
            scored.discriminant.text,
            counted.areas(),
            counted.unweighted().areas(),
            {name: AreasAgainst(part.areas(), part.unweighted().areas()) for name, part in against.items()},
            [
                DiscriminantAreas(it.of, replace(scored, discriminant=it).counted().areas())
                for it in of.training.discriminants
            ],
            resampled.auc_error if resampled else None,
            {name: auc(scored.network[:, i], scored.labels == i, scored.weights) for i, name in enumerate(names)},
            {
                name: {other: area for other, area in zip(names, row, strict=True) if other != name}
                for name, row in zip(names, pairs, strict=True)
            },
            of.once(varied).fit,
            working_points(counted.roc(), EFFICIENCIES, resampled.errors) if counted.has_roc and resampled else [],
            scored.confusion().tolist(),
            _areas_at_parameter(of),
            tests.auc_on_training_events,
            tests,
            None if scored.baseline is None else DESCRIPTION,
        )

    def tables(self, page: Evaluation) -> str:
        """All tables of numbers."""
        significance, regions = page.of(Significance), page.of(Regions)
        trained = [name for name, it in regions.regions.items() if it.is_trained_on] if regions else []
        texts = [
            _areas(self),
            _fit(self, trained),
            _at_parameter(self),
            _points(self),
            significance.best_cut(page) if significance else "",
            _pairs(self),
        ]
        return "\n".join(filter(None, texts))

    def answers(self, page: Evaluation) -> Iterator[Answer]:
        """Whether the networks separate the classes, whether better than a BDT, and whether they are overtrained."""
        if self.auc.network.value is None:
            text = "No AUC is defined: the weights of the signal or of the background have no positive sum."
            yield Answer("Separated?", "bad", text, "#roc")
            return
        if self.baseline:
            yield _comparison(self.auc, page)
        yield replace(_overtraining(self.overtraining, self.auc.network.error), link="#scores")


def separated(page: Evaluation) -> Classification | None:
    """The numbers of a classification in which an AUC is defined: else there is nothing more to ask."""
    found = page.of(Classification)
    return found if found and found.auc.network.value is not None else None


def _areas_at_parameter(of: Measurement) -> list[ParameterArea]:
    """AUC at each value of the parameter, if there is one: signal with this value against all background, scored at it.

    Beside it is that of a training in which the value was left out, if there is one.
    """
    training, events = of.training, of.part.table
    without = {it.left_out: it.training for it in of.again if it.left_out is not None}
    is_signal, own = events.labels == training.signal, events.features[:, -1:]
    found = []
    for value in training.parameter.values if training.parameter else ():
        part = events[~is_signal | (own[:, 0] == np.float32(value))]
        features = part.features.copy()
        features[:, -1] = value
        part = replace(part, features=features)
        areas = []
        for each in filter(None, (training, without.get(value))):
            rows, scores = each.out_of_fold(part)
            labels = part.labels[rows]
            areas.append(training.discriminant.area(scores, labels, part.weights[rows]))
        found.append(ParameterArea(value, int((labels == training.signal).sum()), *areas))
    return found


def overtraining(of: Measurement) -> Overtraining:
    """Compare each network's scores on the events that it was trained on with those that it tests on.

    There is one Kolmogorov-Smirnov test for each network, since its two samples share no event.
    """

    def mean_area(parts: Sequence[Scored]) -> float | None:
        values = [auc(part.score, part.truth, part.weights).value for part in map(Scored.counted, parts)]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    classes = {}
    for i, name in enumerate(of.scored.names):
        tests = []
        for pair in zip(of.seen, of.unseen, strict=True):
            a, b = (part.select(part.labels == i) for part in pair)
            tests.append(kolmogorov(a.score, a.weights, b.score, b.weights))
        classes[name] = ClassTests(bonferroni([it.probability for it in tests if it.probability is not None]), tests)
    return Overtraining(mean_area(of.seen), mean_area(of.unseen), classes)


def _comparison(found: Areas, page: Evaluation) -> Answer:
    difference, error = found.difference.value, found.difference.error
    assert difference is not None
    assert error is not None
    significant, relevant, state = abs(difference) > 2 * error, abs(difference) > _MATTERS, "good"
    if significant and difference < 0:
        state, text = "good", "The network is worse, but by too little to matter."
        if relevant:
            state = "bad"
            text = f"The network is worse: it has not learned everything. {advice(page, found.baseline.value or 0)}"
    elif significant:
        text = "The network is better." if relevant else "The network is better, but by too little to matter."
    elif difference < -_MATTERS:
        state, text = "open", "The network may be worse: more events are needed to tell."
    elif error > _MATTERS:
        state, text = "open", "These events are too few to tell."
    elif relevant:
        text = "The network may be better: more events are needed to tell."
    else:
        text = "They agree: the network has learned what a BDT can learn from these inputs."
    remark = finding(significant, relevant, "2 standard errors", f"{_MATTERS}")
    sentence = f"AUC of the network {number(found.network)}, of a BDT {number(found.baseline)}."
    sentence += f" The difference, {'+' * (difference > 0)}{number(found.difference)}, is {remark}. {text}"
    return Answer("Better than a BDT?", state, sentence, "#roc")


def _overtraining(checked: Overtraining, error: float | None) -> Answer:
    """By the AUC of each network: that of all events together is also smaller where the networks have different scales."""
    question, fitted, others = "Overtrained?", checked.auc_on_training_events, checked.auc_on_test_events
    if fitted is None or others is None or error is None:
        return Answer(question, "open", "No AUC is defined for the events of the training.")
    gap = fitted - others
    significant, relevant = gap > 3 * error, gap > _GAP
    remark = finding(significant, relevant, f"3 standard errors of {rounded(error, error)}", f"{_GAP}")
    start = (
        f"On the events that it was trained on, a network's AUC is {rounded(fitted, error)}; on those of its test "
        f"{rounded(others, error)}. "
    )
    start += f"The difference, {'+' * (gap > 0)}{rounded(gap, error)}, is {remark}"
    if significant and relevant:
        text = (
            ": it has memorised some events. More events would help, or a smaller model, by train.options. The numbers "
            "here remain valid: they are from other events."
        )
        return Answer(question, "bad" if gap > max(_LARGE_GAP, 5 * error) else "look", start + text)
    if relevant:
        return Answer(question, "open", f"{start}: it may have memorised some events; more events are needed to tell.")
    state, text = "good", ": overtraining is small, if there is any."
    if 3 * error > 2 * _GAP and not significant:
        state, text = "open", ": these events are too few to tell."
    differing = _differing_scores(checked)
    if differing:
        state = "look"
        text += (
            f" But the scores of {', '.join(differing)} differ between the two by more than chance (Kolmogorov-Smirnov "
            f"probability below 1 %), and the efficiency of some cuts by more than {_DISTANCE:.0%}."
        )
    return Answer(question, state, start + text)


def _differing_scores(checked: Overtraining) -> list[str]:
    """The classes whose scores differ between training and test, significantly and by what matters."""
    found = []
    for name, tests in checked.kolmogorov_smirnov.items():
        if tests.probability is not None and tests.probability < _CHANCE:
            least = min(tests.networks, key=lambda it: 1 if it.probability is None else it.probability)
            found += [name] if (least.distance or 0) > _DISTANCE else []
    return found


def _areas(content: Classification) -> str:
    beside = ["BDT", "difference"] if content.baseline else []

    def row(label: str, entry: Areas) -> list[str]:
        return [label, *(number(it) for it in (entry.network, entry.baseline, entry.difference)[: 1 + len(beside)])]

    signal, against, note = content.signal, content.auc_against, ", all events counting the same"
    classes = list(content.auc_one_against_all)
    every = "all others"
    if content.discriminants and len(content.discriminants[0].of.shares) < len(classes):
        every = " and ".join(name for name in content.discriminants[0].of.shares if name != signal)
    rows = [row(f"{signal} against {every}", content.auc)]
    if len(against) > 1:
        rows += [row(f"{signal} against {name}", entry.weighted) for name, entry in against.items()]
    rows.append(row(f"{signal} against {every}{note}", content.auc_unweighted))
    if len(against) > 1:
        rows += [row(f"{signal} against {name}{note}", entry.unweighted) for name, entry in against.items()]
    resampled = content.auc_bootstrap_error
    check = f" (a bootstrap gives ± {rounded(resampled, resampled)} for the first)" if resampled is not None else ""
    text = (
        f"Errors are statistical, after DeLong{check}.{f' The BDT is {content.baseline}.' if content.baseline else ''}"
    )
    head = ["AUC (1 is perfect, 0.5 is guessing)", "network", *beside]
    areas = [row(BoundDiscriminant(it.of, classes).text, it.auc) for it in content.discriminants]
    shares = _discriminants(["AUC of a discriminant", "network", *beside], areas)
    return table(head, rows) + f"<p>The score is the {escape(content.score)}. {escape(text)}</p>" + shares


def _discriminants(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    text = (
        "A discriminant is f p / (f p + sum over the other classes of f p), with the probability p of a class and its share f of "
        "the events: the probability of its signal where the classes have these shares. All have the weights of the events here."
    )
    return table(head, rows) + f"<p>{text}</p>"


def _fit(content: Classification, regions: Sequence[str]) -> str:
    """The expected significance of a fit to the score, without and with variations."""
    found = content.significance
    if found is None:
        return ""
    beside = {"BDT": found.baseline, "difference": found.difference} if content.baseline else {}
    rows = [["with statistical errors alone", *(number(it) for it in (found.network, *beside.values()))]]
    if found.with_variations is not None:
        label = f"and {len(found.sources)} variation{'s' if len(found.sources) > 1 else ''} of weights"
        rows.append([label, number(found.with_variations), *([""] * len(beside))])
    inside = f" in {' or '.join(regions)}" if regions else ""
    text = (
        f"Asimov significance of a discovery by a fit to the score of all expected events{inside} in one channel, in {len(found.signal)} "
        "bins by the rule of the stage histogram. Each bin has a parameter for the statistical error of its simulated background, and each "
        "variation is one parameter for all bins and classes. Shifts of objects, the luminosity and uncertain yields come with the "
        "stage fit. Errors are statistical."
    )
    return table(["expected significance of a fit", "network", *beside], rows) + f"<p>{escape(text)}</p>"


def _at_parameter(content: Classification) -> str:
    if not content.auc_at_parameter:
        return ""
    every = content.auc_at_parameter
    beside = any(it.without.value is not None for it in every)
    head = ["parameter", "AUC of the network", *(["trained without this value"] if beside else []), "signal events"]
    areas = [[number(it.auc), *([number(it.without)] if beside else [])] for it in every]
    rows = [[f"{it.parameter:g}", *each, f"{it.signal_events:,}"] for it, each in zip(every, areas, strict=True)]
    text = "At each value of the parameter: the signal with this value against all background, which is scored at it."
    if beside:
        text += " Where a training without the value does as well, the networks can be used between the values; at the ends it guesses."
    return table(head, rows) + f"<p>{text}</p>"


def _points(content: Classification) -> str:
    def row(cut: WorkingPoint) -> list[str]:
        background, error = cut.background_efficiency.value or 0, cut.background_efficiency.error
        rejection = "no background left"
        if cut.background_rejection.value is not None:
            rejection = with_error(cut.background_rejection.value, cut.background_rejection.error or 0)
        kept = percentage(background, error or 0)
        return [f"{cut.score_at_least:.4f}", percentage(cut.signal_efficiency), kept, rejection]

    head = ["cut: score at least", "signal kept", "background kept", "background rejection (1 / kept)"]
    return table(head, map(row, content.cuts)) if content.cuts else ""


def _pairs(content: Classification) -> str:
    alone, pairs = content.auc_one_against_all, content.auc_one_against_one
    if len(alone) < 3:
        return ""
    rows = [
        [name, number(area), *("" if other == name else number(pairs[name][other]) for other in alone)]
        for name, area in alone.items()
    ]
    text = (
        "One against all is a cut on the probability of the class, one against one on its share of the two probabilities, "
        "p / (p + q)."
    )
    return table(["AUC of", "against all", *(f"against {name}" for name in alone)], rows) + f"<p>{text}</p>"
