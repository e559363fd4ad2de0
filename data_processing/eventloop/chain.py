"""Runs modules over the events of a file, as nano_postproc.py does: one event at a time, one module after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from data_processing.eventloop.input import BranchReader, EventBlock, InputFile, InputTree
from data_processing.eventloop.loading import line_of, standing_in
from data_processing.eventloop.output import OutputTree, TargetFile
from data_processing.eventloop.postprocessing import Event
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import event_weights
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Cutflow, Selected
from MLTools.NanoML.terminal.progress import check_interrupt

_BLOCK = 1000  # events held as Python numbers at a time: these take ten times as much memory as arrays


class ModuleChain:
    """Modules, to be run one after the other: the first whose `analyze` is not true ends an event.

    For each file, in this order: `branches_made`, `run` for the chunks from the first to the last, and `end`.
    Every file is a job of its own: modules' beginJob and beginFile, endFile and endJob belong to it.
    If a module fails, a NanoMLError says in which file and line, and at which event.

    `modules` have the methods of `Module`, as `load_module` gives them. `always` says whether our own `ROOT` is used also
    where another is installed, as in `load_module`.
    """

    def __init__(self, modules: Sequence[Any], always: bool = False) -> None:
        self._modules, self._always = list(modules), always
        self._job: Optional[_FileLoop] = None

    @property
    def steps(self) -> list[str]:
        """Names of the modules in the cut flow: their classes', numbered if there are several."""
        names = [type(module).__name__ for module in self._modules]
        numbers = [names[:place].count(name) + 1 for place, name in enumerate(names)]
        return [name if number == 1 else f"{name} {number}" for name, number in zip(names, numbers)]

    def branches_made(self, file: RootFile, output: str = "") -> dict[str, Branch]:
        """Begin a file and find which branches the modules make; `output` is the path that will be written.

        A branch that the file has too is replaced. The counter of a collection is not among them: it comes with the
        collection.
        """
        job = _FileLoop(file, output)
        self._call("beginJob", file.path)
        self._call("beginFile", file.path, job.input, job.target, job.tree, job.output)
        job.output.close()
        self._job = job
        return job.output.written

    def run(self, file: RootFile, start: int, stop: int, rows: Optional[NDArray[np.int64]] = None) -> Selected:
        """Run the modules over a chunk of events of the file that was begun.

        The range of entries begins where the last chunk ended, because modules may remember what they saw. `rows` are the
        positions in the range, int64, of the events to look at; None for all. What is returned has the events that all
        modules let pass, as positions in the range; the branches that the modules made, for these events, as arrays of
        numpy (shape (events,) or (events, size)) and awkward; and the cut flow: "all", which are the events looked at, and
        one step for each module.
        """
        job = self._begun(file)
        entries = start + (np.arange(stop - start) if rows is None else rows)
        job.reader.open(start, stop, rows)
        job.listed = job.listed or rows is not None
        if job.listed:
            job.tree.list_entries(job.seen, entries)
        with standing_in(self._always):
            reached = self._loop(job, entries)
        passed = np.flatnonzero(reached == len(self._modules))
        made = job.output.take()
        self._check_counters(job, made, passed, entries)
        columns = {name: made[name] for name in job.output.written}
        cutflow = self._cutflow(job, reached)
        job.reader.close()
        job.seen += len(entries)
        return Selected(entries[passed] - start, columns, cutflow)

    def end(self, file: RootFile) -> None:
        """End a file."""
        job = self._begun(file)
        self._call("endFile", file.path, job.input, job.target, job.tree, job.output)
        self._call("endJob", file.path)
        self._job = None

    def _call(self, method: str, path: str, *given: Any) -> None:
        with standing_in(self._always):
            for step, module in zip(self.steps, self._modules):
                books = method == "beginJob" and getattr(module, "writeHistFile", False)
                try:
                    getattr(module, method)(*given, **({"histFile": None, "histDirName": None} if books else {}))
                except Exception as problem:  # whatever a user's code raises, its line is what helps
                    reason = _reason(problem, path)
                    raise NanoMLError(f"{line_of(problem)}module {step}: {method} of {path}: {reason}") from problem

    def _begun(self, file: RootFile) -> _FileLoop:
        if self._job is None or self._job.file is not file:
            raise NanoMLError(f"{file.path}: ask for the branches made in this file before running over it.")
        return self._job

    def _loop(self, job: _FileLoop, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many modules let each event pass."""
        tree, output = job.tree, job.output
        analyzers = [module.analyze for module in self._modules]
        reached = np.zeros(len(entries), np.int64)
        numbers = (job.seen + np.arange(len(entries)) if job.listed else entries).tolist()
        event: Any = None
        number = 0
        try:
            for first in range(0, len(entries), _BLOCK):
                check_interrupt()
                last = min(first + _BLOCK, len(entries))
                block = EventBlock(job.reader, first, last, tree.special)
                for place in range(first, last):
                    tree.event = event = Event(tree, numbers[place], block, place - first)
                    number = 0
                    for analyze in analyzers:
                        if not analyze(event):
                            break
                        number += 1
                    else:
                        output.keep()
                    reached[place] = number
        except Exception as problem:  # whatever a user's code raises, its line and event are what helps
            module = f"module {self.steps[number]}: " if number < len(self._modules) else ""
            reason = _reason(problem, job.file.path)
            raise NanoMLError(f"{line_of(problem)}{module}{_event_id(event)} of {job.file.path}: {reason}") from problem
        finally:
            tree.event = None
        return reached

    def _check_counters(
        self, job: _FileLoop, made: dict[str, Any], passed: NDArray[np.int64], entries: NDArray[np.int64]
    ) -> None:
        """Refuse to change the number of objects of a collection that the file has."""
        for counter, members in job.output.counters.items():
            if not job.reader.has(counter):
                continue
            theirs = np.asarray(job.reader.values(counter).values)[passed]
            wrong = np.flatnonzero(made[counter] != theirs)
            if len(wrong):
                first = wrong[0]
                raise NanoMLError(
                    f"{job.file.path}: {', '.join(members)}: filled with {made[counter][first]} values where {counter} is "
                    f"{theirs[first]} (entry {entries[passed[first]]}), or not filled there since an event with so many. "
                    "The collection would be written wrong: fill one value for each of its objects in every event that "
                    "is kept, or make a collection of another name."
                )

    def _cutflow(self, job: _FileLoop, reached: NDArray[np.int64]) -> Cutflow:
        weighted = {"genWeight"} & set(job.file.branches)
        arrays = {name: job.reader.values(name).values for name in weighted}
        cutflow = Cutflow(event_weights(arrays, len(reached)))
        left = reached
        for number, step in enumerate(self.steps, 1):
            left = cutflow.cut(step, left >= number, left)
        return cutflow


class _FileLoop:
    """What belongs to one file that is read, and to the path of the one that will be written."""

    def __init__(self, file: RootFile, output: str) -> None:
        self.file = file
        self.reader = BranchReader(file)
        self.tree = InputTree(self.reader)
        self.input, self.target = InputFile(file, self.tree), TargetFile(output)
        self.output = OutputTree(self.tree, self.target)
        self.seen = 0  # events looked at in earlier chunks
        self.listed = False  # whether some were left out, so that events are counted along a list


def _reason(problem: Exception, path: str) -> str:
    """What an exception says, without the file, which is named anyway."""
    if isinstance(problem, NanoMLError):
        return str(problem).removeprefix(f"{path}: ")
    return f"{type(problem).__name__}: {problem}"


def _event_id(event: Any) -> str:
    """The event as run:lumi:event, or its entry if the file has no such numbers."""
    try:
        return "event " + ":".join(str(getattr(event, name)) for name in versions.IDENTIFIERS)
    except NanoMLError:
        return f"entry {getattr(event, '_entry', 0)}"
