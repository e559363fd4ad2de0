"""What a skim reads from a file, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_processing.skim.branchrules import Rule, apply_rules, parse_rule, read_rules
from data_processing.skim.filters import Filter
from data_processing.skim.job import SkimJob
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.rootio.rootfile import Branch, RootFile

__all__ = ["SkimPlan", "plan_skim"]

_ALWAYS_KEPT = (*versions.IDENTIFIERS, "genWeight")


@dataclass(frozen=True)
class SkimPlan:
    """The branches of a skim.

    Attributes
    ----------
    read
        What the filters read.
    kept
        Branches of the input that are written.
    made
        Branches that the filters make.
    defaults
        Branches that are kept but that the file lacks, with their values.
    """

    read: Sequence[str]
    kept: dict[str, Branch]
    made: dict[str, Branch]
    defaults: dict[str, Any]

    @property
    def written(self) -> dict[str, Branch]:
        """All branches of the skim."""
        lacking = {
            name: Branch(name, np.asarray(value).dtype.name, "flat", "", None, "")
            for name, value in self.defaults.items()
        }
        return {**self.kept, **lacking, **self.made}


def plan_skim(file: RootFile, filters: Sequence[Filter], job: SkimJob) -> SkimPlan:
    """What is read from a file and what is written.

    Raises
    ------
    NanoMLError
        The file lacks a branch that is to be kept, or has one that cannot be written, or a column has the name of a
        branch that is kept.
    """
    optional = {name: value for each in filters for name, value in each.defaults.items()}
    names, defaults = _kept(file, job, optional)
    made = {name: branch for each in filters for name, branch in each.made.items()}
    clash = sorted(set(made) & set(names))
    if clash:
        raise NanoMLError(
            f"{file.path}: {clash[0]} is made by the selection or a module, but the file has a branch of that name, and it is kept. "
            f"Add `drop {clash[0]}` to what is kept."
        )
    kept = _with_counters(file, [name for name in names if name not in made])
    read = dict.fromkeys(name for each in filters for name in each.branches)
    weight = ["genWeight"] if "genWeight" in file.branches else []
    return SkimPlan([*read, *weight], kept, made, defaults)


def _kept(file: RootFile, job: SkimJob, optional: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The branches of the file that are kept, and those that it lacks, with their values."""
    rules = [parse_rule(text, "skim.keep") for text in job.keep]
    defaults: dict[str, Any] = {}
    found: list[Rule] = []
    for rule in rules:
        actual = versions.resolve(rule.pattern, file.branches) if rule.is_name else rule.pattern
        if actual is not None:
            found.append(Rule(rule.keep, actual, rule.is_regex))
        elif rule.pattern in optional:
            if rule.keep:
                defaults[rule.pattern] = optional[rule.pattern]
        elif rule.keep:
            raise NanoMLError(
                f"{file.path}: skim.keep: has no branch {rule.pattern}.{versions.did_you_mean(rule.pattern, file.branches)} "
                "If only some files lack it, declare it in the selection's `optional` with a default."
            )
    start: list[str] = []
    if job.branches:
        start = apply_rules(read_rules(Path(job.base, job.branches)), file.branches, file.branches)
    wanted = {*apply_rules(found, file.branches, start), *_ALWAYS_KEPT}
    names = [name for name in file.branches if name in wanted]
    _refuse_unsupported(file, names)
    return names, defaults


def _with_counters(file: RootFile, names: Sequence[str]) -> dict[str, Branch]:
    """The branches with the counters of their collections, which have the input's types and titles."""
    kept = {name: file.branches[name] for name in names}
    for branch in list(kept.values()):
        counter = f"n{branch.collection}"
        if branch.is_jagged and counter in file.branches:
            kept[counter] = file.branches[counter]
        if branch.is_jagged and branch.collection != branch.name:
            kept.pop(f"n{branch.name}", None)  # a counter of the branch's own, as some writers make them
    return kept


def _refuse_unsupported(file: RootFile, names: Sequence[str]) -> None:
    for name in names:
        branch = file.branches[name]
        if not branch.is_numeric:
            raise NanoMLError(
                f"{file.path}: {name} is of type {branch.typename}, which a skim cannot hold. "
                f"Add `drop {name}` to what is kept."
            )
