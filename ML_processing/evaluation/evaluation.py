"""The evaluation of a training from its directory to its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import plots
from ML_processing.evaluation.baseline import DESCRIPTION, baseline
from ML_processing.evaluation.classification import (
    Calibration,
    Classification,
    ClassificationPlots,
    Confusion,
    areas_at_parameter,
    classification,
    discriminants_by_class,
    overtraining,
    probabilities_by_class,
    roc_curves,
    scores_by_class,
)
from ML_processing.evaluation.cuts import ScoreFit, by_feature, score_fit, sculpted, significance
from ML_processing.evaluation.data_comparison.comparison import DataComparison, data_comparisons
from ML_processing.evaluation.data_comparison.events import is_data
from ML_processing.evaluation.data_comparison.tables import data_answers
from ML_processing.evaluation.importance import Importance, importance
from ML_processing.evaluation.inputs import Correlations, Distributions, Drift, correlations, distributions, drift
from ML_processing.evaluation.regions import RegionResult, region_results
from ML_processing.evaluation.regression import Regression, RegressionPlots, predictions, regression, residual_loss
from ML_processing.evaluation.report import notes_on, report, sampling
from ML_processing.evaluation.scored import EFFICIENCIES, MOST_EVENTS, EventCounts, OutOfFold, Scored, sampled
from ML_processing.evaluation.stability import (
    Eras,
    RepeatedTraining,
    Repeats,
    eras_of,
    repeat_answers,
    repeated,
    repeats_on,
)
from ML_processing.evaluation.systematics.variations import Variations, VariedDiscriminant, variations
from ML_processing.evaluation.verdict import verdict
from ML_processing.events.data import Table
from ML_processing.events.survey import Split, make_splits
from ML_processing.metrics.measured import MERGED, Measured, as_json
from ML_processing.metrics.roc import bootstrap
from ML_processing.requests import NO_DATA, NO_REPEATS, DataRequest, RepeatRequest
from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import now
from ML_processing.training.directory import Training, one_thread
from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.terminal.progress import say

_KEPT = 0.1  # share of the background behind the cut if no significance suggests a better one


@dataclass(frozen=True)
class Plots:
    """What all plots show, but for the losses."""

    measured: ClassificationPlots | RegressionPlots = field(metadata=MERGED)
    importance: Importance
    features: Distributions
    correlations: Correlations | None
    drift: Drift | None
    variations: VariedDiscriminant | None
    eras: Eras | None
    repeats: Repeats | None


@dataclass(frozen=True)
class Evaluation:
    """The content of metrics.json."""

    schema: int
    created: str
    era: str | None  # of all events; None if they are of several, or if there is none
    classes: list[str]
    events: EventCounts
    training: dict[str, Any]  # the lines of training.json that identify it
    notes: list[str]
    measured: Classification | Regression = field(metadata=MERGED)
    plots: Plots
    variations: Variations | None  # None if no weight has any
    regions: dict[str, RegionResult]
    data: dict[str, DataComparison]  # by region
    verdict: list[Answer]
    hidden: tuple[str, ...] = ()  # classes from data whose numbers of events the page does not tell


def evaluate(
    run: Path,
    files: Sequence[Path],
    directory: Path,
    compare: Sequence[Path] = (),
    data: DataRequest = NO_DATA,
    eras: Mapping[str, Sequence[Path]] = MappingProxyType({}),
    repeats: RepeatRequest = NO_REPEATS,
) -> dict[str, Any]:
    """Measure a training and write its report.

    Parameters
    ----------
    run
        Directory of the training.
    files
        HDF5 files, normally those that it was trained on. Each event is scored by the network that has not seen
        its fold.
    directory
        Where metrics.json, report.html and the plots (.png and .pdf) are written.
    compare
        HDF5 files of other simulation, whose features are compared with those of `files`, or of more data.
    data
        Data to be compared with simulation, and the regions in which they are.
    eras
        The HDF5 files of each era, as far as they are known.
    repeats
        The trainings to be done again, with other seeds and on parts of the events. They are made in a directory beside `run`;
        what is there already is not trained once more.

    Returns
    -------
    Content of metrics.json.

    Raises
    ------
    NanoMLError
        The training is not finished, the events do not fit it, or there are data and no region to compare them in.
    """
    training = Training.load(run)
    of_data = [file for file in compare if is_data(file)]
    data = replace(data, data=tuple(dict.fromkeys([*data.data, *of_data])), simulation=data.simulation or tuple(files))
    if of_data and not data.regions:
        raise ConfigError(
            f"evaluate.compare: {of_data[0]} has data, which are compared in the regions of evaluate.data_in only, and it names "
            'none. Add "data_in: [...]" with regions that may be looked at.'
        )
    again = repeated(training, files, run, repeats)
    found = _evaluation(training, files, [file for file in compare if file not in of_data], data, eras, again)
    make_directory(directory)
    shown = {**vars(found.plots.measured), **vars(found.plots)}
    drawn = plots.draw(shown, training.histories, training.is_boosted, directory)
    plots.draw_regions(found.regions, directory)
    plots.draw_data(found.data, directory)
    content = as_json(found)
    write_json(directory / "metrics.json", content)
    write_text(directory / "report.html", report(training.description, found, drawn, directory))
    say(f"evaluate: {found.verdict[0].text} More in {directory / 'report.html'}.")
    return content


def _evaluation(
    training: Training,
    files: Sequence[Path],
    compare: Sequence[Path],
    data_in: DataRequest,
    eras: Mapping[str, Sequence[Path]],
    again: Sequence[RepeatedTraining],
) -> Evaluation:
    description = training.description
    settings = description.config
    data = TrainingFiles.open(files, settings, everything=True)
    table, survey = data.sample(settings.memory, max(settings.folds, 1))
    training.check(table)
    notes = notes_on(training, table, survey)
    if training.parameter:
        table = training.parameter.measured(table)
    splits = make_splits(table, settings.folds)
    with one_thread():
        rows, scores = training.out_of_fold(table)
        tested = OutOfFold(training, table[rows], scores)
        part = tested.select(*sampled(tested.table.labels, MOST_EVENTS, tested.seed))
        events = EventCounts.of(tested, part, survey)
        measured: Classification | Regression
        drawn: ClassificationPlots | RegressionPlots
        if training.targets:
            important = importance(part, residual_loss)
            measured, drawn = _regression(tested, part, table, splits, rows)
            fitted = None
        else:
            important = importance(part, _auc_loss)
            without = {it.left_out: it.training for it in again if it.left_out is not None}
            measured, drawn, fitted = _classification(tested, part, table, splits, rows, events, important, without)
        at_cut = drawn.significance if isinstance(drawn, ClassificationPlots) else None
        best = at_cut.best.score_at_least if at_cut else None
        varied, varied_shape, fit = variations(data, table, tested, rows, best, fitted)
        if isinstance(measured, Classification):
            measured = replace(measured, significance=fit)
        shown = Plots(
            drawn,
            important,
            distributions(part, important),
            correlations(part, important),
            drift(part, compare) if compare else None,
            varied_shape,
            eras_of(training, eras, table.about.physical),
            repeats_on(tested, again),
        )
        regions = region_results(training, files, data.columns.regions, table.about.physical)
        compared = data_comparisons(training, data_in, table.about.physical)
    return Evaluation(
        2,
        now(),
        next(iter(eras)) if len(eras) == 1 else None,
        table.classes,
        events,
        {key: getattr(description, key) for key in ("fingerprint", "created", "versions", "git")},
        [*notes, *sampling(tested, part)],
        measured,
        shown,
        varied,
        regions,
        compared,
        verdict(
            measured,
            {name: it.effective for name, it in events.classes.items()},
            drawn,
            shown.importance,
            shown.drift,
            varied,
            [*repeat_answers(shown.repeats), *data_answers(compared)],
        ),
        data_in.hidden,
    )


def _classification(
    tested: OutOfFold,
    part: OutOfFold,
    table: Table,
    splits: Sequence[Split],
    rows: NDArray[np.int64],
    events: EventCounts,
    important: Importance,
    without: Mapping[float, Training],
) -> tuple[Classification, ClassificationPlots, ScoreFit | None]:
    training, seed = tested.training, tested.seed
    bdt = None if training.is_boosted else baseline(table, splits, seed)[rows]
    scored = Scored(tested.table.labels, tested.table.weights, tested.scores, bdt, training.discriminant)
    some = scored.select(sampled(scored.labels, MOST_EVENTS, seed)[0])
    some = replace(some, weights=part.table.weights)
    seen = [_training_scores(training, table, split, seed) for split in splits]
    unseen = [scored.select(np.searchsorted(rows, split.test)) for split in splits]
    few = some.counted()
    resampled = bootstrap(few.score, few.truth, few.weights, EFFICIENCIES, seed)
    tests = overtraining(seen, unseen)
    totals = [entry.total.sum_of_weights for entry in events.classes.values()]
    physical = table.about.physical
    expected = None if training.parameter else significance(scored, tested.table.hashes(), totals, physical)
    best = expected.best.score_at_least if expected else None
    cut = best if best is not None else some.cut_at(_KEPT)
    decorrelate = training.description.config.decorrelate
    drawn = ClassificationPlots(
        roc_curves(scored, resampled),
        scores_by_class(scored, Scored.join(seen), tests),
        probabilities_by_class(scored, Scored.join(seen), tests),
        discriminants_by_class(tested),
        Confusion.of(scored),
        Calibration.of(scored, training.discriminants),
        expected,
        by_feature(part, some, important, cut) if cut is not None else None,
        sculpted(part, some, decorrelate.column if decorrelate else None, best),
    )
    parameter, discriminants = areas_at_parameter(part, without), training.discriminants
    fitted = score_fit(scored, totals) if physical and not training.parameter else None
    found = None if fitted is None else fitted.significance
    beside = None if bdt is None else DESCRIPTION
    measured = classification(scored, discriminants, resampled, parameter, tests, found, beside)
    return measured, drawn, fitted


def _regression(
    tested: OutOfFold, part: OutOfFold, table: Table, splits: Sequence[Split], rows: NDArray[np.int64]
) -> tuple[Regression, RegressionPlots]:
    bdt = None
    if not tested.training.is_boosted:
        some = sampled(tested.table.labels, MOST_EVENTS, tested.seed)[0]
        bdt = baseline(table, splits, tested.seed)[rows[some]]
    seen = [_some_of(table, split, tested.seed) for split in splits]
    values = [tested.training.scores(tested.training.networks[i], it) for i, it in enumerate(seen)]
    truths, weights = [it.targets() for it in seen], [it.weights for it in seen]
    known = tuple(np.concatenate(it) for it in (truths, values, weights))
    return regression(part, bdt), RegressionPlots(predictions(part, bdt, known))


def _some_of(table: Table, split: Split, seed: int) -> Table:
    """Events that a network was trained on, or some of them."""
    chosen, factors = sampled(table.labels[split.training], MOST_EVENTS, seed)
    found = table[split.training[chosen]]
    return replace(found, weights=found.weights * factors)


def _training_scores(training: Training, table: Table, split: Split, seed: int) -> Scored:
    """A network on the events that it was trained on."""
    some = _some_of(table, split, seed)
    scores = training.scores(training.networks[split.fold], some)
    return Scored(some.labels, some.weights, scores, None, training.discriminant)


def _auc_loss(part: OutOfFold) -> Callable[[NDArray[Any]], Measured]:
    """Loss in AUC with changed scores."""
    judge, events = part.training.discriminant, (part.table.labels, part.table.weights)
    return lambda scores: judge.area_difference(part.scores, scores, *events)
