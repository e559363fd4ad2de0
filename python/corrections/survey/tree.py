"""The files of a tree: the era and date of each, the entries that can name its corrections, and the points at which these are tried."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.corrections.entries import variations_of
from MLTools.NanoML.corrections.era import kind_of
from MLTools.NanoML.corrections.evaluation import Axis, Correction, CorrectionFile, Input
from MLTools.NanoML.corrections.survey.kinds import KINDS, Kind, unknown_inputs
from MLTools.NanoML.errors import ConfigError, listed
from MLTools.NanoML.rootio.versions import did_you_mean
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import build

_DATE = re.compile(r"20\d\d-?\d\d-?\d\d(?:[._-]\w+)?|latest")
_POINTS, _MOST_TEXTS, _MOST_VALUES = 300, 40, 60  # for each combination of texts; combinations; values of an input
_USUAL = {
    "pt": (10, 1000), "et": (10, 1000), "eta": (-2.4, 2.4), "phi": (-3.1, 3.1), "rho": (5, 60), "run": (3e5, 4e5),
}  # fmt: skip
"""The ranges of inputs that have no bins, by the end of their names."""


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

        Raises
        ------
        ConfigError
            NanoML cannot use the corrections; the message says why.
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


@dataclass(frozen=True)
class Checked:
    """A file of a tree."""

    path: str
    entries: tuple[str, ...] = ()  # that can name its corrections
    others: int = 0  # corrections for which there is no such entry
    unusable: tuple[str, ...] = ()  # what cannot be used, and why
    problem: str = ""  # why it cannot be read


def check(directory: Path) -> Iterator[Checked]:
    """Open each file of a tree, and evaluate each of its corrections at some points."""
    for place in files_in(directory):
        try:
            file = CorrectionFile(place.path)
        except ConfigError as problem:
            yield Checked(str(place.path), problem=str(problem))
            continue
        entries, unusable = [], []
        known = uses(file)
        for use in known:
            try:
                use.lines(place.path.name)
                entries.append(use.entry)
            except ConfigError as problem:
                unusable.append(str(problem))
        others = set(file.names).difference(*(use.names for use in known))
        for name in file.names:
            lost = unknown_inputs(file[name]) if name in others else []
            tried = (file[name].tried(given, size) for given, size in points(file[name], file[name], file[name].inputs))
            if lost:
                unusable.append(f"{name} needs {', '.join(lost)}, which NanoAOD does not have.")
            elif not any(np.isfinite(values).any() for values in tried):
                unusable.append(f"{name} has no value anywhere.")
        yield Checked(str(place.path), tuple(dict.fromkeys(entries)), len(others), tuple(dict.fromkeys(unusable)))


def points(
    one: Correction, other: Correction, names: list[str], is_narrow: bool = False
) -> Iterator[tuple[dict[str, Input], int]]:
    """Inputs at which two corrections are evaluated, always the same ones, and their number; `is_narrow` leaves only usual variations."""
    chooser, keys = variations_of(one, {})
    texts: dict[str, list[str]] = {}
    numbers: dict[str, NDArray[np.generic]] = {}
    edges: dict[str, set[float]] = {name: set() for name in (*one.inputs, *other.inputs)}
    for each in (one, other):
        _find_edges(each, edges)
    for name in names:
        common = [it for it in one.axes[name].keys if it in other.axes[name].keys]
        if one.axes[name].type == "string":
            known = list(map(str, common)) or ["nom"]
            texts[name] = [it for it in known if it in keys.values()] if is_narrow and name == chooser else known
        elif one.axes[name].type == "int" and not edges[name]:
            numbers[name] = np.array(common or [0, 1, 2, 5], np.int64)
        else:
            numbers[name] = _middles(one.axes[name], edges[name])
    random, combinations = np.random.default_rng(1), list(itertools.product(*texts.values()))
    for combination in combinations[:: -(-len(combinations) // _MOST_TEXTS) or 1]:
        columns = {name: random.choice(values, _POINTS) for name, values in numbers.items()}
        yield {**columns, **dict(zip(texts, combination))}, _POINTS if numbers else 1


def _find_edges(correction: Correction, edges: dict[str, set[float]]) -> None:
    """Add the edges of all bins of a correction, or of all parts of a product."""
    content = correction.file.content
    products = {each["name"]: each["stack"] for each in content.get("compound_corrections") or ()}
    parts = products.get(correction.name, (correction.name,))
    waiting = [each["data"] for each in content["corrections"] if each["name"] in parts]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        below = node.get("content")
        waiting += [*(below if isinstance(below, list) else [below]), node.get("value"), node.get("default")]
        if "edges" in node:
            is_one = node["nodetype"] == "binning"
            for name, it in zip(
                [node["input"]] if is_one else node["inputs"], [node["edges"]] if is_one else node["edges"]
            ):
                all_of = np.linspace(it["low"], it["high"], it["n"] + 1) if isinstance(it, dict) else it
                edges[name].update(map(float, all_of))


def _middles(axis: Axis, found: set[float]) -> NDArray[np.generic]:
    """Middles between edges; without any, numbers in the usual range."""
    edges = np.array(sorted(filter(np.isfinite, found)))
    if len(edges) < 2:
        low, high = next((ends for end, ends in _USUAL.items() if axis.name.lower().endswith(end)), (0.1, 1.0))
        edges = np.linspace(low, high, 31)
    middles = (edges[1:] + edges[:-1]) / 2
    return middles[:: -(-len(middles) // _MOST_VALUES)].astype(np.int64 if axis.type == "int" else np.float64)
