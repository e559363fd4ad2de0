"""The filters of a skim, in their order: luminosity mask, cut, selection."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_processing.skim.plan import Filter, SkimJob, parse_rule, read_rules
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import CertifiedBy, Criteria
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Column, Cutflow, Selected, Selection

if TYPE_CHECKING:
    from MLTools.NanoML.nanoaod.formula import Formula


@dataclass(frozen=True)
class FilterSet:
    """All filters of a job, for any file."""

    certified: LumiMask | None
    formula: Formula | None
    selection: Selection | None

    @classmethod
    def of(cls, job: SkimJob) -> FilterSet:
        """The filters that a job asks for; an error if one cannot be read, understood or imported."""
        certified = LumiMask.read(Path(job.base, job.certified)) if job.certified else None
        formula = None
        if job.cut:
            from MLTools.NanoML.nanoaod.formula import Formula  # few skims need it

            formula = Formula(job.cut)
        return cls(certified, formula, job.load())

    def open(self, file: RootFile, is_data: bool, differing: set[str]) -> list[Filter]:
        """The filters of one file; an error if it lacks branches that they need.

        `differing` are the columns that have values of their own under shifts, as far as they are known.
        """
        found: list[Filter] = []
        if self.certified is not None and is_data:  # simulation has no certified sections
            found.append(_Certified(self.certified))
        if self.formula is not None:
            found.append(_Cut(self.formula, file))
        if self.selection is not None:
            selection = self.selection.of_dataset(replace(self.selection.dataset, is_data=is_data))
            found.append(_Selection(selection, file, differing))
        return found

    def criteria(self, job: SkimJob, is_data: bool) -> Criteria:
        """The record of these filters, and of the rules for branches, in a skim of data or of simulation."""
        certified = None
        if self.certified is not None and is_data:
            digest = hashlib.sha256(self.certified.to_json().encode()).hexdigest()
            certified = CertifiedBy(Path(job.certified).name, digest)
        rules = read_rules(Path(job.base, job.branches)) if job.branches else []
        rules += [parse_rule(text, "skim.keep") for text in job.keep]
        users = [*([source_of(self.selection)] if self.selection else []), *job.module_files()]
        code = _own_code(*users) if users else ""
        modules, kept = tuple(job.modules), tuple(map(str, rules))
        triggers, corrections = (job.dataset.triggers, job.dataset.digests) if job.selection else ((), {})
        return Criteria(certified, job.cut, modules, code, kept, tuple(triggers), corrections)


@functools.cache
def _own_code(*files: Path) -> str:
    """The code of files of the user, as it was when they were first used: Python imports them once for all inputs."""
    return code_of(*files, only_own=True)


def _one_cut(name: str, mask: NDArray[np.bool_], weights: NDArray[np.float64]) -> Selected:
    cutflow = Cutflow(weights)
    return Selected(cutflow.cut(name, mask, np.arange(len(mask))), {}, cutflow)


class _Certified(Filter):
    branches = ("run", "luminosityBlock")

    def __init__(self, mask: LumiMask) -> None:
        self._mask = mask

    def apply(self, arrays: Mapping[str, Any], weights: NDArray[np.float64]) -> Selected:
        passed = self._mask.mask(*(np.asarray(arrays[name]) for name in self.branches))
        return _one_cut("certified luminosity sections", passed, weights)


class _Cut(Filter):
    def __init__(self, formula: Formula, file: RootFile) -> None:
        self._formula = formula.bind(file.branches, file.path)
        self.branches = self._formula.branches

    def apply(self, arrays: Mapping[str, Any], weights: NDArray[np.float64]) -> Selected:
        return _one_cut("cut", self._formula.mask(arrays, len(weights)), weights)


class _Selection(Filter):
    def __init__(self, selection: Selection, file: RootFile, differing: set[str]) -> None:
        self._bound, self._differing = selection.bind(file.branches, file.path), differing
        self.branches = self._bound.branches
        self.defaults = {name: value for name, value in selection.optional.items() if name not in self._bound.names}
        self.nominal = selection.made.nominal
        self.absent = self._bound.absent

    @property
    def made(self) -> Mapping[str, Branch]:  # type: ignore[override]  # more become known
        made = self._bound.selection.made
        names = [*made.always, *(name for name in self.nominal if name in self._differing)]
        return {name: _branch(name, made.described[name]) for name in names}

    def apply(self, arrays: Mapping[str, Any], weights: NDArray[np.float64]) -> Selected:
        return self._bound.apply(arrays, weights)


def _branch(name: str, column: Column) -> Branch:
    """The branch of a column that a selection makes."""
    shape = "jagged" if column.collection else "flat"
    dtype, collection = np.dtype(column.dtype).name, column.collection or None
    return Branch(name, dtype, shape, column.title, collection, column.dtype, missing=column.missing)
