"""Scoring: a model's class probabilities as branches of a ROOT file, entry for entry with the input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from data_processing.nanowriter import NanoWriter
from MLTools.NanoML import nanoaod
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.books import Books, Provenance, all_events_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.folds import fold_of
from MLTools.NanoML.model import Model
from MLTools.NanoML.progress import progress
from MLTools.NanoML.rootfile import Branch, RootFile

__all__ = ["ScoreJob", "score_branches", "score_file"]


@dataclass(frozen=True)
class ScoreJob:
    """One file to be scored.

    Attributes
    ----------
    source
        Path or URL of the input: a skim, or any NanoAOD file if the model reads branches only.
    output
        Path of the file of scores.
    model
        Path of the ONNX file.
    compression
        "ALGORITHM:LEVEL".
    chunk
        Events read at once.
    """

    source: str
    output: Path
    model: Path
    compression: str = "ZLIB:5"
    chunk: int = 200_000


def score_branches(model: Model) -> dict[str, Branch]:
    """The branches that scoring makes: NAME_CLASS for each class, and NAME_fold."""
    made = {
        f"{model.name}_{name}": Branch(
            f"{model.name}_{name}",
            "float32",
            "flat",
            f"probability of class {name} by {model.name}",
            None,
            "",
        )
        for name in model.classes
    }
    fold = f"{model.name}_fold"
    made[fold] = Branch(
        fold,
        "int32",
        "flat",
        "fold of the event: the network that scored it has not seen this fold in training",
        None,
        "",
    )
    return made


def score_file(job: ScoreJob) -> dict[str, Any]:
    """Score one file.

    The output has a tree `Events` with run, luminosityBlock, event and the scores, entry for entry with the
    input, so that it can be its friend. Each event is scored by the network of its fold, which has not seen it.

    Returns
    -------
    {"entries": events scored}.

    Raises
    ------
    NanoMLError
        The file lacks a column of the model, or a score is not finite; nothing is written then.
    """
    model = Model(job.model)
    with RootFile(job.source) as file:
        _check_columns(file, model)
        provenance = Provenance.of(file)
        identifiers = {name: file.branches[file.name_of(name)] for name in nanoaod.IDENTIFIERS}
        made = score_branches(model)
        with (
            replacing(job.output) as aside,
            NanoWriter(aside, {**identifiers, **made}, job.compression) as writer,
        ):
            with progress(f"score {Path(job.source).name}", file.entries) as bar:
                for start in range(0, file.entries, job.chunk):
                    rows = _score_rows(file, model, list(made), start, min(start + job.chunk, file.entries))
                    writer.events.extend(rows)
                    bar.advance(len(rows["run"]))
            record = Provenance(
                "scores",
                provenance.books if provenance else Books([all_events_of(file)]),
                provenance.selection if provenance else None,
                {name: {"dtype": branch.dtype or "", "title": branch.title} for name, branch in made.items()},
                {"name": model.name, "sha256": model.sha256},
            )
            writer.finish(record.to_json())
            if writer.events.entries != file.entries:
                raise NanoMLError(
                    f"{job.source}: {writer.events.entries} of {file.entries} events were scored: nothing was written. Run it again."
                )
    return {"entries": file.entries}


def _check_columns(file: RootFile, model: Model) -> None:
    for name in model.columns:
        if nanoaod.resolve(name, file.branches) is None and name in model.selection_columns:
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name}, a column of selection {model.selection_columns[name]}: "
                f"skim the file with it first (nanoml skim --selection {model.selection_columns[name]} ...), then score the skim."
            )
        branch = file.branch(name)
        if not branch.is_flat:
            raise NanoMLError(
                f"{file.path}: model {model.name} reads {name} as one number per event, but it is of type {branch.typename}."
            )


def _score_rows(file: RootFile, model: Model, names: list[str], start: int, stop: int) -> dict[str, Any]:
    arrays = {
        name: np.asarray(ak.to_numpy(array))
        for name, array in file.read([*nanoaod.IDENTIFIERS, *model.columns], start, stop).items()
    }
    identifiers = {name: arrays[name] for name in nanoaod.IDENTIFIERS}
    fold = fold_of(arrays["run"], arrays["luminosityBlock"], arrays["event"], model.folds)
    scores = model.scores(arrays, fold)
    return {**identifiers, **dict(zip(names, [*scores.T, fold.astype(np.int32)]))}
