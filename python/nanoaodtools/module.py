"""A selection in the form that nanoAOD-tools has for modules."""
# ruff: noqa: N802

from __future__ import annotations

from typing import Any

from MLTools.NanoML.nanoaodtools.evaluation import Evaluation
from MLTools.NanoML.nanoaodtools.record import write_record
from MLTools.NanoML.nanoaodtools.source import Source
from MLTools.NanoML.progress import say
from MLTools.NanoML.selection import Selection

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
    weights of the file, of those that came to the selection (after cuts, luminosity JSON, range of entries and
    modules before it) where these are fewer, after each of its cuts, and of those that later modules kept.

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

    def beginJob(self) -> None:
        """Nothing to do."""

    def endJob(self) -> None:
        """Nothing to do."""

    def beginFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:
        """Find what the selection reads and declare what it makes. Without output, `output_tree` is None."""
        evaluations: list[Evaluation] = getattr(input_tree, _SHARED, [])
        source = evaluations[0].source if evaluations else Source(input_file, input_tree)
        self._evaluation = Evaluation(
            self.selection, source, tuple(evaluations), input_tree, output_tree, self.chunk, self._note
        )
        setattr(input_tree, _SHARED, [*evaluations, self._evaluation])

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps an event; its columns are filled then."""
        return self._evaluation.analyze(event)

    def endFile(self, input_file: Any, output_file: Any, input_tree: Any, output_tree: Any) -> None:
        """Close the books: the last selection does it for all."""
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
