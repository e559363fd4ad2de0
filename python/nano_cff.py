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
from MLTools.NanoML.rootio import versions

PAGE = "cmssw.md"
__all__ = ["addScore"]

SERVICE = "PhysicsTools.ONNXRuntime.ONNXService_cfi"

TRIGGERS = {
    "HLT_": ["TriggerResults::HLT"],
    "L1_": ["l1bits"],
    "Flag_": ["TriggerResults::PAT", "TriggerResults::RECO"],
}
"""Trigger results with the branches that begin so, where NanoAOD is made."""


def addScore(  # noqa: N802 (named as such functions are in CMSSW)
    process: Any,
    model: str,
    tables: Optional[Sequence[object]] = None,
    parameter: Union[float, Sequence[float], None] = None,
    *,
    corrected: Sequence[object] = (),
    triggers: Optional[Sequence[object]] = None,
    era: str = "",
    mean: bool = False,
    precision: int = -1,
    filter: bool = False,
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
    corrected
        InputTags of tables, with labels that do not end in Table, of corrected values that a selection inside the model wants.
    triggers
        InputTags of trigger results with the model's HLT_, L1_ and Flag_ columns; the first that has one counts. None takes
        those of MiniAOD.
    era
        Era of the events: a model with the selection of another era is refused.
    mean
        Whether scores are the mean of all networks, and not that of the network of the event's fold.
    precision
        Bits of the mantissa that floats keep; -1 for all.
    filter
        Whether the output modules write only events that pass the selection inside the model, and those on which it cannot
        decide.

    Returns
    -------
    The process, as from any function that customises one.

    Raises
    ------
    NanoMLError
        The model cannot be found or read, no table has a column of it, a selection makes some, it was added already, or it cannot filter.
    """
    description = _description(model)
    if description.selection_columns:
        column, selection = next(iter(description.selection_columns.items()))
        raise NanoMLError(
            f"{model}: reads {column}, which the selection {selection} makes, so no table has it. Take the model that has its selection "
            "inside: `export: {selection: true}` writes it, as model_with_selection.onnx."
        )
    import FWCore.ParameterSet.Config as cms  # type: ignore[import-not-found]  # noqa: N813

    # NanoAOD keeps labels that end in Table, and a label has no underscore
    name = re.sub(r"[^0-9A-Za-z]", "", description.name)
    label = f"{name}ScoreTable"
    if hasattr(process, label):
        raise NanoMLError(f"{model}: the process has a module {label} already: call addScore once for a model.")

    def tags(given: Sequence[object]) -> Any:
        return cms.VInputTag(*(tag if isinstance(tag, cms.InputTag) else cms.InputTag(tag) for tag in given))

    needed = _in_tables(description, bool(corrected))
    others = [
        tag.getModuleLabel() if isinstance(tag, cms.InputTag) else str(tag).partition(":")[0] for tag in corrected
    ]
    bits = [each for prefix, each in TRIGGERS.items() if any(column.startswith(prefix) for column in description.reads)]
    producer = cms.EDProducer(
        "NanoMLProducer",
        model=cms.FileInPath(model),
        tables=tags(_tables(process, needed, model, others) if tables is None else tables),
        correctedTables=tags(corrected),
        triggers=tags([tag for each in bits for tag in each] if triggers is None else triggers),
        era=cms.string(era),
        meanOfFolds=cms.bool(mean),
        precision=cms.int32(precision),
    )
    if parameter is not None:
        values = parameter if isinstance(parameter, Sequence) else [parameter]
        producer.parameter = cms.vdouble(*values)
    setattr(process, label, producer)
    if filter:
        if description.inside is None:
            raise NanoMLError(
                f"{model}: has no selection inside, which could filter. `export: {{selection: true}}` writes one that has."
            )
        _add_filter(process, name, cms)
    task = cms.Task(producer)
    setattr(process, f"{name}ScoreTask", task)
    for part in _scheduled(process):
        part.associate(task)
    _load_service(process)
    return process


def _in_tables(description: Description, corrected: bool) -> dict[str, bool]:
    """The columns that are read from tables, and whether the model can do without."""
    inside = description.inside
    elsewhere = inside.corrected if inside is not None and corrected else ()
    defaults = inside.defaults if inside is not None else {}
    return {
        column: column in defaults
        for column in description.reads
        if column not in elsewhere and not column.startswith(versions.TRIGGERS)
    }


def _add_filter(process: Any, name: str, cms: Any) -> None:
    """A path with the filter, by which the output modules select."""
    outputs = process.outputModules_()
    for label, module in outputs.items():
        if hasattr(module, "SelectEvents"):
            raise NanoMLError(
                f"the output module {label} selects events already: add {name}Filter to its paths yourself."
            )
    keeps = cms.EDFilter("NanoMLFilter", scores=cms.InputTag(f"{name}ScoreTable"))
    setattr(process, f"{name}Filter", keeps)
    path = cms.Path(keeps)
    setattr(process, f"{name}Path", path)
    schedule = process.schedule_()
    if schedule:
        schedule.insert(0, path)
    for module in outputs.values():
        module.SelectEvents = cms.untracked.PSet(SelectEvents=cms.vstring(f"{name}Path"))


def _load_service(process: Any) -> None:
    """Load the service of ONNX Runtime, if the release has one: then all modules with a network need it."""
    try:
        importlib.import_module(SERVICE)
    except ModuleNotFoundError as problem:
        if not f"{SERVICE}.".startswith(f"{problem.name}."):
            raise
        return
    if not hasattr(process, "ONNXService"):
        process.load(SERVICE)


def _scheduled(process: Any) -> list[Any]:
    """The parts that the process runs: the schedule, or without one all paths."""
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


def _tables(process: Any, columns: dict[str, bool], model: str, corrected: Sequence[str]) -> list[str]:
    """Labels of the modules that make the tables with these columns, but for the corrected ones; some may be nowhere."""
    # a process may have many modules that it does not run, such as those for simulation
    labels = {label for part in _scheduled(process) for label in part.moduleNames()}
    named = {
        label: module.name.value()
        for label, module in process.producers_().items()
        if label in labels and label not in corrected and label.endswith("Table") and hasattr(module, "name")
    }
    found, lost = [], []
    for column, optional in columns.items():
        having = [label for label, name in named.items() if _is_of(column, name)]
        found += having
        if not having and not optional:
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
