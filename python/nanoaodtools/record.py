"""The record of what nanoAOD-tools did with a file, as in a skim by `nanoml skim`: nothing is lost in silence."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional

from MLTools.NanoML.contracts.accounting import FileAccounting, Part
from MLTools.NanoML.contracts.provenance import (
    RECORD_BRANCHES,
    Criteria,
    MadeColumn,
    Provenance,
    ScoredBy,
    accounting_of_input,
)
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.model.model import Model
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.lumimask import sections_between
from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
from MLTools.NanoML.nanoaodtools.source import Request, Source
from MLTools.NanoML.rootio.rootfile import PROVENANCE
from MLTools.NanoML.selection import Selection, Step
from MLTools.NanoML.terminal.progress import say

_LETTERS = {"int32": ("i", "I"), "uint8": ("B", "b")}  # in Python's arrays, and in ROOT


def write_record(evaluations: Sequence[Evaluation], output_file: Any, output_tree: Any) -> None:
    """Print the cut flow of the selections that were evaluated on a file, and write it to the output."""
    accounting = _accounting(evaluations)
    selections = [evaluation.selection for evaluation in evaluations]
    steps = ", ".join(f"{step.cut} {step.events:,}" for step in accounting.cutflow)
    say(f"{accounting.file}: {', '.join(selection.name for selection in selections)}: {steps}")
    if output_tree is None:
        return
    is_friend = output_tree.tree().GetName() != "Events"
    if is_friend and accounting.selected < accounting.entries:
        say(
            f"{output_file.GetName()}: has {accounting.selected:,} of {accounting.entries:,} events: it is a friend of a skim of the "
            "same events, not of the input file."
        )
    write_tree(output_file, _record(evaluations, accounting, is_friend))


def write_tree(output_file: Any, record: Provenance) -> None:
    """Write a record into a file that ROOT has open, in place of an existing one."""
    import ROOT

    output_file.Delete(f"{PROVENANCE};*")
    tree = ROOT.TTree(PROVENANCE, "record of NanoML", 99, output_file)
    rows, buffers = record.rows(), {}
    for name, branch in RECORD_BRANCHES.items():
        letter, leaf = _LETTERS[str(branch.dtype)]
        buffers[name] = array(letter, [0] * branch.size)
        length = f"[{branch.size}]" if branch.is_fixed else ""
        tree.Branch(name, buffers[name], f"{name}{length}/{leaf}").SetTitle(branch.title)
    for row in range(len(rows["text"])):
        for name, buffer in buffers.items():
            buffer[:] = array(buffer.typecode, rows[name][row].tobytes())
        tree.Fill()
    tree.FlushBaskets()
    output_file.WriteTObject(tree, PROVENANCE)
    tree.SetDirectory(ROOT.nullptr)


def _record(evaluations: Sequence[Evaluation], accounting: FileAccounting, is_friend: bool) -> Provenance:
    """The record of the selections and models that were evaluated on a file.

    If there were only models and all events are kept, a skim remains a skim.
    """
    scoring: list[Any] = [it.selection for it in evaluations if _is_model(it.selection)]
    cutting = [it for it in evaluations if not _is_model(it.selection)]
    parameters = {
        it.model.description.parameter.column: it.parameter
        for it in scoring
        if it.model.description.parameter and it.parameter is not None
    }
    used = ScoredBy.of([it.model for it in scoring], parameters) if scoring else None
    source = evaluations[0].source
    if not cutting and not is_friend and accounting.selected == accounting.entries and accounting.part is None:
        before = Provenance.of(source.file)
        if before is not None:
            return replace(before, model=used)
    selections = [it.selection for it in cutting]
    return Provenance(
        ("attached" if is_friend else "skim") if cutting else "scores",
        Accounting([accounting]),
        ",".join(_spec(selection) for selection in selections) or None,
        {
            name: MadeColumn(made.dtype, evaluation.selection.columns[name].title)
            for evaluation in cutting or evaluations
            for name, made in evaluation.made.items()
        },
        used,
        criteria=_criteria(selections, source.request),
    )


def _is_model(selection: Any) -> bool:
    return isinstance(getattr(selection, "model", None), Model)


def _criteria(selections: Sequence[Selection], request: Optional[Request]) -> Criteria:
    """What else selected events, as far as it is known."""
    if request is None:
        others: list[Any] = []
        criteria = Criteria()
    else:
        modules = request.postprocessor.modules
        others = [module for module in modules if not hasattr(module, "selection")]
        names = [_spec(getattr(module, "selection", module)) for module in modules] if others else []
        criteria = Criteria(request.certified_by, request.cut, tuple(names))
    code = []
    for thing in [*selections, *others]:
        with suppress(TypeError, OSError):  # typed in interactively, it is in no file
            code.append(source_of(thing))
    return replace(criteria, code=code_of(*code, only_own=True) if code else "")


def _accounting(evaluations: Sequence[Evaluation]) -> FileAccounting:
    """Accounting of the range of entries; the cut flow begins with all its events, even if not all reached a selection."""
    source = evaluations[0].source
    accounting = _opened(source)
    # the same steps for all files and ranges, even if nothing was dropped, so that they can be added
    may_drop = source.request.may_drop if source.request else [False] * (len(evaluations) + 1)
    for evaluation, is_listed in zip(evaluations, may_drop):
        reached, *cuts = evaluation.finish()
        name = evaluation.selection.name
        if not accounting.cutflow:
            if source.range is None and reached.events < accounting.entries:
                # something other than a PostProcessor chose the events
                all_weights = source.sum_of_weights(0, accounting.entries)
                accounting.part = Part(None, accounting.entries, reached.weights, all_weights)
            accounting.cutflow.append(_first_step(source, accounting, reached))
        if is_listed or reached.events != accounting.cutflow[-1].events:
            accounting.cutflow.append(Step(f"reached {name}", reached.events, reached.weights))
        known = {step.cut for step in accounting.cutflow}
        for step in cuts:
            cut = f"{name}: {step.cut}" if step.cut in known else step.cut
            accounting.cutflow.append(Step(cut, step.events, step.weights))
    kept = evaluations[-1].kept()
    if may_drop[-1] or kept.events != accounting.cutflow[-1].events:
        accounting.cutflow.append(kept)
    accounting.selected = kept.events
    return accounting


def _opened(source: Source) -> FileAccounting:
    """Accounting of the file, or of the range of its entries that was asked for, with nothing read yet."""
    accounting = accounting_of_input(source.file)
    accounting.file = source.name
    start, stop = source.range or (0, accounting.entries)
    if (start, stop) != (0, accounting.entries):
        file_weights = source.sum_of_weights(0, accounting.entries)
        accounting.part = Part(start, accounting.entries, source.sum_of_weights(start, stop), file_weights)
        accounting.entries = stop - start
    if accounting.is_data and source.request is not None:
        sections = sections_between(source.file, start, stop)
        certified = source.request.certified
        accounting.luminosity_sections = (sections if certified is None else sections & certified).as_dict()
    return accounting


def _first_step(source: Source, accounting: FileAccounting, reached: Step) -> Step:
    if reached.events == accounting.entries:
        return Step("all", accounting.entries, reached.weights)
    if accounting.part is None:
        return Step("all", accounting.entries, source.sum_of_weights(0, accounting.entries))
    weights = accounting.part.file_weights if accounting.part.first is None else accounting.part.weights
    return Step("all", accounting.entries, weights)


def _spec(thing: Any) -> str:
    return f"{type(thing).__module__}:{type(thing).__qualname__}"
