"""Scoring: the outputs of models as branches of a ROOT file, entry for entry with the input."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_processing.score.eventcolumns import EventColumns, Mark, Role
from data_processing.score.scorers import Decider, Scorer, bytes_per_event
from data_processing.skim.plan import copy_auxiliary, with_counters
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hypothesis import Hypothesis
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance, ScoredBy
from MLTools.NanoML.roles import HOW, READS, WRITES
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import progress


@dataclass(frozen=True)
class ScoreJob:
    """One file to be scored."""

    source: str = field(metadata=READS)  # path or URL of the input: a skim, or any NanoAOD file
    output: Path = field(metadata=WRITES)  # path of the file of scores
    models: Sequence[Path] = field(metadata=READS)  # paths of the ONNX files
    # values of the models' parameters, by their names; with several, the names of scores end with the value
    parameters: Mapping[str, Sequence[float]] = field(default_factory=dict)
    copy: bool = False  # write a full copy of the input with the scores, not the scores alone
    compression: str = "ZLIB:5"  # "ALGORITHM:LEVEL"
    chunk: int = field(default=200_000, metadata=HOW)  # maximum number of events read at once
    memory: int = field(default=100, metadata=HOW)  # memory for the branches of a chunk [MB]
    base: str = field(default=".", metadata=HOW)  # directory that the path of a selection's file is relative to
    roles: Sequence[Role] = ()  # what the events are, if the file is of a dataset of an analysis
    marks: Sequence[Mark] = ()  # numbers that all of these events have


def load_models(paths: Sequence[Path], parameters: Mapping[str, Sequence[float]]) -> list[Model]:
    """Load the models that score the same files; an error if names clash, or a parameter is missing or of no model."""
    models = [_loaded(path) for path in paths]
    for number, model in enumerate(models):
        twin = next((other for other in models[:number] if other.name == model.name), None)
        if twin is not None:
            raise NanoMLError(
                f"{model.path}: has the name {model.name}, as {twin.path} has: export one of them under another name."
            )
        for value in _values(model, parameters):
            model.check_parameter(value)
    known = {model.description.parameter.column for model in models if model.description.parameter}
    for name in parameters:
        if name not in known:
            has = f"their parameters: {', '.join(sorted(known))}" if known else "they have none"
            raise ConfigError(
                f"parameter {name}: none of the models has it ({has}).{versions.did_you_mean(name, known)}"
            )
    return models


def _loaded(path: Path) -> Model:
    """A model, loaded once for all files that this process scores, unless its file was replaced."""
    try:
        about = path.stat()
    except OSError:
        return Model(path)  # which says what is wrong
    return _load(path, about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _load(path: Path, *_: int) -> Model:
    return Model(path)


def _values(model: Model, parameters: Mapping[str, Sequence[float]]) -> Sequence[float | None]:
    """The values at which a model is evaluated; None stands for that of a model without a parameter, or for a missing one."""
    parameter = model.description.parameter
    return (parameters.get(parameter.column) if parameter else None) or [None]


def score_file(job: ScoreJob) -> dict[str, int]:
    """Score one file; return how many events it has.

    The output has a tree `Events` with run, luminosityBlock, event and the scores, entry for entry with the
    input and in its format, so that it can be its friend; or all of the input with the scores. Each event is scored by the network of
    its fold, which has not seen it in training. A skim with shifts of objects has scores under each, and its flags go with
    them. In an analysis, weights, regions and class of the events are written, too. It is an error if the file lacks a column
    of a model, or a score is not finite; nothing is written then.
    """
    models = load_models(job.models, job.parameters)
    with RootFile(job.source) as file:
        record = Provenance.of(file)
        problem = record.contradiction(file) if record else None
        if problem is not None:
            raise NanoMLError(f"{job.source}: {problem}")
        scorers = [_scorer(model, file, record, job) for model in models]
        _refuse_clashes(scorers, file)
        odd = [name for name, branch in file.branches.items() if not branch.is_numeric] if job.copy else []
        if job.copy:
            kept = with_counters(file, [name for name in file.branches if name not in odd])
        else:  # the identifiers, flags, and counters of the file's own type
            kept = {name: file.branches[file.name_of(name)] for name in versions.IDENTIFIERS}
            others = [*(record.flags if record else ()), *(f"n{model.description.collection}" for model in models)]
            kept.update({name: file.branches[name] for name in others if name in file.branches})
        described = EventColumns(job.roles, job.marks, file, record)
        made = {name: branch for each in scorers for name, branch in each.made.items()}
        made.update(described.made)
        branches = {**kept, **made}
        with replacing(job.output) as aside, NanoWriter(aside, branches, job.compression, file.format) as writer:
            names = [name for name in writer.events.columns if name not in made]
            reads = list(dict.fromkeys([*names, *(name for each in scorers for name in each.reads), *described.reads]))
            size = (
                file.bytes_per_event(reads) + sum(bytes_per_event(each) for each in scorers) + 8 * len(described.made)
            )
            most = max(1, min(job.chunk, int(job.memory * 1_000_000 / max(size, 1))))
            is_data = (record.accounting if record else all_events_of(file)).is_data is not False
            with progress(f"score {Path(job.source).name}", file.entries, is_share=is_data) as bar:
                for start, stop in file.ranges(reads, most) if file.entries else [(0, 0)]:
                    arrays = file.read(reads, start, stop)
                    rows = {name: arrays[name] for name in names}
                    for each in scorers:
                        rows.update(each.score(arrays))
                    rows.update(described.rows(arrays, start, stop))
                    writer.events.extend(rows)
                    bar.advance(stop - start)
            odd += copy_auxiliary(file, writer, None) if job.copy else []
            before = record or Provenance("scores", Accounting([all_events_of(file)]))
            writer.finish(_provenance(before, job, models, made, odd).tree())
            if writer.events.entries != file.entries:
                raise NanoMLError(
                    f"{job.source}: {writer.events.entries} of {file.entries} events were scored: nothing was written. Run it again."
                )
        return {"entries": file.entries}


def _provenance(
    before: Provenance, job: ScoreJob, models: Sequence[Model], made: Mapping[str, Branch], not_copied: list[str]
) -> Provenance:
    """The record of the output, by that of the input; a copy of a skim is still a skim."""
    columns = {name: MadeColumn.of(branch) for name, branch in made.items()}
    return replace(
        before,
        kind=before.kind if job.copy else "scores",
        columns=before.columns if job.copy else columns,
        model=ScoredBy.of([(it.name, it.sha256) for it in models], job.parameters) if models else before.model,
        not_copied=not_copied,
    )


def _scorer(model: Model, file: RootFile, record: Provenance | None, job: ScoreJob) -> Scorer | Decider:
    """Make what scores the events of a file by a model."""
    values, parameter = _values(model, job.parameters), model.description.parameter
    named: dict[str, float | None] = {"": values[0]}
    if len(values) > 1 and parameter is not None:
        named = {f"_{Hypothesis(parameter.column, value).ending}": value for value in values if value is not None}
    if model.description.inside is not None:
        return Decider(model, file, named)
    return Scorer(model, file, record, named, job.base)


def _refuse_clashes(scorers: Sequence[Scorer | Decider], file: RootFile) -> None:
    """Make sure that what is made has names of its own."""
    known = {name: f"{file.path}: has a branch {name} already" for name in file.branches}
    for each in scorers:
        clash = next((name for name in each.made if name in known), None)
        if clash is not None:
            hint = "Score the file that it was made from, or export the model under another name."
            if each.model.description.inside is not None:
                hint = "The selection inside the model reads NanoAOD before any skim, and each such model is scored by itself."
            raise NanoMLError(f"{known[clash]}, which {each.model.path} makes. {hint}")
        known.update((name, f"{each.model.path}: makes a branch {name}") for name in each.made)
