"""Models with their selection inside, and reference events: real inputs with decisions and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import awkward as ak
import numpy as np
import uproot

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.training import Export
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.file import KEY, write_described
from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.publish.content import InputEntry, ModelEntry
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.runner import Stage


def compile_stage(config: Config) -> Stage:
    """The models of simulation with the selection inside, also if the analysis does not ask for them."""
    export = replace(config.export or Export(), selection=True)
    (stage,) = pipeline_stages(replace(config, export=export), ["compile"])
    data = {Layout.of(config).with_selection(it.era, True) for it in config.datasets.values()}
    return replace(stage, tasks=[task for task in stage.tasks if task.outputs[0] not in data])


def write_model(directory: Path, job: Any, most: int, parameter: Optional[float]) -> ModelEntry:
    """Write the model of a job of this stage, without what it says of files and data, and its reference events."""
    model, info = Model(job.output), job.sources[0].dataset
    about, ending = model.description, f"_{info.era}" if info.era else ""
    inside, features = about.inside, about.features
    assert inside is not None
    file, reference = f"model{ending}.onnx", f"reference{ending}.root"
    _write_public(Path(job.output), directory / file)
    inputs = [InputEntry(features.tensor, model.columns)] if features is not None else []
    inputs += [InputEntry(it.tensor, it.columns, it.mask, it.max) for it in model.objects]
    value = parameter if about.parameter is not None else None
    return ModelEntry(
        file, reference, _write_reference(directory / reference, model, job, most, value), inputs, about.output_tensors[0],
        model.outputs, [it.name for it in inside.columns], inside.cuts, inside.defaults, model.folds, inside.corrected, value,
    )  # fmt: skip


def _write_public(source: Path, path: Path) -> None:
    """A copy of a model that does not name files of this machine, nor say how many events of data there are."""
    import onnx  # only where models are made

    model = onnx.load(source)
    (entry,) = (it for it in model.metadata_props if it.key == KEY)
    content = json.loads(entry.value)
    training = content["training"]
    training["data"] = {"sha256": training["data"]["sha256"]}
    training["datasets"] = [
        {key: value for key, value in it.items() if key != "books"} for it in training.get("datasets", ())
    ]
    write_described(model, json.dumps(content, allow_nan=False), path)


def _write_reference(path: Path, model: Model, job: Any, most: int, parameter: Optional[float]) -> int:
    """Write the first events of each dataset, as the model reads them, with its decisions; return how many there are."""
    exporting = import_part("ML_processing.export.with_selection")
    selection, about = load_selection(job.wanted.selection, job.wanted.base), model.description
    cut, names = Formula(job.wanted.cut) if job.wanted.cut else None, [*IDENTIFIERS, *model.reads]
    samples = [exporting.first_events(selection, cut, about, source, most) for source in job.sources]
    there = [name for name in dict.fromkeys(names) if all(name in it.arrays for it in samples)]
    arrays = {name: ak.concatenate([it.arrays[name] for it in samples]) for name in there}
    run, block, event = (np.asarray(arrays[name]) for name in IDENTIFIERS)
    found = decide(model, arrays, fold_of(run, block, event, model.folds), parameter)
    columns = {name: array for name, array in arrays.items() if array.ndim == 1}
    for each in model.objects:
        fields = [name for name in each.columns if name in arrays]
        prefix = len(each.collection) + 1
        columns.update({each.collection: ak.zip({name[prefix:]: arrays[name] for name in fields})} if fields else {})
    columns["n_cuts"] = ak.Array(np.sum([*found.cuts.values()], axis=0).astype(np.int32))
    columns["passed"], columns["failed"] = ak.Array(found.passed), ak.Array(found.failed > 0)
    columns.update((f"score_{name}", ak.Array(found.scores[:, number])) for number, name in enumerate(model.outputs))
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: array.type for name, array in columns.items()}).extend(columns)
    return len(run)
