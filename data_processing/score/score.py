"""Scoring: what models give, as branches of a ROOT file, entry for entry with the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_processing.score.scores import Scores
from data_processing.skim.auxiliary import copy_others
from data_processing.skim.job import SkimJob
from data_processing.skim.plan import plan_skim
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.model import record_of
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import Branch, RootFile
from MLTools.NanoML.terminal.progress import progress

__all__ = ["ScoreJob", "load_models", "score_file"]


@dataclass(frozen=True)
class ScoreJob:
    """One file to be scored.

    Attributes
    ----------
    source
        Path or URL of the input: a skim, or any NanoAOD file.
    output
        Path of the file of scores.
    models
        Paths of the ONNX files.
    parameters
        Values of the models' parameters, by their names.
    copy
        Write a full copy of the input with the scores, not the scores alone.
    compression
        "ALGORITHM:LEVEL".
    chunk
        Most events read at once.
    memory
        How much the branches of a chunk may take, in MB.
    base
        Directory that a selection's file is relative to.
    """

    source: str
    output: Path
    models: Sequence[Path]
    parameters: Mapping[str, float] = field(default_factory=dict)
    copy: bool = False
    compression: str = "ZLIB:5"
    chunk: int = 200_000
    memory: int = 100
    base: str = "."


def load_models(paths: Sequence[Path], parameters: Mapping[str, float]) -> list[Model]:
    """Load models that are to score the same files.

    Raises
    ------
    NanoMLError
        One cannot be loaded, two have the same name, or a parameter is missing or belongs to none of them.
    """
    models = [Model(path) for path in paths]
    for number, model in enumerate(models):
        twin = next((other for other in models[:number] if other.name == model.name), None)
        if twin is not None:
            raise NanoMLError(
                f"{model.path}: has the name {model.name}, as {twin.path} has: export one of them under another name."
            )
        model.check_parameter(_parameter(model, parameters))
    known = {model.description.parameter.column for model in models if model.description.parameter}
    for name in parameters:
        if name not in known:
            has = f"their parameters: {', '.join(sorted(known))}" if known else "they have none"
            raise ConfigError(
                f"parameter {name}: none of the models has it ({has}).{versions.did_you_mean(name, known)}"
            )
    return models


def _parameter(model: Model, parameters: Mapping[str, float]) -> float | None:
    parameter = model.description.parameter
    return parameters.get(parameter.column) if parameter else None


def score_file(job: ScoreJob) -> dict[str, Any]:
    """Score one file.

    The output has a tree `Events` with run, luminosityBlock, event and the scores, entry for entry with the
    input, so that it can be its friend; or all of the input with the scores. Each event is scored by the network of
    its fold, which has not seen it.

    Returns
    -------
    {"entries": events scored}.

    Raises
    ------
    NanoMLError
        The file lacks a column of a model, or a score is not finite; nothing is written then.
    """
    models = load_models(job.models, job.parameters)
    with RootFile(job.source) as file:
        scores = [Scores(model, file, _parameter(model, job.parameters), job.base) for model in models]
        kept = _copied(file) if job.copy else _identifiers(file, scores)
        made = {name: branch for each in scores for name, branch in each.made.items()}
        with _writing(job, {**kept, **made}) as writer:
            names = [name for name in writer.events.columns if name not in made]
            reads = list(dict.fromkeys([*names, *(name for each in scores for name in each.reads)]))
            with progress(f"score {Path(job.source).name}", file.entries) as bar:
                for start, stop in _ranges(file, job, reads, scores):
                    arrays = file.read(reads, start, stop)
                    rows = {name: arrays[name] for name in names}
                    for each in scores:
                        rows.update(each.of(arrays))
                    writer.events.extend(rows)
                    bar.advance(stop - start)
            left_out = copy_others(file, writer, None) if job.copy else []
            writer.finish(_record(file, job, models, made, left_out))
            if writer.events.entries != file.entries:
                raise NanoMLError(
                    f"{job.source}: {writer.events.entries} of {file.entries} events were scored: nothing was written. Run it again."
                )
        return {"entries": file.entries}


@contextmanager
def _writing(job: ScoreJob, branches: Mapping[str, Branch]) -> Iterator[NanoWriter]:
    with replacing(job.output) as aside, NanoWriter(aside, branches, job.compression) as writer:
        yield writer


def _identifiers(file: RootFile, scores: Sequence[Scores]) -> dict[str, Branch]:
    """What a friend has beside the scores: the identifiers, and counters of the file's own type."""
    found = {name: file.branches[file.name_of(name)] for name in versions.IDENTIFIERS}
    for each in scores:
        counter = f"n{each.model.description.collection}"
        if counter in file.branches:
            found[counter] = file.branches[counter]
    return found


def _copied(file: RootFile) -> dict[str, Branch]:
    """All branches of the file that can be written."""
    odd = [f"drop {name}" for name, branch in file.branches.items() if not branch.is_numeric]
    return plan_skim(file, (), SkimJob(file.path, Path(), keep=("*", *odd))).kept


def _ranges(
    file: RootFile, job: ScoreJob, reads: Sequence[str], scores: Sequence[Scores]
) -> Iterator[tuple[int, int]]:
    size = file.bytes_per_event(reads) + sum(each.bytes_per_event for each in scores)
    most = max(1, min(job.chunk, int(job.memory * 1_000_000 / max(size, 1))))
    yield from file.ranges(reads, most) if file.entries else [(0, 0)]


def _record(
    file: RootFile, job: ScoreJob, models: Sequence[Model], made: Mapping[str, Branch], left_out: list[str]
) -> Provenance:
    """What the output says of itself; a copy of a skim is a skim still."""
    before = Provenance.of(file) or Provenance("scores", Accounting([all_events_of(file)]))
    columns = {name: {"dtype": branch.dtype or "", "title": branch.title} for name, branch in made.items()}
    odd = [name for name, branch in file.branches.items() if not branch.is_numeric] if job.copy else []
    return replace(
        before,
        kind=before.kind if job.copy else "scores",
        columns=before.columns if job.copy else columns,
        model=record_of(models, job.parameters),
        not_copied=[*odd, *left_out],
    )
