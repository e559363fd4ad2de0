"""The tables of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from ML_processing.evaluation.classification import Classification, ClassificationPlots
from ML_processing.evaluation.cuts import CrossFit, Significance
from ML_processing.evaluation.inputs import Distributions
from ML_processing.evaluation.regions import RegionResult, Separation
from ML_processing.evaluation.regression import Regression, Residuals
from ML_processing.evaluation.scored import Areas, EventCounts
from ML_processing.evaluation.stability import Eras, Repeats
from ML_processing.evaluation.systematics.variations import Change, Variations, VariedYields
from ML_processing.evaluation.verdict import too_few
from ML_processing.metrics.measured import Measured, number, per_cent
from ML_processing.metrics.roc import WorkingPoint
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.reweighting import Reweighted
from MLTools.NanoML.report.page import table, with_error
from MLTools.NanoML.schema.plain import plain

if TYPE_CHECKING:
    from ML_processing.evaluation.evaluation import Evaluation
    from ML_processing.training.description import TrainingDescription
    from MLTools.NanoML.contracts.hdf5 import ConvertedDataset


def numbers(content: Evaluation) -> str:
    """All tables of numbers."""
    measured, events = content.measured, _events(content.events, content.hidden)
    if isinstance(measured, Regression):
        return "\n".join([_targets(measured), events])
    drawn = content.plots.measured
    assert isinstance(drawn, ClassificationPlots)
    texts = [
        _areas(measured),
        _fit(measured, [name for name, it in content.regions.items() if it.is_trained_on]),
        _at_parameter(measured),
        _points(measured),
        _best(drawn.significance, content.events),
        _pairs(measured),
    ]
    return "\n".join(text for text in (*texts, events) if text)


def missing(content: Distributions, classes: Sequence[str]) -> str:
    """How often inputs are missing, by class."""
    rows = [[name, *(f"{100 * share:.3g} %" for share in shares)] for name, shares in content.missing.items()]
    text = "How often an input has no value: where the classes differ, this alone tells them apart, in simulation at least."
    return table(["missing values", *classes], rows) + f"<p>{text}</p>"


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
    check = f" (a bootstrap gives ± {resampled:.4f} for the first)" if resampled is not None else ""
    text = f"Errors are statistical, after DeLong{check}.{_bdt(content.baseline)}"
    head = ["AUC (1 is perfect, 0.5 is guessing)", "network", *beside]
    areas = [row(BoundDiscriminant(it.of, classes).text, it.auc) for it in content.discriminants]
    shares = _discriminants(["AUC of a discriminant", "network", *beside], areas)
    return table(head, rows) + f"<p>The score is the {escape(content.score)}. {escape(text)}</p>" + shares


def _bdt(baseline: str | None) -> str:
    """What the BDT is, if there is one."""
    return f" The BDT is {baseline}." if baseline else ""


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
    rows = [["with statistical errors alone", *(number(it, 2) for it in (found.network, *beside.values()))]]
    if found.with_variations is not None:
        label = f"and {len(found.sources)} variation{'s' if len(found.sources) > 1 else ''} of weights"
        rows.append([label, number(found.with_variations, 2), *([""] * len(beside))])
    inside = f" in {' or '.join(regions)}" if regions else ""
    text = (
        f"Asimov significance of a discovery by a fit to the score of all expected events{inside}, in the {len(found.signal)} bins that "
        "the stage histogram chooses. Each bin has a parameter for the statistical error of its simulated background, and each "
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
        kept = f"{with_error(100 * background, 100 * (error or 0))} %"
        return [f"{cut.score_at_least:.4f}", f"{cut.signal_efficiency:.1%}", kept, rejection]

    head = ["cut: score at least", "signal kept", "background kept", "background rejection (1 / kept)"]
    return table(head, map(row, content.cuts)) if content.cuts else ""


def _best(found: Significance | None, events: EventCounts) -> str:
    if found is None:
        return ""
    best = found.best
    text = (
        f"Best cut: {found.score} at least {best.score_at_least:.4f}. Behind it {best.signal:.4g} signal and "
        f"{best.background:.4g} background events are expected. {_tested_cut(found.cross_fit)} On the events that chose the "
        f"cut it is {best.asimov:.2f} ± {best.asimov_error:.2f}, which is biased upwards by the choice, or "
        f"{best.asimov_with_background_error:.2f} with the statistical error of the background; without a cut "
        f"{found.without_cut:.2f}."
    )
    few = too_few({name: it.effective for name, it in events.classes.items()})
    if few:
        text += f" Do not rely on any of this: {few}, and the errors do not contain what was not simulated."
    if not found.physical:
        text += (
            " A dataset has no cross section, or there is no luminosity: the sums of weights are not numbers of "
            "events, and the significance only ranks cuts."
        )
    return f"<p>{escape(text)}</p>"


def _tested_cut(found: CrossFit | None) -> str:
    """The significance on events that have not chosen the cut."""
    if found is None:
        return "No significance can be quoted: half of the events are too few to choose a cut, or to test it."
    ways = " and ".join(
        f"{it.asimov:.2f} ± {it.asimov_error:.2f} (the {it.chosen_on} events choose {it.score_at_least:.4f})"
        for it in found.halves
    )
    return (
        f"Significance: {found.asimov:.2f} ± {found.asimov_error:.2f}, with the cut chosen on one half of the events and "
        f"measured on the other, which is the mean of {ways}. Even or odd is a hash of run, luminosityBlock and event."
    )


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


_ACCURACY = ["target", "bias", "RMSE", "resolution (68 %)"]


def _targets(content: Regression) -> str:
    rows = []
    for name, entry in content.targets.items():
        rows.append(_residuals(f"{name}, network", entry.network))
        if entry.baseline is not None:
            rows.append(_residuals(f"{name}, BDT", entry.baseline))
            rows.append([f"{name}, BDT - network", "", value(entry.gain_in_rmse), ""])
    text = f"Errors are statistical.{_bdt(content.baseline)}"
    return table(_ACCURACY, rows) + f"<p>{escape(text)}</p>"


def _residuals(label: str, of: Residuals) -> list[str]:
    return [label, value(of.bias), value(of.rmse), value(of.resolution)]


def value(found: Measured) -> str:
    """A measured number as text: "94.10 ± 0.59"."""
    return "not defined" if found.value is None or found.error is None else with_error(found.value, found.error)


def in_region(content: RegionResult, varied: Sequence[VariedYields], hidden: Sequence[str] = ()) -> str:
    """The cut of a region, the events of each class and what varies them most, and how well the networks do; as in `Evaluation.hidden`."""
    trained = " The networks were trained on events of this region." if content.is_trained_on else ""
    text = f"<p><code>{escape(content.cut)}</code>.{trained}</p>"
    head = ["class", "events", "expected events" if content.physical else "sum of weights"]
    rows = [[name, _count(name, it.events, hidden), value(it.sum_of_weights)] for name, it in content.yields.items()]
    if isinstance(content.measured, Separation):
        head.append("AUC against all others")
        areas = content.measured.auc_one_against_all
        rows = [[*row, number(area)] for row, area in zip(rows, areas.values(), strict=True)]
        return text + table(head, rows) + _largest(varied)
    accuracy = [_residuals(name, entry) for name, entry in content.measured.targets.items()]
    return text + table(head, rows) + _largest(varied) + table(_ACCURACY, accuracy)


_MOST_VARIATIONS = 20  # in the table
_IN_REGION = 3  # in the line about a region


def variations(content: Variations) -> str:
    """Changes under each variation, the largest first."""
    every = content.sources
    if not every:
        return ""
    head, quantities = ["variation: up / down [%]", *every[0].of.yields], [list(it.of.yields.values()) for it in every]
    for title, of in (("AUC", [it.auc for it in every]), ("significance", [it.significance for it in every])):
        known = [change for change in of if change is not None]
        if known:
            head.append(title)
            quantities = [[*changes, change] for changes, change in zip(quantities, known, strict=True)]
    rows = [
        [it.of.name, *(per_cent(change.up, change.down) for change in changes)]
        for it, changes in zip(every[:_MOST_VARIATIONS], quantities[:_MOST_VARIATIONS], strict=True)
    ]
    rest = quantities[_MOST_VARIATIONS:]
    if rest:
        rows.append([f"{len(rest)} more, in quadrature", *map(_in_quadrature, zip(*rest, strict=True))])
    text = (
        "Relative change of the expected events of each class, of the AUC, and of the expected significance behind the best cut, "
        "with the networks as they are. A dataset that lacks a weight keeps its nominal one."
    )
    return table(head, rows) + f"<p>{text}</p>"


def by_era(found: Eras) -> str:
    """Expected events of each class, and the AUC, in each era."""
    what = "expected events" if found.physical else "sum of weights"
    head = ["era", *(f"{name}, {what}" for name in found.classes), "AUC of the signal"]
    rows = [
        [era, *(value(it.yields[name].sum_of_weights) for name in found.classes), number(it.measured.auc)]
        for era, it in found.eras.items()
    ]
    return table(head, rows)


def by_training(found: Repeats) -> str:
    """The AUC of each training that repeats the first."""
    every = dict.fromkeys([*found.seeds, *found.curve])
    rows = [[str(it.seed), f"{it.events:,}", number(it.auc, 4)] for it in every]
    return table(["seed", "training events of a network", "AUC of the signal"], rows)


def _in_quadrature(changes: Iterable[Change]) -> str:
    return per_cent(math.hypot(*(change.size for change in changes))).replace("+", "± ")


def _largest(content: Sequence[VariedYields]) -> str:
    """A line about the largest changes of the expected events of a region."""
    texts = []
    for it in (it for it in content[:_IN_REGION] if it.size > 0):
        name, change = max(it.yields.items(), key=lambda pair: pair[1].size)
        texts.append(f"{it.name} {per_cent(change.up, change.down, unit=' %')} of {name}")
    return f"<p>Largest variations of the expected events: {escape(', '.join(texts))}.</p>" if texts else ""


def _count(name: str, events: int, hidden: Sequence[str]) -> str:
    return "blind" if name in hidden else f"{events:,}"


def _events(events: EventCounts, hidden: Sequence[str]) -> str:
    rows = []
    for name, it in events.classes.items():
        sums = f"{it.total.sum_of_weights:.4g}", f"{it.effective:,.0f}", f"{it.negative:.1%}"
        rows.append([name, _count(name, it.total.events, hidden), *sums])
    tested = "" if hidden else f"{events.tested:,} of {events.total:,} events are tested."
    head = ["class", "events", "sum of weights", "effective events", "negative weights"]
    return table(head, rows) + f"<p>{tested}</p>" + _reweighted(events.reweighted)


def _reweighted(classes: Mapping[str, Reweighted]) -> str:
    """What became of negative weights in the training."""
    if not classes:
        return ""
    rows = [
        [name, f"{it.negative:.1%}", f"{it.effective:,.0f}", f"{it.effective_after:,.0f}", f"{it.clipped:.2%}"]
        for name, it in classes.items()
    ]
    head = ["class", "negative weights", "effective events, signed", "effective events, positive", "clipped"]
    text = (
        "For the training, weights were made positive with the same expectation (train.negative_weights): means over the networks, of "
        "their training events. Positive weights vary less, but hold no more information: the statistical power is that of the signed "
        "ones. Clipped is what would have stayed negative, in units of the sum of weights."
    )
    return table(head, rows) + f"<p>{text}</p>"


def provenance(
    description: TrainingDescription, evaluated: str, compared: Sequence[str], hidden: Sequence[str] = ()
) -> str:
    """Where a training and its evaluation come from: when it was evaluated, and with which other files."""
    versions = ", ".join(f"{name} {version}" for name, version in description.versions.items())
    settings = ", ".join(f"{key} {value}" for key, value in plain(description.config).items() if value is not None)
    features = ", ".join(column.name for column in description.features)
    folds = description.folds
    rows = [
        ["trained", f"{description.created} on {description.device}"],
        ["evaluated", evaluated],
        ["versions", versions],
        ["code", description.git or "not in a git repository"],
        ["settings", settings],
        ["features", features],
        ["selection", description.selection or "none"],
        ["folds", f"{folds.networks} networks, {folds.k} folds: {folds.hash}"],
        ["events", f"SHA-256 {description.data.sha256}"],
    ]
    rows += [["dataset", _dataset(dataset, hidden)] for dataset in description.datasets]
    if compared:
        rows.append(["compared files", ", ".join(compared)])
    return table(["", ""], rows)


def _dataset(dataset: ConvertedDataset, hidden: Sequence[str]) -> str:
    accounting, cross_section = dataset.accounting, dataset.cross_section
    is_hidden = dataset.is_data and dataset.class_ in hidden
    parts = [
        f"{dataset.name} ({dataset.class_ or 'no class'})",
        f"{'blind' if is_hidden else f'{accounting.selected:,}'} of {accounting.entries:,} events selected",
        f"sum of weights {accounting.sum_of_weights:.6g}",
        f"cross section {cross_section:g} pb" if cross_section is not None else "no cross section",
    ]
    estimate = dataset.data_driven
    if estimate is not None:
        verb = "subtracted" if estimate.subtracted else "taken"
        parts.append(
            f"{verb} in {estimate.region}, weighted by {estimate.weight}: {estimate.sum_of_weights:.6g} events"
        )
    gone = [each.file for each in dataset.missing]
    if gone:
        parts.append(f"left out because they could not be read: {', '.join(gone)}")
    return ", ".join(part for part in parts if part)
