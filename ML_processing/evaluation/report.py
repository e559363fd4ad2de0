"""The report: one HTML file that needs no other, with what each figure shows and what would be worrying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ML_processing.evaluation.data_comparison.tables import with_data
from ML_processing.evaluation.regression import Regression
from ML_processing.evaluation.scored import OutOfFold
from ML_processing.evaluation.tables import by_era, by_training, in_region, missing, numbers, provenance, variations
from ML_processing.events.data import Table
from ML_processing.events.survey import Survey
from ML_processing.training.description import best_epoch
from ML_processing.training.directory import Training
from MLTools.NanoML.report.page import figure, page, verdict_list

if TYPE_CHECKING:
    from ML_processing.evaluation.evaluation import Evaluation
    from ML_processing.training.description import TrainingDescription

CAPTIONS = {
    "roc": (
        "ROC curve",
        "Each point is a cut on the score, which the numbers above name: how much signal passes it, and how much background still does. "
        "Lower is better. The band is the central 68 % of repetitions with resampled events.",
        "The network's curve well above a black one, which is that of a BDT; or a straight line to the corner, which is "
        "guessing (on this logarithmic axis guessing bends steeply down at the left).",
    ),
    "scores": (
        "Score by class",
        "Lines are the events that the networks were trained on, points with statistical errors those they have not "
        "seen. Signal should pile up at the right, background at the left. KS is the probability of a "
        "Kolmogorov-Smirnov test that both have the same distribution: that of the least probable network, times the "
        "number of networks.",
        "Points that are several errors away from the line of their colour in many bins, and KS below 0.01, which is "
        "overtraining; or the same shape for all classes.",
    ),
    "probabilities": (
        "Probability of every class",
        "The probability of each class, for all classes; lines and points as above. Each class should pile up at the right in its own "
        "panel, and at the left in those of the others.",
        "A class that looks in its own panel as it does in those of others: the network does not know it.",
    ),
    "discriminants": (
        "Discriminants by class",
        "Shape of each discriminant, every class normalised to one. Its own signal should pile up at the right, the classes that "
        "stand against it at the left; others may be anywhere.",
        "The same shape for its signal and for a class that stands against it.",
    ),
    "confusion": (
        "Confusion matrix",
        "Each row is a true class, and shows which class has the highest probability for its events; every row "
        "sums to 100 %. The diagonal should be dark.",
        "A row without a dark cell, or a column that takes everything.",
    ),
    "calibration": (
        "Calibration",
        "How many of the events with a given probability of a class belong to it, where all classes have the same "
        "total weight, as in the training; for a discriminant how many belong to its signal, where the classes have its shares. "
        "Points should follow the dashed line within their errors. ECE is the mean distance from it, next to what a perfect "
        "network would have by chance.",
        "Points above the line at the left and below it at the right: the network is overconfident, which is "
        "overtraining. Cuts on the score remain valid.",
    ),
    "significance": (
        "Expected significance against the cut",
        "Asimov significance of a discovery by counting the events that pass the cut (arXiv:1007.1727), with its "
        "statistical error; dashed, with the statistical error of the background as an uncertainty. The dotted line is "
        "the best cut by the dashed curve with at least 5 effective background events behind it. The points are the "
        "significance to quote: the cuts were chosen on one half of the events, and measured on the other. Systematic "
        "uncertainties are not included.",
        "A best cut at the very end of the curve or on a spike: there few background events decide. Use a looser cut, "
        "or more simulation.",
    ),
    "efficiency": (
        "Efficiency of the cut against the features",
        "How much of each class passes the best cut (or else one that keeps 10 % of the background), in bins with "
        "about the same number of events each; the outermost bins are drawn shortened. Of many features, the most important ones.",
        "Signal that passes only in a corner of a feature (the network would miss other signals), or background that "
        "passes only in one (there it would look like a signal).",
    ),
    "sculpting": (
        "Mass sculpting",
        "Shape of masses for each background: all events (grey) and those that pass cuts on the score. JSD is the "
        "Jensen-Shannon divergence between events that pass and those that fail, in bits, in the order of the cuts: 0 "
        "for the same shape, 1 for no overlap. Of many masses, those that change most.",
        "A background that peaks where the signal would be. That is natural for a network that knows the mass; it "
        "matters where the background is estimated from the mass's sidebands.",
    ),
    "importance": (
        "Importance of the inputs",
        "Left: how much is lost when the values of an input are shuffled among the events (L. Breiman, 2001), or for "
        "“(all)” when the whole collection is; the error contains repetitions and statistics. Right: mean size of the "
        "input's contribution to the logarithm of the odds of signal, by integrated gradients (arXiv:1703.01365); trees have none. "
        "Inputs with the same information share their importance.",
        "One input that alone carries nearly everything: is it well modelled, and does it contain the truth? Inputs at zero "
        "on both sides can be left out.",
    ),
    "features": (
        "Inputs by class",
        "Shape of each input, every class normalised to one; the first and last bin include all beyond. Each object "
        "of a collection counts. Of many inputs, the most important ones.",
        "Spikes at one value, absurd values, many missing ones: something is wrong in the selection.",
    ),
    "correlations": (
        "Correlations by class",
        "Linear correlation coefficients of the features with each other and, in the last row, with the output of the "
        "network: 1 or -1 is a straight line, 0 none. Of many features, the most important ones.",
        "Two features with 1 or -1: one of them can be left out. A mass with a large correlation with the score in a "
        "background will be sculpted.",
    ),
    "drift": (
        "Events of the training against the compared files",
        "Shapes of the features that differ most; PSI is the population stability index: below 0.1 is no shift, above "
        "0.25 a large one by custom.",
        "A shifted feature that is important to the network: the score of those events means something else.",
    ),
    "eras": (
        "Stability by era",
        "The same networks on the simulation of each era: the AUC of the signal with its statistical error, around the mean in grey, and "
        "the shape of the first discriminant for each class. p is the probability that the AUC differ as much by chance.",
        "An era far from the others, with p below 0.01: its simulation or its corrections differ, or it needs networks of its own "
        "(train.per_era).",
    ),
    "repeats": (
        "Other seeds, fewer events",
        "AUC of trainings that differ in their seeds alone, with the mean and standard deviation in grey; and of trainings on parts of "
        "the events. All are tested on the same events, so the error bars, which are due to these, move all points together.",
        "A spread that is larger than the error bars; a curve that still rises at its end: more simulation would help.",
    ),
    "variations": (
        "Systematic variations",
        "What the largest variations of weights do to the shape of the score, for each class: events with a varied weight over "
        "those with the nominal one. Grey is the statistical error of the nominal events.",
        "A variation that bends the shape where the signal is; or up and down on the same side of one.",
    ),
    "region": (
        "Scores in a region",
        "Discriminants and probabilities of classes, or estimates, for the events of the region: the expected events of all other "
        "classes on top of each other, "
        "with the statistical error of their sum, and those of the signal as a line. Events beyond the ends are in the outer bins.",
        "Bins at the right that hardly any simulated event fills; a large statistical error where the signal is.",
    ),
    "data_inputs": (
        "Inputs in data and simulation",
        "Points are data with the 68 % intervals of their Poisson means (Garwood), on top of each other the expected events with their "
        "statistical error; every object of a collection counts. Below is data over expected; red arrows are points beyond with their "
        "errors. p is the probability of a chi2 test of the shape alone, without systematic uncertainties. Of many "
        "inputs, those that differ most.",
        "A slope or a step in a ratio, p below 0.01 divided by the number of inputs: the simulation of this input is wrong, "
        "and the network has learned from it.",
    ),
    "data_scores": (
        "Scores in data and simulation",
        "The discriminants and the probability of each class of all events, then that of those events for which it is the largest.",
        "A ratio that changes along the score: the efficiency of a cut in simulation is not that in data.",
    ),
    "predictions": (
        "Predicted against true values",
        "Each cell shows the weight of its events. They should lie along the dashed line.",
        "A flat band: the network gives the mean whatever the truth is.",
    ),
    "residuals": (
        "Residuals",
        "Left: predicted minus true value on events of the training and on others; a black line is that of a BDT. Right: bias and "
        "resolution (half the interval of the central 68 %) in bins of the truth.",
        "Training far narrower than test, which is overtraining; a bias that is not near 0. At the ends of the range it "
        "always bends towards the mean.",
    ),
    "loss": (
        "Loss",
        "Smaller is better; solid lines are events that only decide when to stop, dashed ones those of the training, "
        "and a dot marks the epoch, or round of trees, that was kept. Both should fall and flatten.",
        "Solid lines that rise far above the dashed ones before the dot, lines that still fall at the end (a larger train.epochs "
        "would help), or one fold far from the others.",
    ),
}
"""By the name of the figure, in the order of the report: title, how to read it, what is worrying."""

_SMALL = ("roc", "scores", "confusion", "calibration", "significance", "loss", "predictions")
"""Figures that do not need the full width."""


def report(description: TrainingDescription, content: Evaluation, drawn: Sequence[str], directory: Path) -> str:
    """The report as HTML, with the figures that are `drawn` in a directory."""
    drift = content.plots.drift
    of_data = dict.fromkeys(file for found in content.data.values() for file in found.files)
    origin = provenance(description, content.created, [*(drift.files if drift else []), *of_data], content.hidden)
    shown = [name for name in CAPTIONS if name in drawn]
    parts = [
        '<p class="dim">All numbers and plots, except those marked as training, are from events that the network in '
        "question has not seen in its training. Everything shown is also in metrics.json, and every plot is next to "
        "this page as PDF.</p>",
        verdict_list(content.verdict),
        *(f'<p class="note">{escape(text)}</p>' for text in content.notes),
        _contents(shown, list(content.regions), list(content.data)),
        f'<section id="numbers"><h2>Numbers</h2>{numbers(content)}</section>',
        *(_figure(directory, name, content) for name in shown),
        *(_region(directory, name, content) for name in content.regions),
        *(_data(directory, name, content) for name in content.data),
        f'<section id="provenance"><h2>Where this comes from</h2>{origin}</section>',
    ]
    return page(_title(content), parts)


def _title(content: Evaluation) -> str:
    of_era = f" of {content.era}" if content.era else ""
    if isinstance(content.measured, Regression):
        return f"Training report{of_era}: regression of {', '.join(content.measured.targets)}"
    return f"Training report{of_era}: {content.measured.signal} among {', '.join(content.classes)}"


def _contents(shown: Sequence[str], regions: Sequence[str], data: Sequence[str]) -> str:
    titles = {"numbers": "Numbers", **{name: CAPTIONS[name][0] for name in shown}}
    titles |= {f"region_{name}": f"Region {name}" for name in regions}
    titles |= {f"data_{name}": f"Data in {name}" for name in data}
    titles["provenance"] = "Where this comes from"
    lines = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in titles.items())
    return f"<nav><b>Contents</b><ul>{lines}</ul></nav>"


def _figure(directory: Path, name: str, content: Evaluation) -> str:
    title, numbers = CAPTIONS[name][0], ""
    if name == "variations" and content.variations is not None:
        numbers = variations(content.variations)
    if name == "eras" and content.plots.eras is not None:
        numbers = by_era(content.plots.eras)
    if name == "repeats" and content.plots.repeats is not None:
        numbers = by_training(content.plots.repeats)
    if name == "features" and content.plots.features.missing:
        numbers = missing(content.plots.features, content.classes)
    image = _image(directory, name, name)
    return f'<section id="{name}" class="figure"><h2>{title}</h2>{numbers}\n{image}</section>'


def _region(directory: Path, name: str, content: Evaluation) -> str:
    found = content.regions[name]
    varied = content.variations.regions[name] if content.variations else []
    image = _image(directory, f"region_{name}", "region") if found.outputs else ""
    return f'<section id="region_{name}"><h2>Region {name}</h2>{in_region(found, varied, content.hidden)}\n{image}</section>'


def _data(directory: Path, name: str, content: Evaluation) -> str:
    found = content.data[name]
    kinds = [kind for kind, panels in (("data_inputs", found.inputs), ("data_scores", found.scores)) if panels]
    images = "\n".join(_image(directory, f"{kind}_{name}", kind) for kind in kinds)
    return f'<section id="data_{name}"><h2>Data in {name}</h2>{with_data(found)}\n{images}</section>'


def _image(directory: Path, file: str, name: str) -> str:
    """The figure of a file, with the caption of its kind."""
    title, reading, worrying = CAPTIONS[name]
    caption = f'<p>{reading}</p><p class="worry"><b>Worrying:</b> {worrying}</p>'
    return figure(directory / f"{file}.png", title, "narrow" if name in _SMALL else "wide", caption)


def notes_on(training: Training, table: Table, survey: Survey) -> list[str]:
    """What one should know about these events and networks."""
    description = training.description
    notes, every = [*survey.notes(), *_unfinished(training)], int(survey.counts.sum())
    if training.sentinels:
        listed = ", ".join(f"{value:g} in {name}" for name, values in training.sentinels.items() for value in values)
        notes.append(f"These values lie apart from all others, so they count as missing: {listed}.")
    if training.is_boosted:
        notes.append("The networks on this page are boosted decision trees, so there is no other BDT to compare with.")
    if len(table) < every:
        notes.append(f"The events do not fit into train.memory: {len(table):,} of {every:,} are measured.")
    if not _same_events(training, table, survey):
        beside = "" if training.is_boosted else ": the BDT learned from these, the networks from others"
        notes.append(f"These are not the events of the training{beside}.")
    if training.parameter:
        notes.append(
            f"Every {training.parameter.column} has the same total weight in what is measured, whatever its cross section, and is "
            "equally frequent in the background. There is no expected significance, since only one of the signals can exist."
        )
    if description.estimates and description.metrics:
        errors = (f"{name} to {value:.4g}" for name, value in description.metrics["rmse"].items())
        notes.append(f"The head for targets estimates {', '.join(errors)} (RMSE, on events not trained on).")
    if table.about.within:
        names = " or ".join(region.name for region in table.about.within)
        notes.append(
            f"Only events in {names} are trained on, and measured; the sections on single regions have all of theirs."
        )
    return notes


def _same_events(training: Training, table: Table, survey: Survey) -> bool:
    """Whether these are the events of the training; judged by their numbers if not all fit into memory."""
    description = training.description
    data, decorrelate = description.data, description.config.decorrelate
    counts = [total.events for total in data.classes.values()]
    if len(table) < sum(counts):
        return counts == [total.events for total in survey.summary().values()]
    read = {*training.targets, *description.estimates, *([decorrelate.column] if decorrelate else [])}
    extras = {name: values for name, values in table.extras.items() if name in read}
    return bool(replace(table, extras=extras).sha256() == data.sha256)


def sampling(tested: OutOfFold, part: OutOfFold) -> list[str]:
    """What is measured on a part of the events."""
    if len(part.table) == len(tested.table):
        return []
    of_all = "" if tested.training.targets else ", but for AUC, ROC curves, scores, calibration and significance,"
    return [
        f"There are many events: all{of_all} is measured on a random choice of {len(part.table):,} of them, with as many "
        "of each class as there are or its equal share."
    ]


def _unfinished(training: Training) -> list[str]:
    """A sentence about networks that might still have improved."""
    most = training.description.config.epochs
    best = [best_epoch(history).epoch for history in training.histories]
    count = sum(epoch == most for epoch in best)
    text = f"{count} of {len(best)} networks were at their best in their last epoch: a larger train.epochs should improve them."
    return [text] if count else []
