"""A tree of files of CMS's object groups: the era and date of each file, its entries, and the YAML file of an era, proposed from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from MLTools.NanoML.corrections.era import CVMFS, PINNED, kind_of, own_directory
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.corrections.lines import quoted
from MLTools.NanoML.errors import ConfigError, listed
from MLTools.NanoML.extensions.survey.kinds import KINDS, SPECIAL, Kind, unknown_inputs, years_of
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import build

_DATE = re.compile(r"20\d\d-?\d\d-?\d\d(?:[._-]\w+)?|latest")


@dataclass(frozen=True)
class Place:
    """A file of a tree."""

    path: Path
    parts: tuple[str, ...]  # the directories above it, but for that with a date
    date: str  # the directory that is a date; "latest"; or empty

    def part_of(self, era: str) -> str:
        """The directory of an era: 2018 is also that of 2018_UL or Run2-2018-UL, 2022EE of Summer22EE; empty if there is none."""
        return next(
            (part for part in self.parts if part == era), next((it for it in self.parts if _is_of(it, era)), "")
        )

    @property
    def rank(self) -> tuple[bool, bool, str]:
        """The place among dates: that of a link `latest` comes before the newest one, a directory `latest` comes last."""
        link = self.path.parent.parent / "latest"
        is_linked = link.is_symlink() and link.resolve() == self.path.parent.resolve()
        return not is_linked, self.date in ("", "latest"), "".join(chr(255 - ord(it)) for it in self.date)


def _is_of(part: str, era: str) -> bool:
    parts = part.replace("-", "_").split("_")
    ways = []
    for it in era.replace("-", "_").split("_"):
        year, rest = (it[2:4], it[4:]) if re.match(r"20\d\d(?!\d)", it) else ("", "")
        ways.append(rf".*{year}{rest}" if rest else rf"(?:20)?{year}(?!\d).*" if year else re.escape(it))
    return all(any(re.fullmatch(way, it) for it in parts) for way in ways)


def files_in(directory: Path) -> Iterator[Place]:
    """The files of correctionlib in a tree, in order. A link `latest` to one of the dates is no other file."""
    if _is_link(directory):
        directory = directory.resolve()
    if not directory.is_dir():
        raise ConfigError(f"{directory}: is not a directory: name that with the files of CMS's object groups.")
    for folder, below, names in os.walk(directory, followlinks=True):
        here = Path(folder)
        if here.resolve() in [parent.resolve() for parent in here.parents]:  # a link that leads back
            below.clear()
            continue
        below[:] = sorted(it for it in below if not it.startswith(".") and not _is_link(here / it))
        parts = (directory.name, *here.relative_to(directory).parts)
        date = next((part for part in parts if _DATE.fullmatch(part)), "")
        for name in sorted(names):
            if name.endswith((".json", ".json.gz")):
                yield Place(here / name, tuple(part for part in parts if part != date), date)


def _is_link(path: Path) -> bool:
    return path.name == "latest" and path.is_symlink() and path.resolve().parent == path.parent.resolve()


def of_era(directory: Path, era: str) -> list[Place]:
    """The files of an era in a tree, each of one date: that of the link `latest`, or the newest.

    Raises ConfigError if there is no directory of this era, or there are several in one directory.
    """
    found = list(files_in(directory))
    is_exact = any(era in each.parts for each in found)
    chosen = {each: each.part_of(era) for each in found if each.part_of(era) and (era in each.parts or not is_exact)}
    if not chosen:
        there = sorted({part for each in found for part in each.parts if re.search(r"\d\d", part)})
        text = f"{directory}: has no directory of the era {era}.{did_you_mean(era, there)}"
        raise ConfigError(f"{text} It has: {listed(there) or 'none'}.")
    eras: dict[tuple[str, ...], set[str]] = {}
    best: dict[tuple[str, ...], Place] = {}
    for each, part in chosen.items():
        eras.setdefault(each.parts[: each.parts.index(part)], set()).add(part)
        key = *each.parts, each.path.name.removesuffix(".gz")
        best[key] = min(best.get(key, each), each, key=lambda it: it.rank)
    if any(len(names) > 1 for names in eras.values()):
        names = " or ".join(sorted(set(chosen.values())))
        raise ConfigError(f"{directory}: the era {era} may be {names}: write which with --era.")
    return list(best.values())


@dataclass(frozen=True)
class Use:
    """The corrections of a file that one entry can name."""

    file: CorrectionFile
    kind: Kind
    entry: str
    names: Sequence[str]  # the preferred one first

    @property
    def rank(self) -> tuple[int, list[int]]:
        """The place among other files that have the same."""
        return self.kind.rank(self.file, self.names[0])

    def lines(self, name: str, era: str = "") -> list[str]:
        """The lines of the entry, in which the file has this name.

        Raises ConfigError if NanoML cannot use the corrections; the message says why.
        """
        first = self.file[self.names[0]]
        lost = unknown_inputs(first)
        if lost:
            raise ConfigError(
                f"{name}: needs {', '.join(lost)}, which NanoAOD does not have: compute it in the selection, or write it into `inputs` "
                "of an entry of your own."
            )
        lines = self.kind.lines(self.entry, name, self.file, self.names, era)
        content = Document.parse("\n".join(lines), name).data[self.entry]
        build(kind_of(self.entry), content).found_in(self.file, f"{name}: {self.entry}")
        return lines


def uses(file: CorrectionFile) -> list[Use]:
    """The entries that can name corrections of a file."""
    return [Use(file, kind, entry, names) for kind in KINDS for entry, names in kind.corrections(file).items()]


def era_lines(name: str, file: CorrectionFile, chosen: Sequence[str]) -> Iterator[str]:
    """Lines that ask for all of a file of objects; if some corrections are chosen, only if they are of these."""
    for use in uses(file):
        if use.entry in SPECIAL and (not chosen or chosen[0] in use.names):
            yield from use.kind.lines(use.entry, name, file, use.names)
            return


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

    Raises ConfigError if names of campaigns, or choices of an input `year`, are those of other years.
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
