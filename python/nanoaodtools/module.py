"""A selection in the form of a module of nanoAOD-tools, and how nano_postproc.py finds it by its name."""
# ruff: noqa: N802

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import is_simulation
from MLTools.NanoML.nanoaod.provenance import refuse_shifts
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.selection import Selection
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:  # imported when nanoAOD-tools runs: every selection imports this module
    from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
    from MLTools.NanoML.nanoaodtools.source import Request

_CHUNK = 100_000  # a selection takes about 0.1 s for few events as for many
_SHARED = "_nanoml"  # the selections on a file know each other by this attribute of the input tree


class PostprocModule:
    """A module of nanoAOD-tools that evaluates a selection.

    An event passes if the selection keeps it; then its columns are filled. A branch that the file already has is
    overwritten if it has the same type. Types that do not exist in ROOT (float16) or in an older nanoAOD-tools (16-bit
    integers) are replaced by the next wider one.

    If the selection has shifts, an event of simulation passes nominally or under one of them. As columns are declared before the
    first event, there are all that may differ under a shift. One selection in a pass may have shifts.

    A selection that reads branches made by a module that is not a selection is evaluated event by event: that is slow, about
    0.1 s for each, and a message says so.

    The cut flow is printed, and the output gets a record `nanoml` as from `nanoml skim`: events and weights of the file
    (or of the range of entries), of those that reached the selection (after cut, luminosity JSON and earlier modules) if
    these are fewer, after each of its cuts, and of those that later modules kept.

    Parameters
    ----------
    selection
        The selection.
    chunk
        Number of events that are computed at once.

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
        """Forget the outputs of an earlier job."""
        self._written.clear()

    def endJob(self) -> None:
        """Give columns and record to outputs without events, after the cut or the luminosity JSON.

        nanoAOD-tools calls no module for them. Without a record their entries would seem to be missing, and haddnano.py,
        which needs the same trees in all files, would fail.
        """
        from MLTools.NanoML.nanoaodtools.branches import Scoring
        from MLTools.NanoML.nanoaodtools.source import Request

        if isinstance(self.selection, Scoring):
            for line in self.selection.told():
                say(line)
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
        """Find the branches that the selection reads and declare its columns. Without output, `output_tree` is None."""
        from MLTools.NanoML.nanoaodtools.source import Request

        if output_file is not None:
            self._written.add(Path(output_file.GetName()).resolve())
        self._begin(Request.of(self), input_file, input_tree, output_tree)

    def _begin(self, request: Optional[Request], input_file: Any, input_tree: Any, output_tree: Any) -> None:
        from MLTools.NanoML.nanoaodtools.branches import Scoring
        from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
        from MLTools.NanoML.nanoaodtools.source import Source

        modules = request.postprocessor.modules if request is not None else ()
        is_first = self is next((each for each in modules if isinstance(each, PostprocModule)), None)
        # a tree at the place in memory of one whose run failed has the attributes of that one
        evaluations: list[Evaluation] = [] if is_first else getattr(input_tree, _SHARED, [])
        source = evaluations[0].source if evaluations else Source(input_file, input_tree, request)
        if not isinstance(self.selection, Scoring):
            refuse_shifts(source.accounting)
        selection = self.selection.of_dataset(replace(self.selection.dataset, is_data=not is_simulation(source.file)))
        self._evaluation = Evaluation(
            selection, source, tuple(evaluations), input_tree, output_tree, self.chunk, self._note
        )
        setattr(input_tree, _SHARED, [*evaluations, self._evaluation])

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps an event; its columns are filled then."""
        return self._evaluation.analyze(event)

    def endFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:
        """Write the record: the last selection does it for all."""
        from MLTools.NanoML.nanoaodtools.record import write_record

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
    from PhysicsTools.NanoAODTools.postprocessing.framework.output import OutputTree

    from MLTools.NanoML.nanoaodtools.source import input_tree

    source = target = None
    try:
        source, target = ROOT.TFile.Open(request.file), ROOT.TFile.Open(str(output), "UPDATE")
        if not source or not target:
            raise OSError("it cannot be opened")  # older ROOT gives a null pointer
        tree = target.Get("Friends" if request.postprocessor.friend else "Events")
        given = input_tree(source.Get("Events"))
        made = OutputTree(target, tree, given)
        for module in modules:
            module._begin(request, source, given, made)
        for module in modules:
            module.endFile(source, target, given, made)
        target.cd()
        tree.Write("", ROOT.TObject.kOverwrite)
    except (NanoMLError, OSError) as problem:
        say(
            f"{output}: has no event, and gets no record, since {request.file} cannot be read again ({problem}). Do not merge it "
            "with others of the same input."
        )
    finally:
        for file in (target, source):
            if file:
                file.Close()


@dataclass(frozen=True)
class _Constructor:
    selection: Callable[[], Selection]

    def __call__(self) -> PostprocModule:
        return PostprocModule(self.selection())


class UnknownNameError(NanoMLError, AttributeError):
    """A name after -I that a file does not have."""


class _AnyName(str):
    """A name that is equal to every other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)


def postproc_module(selection: Callable[[], Selection]) -> Callable[[], PostprocModule]:
    """Make a selection available to `nano_postproc.py -I`, under the name that the result is given.

    Mistyped names after -I are an error in the file that calls this function (see `answer_names`).

    Parameters
    ----------
    selection
        The class, or a function without arguments that returns a selection.

    Returns
    -------
    What nano_postproc.py calls to get a module: a new one each time.
    """
    namespace = sys._getframe(1).f_globals

    def unknown(name: str) -> Any:
        known = [key for key, value in namespace.items() if isinstance(value, _Constructor)]
        raise UnknownNameError(
            f"{namespace['__name__']}: has no `{name}`.{versions.did_you_mean(name, namespace)} "
            f"Its modules for nano_postproc.py -I: {', '.join(known)}."
        )

    answer_names(namespace, unknown)
    return _Constructor(selection)


def answer_names(namespace: dict[str, object], unknown: Callable[[str], object]) -> None:
    """Have `unknown` called for names after -I that a file does not have.

    nano_postproc.py ignores such names without a message, and copies all events. It looks for them in `dir(file)`. So the
    file gets a `__dir__` with one entry, `__name__`, that is equal to every name, and `unknown` as its `__getattr__`.
    Nothing else notices: the list looks as before, and a missing name is an AttributeError as ever.
    """

    def names() -> list[str]:
        return [_AnyName(name) if name == "__name__" else name for name in namespace]

    namespace.setdefault("__dir__", names)
    namespace.setdefault("__getattr__", unknown)
