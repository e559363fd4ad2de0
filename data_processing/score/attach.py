"""The way back: columns of an HDF5 file as branches of a ROOT file, entry for entry with the one they came from.

It goes in four steps, each of which is tasks of the runner: the events of the HDF5 file are sorted once (`index`),
the events of each ROOT file are looked up (`match`), what was found is judged over all files (`check`), and only
then are files written (`attach`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_processing.score.matching import ENTRIES, AttachJob
from data_processing.score.table import Column, Table
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.provenance import Criteria, Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import Branch, RootFile
from MLTools.NanoML.terminal.progress import progress

__all__ = ["AttachJob", "attach_file"]


def attach_file(
    job: AttachJob, columns: Sequence[Column], source: str, match: Path, output: Path
) -> dict[str, Any]:
    """Write the columns of one ROOT file.

    The output has a tree `Events` with run, luminosityBlock, event and the columns, entry for entry with the ROOT
    file, so that it can be its friend.

    Returns
    -------
    {"entries": events written}.

    Raises
    ------
    NanoMLError
        A file cannot be read, or the ROOT file has a branch of the same name; nothing is written then.
    """
    rows = np.load(match)
    with RootFile(source) as file, Table(job.events, job.dataset) as table:
        if len(rows) != file.entries:
            raise NanoMLError(f"{source}: was changed meanwhile: nothing was written. Run it again.")
        made = {column.branch: _branch(job, column) for column in columns}
        twice = next((name for name in made if name in file.branches), None)
        if twice is not None:
            raise NanoMLError(
                f"{source}: has a branch {twice} of its own, which would hide the one of a friend: choose other names by --prefix."
            )
        provenance = Provenance.of(file)
        identifiers = {name: file.branches[file.name_of(name)] for name in versions.IDENTIFIERS}
        with (
            replacing(output) as aside,
            NanoWriter(aside, {**identifiers, **made}, job.compression) as writer,
            progress(f"attach to {Path(source).name}", file.entries) as bar,
        ):
            for start in range(0, file.entries, ENTRIES):
                part = rows[start : start + ENTRIES]
                arrays: dict[str, Any] = file.read(versions.IDENTIFIERS, start, start + ENTRIES)
                writer.events.extend({**arrays, **table.take(columns, part, job.missing or 0)})
                bar.advance(len(part))
            record = Provenance(
                "attached",
                provenance.accounting if provenance else Accounting([all_events_of(file)]),
                provenance.selection if provenance else None,
                {name: {"dtype": branch.dtype or "", "title": branch.title} for name, branch in made.items()},
                criteria=provenance.criteria if provenance else Criteria(),
            )
            writer.finish(record)
    return {"entries": len(rows)}


def _branch(job: AttachJob, column: Column) -> Branch:
    number = "" if column.item is None else f", number {column.item}"
    filled = "" if job.missing is None else f"; {job.missing:g} where the event is not in it"
    return Branch(
        column.branch, column.dtype, "flat", f"{column.source}{number} of {job.events.name}{filled}", None, ""
    )
