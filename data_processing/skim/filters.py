"""What a skim does with the events, one after the other: luminosity mask, cut, selection, modules of nanoAOD-tools."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_processing.eventloop import ModuleChain, load_module
from data_processing.skim.branchrules import parse_rule, read_rules
from data_processing.skim.job import SkimJob
from MLTools.NanoML.contracts.provenance import Criteria
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.rootio.rootfile import Branch, RootFile
from MLTools.NanoML.selection import Cutflow, Selected, Selection, load_selection

__all__ = ["Filter", "Filters"]

_SECTION = ("run", "luminosityBlock")


class Filter(Protocol):
    """One step of a skim, of one file."""

    @property
    def branches(self) -> Sequence[str]:
        """What it reads, by the file's names."""

    @property
    def made(self) -> Mapping[str, Branch]:
        """The branches that it makes."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Branches that the file lacks and that may be kept all the same, with their values."""

    def apply(
        self,
        arrays: Mapping[str, Any],
        weights: NDArray[np.float64],
        start: int,
        stop: int,
        rows: NDArray[np.int64],
    ) -> Selected:
        """Which events pass, and the branches made for them.

        Parameters
        ----------
        arrays
            `branches` of the events that are left.
        weights
            Their generator weights.
        start, stop
            Range of entries of the file.
        rows
            Positions in this range of the events that are left.

        Returns
        -------
        The positions among `rows` of the events that pass, with columns and cut flow.
        """

    def close(self) -> None:
        """The file has been read to its end."""


@dataclass(frozen=True)
class Filters:
    """All that a job does with events, of any file."""

    certified: LumiMask | None
    formula: Formula | None
    selection: Selection | None
    modules: Sequence[Any]

    @classmethod
    def of(cls, job: SkimJob) -> Filters:
        """What a job asks for.

        Raises
        ------
        NanoMLError
            A file cannot be read, the cut cannot be understood, or the selection or a module cannot be imported.
        """
        return cls(
            LumiMask.read(Path(job.base, job.certified)) if job.certified else None,
            Formula(job.cut) if job.cut else None,
            load_selection(job.selection, job.base) if job.selection else None,
            [module for spec in job.modules for module in load_module(spec, job.base)],
        )

    def open(self, file: RootFile, output: str, is_data: bool) -> list[Filter]:
        """The filters of one file.

        Raises
        ------
        NanoMLError
            The file lacks branches that they need.
        """
        found: list[Filter] = []
        if self.certified is not None and is_data:  # simulation has no certified sections
            found.append(_Certified(self.certified))
        if self.formula is not None:
            found.append(_Cut(self.formula, file))
        if self.selection is not None:
            found.append(_Selection(self.selection, file))
        if self.modules:
            found.append(_Modules(ModuleChain(self.modules), file, output))
        return found

    def criteria(self, job: SkimJob, is_data: bool) -> Criteria:
        """What is to be said of them in a skim of data or of simulation.

        Raises
        ------
        NanoMLError
            The branch selection file cannot be read, or a rule in it or in `job.keep` is none.
        """
        users = [each for each in (self.selection, *self.modules) if each is not None]
        rules = read_rules(Path(job.base, job.branches)) if job.branches else []
        rules += [parse_rule(text, "skim.keep") for text in job.keep]
        return Criteria(
            self._certified_by(job) if is_data else None,
            job.cut,
            tuple(job.modules),
            code_of(*map(source_of, users), only_own=True) if users else "",
            tuple(
                f"{'keep' if rule.keep else 'drop'}{'match' if rule.is_regex else ''} {rule.pattern}"
                for rule in rules
            ),
        )

    def _certified_by(self, job: SkimJob) -> dict[str, str] | None:
        if self.certified is None:
            return None
        digest = hashlib.sha256(self.certified.to_json().encode()).hexdigest()
        return {"file": Path(job.certified).name, "sha256": digest}


def _one_cut(name: str, mask: NDArray[np.bool_], weights: NDArray[np.float64]) -> Selected:
    cutflow = Cutflow(weights)
    return Selected(cutflow.cut(name, mask, np.arange(len(mask))), {}, cutflow)


@dataclass
class _Certified:
    mask: LumiMask
    branches: Sequence[str] = _SECTION
    made: Mapping[str, Branch] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, arrays: Mapping[str, Any], weights: NDArray[np.float64], *_: Any) -> Selected:
        passed = self.mask.mask(*(np.asarray(arrays[name]) for name in _SECTION))
        return _one_cut("certified luminosity sections", passed, weights)

    def close(self) -> None:
        pass


class _Cut:
    made: Mapping[str, Branch] = {}
    defaults: Mapping[str, Any] = {}

    def __init__(self, formula: Formula, file: RootFile) -> None:
        self._formula = formula
        self._names = formula.resolve(file.branches, file.path)
        self.branches = list(dict.fromkeys(self._names.values()))

    def apply(self, arrays: Mapping[str, Any], weights: NDArray[np.float64], *_: Any) -> Selected:
        given = {asked: arrays[actual] for asked, actual in self._names.items()}
        return _one_cut("cut", self._formula.mask(given, len(weights)), weights)

    def close(self) -> None:
        pass


class _Selection:
    def __init__(self, selection: Selection, file: RootFile) -> None:
        self._selection = selection
        self._names = selection.resolve(list(file.branches), file.path)
        self._collections = {
            asked: file.branches[actual].collection or ""
            for asked, actual in self._names.items()
            if file.branches[actual].is_jagged
        }
        self.branches = list(dict.fromkeys(self._names.values()))
        self.defaults = {name: value for name, value in selection.optional.items() if name not in self._names}
        self.made = {
            name: Branch(name, np.dtype(column.dtype).name, "flat", column.title, None, column.dtype)
            for name, column in selection.columns.items()
        }

    def apply(self, arrays: Mapping[str, Any], weights: NDArray[np.float64], *_: Any) -> Selected:
        given = {asked: arrays[actual] for asked, actual in self._names.items()}
        return self._selection.apply(given, self._collections, weights)

    def close(self) -> None:
        pass


class _Modules:
    branches: Sequence[str] = ()  # it reads what its modules ask for
    defaults: Mapping[str, Any] = {}

    def __init__(self, chain: ModuleChain, file: RootFile, output: str) -> None:
        self._chain, self._file = chain, file
        self.made = chain.branches_made(file, output)

    def apply(
        self,
        arrays: Mapping[str, Any],
        weights: NDArray[np.float64],
        start: int,
        stop: int,
        rows: NDArray[np.int64],
    ) -> Selected:
        found = self._chain.run(self._file, start, stop, None if len(rows) == stop - start else rows)
        return Selected(rows.searchsorted(found.rows), found.columns, found.cutflow)

    def close(self) -> None:
        self._chain.end(self._file)
