"""The stages of this part, as tasks: train, evaluate, export."""

from __future__ import annotations

import functools
import glob
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ML_processing.own_model import resolve_model, source_of_model
from ML_processing.releases import target
from MLTools.NanoML.config import Config, Export, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.layout import Layout
from MLTools.NanoML.model import twin_of
from MLTools.NanoML.runner import Stage
from MLTools.NanoML.task import Task, code_hash, source_of

__all__ = ["stages"]

for _package in ("torch", "sklearn", "threadpoolctl", "matplotlib", "mplhep", "onnx"):
    if (
        importlib.util.find_spec(_package) is None
    ):  # known now, not after the skims; and without the seconds of an import
        raise ModuleNotFoundError(f"No module named '{_package}'", name=_package)

_NETWORKS = (
    "MLTools.NanoML.folds",
    "MLTools.NanoML.hdf5",
    "ML_processing.columns",
    "ML_processing.data",
    "ML_processing.inputs",
    "ML_processing.models",
    "ML_processing.parameter",
    "ML_processing.run",
    "ML_processing.splits",
    "ML_processing.survey",
    "ML_processing.table",
)
_TRAIN = (
    *_NETWORKS,
    "ML_processing.batches",
    "ML_processing.course",
    "ML_processing.description",
    "ML_processing.distributed",
    "ML_processing.loop",
    "ML_processing.losses",
    "ML_processing.teams",
    "ML_processing.train",
)
_ELSEWHERE = ("files", "device", "workers", "tracking")  # settings on which the networks do not depend
_EVALUATE = (
    *_NETWORKS,
    "ML_processing.baseline",
    "ML_processing.evaluate",
    "ML_processing.metrics",
    "ML_processing.plots",
    "ML_processing.report",
    "ML_processing.scored",
    "ML_processing.verdict",
)
_EXPORT = (
    *_NETWORKS,
    "MLTools.NanoML.model",
    "ML_processing.export",
    "ML_processing.parity",
    "ML_processing.preprocess",
    "ML_processing.releases",
)


def stages(config: Config) -> dict[str, Stage]:
    """The stages of this part that a configuration asks for.

    Raises
    ------
    NanoMLError
        `train.files` names files that are not there, or nothing can be exported for `export.cmssw`.
    """
    assert config.train is not None
    _check_release(config)
    files = _training_files(config)
    try:
        settings = replace(config.train, model=resolve_model(config.train.model, config.base))
        own = source_of_model(settings.model)
    except ConfigError as problem:
        raise config.error("train", "model", message=str(problem).removeprefix("train.model: ")) from None
    layout = Layout.of(config)
    run, inputs = layout.training, tuple(str(file) for file in files)
    trained = run / "training.json"
    decisive = {key: value for key, value in config.as_dict("train").items() if key not in _ELSEWHERE}
    train = Task(
        "train",
        "network",
        inputs,
        (trained,),
        {**decisive, **({"model_source": code_hash(own)} if own else {})},
        code_hash(source_of(*_TRAIN)),
        functools.partial(_train, files, settings, run),
        memory=(trained,),
        folders=(run,),
    )
    report = (run / "report.html", run / "metrics.json")
    compare = _files(config, config.evaluate.compare, "evaluate", "compare") if config.evaluate else []
    shown = {"signal": config.train.signal, "compare": [str(file) for file in compare]}
    evaluate = Task(
        "evaluate",
        "report",
        (str(trained), *inputs, *(str(file) for file in compare)),
        report,
        shown,
        code_hash(source_of(*_EVALUATE)),
        functools.partial(_evaluate, run, files, compare),
        folders=(run,),
    )
    export_config = Export(config.export.cmssw if config.export else None, layout.name)
    models = (layout.model, twin_of(layout.model))
    named = {"cmssw": export_config.cmssw, "name": export_config.name}
    export = Task(
        "export",
        "model",
        (str(trained), *inputs),
        models,
        named,
        code_hash((*source_of(*_EXPORT), Path(__file__).with_name("releases.json"))),
        functools.partial(_export, run, layout.model, export_config),
        folders=(run,),
    )
    return {
        "train": Stage("train", [train]),
        "evaluate": Stage("evaluate", [evaluate]),
        "export": Stage("export", [export], summary=_export_summary),
    }


def _check_release(config: Config) -> None:
    """Refuse a release that nothing can be exported for now, not after the training."""
    try:
        target(config.export.cmssw if config.export else None)
    except ConfigError as problem:
        text = str(problem).removeprefix("export.cmssw: ").removesuffix(".")
        raise config.error("export", "cmssw", message=text) from None


def _training_files(config: Config) -> list[Path]:
    assert config.train is not None
    if config.train.files is None:
        if config.convert is not None and config.convert.shuffle is not None:
            return [Layout.of(config).hdf5_all]
        return [Layout.of(config).hdf5(name) for name in config.trained]
    return _files(config, config.train.files, "train", "files")


def _files(config: Config, patterns: Sequence[str], *keys: str) -> list[Path]:
    """The files that patterns of the configuration name."""
    found: list[Path] = []
    for number, pattern in enumerate(patterns):
        matches = sorted(glob.glob(str(config.path(pattern)), recursive=True))
        if not matches:
            raise config.error(*keys, number, message=f"{pattern}: no such file in {config.base}")
        found += [Path(match) for match in matches]
    if len(set(found)) < len(found):
        raise NanoMLError(f"{config.where(*keys)}: names a file twice, so its events would count twice.")
    return found


# torch takes seconds to import: only where something is to be done


def _train(files: Sequence[Path], config: Train, run: Path) -> Mapping[str, Any]:
    from ML_processing.tracking import ending
    from ML_processing.train import train

    with ending(config.tracking, run):
        train(files, config, run)
    return {}


def _evaluate(run: Path, files: Sequence[Path], compare: Sequence[Path]) -> Mapping[str, Any]:
    from ML_processing.evaluate import evaluate
    from ML_processing.tracking import add

    evaluate(run, files, run, compare)
    add(run, [run / "report.html", run / "metrics.json", *sorted(run.glob("*.png"))])
    return {}


def _export(run: Path, output: Path, config: Export) -> Mapping[str, Any]:
    from ML_processing.export import export
    from ML_processing.tracking import add

    described = export(run, output, config)
    add(run, [output, twin_of(output)])
    return described


def _export_summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    target = done["model"].get("target", {})
    return (
        [
            f"opset {target.get('opset')}, IR {target.get('ir')}, for {target.get('cmssw') or 'any release from CMSSW_12_4 on'}"
        ]
        if target
        else []
    )
