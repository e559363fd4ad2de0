"""The files of a tree: which era and date each belongs to, by the directories above it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from MLTools.NanoML.errors import ConfigError, listed
from MLTools.NanoML.rootio.versions import did_you_mean

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

    Raises
    ------
    ConfigError
        There is no directory of this era, or there are several in one directory.
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
        names = eras.setdefault(each.parts[: each.parts.index(part)], set())
        names.add(part)
        if len(names) > 1:
            raise ConfigError(
                f"{directory}: the era {era} may be {' or '.join(sorted(names))}: write which with --era."
            )
        key = *each.parts, each.path.name.removesuffix(".gz")
        best[key] = min(best.get(key, each), each, key=lambda it: it.rank)
    return list(best.values())
