"""The plan of a skim: the job, the rules for branches, the filters, and what is read and written."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.loading import file_of
from MLTools.NanoML.nanoaod.fileaccounting import WeightSums
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import CertifiedBy, Criteria
from MLTools.NanoML.observing import as_planned
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch, flat_branch, with_counters
from MLTools.NanoML.rootio.lists import Arrays
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Column, Cutflow, DatasetInfo, Selected, Selection, load_selection

if TYPE_CHECKING:
    from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.schema.roles import HOW, READS, WRITES

PAGE = "skim.md"
_ALWAYS_KEPT = (*versions.IDENTIFIERS, "genWeight")
_WORDS = {"keep": (True, False), "drop": (False, False), "keepmatch": (True, True), "dropmatch": (False, True)}


@dataclass(frozen=True)
class SkimJob:
    """One file to be skimmed."""

    source: str = field(metadata=READS)  # path or URL of the input
    output: Path = field(metadata=WRITES)  # path of the skim
    selection: str = ""  # "module:Class" or "file.py:Class"; empty without one
    base: str = field(default=".", metadata=HOW)  # directory that files are relative to
    keep: Sequence[str] = ()  # rules for the input's branches, after those of `branches`
    compression: str = "ZLIB:5"  # "ALGORITHM:LEVEL"
    chunk: int = field(default=100_000, metadata=HOW)  # maximum number of events read at once
    memory: int = field(default=100, metadata=HOW)  # memory for the branches of a chunk [MB]
    # modules of nanoAOD-tools, written like a selection, which it runs event by event after the selection
    modules: Sequence[str] = ()
    cut: str = ""  # a cut in the language of ROOT's TTree::Draw, before the selection; empty without one
    # path of a JSON file of certified luminosity sections: only these are kept of data; empty without one
    certified: str = field(default="", metadata=READS)
    # path of a branch selection file of nanoAOD-tools; empty without one
    branches: str = field(default="", metadata=READS)
    # "columnar", which is `skim_file`, or "nanoaodtools", which is `nanoaodtools_engine.postprocess_file`; if empty, that which
    # the modules need
    engine: str = ""
    format: str = "TTree"  # or "RNTuple": what is written
    # what the selection knows about the dataset; whether it is data follows from each file
    dataset: DatasetInfo = field(default_factory=DatasetInfo)
    # whether they count; if not, the skim has none, and each event of simulation counts 1
    generator_weights: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", self.engine or ("nanoaodtools" if self.modules else "columnar"))
        if not self.generator_weights and self.engine != "columnar":
            raise ConfigError(f"generator_weights: the engine {self.engine} always counts with them. Use columnar.")

    def of_file(self, source: str, output: Path) -> SkimJob:
        """The same of another file; for a hundred thousand files, dataclasses.replace takes a noticeable time."""
        made = object.__new__(SkimJob)
        made.__dict__.update(self.__dict__, source=source, output=output)
        return made

    def load(self) -> Selection | None:
        """The selection, if there is one; an error if it cannot be imported."""
        return load_selection(self.selection, self.base).of_dataset(self.dataset) if self.selection else None

    def module_files(self) -> list[Path]:
        """The files of the modules, of which none is imported, since that takes ROOT; an error if there is no such file."""
        found = []
        for spec in self.modules:
            place, _, name = spec.rpartition(":")
            if not place or not name:
                raise ConfigError(f'module "{spec}": write it as module:NAME or file.py:NAME.')
            found.append(as_planned(file_of(f'module "{spec}"', place, self.base)))
        return found

    def sources(self) -> list[Path]:
        """The user's files with the selection and the modules."""
        selection = self.load()
        return [*([source_of(selection)] if selection else []), *self.module_files()]


@dataclass(frozen=True)
class BranchRule:
    """A rule such as `drop HLT_*` or `keep HLT_Mu50`; each overrides those before it."""

    keep: bool
    pattern: str  # a name or glob, or a regular expression that must match the whole name
    is_regex: bool = False

    def __str__(self) -> str:
        return f"{'keep' if self.keep else 'drop'}{'match' if self.is_regex else ''} {self.pattern}"

    @property
    def is_name(self) -> bool:
        """Whether it is the name of one branch."""
        return not self.is_regex and not versions.is_glob(self.pattern)

    def matches(self, names: Sequence[str]) -> list[str]:
        """The names that it matches."""
        if self.is_regex:
            return [name for name in names if re.fullmatch(self.pattern, name)]
        return versions.expand(self.pattern, names)


def parse_rule(text: str, where: str) -> BranchRule:
    """A rule in words: `keep PATTERN`, `drop PATTERN`, `keepmatch REGEX`, `dropmatch REGEX`, or a pattern to keep.

    A ConfigError names `where` it stands if it is none of these.
    """
    words = text.split()
    if len(words) == 1 and words[0] not in _WORDS:
        return BranchRule(True, words[0])
    if len(words) != 2 or words[0] not in _WORDS:
        raise ConfigError(
            f"{where}: `{text}`: write keep, drop, keepmatch or dropmatch and one pattern, as in `drop HLT_*`."
        )
    keep, is_regex = _WORDS[words[0]]
    if is_regex:
        try:
            re.compile(words[1])
        except re.error as problem:
            raise ConfigError(f"{where}: `{text}`: not a regular expression: {problem}.") from None
    return BranchRule(keep, words[1], is_regex)


def read_rules(path: Path) -> list[BranchRule]:
    r"""The rules of a branch selection file of nanoAOD-tools: one per line, # begins a comment, \ continues a line."""
    try:
        lines = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read as a branch selection file: {problem}.") from None
    rules, begun = [], ""
    for number, line in enumerate(lines, 1):
        begun += line.partition("#")[0].strip()
        if begun.endswith("\\"):
            begun = begun[:-1].strip() + " "
        elif begun:
            rules.append(parse_rule(begun, f"{path}:{number}"))
            begun = ""
    return rules


def apply_rules(rules: Sequence[BranchRule], names: Iterable[str], start: Iterable[str] = ()) -> list[str]:
    """The names that are kept, in the order of `names`; those in `start` are kept before the first rule."""
    names, kept = list(names), set(start)
    for rule in rules:
        if rule.keep:
            kept.update(rule.matches(names))
        else:
            kept.difference_update(rule.matches(names))
    return [name for name in names if name in kept]


class Filter:
    """One step of a skim, for one file."""

    branches: Sequence[str] = ()
    """The branches that it reads, by the file's names."""
    made: Mapping[str, Branch] = {}
    """The branches that it makes."""
    defaults: Mapping[str, Any] = {}
    """Branches that the file lacks and that may be kept all the same, with their values."""
    absent: Sequence[str] = ()
    """Trigger bits that it reads and that the file lacks."""
    nominal: Mapping[str, str] = {}
    """Columns that it makes where they differ under a shift of objects, and those from which they do."""

    def apply(self, arrays: Arrays, weights: NDArray[np.float64]) -> Selected:
        """The positions of the events that pass, with the columns made for them and the cut flow.

        `arrays` are the `branches` of the events that are left, and `weights` their generator weights.
        """
        raise NotImplementedError


@functools.cache
def _own_code(*files: Path) -> str:
    """The code of files of the user, as it was when they were first used: Python imports them once for all inputs."""
    return code_of(*files, only_own=True)


class _Cut(Filter):
    """A cut alone: its name, the branches that it reads, and its mask from their arrays and the number of events."""

    def __init__(
        self, name: str, branches: Sequence[str], mask: Callable[[Mapping[str, Any], int], NDArray[np.bool_]]
    ) -> None:
        self._name, self.branches, self._mask = name, branches, mask

    def apply(self, arrays: Arrays, weights: NDArray[np.float64]) -> Selected:
        cutflow, everything = Cutflow(weights), np.arange(len(weights))
        return Selected(cutflow.cut(self._name, self._mask(arrays, len(weights)), everything), {}, cutflow)


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

    def apply(self, arrays: Arrays, weights: NDArray[np.float64]) -> Selected:
        return self._bound.apply(arrays, weights)


def _branch(name: str, column: Column) -> Branch:
    """The branch of a column that a selection makes."""
    shape = "jagged" if column.collection else "flat"
    dtype, collection = np.dtype(column.dtype).name, column.collection or None
    return Branch(name, dtype, shape, column.title, collection, column.dtype, missing=column.missing)


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
        certified = self.certified
        if certified is not None and is_data:  # simulation has no certified sections
            sections = ("run", "luminosityBlock")
            found.append(_Cut("certified luminosity sections", sections, lambda it, _: certified.rows(it)))
        if self.formula is not None:
            formula = self.formula.bind(file.branches, file.path)
            found.append(_Cut("cut", formula.branches, formula.mask))
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


@dataclass(frozen=True)
class SkimPlan:
    """The branches of a skim."""

    read: Sequence[str]  # by the filters
    kept: dict[str, Branch]  # of the input
    made: dict[str, Branch]  # by the filters
    defaults: dict[str, Any]  # kept although the file lacks them, with their values
    absent: list[str]  # trigger bits that are read and that the file lacks

    @property
    def written(self) -> dict[str, Branch]:
        """All branches of the skim."""
        lacking = {name: flat_branch(name, np.asarray(value).dtype.name) for name, value in self.defaults.items()}
        return {**self.kept, **lacking, **self.made}


def made_by(filters: Iterable[Filter]) -> dict[str, Branch]:
    """The branches that filters make."""
    return {name: branch for each in filters for name, branch in each.made.items()}


def plan_skim(file: RootFile, filters: Sequence[Filter], job: SkimJob, weights: Sequence[WeightSums]) -> SkimPlan:
    """The branches that are read from a file and that are written; an error if a branch to be kept is lacking, odd, or made as well."""
    optional = {name: value for each in filters for name, value in each.defaults.items()}
    names, defaults = _kept(file, job, optional, weights)
    for name in names:
        if not file.branches[name].is_numeric:
            raise NanoMLError(
                f"{file.path}: {name} is of type {file.branches[name].typename}, which a skim cannot hold. "
                f"Add `drop {name}` to what is kept."
            )
    made = made_by(filters)
    # a column that does not differ under a shift is not written: one of the file would be taken for it
    clash = sorted({*made, *(name for each in filters for name in each.nominal)} & set(names))
    if clash:
        raise NanoMLError(
            f"{file.path}: {clash[0]} is made by the selection, but the file has a branch of that name, and it is kept. "
            f"Add `drop {clash[0]}` to what is kept."
        )
    read = dict.fromkeys(name for each in filters for name in each.branches)
    weight = ["genWeight"] if job.generator_weights and "genWeight" in file.branches else []
    absent = [name for each in filters for name in each.absent]
    return SkimPlan([*read, *weight], with_counters(file.branches, names), made, defaults, absent)


def _kept(
    file: RootFile, job: SkimJob, optional: dict[str, object], weights: Sequence[WeightSums]
) -> tuple[list[str], dict[str, object]]:
    """The branches of the file that are kept, and those that it lacks, with their values."""
    defaults: dict[str, object] = {}
    found: list[BranchRule] = []
    for rule in [parse_rule(text, "skim.keep") for text in job.keep]:
        actual = versions.resolve(rule.pattern, file.branches) if rule.is_name else rule.pattern
        if actual is not None:
            found.append(BranchRule(rule.keep, actual, rule.is_regex))
        elif rule.pattern in optional:
            if rule.keep:
                if _is_list(file, rule.pattern, optional[rule.pattern]):
                    raise NanoMLError(
                        f"skim.keep: {file.path} has no branch {rule.pattern}, and only numbers of events are kept by their default. "
                        "Write what the selection makes of it as a column."
                    )
                defaults[rule.pattern] = optional[rule.pattern]
        elif rule.keep:
            raise NanoMLError(
                f"skim.keep: {file.path} has no branch {rule.pattern}.{versions.did_you_mean(rule.pattern, file.branches)} "
                "If only some files lack it, declare it in the selection's `optional` with a default."
            )
    start: list[str] = []
    if job.branches:
        start = apply_rules(read_rules(Path(job.base, job.branches)), file.branches, file.branches)
    of_weights = (name for sums in weights for name in sums.branches)
    wanted = {*apply_rules(found, file.branches, start), *_ALWAYS_KEPT, *of_weights}
    if not job.generator_weights:
        wanted.discard("genWeight")
    return [name for name in file.branches if name in wanted], defaults


def _is_list(file: RootFile, name: str, value: object) -> bool:
    """Whether a branch that a file lacks, with a value in its place, would be a list for each event."""
    beside = {branch.collection for branch in file.branches.values() if branch.is_jagged}
    return isinstance(value, (list, tuple)) or any(name.startswith(f"{each}_") for each in beside)
