"""Scoring: the outputs of models as branches of a ROOT file, entry for entry with the input."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_processing.score.eventcolumns import EventColumns, Mark, Role
from data_processing.score.scorers import Decider, Scorer, bytes_per_event
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hdf5 import region_column
from MLTools.NanoML.contracts.templates import Hypothesis
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.entries import Outside
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance, ScoredBy
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import with_counters
from MLTools.NanoML.rootio.nanowriter import NanoWriter, copy_auxiliary
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.schema.roles import HOW, READS, WRITES
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.workflow.task import Stamp


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
    # what the events are, if the file is of a dataset of an analysis, and numbers that all of these have
    roles: Sequence[Role] = ()
    marks: Sequence[Mark] = ()


def load_models(paths: Sequence[Path], parameters: Mapping[str, Sequence[float]]) -> list[Model]:
    """Load the models that score the same files; an error if names clash, or a parameter is missing or of no model."""
    models = [loaded(path) for path in paths]
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


def loaded(path: Path) -> Model:
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


@dataclass(frozen=True)
class Scored:
    """How many events of a file were scored, and by model how many lie outside of its domain, if it says which."""

    entries: int
    outside: dict[str, Outside]
    is_data: bool = False  # whether some are data, of which nothing may be told


def _basis(job: ScoreJob) -> str:
    """The hash of what scores follow from beside their models: input, form of the output, and code; empty if that is not known."""
    source = Stamp.of(job.source).as_recorded()
    if source.size is None:  # of a remote file that nobody has looked at
        return ""
    version = [source.content] if source.content else [job.source, source.size, source.modified]
    return hashlib.sha256(json.dumps([version, job.copy, job.compression, _code()]).encode()).hexdigest()


@functools.cache
def _code() -> str:
    return code_of(__name__)


def score_file(job: ScoreJob) -> Scored:
    """Score one file; return how many events it has, and how many of these the models do not know.

    The output has a tree `Events` with run, luminosityBlock, event and the scores, entry for entry with the
    input and in its format, so that it can be its friend; or all of the input with the scores. Each event is scored by the network of
    its fold, which has not seen it in training. A skim with shifts of objects has scores under each, and its flags go with
    them. In an analysis, weights, regions and class of the events are written, too. If the output is there and has the scores, these
    are kept. It is an error if the file lacks a column of a model, or a score is not finite; nothing is written then.
    """
    models = load_models(job.models, job.parameters)
    by = ScoredBy.of([(it.name, it.sha256) for it in models], job.parameters, _basis(job)) if models else None
    if by is not None and by.basis and job.output.exists():
        with suppress(NanoMLError), RootFile(str(job.output)) as before:
            record = Provenance.of(before)
            if record is not None and record.model is not None and plain(record.model) == plain(by):
                return _write(job, models, by, before)
    return _write(job, models, by)


def _write(job: ScoreJob, models: Sequence[Model], by: ScoredBy | None, before: RootFile | None = None) -> Scored:
    """Write the file of scores, with those of the file `before` if there is one."""
    with RootFile(job.source) as file:
        record = Provenance.of(file)
        problem = record.contradiction(file) if record else None
        if problem is not None:
            raise NanoMLError(f"{job.source}: {problem}")
        scorers = [_scorer(model, file, record, job) for model in models]
        _refuse_clashes(scorers, file)
        odd = [name for name, branch in file.branches.items() if not branch.is_numeric] if job.copy else []
        if job.copy:
            kept = with_counters(file.branches, [name for name in file.branches if name not in odd])
        else:  # the identifiers, flags, and counters of the file's own type
            kept = {name: file.branches[file.name_of(name)] for name in versions.IDENTIFIERS}
            others = [*(record.flags if record else ()), *(f"n{model.description.collection}" for model in models)]
            kept.update({name: file.branches[name] for name in others if name in file.branches})
        described = EventColumns(job.roles, job.marks, file, record)
        scores = [name for each in scorers for name in each.made]
        made = {name: branch for each in (*scorers, described) for name, branch in each.made.items()}
        with (
            replacing(job.output) as aside,
            NanoWriter(aside, {**kept, **made}, job.compression, file.format) as writer,
        ):
            names = [name for name in writer.events.columns if name not in made]
            makers: list[EventColumns | Scorer | Decider] = [described, *(scorers if before is None else ())]
            reads = list(dict.fromkeys([*names, *(name for each in makers for name in each.reads)]))
            size = file.bytes_per_event(reads) + sum(map(bytes_per_event, scorers)) + 8 * len(described.made)
            most = max(1, min(job.chunk, int(job.memory * 1_000_000 / max(size, 1))))
            origin = record or Provenance("scores", Accounting([all_events_of(file)]))
            is_share = origin.accounting.is_data is not False
            with progress(f"score {Path(job.source).name}", file.entries, is_share=is_share) as bar:
                for start, stop in file.ranges(reads, most) if file.entries else [(0, 0)]:
                    arrays = file.read(reads, start, stop)
                    rows = {name: arrays[name] for name in names}
                    rows.update(described.rows(arrays, start, stop))
                    for each in scorers if before is None else ():
                        rows.update(each.score(arrays, _trained_in(each.model, rows, stop - start)))
                    rows.update(before.read(scores, start, stop) if before is not None else {})
                    writer.events.extend(rows)
                    bar.advance(stop - start)
            odd += copy_auxiliary(file, writer) if job.copy else []
            # a copy of a skim is still a skim
            kind, columns = "scores", {name: MadeColumn.of(branch) for name, branch in made.items()}
            if job.copy:
                kind, columns = origin.kind, origin.columns
            if by is not None and any(it.runs_selection for it in scorers):  # of which more may have changed
                by = replace(by, basis="")
            model = by or origin.model
            writer.finish(replace(origin, kind=kind, columns=columns, model=model, not_copied=odd).tree())
            if writer.events.entries != file.entries:
                raise NanoMLError(
                    f"{job.source}: {writer.events.entries} of {file.entries} events were scored: nothing was written. Run it again."
                )
        known = [each for each in scorers if each.model.description.domain and before is None]
        is_data = any(it.is_data for it in origin.accounting.files)
        return Scored(file.entries, {each.model.name: each.outside for each in known}, is_data)


def _trained_in(model: Model, rows: Mapping[str, Any], length: int) -> NDArray[np.bool_]:
    """Which events are of the regions that a model was trained in, as far as they are described: others are meant to lie outside."""
    columns = [region_column(name) for name in model.description.regions]
    flags = [rows[name] for name in columns if name in rows]
    return np.any(flags, axis=0) if flags else np.ones(length, bool)


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
