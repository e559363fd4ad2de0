"""Adds the scores of a trained model to a process of cmsRun that has NanoAOD's tables.

With cmsDriver.py, without touching the configuration that it writes::

    --customise_commands "from MLTools.NanoML.nano_cff import addScore;
    addScore(process, 'MLTools/NanoML/data/model.onnx')"
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description

__all__ = ["addScore"]

SERVICE = "PhysicsTools.ONNXRuntime.ONNXService_cfi"


def addScore(  # noqa: N802 (named as such functions are in CMSSW)
    process: Any,
    model: str,
    tables: Optional[Sequence[Any]] = None,
    parameter: Union[float, Sequence[float], None] = None,
) -> Any:
    """Add the scores of a model to NanoAOD: one call, and the output module writes them.

    Parameters
    ----------
    process
        The `cms.Process`, with its paths.
    model
        The ONNX file as `edm::FileInPath` finds it: "MLTools/NanoML/data/model.onnx". Its JSON twin is beside it.
    tables
        InputTags, as such or as strings, of the tables with the model's columns. None takes the tables that the process
        makes and that have the right names (parameter `name`); a process that reads EDM NanoAOD makes none.
    parameter
        Values of the model's parameter, if it has one; there is a score for each of them. None takes those of the
        training.

    Returns
    -------
    The process, as from any function that customises one.

    Raises
    ------
    NanoMLError
        The model cannot be found or read, no table has a column of it, or it was added already.
    """
    description = _description(model)
    import FWCore.ParameterSet.Config as cms  # type: ignore[import-not-found]  # noqa: N813

    # NanoAOD keeps labels that end in Table, and a label has no underscore
    label = re.sub(r"[^0-9A-Za-z]", "", description.name) + "ScoreTable"
    if hasattr(process, label):
        raise NanoMLError(f"{model}: the process has a module {label} already: call addScore once for a model.")
    tags = _tables(process, description.reads, model) if tables is None else list(tables)
    producer = cms.EDProducer(
        "NanoMLProducer",
        model=cms.FileInPath(model),
        tables=cms.VInputTag(*(tag if isinstance(tag, cms.InputTag) else cms.InputTag(tag) for tag in tags)),
    )
    if parameter is not None:
        values = parameter if isinstance(parameter, Sequence) else [parameter]
        producer.parameter = cms.vdouble(*values)
    setattr(process, label, producer)
    task = cms.Task(producer)
    setattr(process, label.replace("ScoreTable", "ScoreTask"), task)
    for part in _scheduled(process):
        part.associate(task)
    _load_service(process)
    return process


def _load_service(process: Any) -> None:
    """Load the service of ONNX Runtime, if the release has one: then all modules with a network need it."""
    try:
        importlib.import_module(SERVICE)
    except ModuleNotFoundError as problem:
        if not SERVICE.startswith(problem.name or SERVICE):
            raise
        return
    if not hasattr(process, "ONNXService"):
        process.load(SERVICE)


def _scheduled(process: Any) -> list[Any]:
    """What the process runs: the schedule, or without one all paths."""
    schedule = process.schedule_()
    return [schedule] if schedule else [*process.paths_().values(), *process.endpaths_().values()]


def _description(model: str) -> Description:
    """The description of a model, from its JSON twin."""
    name = str(Path(model).with_suffix(".json"))
    places = [*os.environ.get("CMSSW_SEARCH_PATH", "").split(":"), "."]
    for place in places:
        path = Path(place, name)
        if path.is_file():
            break
    else:
        raise NanoMLError(
            f"{name}: not found in {', '.join(filter(None, places))}. Copy both files of the model into data/ of a package, "
            "as in $CMSSW_BASE/src/MLTools/NanoML/data, and name the model as MLTools/NanoML/data/model.onnx."
        )
    return Description.of_text(path.read_text(encoding="utf-8", errors="replace"), str(path))


def _tables(process: Any, columns: list[str], model: str) -> list[str]:
    """Labels of the modules that make the tables with these columns."""
    # a process may have many modules that it does not run, such as those for simulation
    labels = {label for part in _scheduled(process) for label in part.moduleNames()}
    named = {
        label: module.name.value()
        for label, module in process.producers_().items()
        if label in labels and label.endswith("Table") and hasattr(module, "name")
    }
    found, lost = [], []
    for column in columns:
        having = [label for label, name in named.items() if _is_of(column, name)]
        found += having
        if not having:
            lost.append(column)
    if lost:
        raise NanoMLError(
            f"{model}: no table of the process has {', '.join(lost)}. Name all tables of the model: "
            'addScore(process, model, tables=["jetPuppiTable", "metTable"]).'
        )
    return list(dict.fromkeys(found))


def _is_of(column: str, table: str) -> bool:
    """Whether a column can be in a table with this name, or the number of its objects."""
    return bool(table) and (column.startswith(f"{table}_") or column in (table, f"n{table}"))
