"""The report on a training: it is measured, and drawn of that as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from types import MappingProxyType

from ML_processing.evaluation.content import Evaluation, Part, all_sections, in_order
from ML_processing.evaluation.data_comparison import is_data
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.sections.classification import Classification, separated
from ML_processing.evaluation.sections.data import Data
from ML_processing.evaluation.sections.drift import Drift
from ML_processing.evaluation.sections.regression import Regression
from ML_processing.evaluation.sections.stability import repeated
from ML_processing.metrics.measured import as_json, number
from ML_processing.models.network import one_thread
from ML_processing.networks import code_behind
from ML_processing.requests import MEASURED, NO_DATA, NO_REPEATS, OUTPUTS, DataRequest, RepeatRequest
from ML_processing.training.description import TrainingDescription, best_epoch, now
from ML_processing.training.directory import Training
from ML_processing.training.outputs import kept_outputs
from ML_processing.training.reweighting import Reweighted
from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.config.evaluation import Evaluate
from MLTools.NanoML.contracts.hdf5 import ConvertedDataset
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.report.figures import Figures, remove_others
from MLTools.NanoML.report.page import Answer, Digest, percentage, table, with_error
from MLTools.NanoML.report.section import Block, Document, Style
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.progress import say

_FEW = 100  # effective events of a class


def evaluate(
    run: Path,
    files: Sequence[Path],
    directory: Path,
    compare: Sequence[Path] = (),
    data: DataRequest = NO_DATA,
    eras: Mapping[str, Sequence[Path]] = MappingProxyType({}),
    repeats: RepeatRequest = NO_REPEATS,
    model: str | None = None,
    settings: Evaluate | None = None,
) -> dict[str, object]:
    """Measure a training, for its report and in numbers.

    Parameters
    ----------
    run
        Directory of the training.
    files
        HDF5 files, normally those that it was trained on. Each event is scored by the network that has not seen
        its fold.
    directory
        Where metrics.json, what the report is drawn of, and the outputs of networks are written.
    compare
        HDF5 files of other simulation, whose features are compared with those of `files`, or of more data.
    data
        Data to be compared with simulation, and the regions in which they are.
    eras
        The HDF5 files of each era, as far as they are known.
    repeats
        The trainings to be done again, with other seeds and on parts of the events. They are made in a directory beside `run`;
        what is there already is not trained once more.
    model
        The network, as for `Training.load`.
    settings
        What extensions have added to the section.

    Returns
    -------
    Content of metrics.json.

    Raises
    ------
    NanoMLError
        The training is not finished, the events do not fit it, or there are data and no region to compare them in.
    """
    training = Training.load(run, model)
    of_data = [file for file in compare if is_data(file)]
    data = replace(data, data=tuple(dict.fromkeys([*data.data, *of_data])), simulation=data.simulation or tuple(files))
    if of_data and not data.regions:
        raise ConfigError(
            f"evaluate.compare: {of_data[0]} has data, which are compared in the regions of evaluate.data_in only, and it names "
            'none. Add "data_in: [...]" with regions that may be looked at.'
        )
    again = repeated(training, files, run, repeats)
    compare = [file for file in compare if file not in of_data]
    kinds = in_order(all_sections(), "after")
    code = code_behind(training.description.config.model, "ML_processing.evaluation.scored")
    with one_thread(), kept_outputs(make_directory(directory) / OUTPUTS, code) as kept:
        training, *others = (replace(each, kept=kept) for each in (training, *(it.training for it in again)))
        again = [replace(it, training=each) for it, each in zip(again, others, strict=True)]
        found = _evaluation(Measurement(training, files, compare, data, eras, again, settings or Evaluate()), kinds)
    answers = verdict(found)
    content = found.as_json(answers, _digest(found, answers[0]))
    write_json(directory / "metrics.json", content)
    found.write(directory / MEASURED)
    say(f"evaluate: {answers[0].text}")
    return content


def draw_report(run: Path, directory: Path, style: Style, only: Sequence[str] = ()) -> list[str]:
    """Draw the figures of what was measured of a training, those that are chosen by `only`, and write the page; return the names of all."""
    description, found = TrainingDescription.read(run), Evaluation.read(directory / MEASURED)
    of = found.of(Classification)
    drawn = _draw(found, style.with_processes(found.classes, of.signal if of else None), directory, only)
    write_text(directory / "report.html", _report(description, found, verdict(found), drawn, style, directory))
    return drawn


def _evaluation(of: Measurement, kinds: Sequence[type[Part]]) -> Evaluation:
    """All sections of the kind of training."""
    training = of.training
    task = "regression" if training.targets else "classification"
    return Evaluation(
        now(),
        next(iter(of.eras)) if len(of.eras) == 1 else None,
        of.table.classes,
        of.counts,
        {key: getattr(training.description, key) for key in ("fingerprint", "created", "versions", "git")},
        _notes_on(of),
        {kind: of.once(kind.compute) for kind in kinds if kind.only in ("", task)},
        of.wanted.hidden,
    )


def _draw(found: Evaluation, style: Style, directory: Path, only: Sequence[str]) -> list[str]:
    """Draw figures as NAME.png and NAME.pdf, and return the names of all; those of an earlier evaluation are removed."""
    drawn = Figures(directory, only)
    for each in filter(None, found.sections.values()):
        for name, draw in each.figures(style):
            drawn.add(name, draw, as_json(each.numbers(name)))
    remove_others(directory, drawn.names)
    return drawn.names


def verdict(found: Evaluation) -> list[Answer]:
    """Answers to what one wants to know about a training: none is good with too few effective events."""
    kinds, missing = in_order(found.sections, "asked_after"), {f"#{kind.name}" for kind in found.sections}
    missing -= {f"#{kind.name}" for kind, it in found.sections.items() if it is not None and kind.caption.title}
    linked = [replace(it, link=it.link or f"#{kind.name}") for kind in kinds for it in _answers(kind, found)]
    answers = [replace(it, link="#numbers") if it.link in missing else it for it in linked]
    if found.too_few:
        few = f"But there are too few events for an answer: {found.too_few}."
        answers = [replace(it, state="open", text=f"{it.text} {few}") if it.state == "good" else it for it in answers]
    return [*answers, _sound(found)]


def _answers(kind: type[Part], found: Evaluation) -> Iterable[Answer]:
    measured, (question, text) = found.sections[kind], kind.unmeasured
    if measured is None:
        return [Answer(question, "open", text)] if question and separated(found) else []
    return measured.answers(found)


def _digest(found: Evaluation, first: Answer) -> Digest:
    """The AUC, if there is one, and the first answer."""
    measured = found.of(Classification)
    area = (number(measured.auc.network), "AUC of the networks") if measured else ("", "")
    return Digest(*area, first.text)


def _sound(found: Evaluation) -> Answer:
    question, link, classes = "Enough events?", "#numbers", found.events.classes
    effective = {name: it.effective for name, it in classes.items()}
    listed = ", ".join(f"{name} {number:,.0f}" for name, number in effective.items())
    text = f"Effective numbers of tested events, (sum of w)² / sum of w²: {listed}."
    few = [name for name, number in effective.items() if number < _FEW]
    text += "".join(f" Of {name}, {classes[name].why_few}." for name in few if classes[name].why_few)
    if found.too_few:
        return Answer(question, "bad", f"Nothing can be concluded: {found.too_few}. {text}", link)
    if few:
        return Answer(question, "look", f"There are few events of {', '.join(few)}: mind the errors. {text}", link)
    return Answer(question, "good", text, link)


def _report(
    description: TrainingDescription,
    found: Evaluation,
    answers: Sequence[Answer],
    drawn: Sequence[str],
    style: Style,
    directory: Path,
) -> str:
    """The report as HTML, with the figures that are `drawn` in a directory."""
    drift, data = found.of(Drift), found.of(Data)
    of_data = [file for it in data.regions.values() for file in it.files] if data else []
    compared = [*(drift.files if drift else []), *dict.fromkeys(of_data)]
    shown = filter(None, found.sections.values())
    blocks = [
        Block("numbers", "Numbers", _numbers(found)),
        *(block for each in shown for block in each.blocks(found, drawn)),
        Block("provenance", "Where this comes from", provenance(description, found.created, compared, found.hidden)),
    ]
    lead = (
        f'<p class="result">{escape(_subject(found))}</p><p class="dim">All numbers and plots, except those marked as training, are '
        "from events that the network in question has not seen in its training. Everything shown is also in metrics.json, and every "
        "plot is next to this page as PDF.</p>"
    )
    title = f"Training report of {found.era}" if found.era else "Training report"
    return Document(title, f"{directory.name}/report.html", lead, answers, blocks, found.notes).html(style, directory)


def _subject(found: Evaluation) -> str:
    measured, regression = found.of(Classification), found.of(Regression)
    what = [f"Regression of {', '.join(regression.targets)}."] if regression else []
    if measured:
        others = [name for name in found.classes if name != measured.signal]
        what.append(f"{measured.signal} against {', '.join(others)}.")
    return " ".join(what)


def _numbers(found: Evaluation) -> str:
    """All tables of numbers."""
    measured, events, rows = found.of(Classification) or found.of(Regression), found.events, []
    for name, it in events.classes.items():
        count = "blind" if name in found.hidden else f"{it.total.events:,}"
        error = abs(it.total.sum_of_weights) / it.effective**0.5 if it.effective else 0.0
        negative = _share(it.negative, 0 if name in found.hidden else it.total.events)
        rows.append([name, count, with_error(it.total.sum_of_weights, error), f"{it.effective:,.0f}", negative])
    tested = "" if found.hidden else f"{events.tested:,} of {events.total:,} events are tested."
    head = ["class", "events", "sum of weights", "effective events", "negative weights"]
    of_events = table(head, rows) + f"<p>{tested}</p>" + _reweighted(events.reweighted)
    return "\n".join(filter(None, [measured.tables(found) if measured else "", of_events]))


def _share(part: float, events: int) -> str:
    """A part of events, in per cent, with its binomial error."""
    return percentage(part, (part * (1 - part) / events) ** 0.5 if events else 0.0)


def _reweighted(classes: Mapping[str, Reweighted]) -> str:
    """The treatment of negative weights in the training."""
    if not classes:
        return ""
    rows = [
        [name, percentage(it.negative), f"{it.effective:,.0f}", f"{it.effective_after:,.0f}", percentage(it.clipped)]
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
    settings = _in_words(plain(description.config))
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


def _in_words(value: object) -> str:
    """A setting, without those in it that are not given."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(it)}" for key, it in value.items() if it not in (None, [], {}, ""))
    if isinstance(value, list):
        return " ".join(map(_in_words, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


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


def _notes_on(of: Measurement) -> list[str]:
    """Remarks on these events and networks."""
    training, survey, events = of.training, of.survey, of.events
    description = training.description
    notes, every = [*survey.notes(), *_unfinished(training)], int(survey.counts.sum())
    if training.sentinels:
        listed = ", ".join(f"{value:g} in {name}" for name, values in training.sentinels.items() for value in values)
        notes.append(f"These values lie apart from all others, so they count as missing: {listed}.")
    if training.is_boosted:
        notes.append("The networks on this page are boosted decision trees, so there is no other BDT to compare with.")
    if len(events) < every:
        notes.append(f"The events do not fit into train.memory: {len(events):,} of {every:,} are measured.")
    if not _same_events(of):
        beside = "" if training.is_boosted else ": the BDT learned from these, the networks from others"
        notes.append(f"These are not the events of the training, or not with its weights{beside}.")
    if training.parameter:
        notes.append(
            f"Every {training.parameter.column} has the same total weight in what is measured, whatever its cross section, and is "
            "equally frequent in the background. There is no expected significance, since only one of the signals can exist."
        )
    if description.estimates and description.metrics:
        errors = (f"{name} to {value:.4g}" for name, value in description.metrics["rmse"].items())
        notes.append(f"The head for targets estimates {', '.join(errors)} (RMSE, on events not trained on).")
    if events.about.within:
        names = " or ".join(region.name for region in events.about.within)
        notes.append(
            f"Only events in {names} are trained on, and measured; the sections on single regions have all of theirs."
        )
    return [*notes, *_sampling(of)]


def _same_events(of: Measurement) -> bool:
    """Whether these are the events of the training; judged by their numbers if not all fit into memory."""
    training, events, description = of.training, of.events, of.training.description
    data, decorrelate = description.data, description.config.decorrelate
    counts = [total.events for total in data.classes.values()]
    if len(events) < sum(counts):
        return counts == [total.events for total in of.survey.summary().values()]
    read = {*training.targets, *description.estimates, *([decorrelate.column] if decorrelate else [])}
    extras = {name: values for name, values in events.extras.items() if name in read}
    return bool(replace(events, extras=extras).sha256() == data.sha256)


def _sampling(of: Measurement) -> list[str]:
    """A remark on what is measured on a part of the events."""
    if len(of.part.table) == len(of.tested.table):
        return []
    of_all = "" if of.training.targets else ", but for AUC, ROC curves, scores, calibration and significance,"
    return [
        f"There are many events: all{of_all} is measured on a random choice of {len(of.part.table):,} of them, with as many "
        "of each class as there are or its equal share."
    ]


def _unfinished(training: Training) -> list[str]:
    """A sentence about networks that might still have improved."""
    most = training.description.config.epochs
    best = [best_epoch(history).epoch for history in training.histories]
    count = sum(epoch == most for epoch in best)
    text = f"{count} of {len(best)} networks were at their best in their last epoch: a larger train.epochs should improve them."
    return [text] if count else []
