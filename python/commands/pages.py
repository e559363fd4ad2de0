"""The page of the manual that explains an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Optional

from MLTools.NanoML.installation import checkout
from MLTools.NanoML.workflow.stages import NAMES, declared

PAGES = {
    "MLTools.NanoML.batch": "howto/jobs.md",
    "MLTools.NanoML.commands.jobs": "howto/jobs.md",
    "MLTools.NanoML.grid": "cern.md",
    "MLTools.NanoML.loading": "howto/selection.md",
    "MLTools.NanoML.model": "model.md",
    "MLTools.NanoML.nano_cff": "cmssw.md",
    "MLTools.NanoML.nanoaod.formula": "skim.md",
    "MLTools.NanoML.nanoaod.lumimask": "skim.md",
    "MLTools.NanoML.nanoaodtools": "skim.md",
    "MLTools.NanoML.rootio.remote": "xrootd.md",
    "MLTools.NanoML.selection": "howto/selection.md",
    "data_processing.catalogue": "datasets.md",
    "data_processing.convert.convert": "hdf5.md",
    "data_processing.convert.shuffle": "hdf5.md",
    "data_processing.convert.validation": "hdf5.md",
    "data_processing.datasets.datasets": "datasets.md",
    "data_processing.eventloop": "howto/module.md",
    "data_processing.merge": "skim.md",
    "data_processing.score.score": "model.md",
    "data_processing.score.table": "hdf5.md",
    "data_processing.skim.plan": "skim.md",
    "data_processing.skim.nanoaodtools_engine": "howto/module.md",
    "ML_processing": "training.md",
    "ML_processing.export.export": "howto/export.md",
    "ML_processing.export.releases": "howto/export.md",
    "ML_processing.tracking": "tune.md",
    "ML_processing.tuning": "tune.md",
}
"""The page about a module or package that raises an error."""

_OF_TASKS = re.compile(rf"({'|'.join(NAMES)}) \S+: ")


def page_of(problem: BaseException) -> Optional[str]:
    """The page about what raised an error, relative to doc/; None if there is none."""
    modules = list(_modules(problem.__traceback__))
    if modules and modules[0] == "MLTools.NanoML.workflow.runner":
        stage = _OF_TASKS.match(str(problem))
        return declared(stage[1]).page if stage else None
    for module in modules:
        parts = module.split(".")
        for length in range(len(parts), 0, -1):
            page = PAGES.get(".".join(parts[:length]))
            if page is not None:
                return page
    return None


def _modules(traceback: Optional[TracebackType]) -> Iterator[str]:
    """The modules of a traceback, beginning with the one that raised the error."""
    found = []
    while traceback is not None:
        found.append(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return reversed(found)


def where(page: str) -> str:
    """Where a page is: a path in the checkout, or its name in the manual."""
    place: Optional[Path] = checkout()
    path = place / "doc" / page if place is not None else None
    return str(path) if path is not None and path.is_file() else f"doc/{page} of NanoML"
