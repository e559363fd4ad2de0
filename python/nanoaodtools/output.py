"""The output of nanoAOD-tools: columns as its branches, and the record of what was done with a file, as in a skim by `nanoml skim`."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

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
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.model import Model
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.lumimask import sections_between
from MLTools.NanoML.nanoaodtools.source import Request, Source
from MLTools.NanoML.rootio.rootfile import PROVENANCE
from MLTools.NanoML.selection import Column, Selection, Step
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.nanoaodtools.evaluation import Evaluation

# numpy's name of a type, nanoAOD-tools' letter for it, ROOT's name
_TYPES = (
    ("bool", "O", "Bool_t"),
    ("int8", "B", "Char_t"),
    ("uint8", "b", "UChar_t"),
    ("int16", "S", "Short_t"),
    ("uint16", "s", "UShort_t"),
    ("int32", "I", "Int_t"),
    ("uint32", "i", "UInt_t"),
    ("int64", "L", "Long64_t"),
    ("uint64", "l", "ULong64_t"),
    ("float32", "F", "Float_t"),
    ("float64", "D", "Double_t"),
)
_LETTERS = {dtype: (letter, root) for dtype, letter, root in _TYPES}
_DTYPES = {root: dtype for dtype, _, root in _TYPES}
# types unknown to ROOT or to an older nanoAOD-tools, with the next wider one
_WIDER = {"float16": "float32", "int16": "int32", "uint16": "uint32"}


@dataclass(frozen=True)
class ListColumn(Column):
    """A column that may have a number for each object of a `collection`, such as Electron; None for one number."""

    collection: Optional[str] = None

    @property
    def counter(self) -> Optional[str]:
        """The branch that counts the objects."""
        return f"n{self.collection}" if self.collection else None


@dataclass(frozen=True)
class Made:
    """A branch that a module makes."""

    dtype: str  # numpy name of its type in the output
    counter: Optional[str]  # its counter, if it is a list for each event
    branch: Any  # nanoAOD-tools' object for it; None without output


def declared(output_tree: Any) -> dict[str, Made]:
    """The branches that modules have declared so far; none without output."""
    if output_tree is None:
        return {}
    return {
        name: Made(_DTYPES[branch.branch.FindLeaf(name).GetTypeName()], branch.lenVar, branch)
        for name, branch in output_tree._branches.items()
    }


def declare(selection: Selection, output_tree: Any) -> dict[str, Made]:
    """Declare the columns of a selection, in their own types or the next wider ones that exist."""
    made = {}
    for name, column in selection.made.items():
        dtype = np.dtype(column.dtype).name
        if output_tree is None:
            made[name] = Made(dtype, _counter(column), None)
            continue
        tried = (_branch(selection, output_tree, name, each) for each in (dtype, _WIDER.get(dtype, "")))
        found = next(filter(None, tried), None)
        if found is None:
            raise NanoMLError(
                f"{selection.where()}: column {name} is of type {dtype}, which nanoAOD-tools cannot write."
            )
        made[name] = found
    return made


def _branch(selection: Selection, output_tree: Any, name: str, dtype: str) -> Optional[Made]:
    """Declare a column in one type; None if there is no such type."""
    if dtype not in _LETTERS:
        return None
    letter, root = _LETTERS[dtype]
    existing = output_tree.tree().GetBranch(name)
    leaf = existing.FindLeaf(name) if existing else None
    column = selection.made[name]
    counter = _counter(column)
    if leaf:
        count = leaf.GetLeafCount()
        same = count.GetName() == counter if count else counter is None and leaf.GetLen() == 1
        if leaf.GetTypeName() != root or not same:
            of = f"a list with the counter {counter}, " if counter else ""
            raise NanoMLError(
                f"{selection.where()}: column {name} is {of}of type {dtype}, but there is a branch of this name already, "
                f"{leaf.GetTitle()} of type {leaf.GetTypeName()}. Give the column another name, or the same type."
            )
    counted = {"lenVar": counter} if counter else {}
    try:
        return Made(dtype, counter, output_tree.branch(name, letter, title=column.title, **counted))
    except KeyError:  # an older nanoAOD-tools does not know the letter
        return None


def _counter(column: Column) -> Optional[str]:
    return column.counter if isinstance(column, ListColumn) else None


class Filler:
    """Sets the values of a selection's columns for an event, so that they are written and later modules see them.

    nanoAOD-tools' `fillBranch` does so for one column; for all columns together that would take longer than the selection.
    """

    def __init__(self, made: Mapping[str, Made], input_tree: Any, output_tree: Any) -> None:
        self._made, self._input, self._output = made, input_tree, output_tree
        self._names = list(made)
        # index of a column, and the buffer from which it is filled
        self._direct: Optional[list[tuple[int, array[Any]]]] = None
        self._slow: list[tuple[int, str]] = []

    def __call__(self, values: Sequence[Any]) -> None:
        """Set the columns' values, in their order."""
        if self._direct is None:
            self._direct = self._find()
        for number, buffer in self._direct:
            buffer[0] = values[number]
        for number, name in self._slow:
            self._output.fillBranch(name, values[number])
        self._input._extrabranches.update(zip(self._names, values))

    def _find(self) -> list[tuple[int, array[Any]]]:
        """The buffers of columns that are one number and that no module after this one has declared anew."""
        direct = []
        for number, (name, made) in enumerate(self._made.items()):
            if made.branch is None:  # without output
                continue
            buffer = getattr(made.branch, "buff", None)
            is_ours = self._output._branches.get(name) is made.branch
            if is_ours and made.counter is None and isinstance(buffer, array):
                direct.append((number, buffer))
            else:
                self._slow.append((number, name))
        return direct


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
        dtype = np.dtype(branch.dtype)
        buffers[name] = array(dtype.char, [0] * branch.size)
        length = f"[{branch.size}]" if branch.is_fixed else ""
        tree.Branch(name, buffers[name], f"{name}{length}/{_LETTERS[dtype.name][0]}").SetTitle(branch.title)
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
            name: MadeColumn(made.dtype, evaluation.selection.made[name].title)
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
    triggers = tuple(dict.fromkeys(name for selection in selections for name in selection.dataset.triggers))
    corrections = {name: digest for selection in selections for name, digest in selection.dataset.digests.items()}
    return replace(
        criteria, code=code_of(*code, only_own=True) if code else "", triggers=triggers, corrections=corrections
    )


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
        accounting.weights += evaluation.weights
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
