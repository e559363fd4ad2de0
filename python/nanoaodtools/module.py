"""A selection in the form that nanoAOD-tools has for modules."""
# ruff: noqa: N802

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
from MLTools.NanoML.nanoaodtools.record import write_record
from MLTools.NanoML.nanoaodtools.source import Request, Source
from MLTools.NanoML.selection import Selection
from MLTools.NanoML.terminal.progress import say

__all__ = ["PostprocModule"]

_CHUNK = 100_000  # a selection takes about 0.1 s for few events as for many
_SHARED = "_nanoml"  # the selections on a file know each other by this attribute of the input tree


class PostprocModule:
    """A module of nanoAOD-tools that evaluates a selection.

    An event passes if the selection keeps it; its columns are filled then. A branch that the file has already is
    overwritten if it is of the same type. Types that ROOT (float16) or an older nanoAOD-tools (16-bit integers) has
    not are replaced by the next wider one.

    A selection that reads what a module before it makes, and that module is no selection, is evaluated event by
    event: that is slow, about 0.1 s for each, and it says so.

    The cut flow is printed, and the output gets a record `nanoml` as a skim by `nanoml skim` has it: events and
    weights of the file, or of the range of entries that was asked for, of those that came to the selection (after
    cut, luminosity JSON and modules before it) if these are fewer, after each of its cuts, and of those that later
    modules kept.

    Parameters
    ----------
    selection
        The selection.
    chunk
        Events that are computed at once.

    Raises
    ------
    NanoMLError
        A file cannot be read or lacks branches, a column cannot be written, or the selection made a mistake: it is
        explained, with file and line.
    """

    def __init__(self, selection: Selection, chunk: int = _CHUNK) -> None:
        self.selection, self.chunk = selection, chunk
        self._noted: set[str] = set()
        self._written: set[Path] = set()

    def beginJob(self) -> None:
        """No output has been written yet."""
        self._written.clear()

    def endJob(self) -> None:
        """Give columns and record to the outputs of files of which the cut or the luminosity JSON left no event.

        nanoAOD-tools calls no module for them. Without a record their entries would seem to be missing, and
        haddnano.py, which wants the same trees in all files, would fail.
        """
        request = Request.of(self)
        if request is None:
            return
        ours = [each for each in request.postprocessor.modules if isinstance(each, PostprocModule)]
        if self is not ours[-1]:
            return
        for name, output in request.outputs():
            if output.resolve() not in self._written and output.exists():
                _finish_empty(ours, Request(request.postprocessor, name), output)

    def beginFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:
        """Find what the selection reads and declare what it makes. Without output, `output_tree` is None."""
        if output_file is not None:
            self._written.add(Path(output_file.GetName()).resolve())
        self._begin(Request.of(self), input_file, input_tree, output_tree)

    def _begin(self, request: Optional[Request], input_file: Any, input_tree: Any, output_tree: Any) -> None:
        evaluations: list[Evaluation] = getattr(input_tree, _SHARED, [])
        source = evaluations[0].source if evaluations else Source(input_file, input_tree, request)
        self._evaluation = Evaluation(
            self.selection, source, tuple(evaluations), input_tree, output_tree, self.chunk, self._note
        )
        setattr(input_tree, _SHARED, [*evaluations, self._evaluation])

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps an event; its columns are filled then."""
        return self._evaluation.analyze(event)

    def endFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:
        """Write the record: the last selection does it for all."""
        evaluations: list[Evaluation] = getattr(input_tree, _SHARED)
        if self._evaluation is evaluations[-1]:
            write_record(evaluations, output_file, output_tree)
            self._evaluation.source.close()
            delattr(input_tree, _SHARED)
        del self._evaluation  # ROOT's objects in it must not outlive the file

    def _note(self, why: str) -> None:
        if why not in self._noted:
            self._noted.add(why)
            say(f"{self.selection.name}: {why}")


def _finish_empty(modules: list[PostprocModule], request: Request, output: Path) -> None:
    """Let modules declare their columns in an output without events, and write the record."""
    import ROOT
    from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import InputTree
    from PhysicsTools.NanoAODTools.postprocessing.framework.output import OutputTree

    gc.collect()  # the tree of the last pass, in whose place this one's would take over its attributes
    source = target = None
    try:
        source, target = ROOT.TFile.Open(request.file), ROOT.TFile.Open(str(output), "UPDATE")
        if not source or not target:
            raise OSError("it cannot be opened")  # older ROOT gives a null pointer
        tree = target.Get("Friends" if request.postprocessor.friend else "Events")
        given = InputTree(source.Get("Events"))
        made = OutputTree(target, tree, given)
        for module in modules:
            module._begin(request, source, given, made)
        for module in modules:
            module.endFile(source, target, given, made)
        target.cd()
        tree.Write("", ROOT.TObject.kOverwrite)
    except (NanoMLError, OSError) as problem:
        say(
            f"{output}: has no event, and gets no record, as {request.file} cannot be read again ({problem}). Do not merge it "
            "with others of the same input."
        )
    finally:
        for file in (target, source):
            if file:
                file.Close()
