"""The record in a ROOT file of its origin: input files, selection, and accounting."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from MLTools.NanoML import __version__
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of, is_same_sum
from MLTools.NanoML.nanoaod.fileaccounting import SELECTED, FileAccounting, under_shift
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Array
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile
from MLTools.NanoML.schema.plain import DAMAGE, build, parsed, plain

_SCHEMA = 1
_PIECE = 2000  # bytes
RECORD_BRANCHES = {
    "schema": Branch("schema", "int32", "flat", "version of the record", None, "int32_t"),
    "piece": Branch("piece", "int32", "flat", "number of this piece of the record, from 0", None, "int32_t"),
    "pieces": Branch("pieces", "int32", "flat", "number of pieces of the record", None, "int32_t"),
    "text": Branch("text", "uint8", "fixed", "JSON, filled up by zeros", None, f"uint8_t[{_PIECE}]", _PIECE),
}
"""Branches of the tree with the record.

Programs that merge ROOT files concatenate the rows of trees, and keep one of other objects. Texts of different lengths would
crash them: if files are compressed differently, ROOT reads all rows into a buffer as long as the longest row of the first
file. So the text is cut into pieces of one length.
"""


@dataclass(frozen=True)
class MadeColumn:
    """A column that a selection, model or module made: its numpy type, its documentation, and what stands for "no value"."""

    dtype: str
    title: str
    missing: Optional[float] = field(default=None, metadata={"sparse": True})

    @classmethod
    def of(cls, branch: Branch) -> MadeColumn:
        """From the branch that is written."""
        return cls(branch.dtype or "", branch.title, branch.missing)


@dataclass(frozen=True)
class CertifiedBy:
    """A luminosity JSON: the name of its file, and the SHA-256 of its sections, however they are written."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ScoredBy:
    """The models whose scores a file has: names and SHA-256 of their files, and the values of their parameters."""

    name: str
    sha256: str
    parameters: dict[str, list[float]] = field(default_factory=dict, metadata={"sparse": True})
    # hash of all else that the scores follow from, if these can be kept when weights beside them are made again
    basis: str = field(default="", compare=False, metadata={"sparse": True})

    @classmethod
    def of(
        cls, models: Sequence[tuple[str, str]], parameters: Mapping[str, Sequence[float]], basis: str = ""
    ) -> ScoredBy:
        """From the names of models with the SHA-256 of their files."""
        names, hashes = map(", ".join, zip(*models))
        return cls(names, hashes, {name: [*values] for name, values in parameters.items()}, basis)


@dataclass(frozen=True)
class Criteria:
    """All that decided, beside a selection, which events and branches a skim has."""

    certified: Optional[CertifiedBy] = None  # the luminosity JSON by which data were skimmed, or None
    cut: str = ""  # the cut in the language of TTree::Draw; empty without one
    modules: tuple[str, ...] = ()  # modules of nanoAOD-tools, in their order
    code: str = ""  # hash of the source files of selection and modules; empty without any
    keep: tuple[str, ...] = ()  # rules for the input's branches, those of a branch selection file first
    triggers: tuple[str, ...] = field(default=(), metadata={"sparse": True})  # one of which has fired in every event
    # SHA-256 of the files of corrections that the selection could use, by their names in the YAML file of the era
    corrections: dict[str, str] = field(default_factory=dict, metadata={"sparse": True})


@dataclass
class Provenance:
    """The record in which a ROOT file of the pipeline describes itself, in its tree `nanoml`.

    The tree has a record for each input file and range of entries, so that hadd, haddnano.py and TFileMerger merge the
    records as they merge the events.
    """

    kind: str  # "skim", "scores" or "attached"
    accounting: Accounting  # accounting of the files that it was made from
    selection: str | None = None  # the selection that was run, or None
    columns: dict[str, MadeColumn] = field(default_factory=dict)  # the columns that were made
    model: ScoredBy | None = None  # for scores
    not_copied: list[str] = field(default_factory=list)  # objects of the input that could not be copied
    # what else decided on the events of a skim, or of what was made from one
    criteria: Criteria = field(default_factory=Criteria)

    def rows(self) -> dict[str, Array]:
        """The rows of its tree, by `RECORD_BRANCHES`."""
        return _rows_of([self._text(file) for file in self.accounting.files])

    def tree(self) -> tuple[str, Mapping[str, Branch], Mapping[str, Array]]:
        """Its tree, as `NanoWriter` takes it: name, branches and rows."""
        return PROVENANCE, RECORD_BRANCHES, self.rows()

    def _text(self, file: FileAccounting) -> str:
        content = {
            "creator": f"NanoML {__version__}",
            "kind": self.kind,
            "selection": self.selection,
            "criteria": plain(self.criteria),
            "columns": plain(self.columns),
            "model": plain(self.model),
            "not_copied": self.not_copied,
            "file": plain(file),
        }
        return json.dumps(content, allow_nan=False)

    def difference(self, other: Provenance) -> tuple[str, str] | None:
        """How the events of this file were selected, and how those of another one; None if they agree.

        A class or function is the same under any name of its file, if the code is the same. The branches that were kept
        do not matter.
        """
        is_same_code = bool(self.criteria.code) and self.criteria.code == other.criteria.code
        mine, others = (record._compared(is_same_code) for record in (self, other))
        for (what, key), (but, other_key) in zip(mine, others):
            if key != other_key:
                return what, but
        return None

    def _compared(self, is_same_code: bool) -> list[tuple[str, object]]:
        """The criteria that are compared: in words, and in the form in which it is compared."""

        def known_as(specs: Sequence[str]) -> list[str]:
            return [spec.rpartition(":")[2] if is_same_code else spec for spec in specs]

        criteria = self.criteria
        certified = criteria.certified or CertifiedBy("", "")
        modules = ", ".join(criteria.modules)
        by = f"{certified.file} {certified.sha256[:8]}"
        return [
            (f"selected by {self.selection or 'nothing'}", known_as((self.selection or "").split(","))),
            (
                f"selected by the modules {modules}" if modules else "selected without modules",
                known_as(criteria.modules),
            ),
            (
                f"selected by the cut {criteria.cut}" if criteria.cut else "selected without a cut",
                "".join(criteria.cut.split()),
            ),
            (f"certified by {by}" if criteria.certified else "not certified", certified.sha256),
            (f"taken by the triggers {', '.join(criteria.triggers) or 'none'}", sorted(criteria.triggers)),
            (f"corrected by {', '.join(criteria.corrections) or 'nothing'}", sorted(criteria.corrections.values())),
            (f"selected under {'the shifts ' + ', '.join(self.shifts) if self.shifts else 'no shifts'}", self.shifts),
        ]

    @property
    def shifts(self) -> list[str]:
        """The shifts of objects under which events were selected, as the endings of columns: "jesUp"."""
        return next(([each.shift for each in file.shifts] for file in self.accounting.files), [])

    @property
    def flags(self) -> list[str]:
        """The columns that say which events are selected, and which under each shift; none without shifts."""
        return [SELECTED, *(under_shift(SELECTED, shift) for shift in self.shifts)] if self.shifts else []

    def shifted(self, names: Iterable[str]) -> dict[str, str]:
        """The branches, of some, that have the values of another one of them under a shift, and that other one.

        A file that lacks such a branch has the same values under the shift.
        """
        known, flags = dict.fromkeys(names), self.flags
        if not flags:
            return {}
        # see `under_shift`; a match of no width, as names of shifts may overlap
        shift = re.compile(f"(?=(_(?:{'|'.join(map(re.escape, self.shifts))}))(?:_|$))")
        found: dict[str, str] = {}
        for name in known:
            stems = (name[: match.start()] + name[match.end(1) :] for match in shift.finditer(name))
            found.update((name, stem) for stem in stems if stem in known and name not in flags)
        return found

    def contradiction(self, file: RootFile) -> str | None:
        """How the file contradicts its record, and what to do; else None."""
        lost = [
            name for name, of in self.shifted(self.columns).items() if name not in file.branches and of in file.branches
        ]
        if lost:
            return (
                f"has lost columns with values under shifts, which its record names: {listed(lost, 3)}. Only some of the files that it was "
                "merged from have them; merge those by `nanoml merge`."
            )
        problem = self._change(file)
        return f"{problem}: it was changed after the skim. Skim it again." if problem else None

    def _change(self, file: RootFile) -> str | None:
        """The change that was made to the file or its record; else None."""
        accounting = self.accounting
        if accounting.written != file.entries:
            return f"has {file.entries:,} events, but its record says {accounting.written:,}"
        # with a luminosity JSON, nanoAOD-tools keeps only some rows of Runs
        if self.criteria.certified is not None or not all(
            each.read is not None and each.sum_of_weights_source.startswith("Runs/") for each in accounting.files
        ):
            return None
        own = accounting_of(file)
        scale = math.fsum(abs(each.sum_of_weights) for each in accounting.files)
        if own.sum_of_weights_source.startswith("Runs/") and not is_same_sum(
            own.sum_of_weights, accounting.sum_in_runs, scale
        ):
            return (
                f"has a sum of weights of {own.sum_of_weights:.9g} in its Runs tree, but its record says "
                f"{accounting.sum_in_runs:.9g}"
            )
        return None

    @classmethod
    def of(cls, file: RootFile) -> Provenance | None:
        """Read it from a file; None for a file that NanoML did not write.

        Raises NanoMLError if there is one that cannot be understood, or that is of files which do not belong together.
        """
        tree = file.other_tree(PROVENANCE)
        if tree is None:
            return None
        try:
            records = [cls._of_text(text) for text in _texts_in(tree)]
        except DAMAGE as problem:
            raise NanoMLError(
                f"{file.path}: its record `{PROVENANCE}` cannot be understood ({problem}): make the file again."
            ) from None
        return cls._joined(file.path, records) if records else None

    @classmethod
    def _of_text(cls, text: str) -> Provenance:
        content = parsed(text)
        return cls(
            content["kind"],
            Accounting([build(FileAccounting, content["file"])]),
            content["selection"],
            {name: MadeColumn(**column) for name, column in content["columns"].items()},
            content["model"] and build(ScoredBy, content["model"]),
            content["not_copied"],
            build(Criteria, content["criteria"]),
        )

    @classmethod
    def _joined(cls, path: str, records: Sequence[Provenance]) -> Provenance:
        """The record of all ranges."""
        first = records[0]
        for record in records:
            difference = record.difference(first)
            if record.kind != first.kind:
                difference = f"{record.kind} by NanoML", f"{first.kind} by NanoML"
            elif record.model != first.model:
                difference = "scored by a model", "scored by another one"
            if difference is not None:
                raise NanoMLError(
                    f"{path}: was merged from files that do not belong together: some of its events were {difference[0]}, "
                    f"others {difference[1]}. Merge them separately."
                )
        columns: dict[str, MadeColumn] = {}
        for record in records:
            columns = {**record.columns, **columns}
        named = [record.columns.keys() for record in records if record.accounting.written]
        uneven = [name for name in first.shifted(columns) if len({name in each for each in named}) > 1]
        if uneven:
            raise NanoMLError(
                f"{path}: was merged from files of which only some have columns with values under shifts, as these differ nowhere "
                f"in the others: {listed(uneven, 3)}. Other programs do not fill them in: merge the files by `nanoml merge`."
            )
        return cls(
            first.kind,
            Accounting([file for record in records for file in record.accounting.files]),
            first.selection,
            columns,
            first.model,
            list(dict.fromkeys(name for record in records for name in record.not_copied)),
            first.criteria,
        )


def accounting_of_input(file: RootFile, generator_weights: bool = True) -> FileAccounting:
    """The accounting of a file that is to be skimmed; without `generator_weights`, each event of simulation counts 1.

    Raises NanoMLError if it has only some ranges of entries of the files that it was made from: its sum of weights would be
    wrong.
    """
    record, accounting = Provenance.of(file), accounting_of(file, generator_weights)
    if record is not None:
        record.accounting.check([file.path] * len(record.accounting.files))
        # its events have them, and keep them
        accounting.weights, accounting.shifts = record.accounting.weights, record.accounting.shifts
    return accounting


def refuse_shifts(accounting: FileAccounting) -> None:
    """Raise NanoMLError if the events of a file that is to be skimmed were selected under shifts."""
    if accounting.shifts:
        raise NanoMLError(
            f"{accounting.file}: was skimmed with shifts, under which its events are flagged and weighted: it cannot be skimmed again. "
            "Put the cut into the selection, and skim the original file."
        )


def _rows_of(texts: Sequence[str]) -> dict[str, Array]:
    numbers: list[tuple[int, int]] = []
    pieces: list[bytes] = []
    for text in texts:
        content = text.encode()
        starts = range(0, len(content), _PIECE)
        numbers += [(number, len(starts)) for number in range(len(starts))]
        pieces += [content[start : start + _PIECE].ljust(_PIECE, b"\0") for start in starts]
    count = np.array(numbers, np.int32).reshape(-1, 2)
    return {
        "schema": np.full(len(pieces), _SCHEMA, np.int32),
        "piece": np.ascontiguousarray(count[:, 0]),
        "pieces": np.ascontiguousarray(count[:, 1]),
        "text": np.frombuffer(b"".join(pieces), np.uint8).reshape(-1, _PIECE),
    }


def _texts_in(tree: Mapping[str, object]) -> Iterator[str]:
    """The texts of records in the rows of a tree.

    Raises ValueError, KeyError if it is not of the form of `RECORD_BRANCHES`.
    """
    schema, piece, pieces, text = (np.asarray(tree[name]) for name in RECORD_BRANCHES)
    if (schema != _SCHEMA).any():
        raise ValueError(f"it is of schema {schema.max()}, this NanoML reads {_SCHEMA}: update NanoML")
    begins = np.flatnonzero(piece == 0).tolist()
    if len(piece) and begins[:1] != [0]:
        raise ValueError("its first pieces are missing")
    for start, stop in zip(begins, [*begins[1:], len(piece)]):
        if piece[start:stop].tolist() != list(range(pieces[start])):
            raise ValueError(f"pieces are missing between its rows {start} and {stop}")
        yield text[start:stop].tobytes().rstrip(b"\0").decode()
