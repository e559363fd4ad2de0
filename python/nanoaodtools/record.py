"""The record of what nanoAOD-tools did with a file: as in a skim by `nanoml skim`, nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from MLTools.NanoML.books import Books, Criteria, FileBooks, Provenance, books_of
from MLTools.NanoML.cutflow import Step
from MLTools.NanoML.model.record import record_of
from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
from MLTools.NanoML.nanoaodtools.scoring import Scoring
from MLTools.NanoML.progress import say
from MLTools.NanoML.rootfile import PROVENANCE
from MLTools.NanoML.selection import Selection
from MLTools.NanoML.sources import source_files
from MLTools.NanoML.task import code_hash

__all__ = ["write_record"]


def write_record(evaluations: Sequence[Evaluation], output_file: Any, output_tree: Any) -> None:
    """Print the cut flow of the selections that were evaluated on a file, and write it to the output."""
    books = _books(evaluations)
    selections = [evaluation.selection for evaluation in evaluations]
    steps = ", ".join(f"{step.cut} {step.events:,}" for step in books.cutflow)
    say(f"{books.file}: {', '.join(selection.name for selection in selections)}: {steps}")
    if output_tree is None:
        return
    is_friend = output_tree.tree().GetName() != "Events"
    if is_friend and books.selected < books.entries:
        say(
            f"{output_file.GetName()}: has {books.selected:,} of {books.entries:,} events: it is a friend of a skim of the "
            "same events, not of the input file."
        )
    record = _record(evaluations, books, is_friend)
    import ROOT

    # nanoAOD-tools would copy the record of the input over this one
    getattr(output_tree, "_otherObjects", {}).pop(PROVENANCE, None)
    output_file.WriteTObject(ROOT.TObjString(record.to_json()), PROVENANCE)


def _record(evaluations: Sequence[Evaluation], books: FileBooks, is_friend: bool) -> Provenance:
    """What is said of the selections and models that were evaluated on a file.

    Where there were models only and all events are kept, a skim is a skim still.
    """
    models = [it.selection for it in evaluations if isinstance(it.selection, Scoring)]
    cutting = [it for it in evaluations if not isinstance(it.selection, Scoring)]
    parameters = {
        it.model.description.parameter.column: it.parameter
        for it in models
        if it.model.description.parameter and it.parameter is not None
    }
    used = record_of([it.model for it in models], parameters) if models else None
    if not cutting and not is_friend and books.selected == books.entries:
        before = Provenance.of(evaluations[0].source.file)
        if before is not None:
            return replace(before, model=used)
    selections = [it.selection for it in cutting]
    return Provenance(
        ("attached" if is_friend else "skim") if cutting else "scores",
        Books([books]),
        ",".join(_spec(selection) for selection in selections) or None,
        {
            name: {"dtype": made.dtype, "title": evaluation.selection.columns[name].title}
            for evaluation in cutting or evaluations
            for name, made in evaluation.made.items()
        },
        used,
        criteria=Criteria(
            code=code_hash({path for selection in selections for path in source_files(selection)})
            if selections
            else ""
        ),
    )


def _books(evaluations: Sequence[Evaluation]) -> FileBooks:
    """Books of the whole file; the cut flow begins with all its events, also where not all came to a selection."""
    source = evaluations[0].source
    books = books_of(source.file)
    for evaluation in evaluations:
        reached, *cuts = evaluation.finish()
        name = evaluation.selection.name
        if not books.cutflow:
            whole = reached.events == books.entries
            weights = reached.weights if whole else float(source.weights(0, books.entries).sum())
            books.cutflow.append(Step("all", books.entries, weights))
        if reached.events != books.cutflow[-1].events:
            books.cutflow.append(Step(f"reached {name}", reached.events, reached.weights))
        known = {step.cut for step in books.cutflow}
        for step in cuts:
            cut = f"{name}: {step.cut}" if step.cut in known else step.cut
            books.cutflow.append(Step(cut, step.events, step.weights))
    kept = evaluations[-1].kept()
    if kept.events != books.cutflow[-1].events:
        books.cutflow.append(kept)
    books.selected = kept.events
    return books


def _spec(selection: Selection) -> str:
    return f"{type(selection).__module__}:{type(selection).__qualname__}"
