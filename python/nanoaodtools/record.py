"""The record of what selections and models did with a file in nanoAOD-tools, as in a skim by `nanoml skim`."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional

import numpy as np

from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, Part, ShiftSums
from MLTools.NanoML.nanoaod.lumimask import sections_between
from MLTools.NanoML.nanoaod.provenance import RECORD_BRANCHES, Criteria, MadeColumn, Provenance, ScoredBy, refuse_shifts
from MLTools.NanoML.nanoaodtools.branches import LETTERS, Scoring
from MLTools.NanoML.nanoaodtools.evaluation import Counts, Evaluation
from MLTools.NanoML.nanoaodtools.source import Request, Source
from MLTools.NanoML.rootio.rootfile import PROVENANCE
from MLTools.NanoML.selection import Selection, Step
from MLTools.NanoML.terminal.progress import say


def write_record(evaluations: Sequence[Evaluation], output_file: Any, output_tree: Any) -> None:
    """Print the cut flow of the selections that were evaluated on a file, and write it to the output."""
    accounting = counted(evaluations)
    selections = [evaluation.selection for evaluation in evaluations]
    told = accounting.cutflow[:1] if accounting.is_data else accounting.cutflow  # data may be blind
    steps = ", ".join(f"{step.cut} {step.events:,}" for step in told)
    say(f"{accounting.file}: {', '.join(selection.name for selection in selections)}: {steps}")
    if output_tree is None:
        return
    is_friend = output_tree.tree().GetName() != "Events"
    if is_friend and accounting.written < accounting.entries:
        number = "some" if accounting.is_data else f"{accounting.written:,}"
        say(
            f"{output_file.GetName()}: has {number} of {accounting.entries:,} events: it is a friend of a skim of the "
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
        dtype = np.dtype(branch.dtype)
        buffers[name] = array(dtype.char, [0] * branch.size)
        length = f"[{branch.size}]" if branch.is_fixed else ""
        tree.Branch(name, buffers[name], f"{name}{length}/{LETTERS[dtype.name][0]}").SetTitle(branch.title)
    for row in range(len(rows["text"])):
        for name, buffer in buffers.items():
            buffer[:] = array(buffer.typecode, rows[name][row].tobytes())
        tree.Fill()
    tree.FlushBaskets()
    output_file.WriteTObject(tree, PROVENANCE)
    tree.SetDirectory(ROOT.nullptr)


def _record(evaluations: Sequence[Evaluation], accounting: FileAccounting, is_friend: bool) -> Provenance:
    """The record of the selections and models that were evaluated on a file.

    If there were only models and all events are kept, a skim remains a skim, and its friend has its accounting.
    """
    scoring = [it.selection for it in evaluations if isinstance(it.selection, Scoring)]
    cutting = [it for it in evaluations if not isinstance(it.selection, Scoring)]
    parameters = {
        it.model.description.parameter.column: [it.parameter]
        for it in scoring
        if it.model.description.parameter and it.parameter is not None
    }
    used = ScoredBy.of([(it.model.name, it.model.sha256) for it in scoring], parameters) if scoring else None
    columns = {
        name: MadeColumn(made.dtype, titles[name].title, titles[name].missing)
        for titles, it in ((it.selection.made.described, it) for it in cutting or evaluations)
        for name, made in it.made.items()
    }
    source = evaluations[0].source
    if not cutting and accounting.written == accounting.entries and accounting.part is None:
        before = Provenance.of(source.file)
        if before is not None and is_friend:
            return replace(before, kind="scores", columns=columns, model=used, not_copied=[])
        if before is not None:
            return replace(before, model=used)
    refuse_shifts(source.accounting)
    selections = [it.selection for it in cutting]
    return Provenance(
        ("attached" if is_friend else "skim") if cutting else "scores",
        Accounting([accounting]),
        ",".join(_spec(selection) for selection in selections) or None,
        columns,
        used,
        criteria=_criteria(selections, source.request),
    )


def _criteria(selections: Sequence[Selection], request: Optional[Request]) -> Criteria:
    """All else that selected events, as far as it is known."""
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
    triggers = tuple(dict.fromkeys(name for selection in selections for name in selection.dataset.triggers))
    corrections = {name: digest for selection in selections for name, digest in selection.dataset.digests.items()}
    return replace(
        criteria, code=code_of(*code, only_own=True) if code else "", triggers=triggers, corrections=corrections
    )


def counted(evaluations: Sequence[Evaluation]) -> FileAccounting:
    """Accounting of the range of entries; the cut flow begins with all its events, even if not all reached a selection."""
    source = evaluations[0].source
    accounting = _opened(source)
    # the same steps for all files and ranges, even if nothing was dropped, so that they can be added
    may_drop = source.request.may_drop if source.request else [False] * (len(evaluations) + 1)
    for evaluation, is_listed in zip(evaluations, may_drop):
        counts = evaluation.finish()
        if not accounting.cutflow:
            reached = counts.steps[0]
            if source.range is None and reached.events < accounting.entries:
                # something other than a PostProcessor chose the events
                all_weights = source.sum_of_weights(0, accounting.entries)
                accounting.part = Part(None, accounting.entries, reached.weights, all_weights)
            accounting.cutflow.append(_first_step(source, accounting, reached))
        _add(accounting, counts, evaluation.selection.name, is_listed)
    kept, accounting.only_shifted = evaluations[-1].kept()
    flows = list(zip(_flows(accounting), kept.flows))
    if may_drop[-1] or any(step.events != flow[-1].events for flow, [step] in flows):
        for flow, [step] in flows:
            flow.append(step)
    accounting.selected = kept.steps[0].events
    return accounting


def _flows(accounting: FileAccounting) -> list[list[Step]]:
    """The cut flows: the nominal one, then those under shifts."""
    return [accounting.cutflow, *(each.cutflow for each in accounting.shifts)]


def _add(accounting: FileAccounting, counts: Counts, name: str, is_listed: bool) -> None:
    """Add what a selection of some name counted; how many events reached it is listed where asked for, or where some are lost."""
    if not accounting.shifts:  # up to the selection that has them, they make no difference
        accounting.shifts = [ShiftSums(each.shift, [*accounting.cutflow], []) for each in counts.shifts]
    flows = list(zip(_flows(accounting), counts.flows))
    is_listed = is_listed or any(more[0].events != flow[-1].events for flow, more in flows)
    known = {step.cut for step in accounting.cutflow}
    for flow, (reached, *cuts) in flows:
        if is_listed:
            flow.append(replace(reached, cut=f"reached {name}"))
        flow += [replace(step, cut=f"{name}: {step.cut}") if step.cut in known else step for step in cuts]
    accounting.weights += counts.weights
    for sums, more in zip(accounting.shifts, counts.shifts):
        sums.weights += more.weights


def _opened(source: Source) -> FileAccounting:
    """Accounting of the file, or of the range of its entries that was asked for, with nothing read yet."""
    before = source.accounting
    accounting = replace(before, file=source.name, weights=[*before.weights], shifts=[])
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


def _spec(thing: object) -> str:
    return f"{type(thing).__module__}:{type(thing).__qualname__}"
