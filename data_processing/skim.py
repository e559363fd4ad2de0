"""Skims: NanoAOD in, the events that a selection keeps out, as NanoAOD with the selection's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from data_processing.nanowriter import NanoWriter
from MLTools.NanoML import nanoaod
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.books import Books, FileBooks, Provenance, add_steps, books_of, event_weights
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.loading import load_selection
from MLTools.NanoML.progress import progress
from MLTools.NanoML.rootfile import PROVENANCE, Branch, RootFile
from MLTools.NanoML.selection import Selection

__all__ = ["SkimJob", "plan_branches", "skim_file"]

_ALWAYS_KEPT = (*nanoaod.IDENTIFIERS, "genWeight")
_TREES = ("Runs", "LuminosityBlocks")


@dataclass(frozen=True)
class SkimJob:
    """One file to be skimmed.

    Attributes
    ----------
    source
        Path or URL of the input.
    output
        Path of the skim.
    selection
        "module:Class" or "file.py:Class".
    base
        Directory that a selection's file is relative to.
    keep
        Names and globs of input branches to keep beside the selection's columns.
    compression
        "ALGORITHM:LEVEL".
    chunk
        Events read at once.
    """

    source: str
    output: Path
    selection: str
    base: str = "."
    keep: Sequence[str] = ()
    compression: str = "ZLIB:5"
    chunk: int = 200_000


@dataclass(frozen=True)
class _Plan:
    read: dict[str, str]  # what the selection reads: its name to the file's
    kept: dict[str, Branch]  # branches of the input that are written
    made: dict[str, Branch]  # the selection's columns
    defaults: dict[str, Any]  # optional branches that are kept but that the file lacks

    @property
    def default_branches(self) -> dict[str, Branch]:
        return {
            name: Branch(name, np.asarray(value).dtype.name, "flat", "", None, "")
            for name, value in self.defaults.items()
        }

    @property
    def written(self) -> dict[str, Branch]:
        """All branches of the skim."""
        return {**self.kept, **self.default_branches, **self.made}


def plan_branches(file: RootFile, selection: Selection, keep: Sequence[str]) -> _Plan:
    """What is read from a file and what is written.

    Raises
    ------
    NanoMLError
        The file lacks a branch that the selection needs or that is to be kept, or a column has a branch's name.
    """
    read = selection.resolve(list(file.branches), file.path)
    kept: dict[str, Branch] = {}
    defaults: dict[str, Any] = {}
    for name in _ALWAYS_KEPT:
        if name in file.branches:
            kept[name] = file.branches[name]
    for pattern in keep:
        for name in _kept_names(file, selection, pattern):
            if name in file.branches:
                kept[name] = file.branches[name]
            else:
                defaults[name] = selection.optional[name]
    _drop_counters(kept)
    _refuse_unsupported(file, kept, keep)
    made = {
        name: Branch(name, np.dtype(column.dtype).name, "flat", column.title, None, column.dtype)
        for name, column in selection.columns.items()
    }
    clash = sorted(set(made) & set(kept))
    if clash:
        raise NanoMLError(
            f"{file.path}: selection {selection.name} makes {clash[0]}, but the file has a branch of that name, and it is kept."
        )
    return _Plan(read, kept, made, defaults)


def _kept_names(file: RootFile, selection: Selection, pattern: str) -> list[str]:
    if nanoaod.is_glob(pattern):
        return nanoaod.expand(pattern, list(file.branches))
    actual = nanoaod.resolve(pattern, file.branches)
    if actual is not None:
        return [actual]
    if pattern in selection.optional:
        return [pattern]
    raise NanoMLError(
        f"{file.path}: skim.keep: has no branch {pattern}.{nanoaod.did_you_mean(pattern, file.branches)} "
        f"If only some files lack it, declare it in {selection.name}.optional with a default."
    )


def _drop_counters(kept: dict[str, Branch]) -> None:
    """A kept collection is written with its counter: the input's own counters would be written twice."""
    for branch in list(kept.values()):
        if branch.is_jagged:
            kept.pop(f"n{branch.collection}", None)
            kept.pop(f"n{branch.name}", None)


def _refuse_unsupported(file: RootFile, kept: dict[str, Branch], keep: Sequence[str]) -> None:
    for branch in kept.values():
        if not (branch.is_flat or branch.is_jagged):
            raise NanoMLError(
                f"{file.path}: skim.keep: {branch.name} is of type {branch.typename}, which a skim cannot hold. "
                f"Take it out of skim.keep ({', '.join(keep)})."
            )


def skim_file(job: SkimJob) -> dict[str, Any]:
    """Skim one file.

    Parameters
    ----------
    job
        What to do.

    Returns
    -------
    The file's books, as a plain dictionary. The output is complete, also when no event was kept.

    Raises
    ------
    NanoMLError
        The input cannot be read, lacks branches, or the selection made a mistake; nothing is written then.
    """
    selection = load_selection(job.selection, job.base)
    with RootFile(job.source) as file:
        plan = plan_branches(file, selection, job.keep)
        books = books_of(file)
        with replacing(job.output) as aside, NanoWriter(aside, plan.written, job.compression) as writer:
            flows = []
            with progress(f"skim {Path(job.source).name}", file.entries) as bar:
                # one pass also over a file without events: its cut flow has zeros, not nothing
                for start in range(0, max(file.entries, 1), job.chunk):
                    stop = min(start + job.chunk, file.entries)
                    flows.append(_chunk(file, selection, plan, writer, start, stop))
                    bar.advance(stop - start)
            books.cutflow = add_steps(flows)
            not_copied = _copy_others(file, writer)
            record = Provenance(
                "skim",
                Books([books]),
                job.selection,
                {
                    name: {"dtype": branch.dtype or "", "title": branch.title}
                    for name, branch in plan.made.items()
                },
                not_copied=not_copied,
            )
            _close_books(books, writer, record)
    return record.books.as_dict()


def _chunk(
    file: RootFile, selection: Selection, plan: _Plan, writer: NanoWriter, start: int, stop: int
) -> list[Any]:
    wanted = set(plan.read.values()) | ({"genWeight"} & set(file.branches))
    arrays = file.read(wanted, start, stop)
    collections = {
        asked: file.branches[actual].collection or ""
        for asked, actual in plan.read.items()
        if file.branches[actual].is_jagged
    }
    weights = event_weights(arrays, stop - start)
    selected = selection.apply(
        {asked: arrays[actual] for asked, actual in plan.read.items()}, collections, weights
    )
    rows = selected.rows
    if len(rows):
        missing = [name for name in plan.kept if name not in arrays]
        arrays.update(file.read(missing, start, stop))
        kept = {name: ak.to_packed(arrays[name][rows]) for name in plan.kept}
        defaults = {name: np.full(len(rows), value) for name, value in plan.defaults.items()}
        writer.extend({**kept, **defaults, **selected.columns})
    return selected.cutflow.steps


def _copy_others(file: RootFile, writer: NanoWriter) -> list[str]:
    """Copy the trees and strings beside the events; return what could not be copied."""
    left_out = []
    for name, kind in file.keys.items():
        if name == "Events" or name == PROVENANCE or kind == "TDirectory":
            continue
        tree = file.other_tree(name) if name in _TREES else None
        if tree is not None and writer.copy_tree(name, tree):
            continue
        if kind == "TObjString":
            writer.write_string(name, file.string(name) or "")
        else:
            left_out.append(f"{name} ({kind})")
    return left_out


def _close_books(books: FileBooks, writer: NanoWriter, record: Provenance) -> None:
    """Compare what the cut flow counted with what is in the output, then write the record."""
    books.selected = books.cutflow[-1].events
    if books.cutflow[0].events != books.entries:
        raise NanoMLError(
            f"{books.file}: has {books.entries} events, but {books.cutflow[0].events} were read. Nothing was written."
        )
    writer.finish(record.to_json())
    if writer.entries != books.selected:
        raise NanoMLError(
            f"{books.file}: {books.selected} events passed the last cut, but {writer.entries} were kept. "
            "Narrow the events by cutflow.cut only, so that the cut flow counts all."
        )
