"""The use of each file of a tree to NanoML, as an entry of an era; and why it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MLTools.NanoML.corrections.era import kind_of
from MLTools.NanoML.corrections.evaluation import CorrectionFile
from MLTools.NanoML.corrections.survey.compare import points
from MLTools.NanoML.corrections.survey.kinds import KINDS, Kind, unknown_inputs
from MLTools.NanoML.corrections.survey.places import files_in
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import build


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
