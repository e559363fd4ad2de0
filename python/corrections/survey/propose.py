"""The YAML file of an era, proposed from a tree of files of CMS's object groups."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from MLTools.NanoML.corrections.era import CVMFS, PINNED, own_directory
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.corrections.survey.kinds import KINDS, quoted, years_of
from MLTools.NanoML.corrections.survey.tree import Use, of_era, uses
from MLTools.NanoML.errors import ConfigError, listed


@dataclass
class Proposal:
    """A proposed YAML file; what is wrong in the tree, which it leaves out; and what may be right, or is not used."""

    text: str = ""
    problems: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)


def propose(directory: Path, era: str, base: Optional[Path] = None) -> Proposal:
    """Propose the YAML file of an era.

    Parameters
    ----------
    directory
        A tree of files, as /cvmfs/cms-griddata.cern.ch/cat/metadata, a clone, or a part of it.
    era
        The era, as 2018_UL; the year, if the tree has but one era of that year.
    base
        The directory of the YAML file, for names relative to it.

    Raises
    ------
    ConfigError
        There is no such directory or era, or there are several eras of this name.
    """
    made, names, found = Proposal(), {}, []
    pinned, opened = [f"{PINNED}:  # of the files, with the dates of their directories"], []
    for place in of_era(directory, era):
        try:
            file = CorrectionFile(place.path)
            doubt = _doubt(file, era)
        except ConfigError as problem:
            made.problems[str(problem)] = None
            continue
        opened.append(file)
        names[file.path], known = _name(place.path, base), uses(file)
        found += known
        if not known:
            made.left_out[f"{names[file.path]}: has {listed(file.names, 3)}"] = None
            continue
        made.warnings.update({doubt: None} if doubt else {})
        pinned.append(f"  {quoted(names[file.path])}: {file.digest}  # {place.date or 'no date'}")
        if place.date == "latest":
            made.warnings[f"{place.path.parent}: what is in it changes: take a directory with a date, or a copy."] = (
                None
            )
    entries = _entries(found, names, era, made)
    there = {use.kind.entry for use in found}
    missing = {kind.entry: kind.missing_in(opened) for kind in KINDS if kind.entry not in there}
    head = "by `nanoml corrections propose`: choose working points and triggers"
    parts = [f"# Corrections of {era}, proposed {head}.", *pinned, "", *entries]
    for title, texts in (
        ("Wrong, and left out", made.problems),
        ("Look at these", made.warnings),
        ("Found, but not used", made.left_out),
        ("Not found", [f"{entry.replace('{}', '...')}: {why}" for entry, why in missing.items()]),
    ):
        parts += ["", f"# {title}:", *(f"# - {' '.join(text.split())}" for text in texts)] if texts else []
    made.text = "\n".join(parts) + "\n"
    return made


def _entries(found: Iterable[Use], names: dict[Path, str], era: str, made: Proposal) -> list[str]:
    """The lines of all entries, in the order of `KINDS`; what is wrong or not used is added to the proposal."""
    by_kind: dict[tuple[int, str], list[Use]] = {}
    for use in found:
        by_kind.setdefault((KINDS.index(use.kind), use.entry), []).append(use)
    lines: dict[str, list[str]] = {}
    for (_, entry), rivals in sorted(by_kind.items(), key=lambda item: item[0]):
        best = [use for use in rivals if use.rank == min(each.rank for each in rivals) and entry not in lines]
        made.left_out.update(
            {f"{names[use.file.path]}: has another `{entry}`": None for use in rivals if use not in best}
        )
        try:
            proposed = [use.lines(names[use.file.path], era) for use in best]
        except ConfigError as problem:
            made.problems[str(problem)] = None
            continue
        if len({use.file.digest for use in best}) > 1:
            text = f"{' and '.join(names[use.file.path] for use in best)} both have `{entry}`"
            made.problems[f"{text}: remove the # before the lines of one of them."] = None
            lines[entry] = [f"# {line}" for each in proposed for line in each]
        elif best:
            lines[entry] = proposed[0]
    return [line for each in lines.values() for line in each]


def _doubt(file: CorrectionFile, era: str) -> str:
    """A warning where only the words of descriptions say another year, empty without any.

    Raises
    ------
    ConfigError
        Names of campaigns, or choices of an input `year`, are those of other years.
    """
    years = (file[name].axes["year"].keys for name in file.names[:20] if "year" in file[name].inputs)
    names = [*file.names, *(str(it) for keys in years for it in keys)]
    about = [str(file.content.get("description") or ""), *(file[name].description for name in file.names)]
    texts, wanted = names if years_of(names) else " ".join(about).split(), years_of([era])
    said = years_of(texts)
    if not wanted or not said or wanted & said:
        return ""
    example = next(text for text in texts if years_of([text]))
    if texts is names:
        raise ConfigError(
            f"{file.path}: is of 20{', 20'.join(sorted(said))} ({example}), not of {era}: move it to its era."
        )
    return f"{file.path}: its description says {example}: see whether it is of {era}."


def _name(path: Path, base: Optional[Path]) -> str:
    """A file as the YAML file names it: relative to its directory, to the user's own, or to CMS's; or absolute."""
    full, given = os.path.abspath(path), ([str(base)] if base else []) + [own_directory()]
    roots = [*map(os.path.abspath, filter(None, given)), *CVMFS[::-1]]
    return next((os.path.relpath(full, root) for root in roots if full.startswith(f"{root}/")), full)
