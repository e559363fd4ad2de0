"""CRAB tasks of an analysis: a directory for each of its datasets, with all that `crab submit` and the jobs need."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import data_processing
from data_processing.crab.client import CrabTask
from data_processing.crab.job import JOB, OUTPUT, write_job
from data_processing.datasets.files import file_patterns, instance_of, is_wildcard, place_of
from data_processing.skim.plan import read_rules
from data_processing.skim.stage import skim_job
from MLTools import NanoML
from MLTools.NanoML.atomic import make_directory, replacing, write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.batch import Grid, Needs
from MLTools.NanoML.config.data import Dataset, Score
from MLTools.NanoML.corrections.era import write_flat
from MLTools.NanoML.dependencies import files_behind
from MLTools.NanoML.errors import ConfigError, NanoMLError, plural
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.rootio.remote.client import Read
from MLTools.NanoML.score import score
from MLTools.NanoML.stages import seconds_in
from MLTools.NanoML.workflow.layout import Layout

_CONFIG, _CERTIFIED, _RULES, _MODELS = "crab_cfg.py", "certified.json", "branches.txt", "score_models.py"
_CORRECTIONS = "corrections.yaml"
_SCRIPTS = ("PSet.py", "crab_script.sh", "crab_script.py")
_AREAS = ("CMSSW_BASE", "CMSSW_RELEASE_BASE")  # in these every job finds src
_LFN = re.compile(r"^(?:root://[^/]+/)?(/store/[A-Za-z0-9._/=-]+\.root)$")
_MEMORY = 2500  # MB of a job
_MOST_MEMORY = 3000  # MB that CRAB gives to a job of one core
_LONGEST = 100  # CRAB's limit for the name of a request


@dataclass(frozen=True)
class CrabInput:
    """The input of one task: a dataset of CMS's catalogue, or files."""

    name: str  # name of its directory and, after that of the submission, of the request
    of: str  # the dataset of the configuration, of which it is all or a part
    settings: Dataset  # those of that dataset
    dataset: Optional[str] = None  # its name in CMS's catalogue; None if the files are named
    files: tuple[str, ...] = ()  # logical names of its files; none if the dataset is named

    def described(self) -> dict[str, object]:
        """The input, as settings in CRAB's section Data."""
        if not self.dataset:
            return {"userInputFiles": list(self.files), "outputPrimaryDataset": _safe(self.name)}
        instance = self.settings.instance or instance_of(self.dataset)
        found: dict[str, object] = {"inputDataset": self.dataset, "inputDBS": instance.rpartition("/")[2]}
        if self.settings.status != ["VALID"]:
            found["allowNonValidInputDataset"] = True
        if self.settings.max_files is not None:
            found["totalUnits"] = self.settings.max_files
        return found


def inputs_of(config: Config) -> list[CrabInput]:
    """The inputs of the tasks of all datasets: one for each dataset of the catalogue, and one for the files that are named.

    An error if a file is not one that the grid has; with its place in the configuration.
    """
    found = [task for name, dataset in config.datasets.items() for task in _inputs(config, name, dataset)]
    if not found:
        raise config.error("datasets", message="there are none, so there is nothing to submit.")
    names: dict[str, str] = {}
    for task in found:
        key = _safe(task.name).lower()
        if key in names:
            message = f"{names[key]} and {task.name} have the same name for CRAB: rename one."
            raise config.error("datasets", message=message)
        names[key] = task.name
    return found


def _inputs(config: Config, name: str, dataset: Dataset) -> list[CrabInput]:
    if dataset.max_events is not None:
        message = "CRAB takes files, whatever their events. Use max_files"
        raise config.error("datasets", name, "max_events", message=message)
    files = tuple(_logical_names(config, name, dataset))
    for number, text in enumerate(dataset.das):
        if is_wildcard(text):
            message = f"{text}: CRAB takes no wildcards. `nanoml datasets '{text}'` shows the names"
            raise config.error(*place_of(config, name, "das", number), message=message)
    found = [CrabInput(name, name, dataset, text) for text in dataset.das]
    found += [CrabInput(name, name, dataset, None, files[: dataset.max_files])] if files else []
    if len(found) == 1:
        return found
    if dataset.max_files is not None:
        message = f"makes {len(found)} tasks, and max_files counts for all of them together. Make a dataset of each, or remove it"
        raise config.error("datasets", name, "max_files", message=message)
    return [replace(each, name=f"{name}_{number}") for number, each in enumerate(found, 1)]


def _logical_names(config: Config, name: str, dataset: Dataset) -> Iterator[str]:
    number = 0
    try:
        for entry in file_patterns(dataset.files, config.base, Read().redirectors):
            number, lfn = entry.number, _LFN.match(entry.text)
            if lfn is None:
                what = '"das: /PRIMARY/PROCESSED/NANOAODSIM"'
                raise entry.error(f"is not something that CRAB can read. Name files as /store/.../FILE.root, or {what}")
            yield lfn[1]
    except NanoMLError as problem:
        raise config.error(*place_of(config, name, "files", number), message=str(problem)) from None


def write_tasks(config: Config, output: Path, submission: str) -> list[CrabTask]:
    """Write the directories of all tasks below `output`; nothing is submitted. Requests begin with the name of the submission.

    Raises
    ------
    ConfigError
        There is no skim to run or no site to write to, a file is not on the grid, or something that a job needs cannot be
        sent with it.
    NanoMLError
        A model, a selection or a file of rules cannot be read, or a directory cannot be written to.
    """
    if config.skim is None:
        raise config.error(message="there is no section `skim`, so CRAB has nothing to do.")
    grid = config.batch.grid
    if grid is None:
        raise config.error(
            "batch", message='say where the output of CRAB goes, as in "batch: {grid: {site: T2_CH_CERN}}".'
        )
    memory, time = _needs(config)
    tasks = inputs_of(config)
    crab = Path(NanoML.__path__[0]).resolve().parent / "crab"
    if not all((crab / name).is_file() for name in _SCRIPTS):
        raise ConfigError(f"{crab}: is not here. CRAB needs the whole of NanoML, not only what pip installs.")
    models = {era: _models_of(config, era) for era in config.trainings}
    sources = _own_files(config)
    found = []
    for task in tasks:
        directory = make_directory(output / _safe(task.name))
        scoring = models[config.training_of(task.of)]
        sent = _write_job(config, task.of, directory, scoring)
        sent += [_copy(path, directory / path.name) for path in sources]
        for script in _SCRIPTS:
            _copy(crab / script, directory / script)
        data = {**task.described(), "unitsPerJob": config.batch.files_per_job or 1}
        # what distinguishes a task from those that read or do something else, or write elsewhere
        digest = hashlib.sha256(json.dumps([data, grid.site, grid.directory]).encode())
        for name in sorted(sent):
            digest.update(name.encode() + b"\0" + hashlib.sha256((directory / name).read_bytes()).digest())
        request = _safe(f"{submission}_{task.name}")
        if len(request) > _LONGEST:
            request = f"{request[: _LONGEST - 9]}_{hashlib.sha256(request.encode()).hexdigest()[:8]}"
        write_text(directory / _CONFIG, _crab_config(request, data, grid, sent, memory, time))
        what = task.dataset or plural(len(task.files), "file")
        names = [model.name for model, _ in scoring]
        known_by = digest.hexdigest()[:32]
        found.append(CrabTask(directory.name, task.of, what, request, memory, time, names, known_by))
    return found


def _crab_config(
    request: str, data: Mapping[str, object], grid: Grid, sent: Sequence[str], memory: int, time: Optional[int]
) -> str:
    """The text of crab_cfg.py: `data` are settings in CRAB's section Data, `sent` the files that travel with a job."""
    settings: dict[str, object] = {
        "General.requestName": request,
        "General.transferOutputs": True,
        "General.transferLogs": True,
        "JobType.pluginName": "Analysis",
        "JobType.outputFiles": [OUTPUT],
        "JobType.maxMemoryMB": memory,
        **({} if time is None else {"JobType.maxJobRuntimeMin": math.ceil(time / 60)}),
        **{f"Data.{name}": value for name, value in data.items()},
        "Data.splitting": "FileBased",
        "Data.publication": False,
        "Data.outputDatasetTag": request,
        **({"Data.outLFNDirBase": grid.directory} if grid.directory else {}),
        "Site.storageSite": grid.site,
        **({"Site.whitelist": list(grid.run_at)} if "userInputFiles" in data else {}),
    }
    lines = [f"config.{name} = {value!r}" for name, value in settings.items()]
    if _CERTIFIED in sent:
        lines.append(f"config.Data.lumiMask = os.path.join(HERE, {_CERTIFIED!r})")
    package = str(Path(data_processing.__path__[0]).resolve())
    return _TEMPLATE.format(settings="\n".join(lines), sent=sorted([*sent, "crab_script.py"]), package=package)


_TEMPLATE = '''\
"""Written by `nanoml submit`. Simulation must be split by files: a job counts the weights of each whole file."""

import glob
import os

from CRABClient.UserUtilities import config as crab_config

HERE = os.path.dirname(os.path.abspath(__file__))
SENT = {sent!r}

config = crab_config()
{settings}
config.General.workArea = os.path.join(HERE, "crab")
config.JobType.psetName = os.path.join(HERE, "PSet.py")
config.JobType.scriptExe = os.path.join(HERE, "crab_script.sh")
# CRAB takes them for patterns; data_processing does the work, and is in no directory that it sends by itself
config.JobType.inputFiles = [glob.escape(os.path.join(HERE, name)) for name in SENT] + [glob.escape({package!r})]
'''


def _safe(name: str) -> str:
    """A name as CRAB accepts it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _copy(source: Path, target: Path) -> str:
    """Copy a file into the directory of a task; return its name there."""
    with replacing(target) as aside:
        shutil.copy(source, aside)
    return target.name


def _needs(config: Config) -> tuple[int, Optional[int]]:
    """Memory [MB] and wall time [s] of a job."""
    batch = config.batch
    needs = batch.stages.get("skim", Needs())
    memory = needs.memory or batch.memory or _MEMORY
    if memory > _MOST_MEMORY:
        place = ("stages", "skim", "memory") if needs.memory else ("memory",)
        message = f"{memory} MB is more than CRAB gives to a job of one core: at most {_MOST_MEMORY}."
        raise config.error("batch", *place, message=message)
    time = needs.time or batch.time
    return memory, seconds_in(time) if time else None


def _models_of(config: Config, era: Optional[str]) -> list[tuple[Model, Optional[float]]]:
    """The models that score events, with the values of their parameters; none if none is named and there is no model yet.

    `era` is one of `Config.trainings`.
    """
    own = Layout.of(config).model(era)
    section = config.score or Score()
    paths = [config.path(model) for model in section.model or ()]
    if section.model is None and (config.score or own.is_file()):
        paths = [own]
    found = []
    for path in paths:
        model = Model(path)
        parameter = model.description.parameter
        values = section.parameter.get(parameter.column, []) if parameter else []
        value = values[0] if len(values) == 1 else None
        score(path, value)()  # so that a mistake in it is reported now
        found.append((model, value))
    return found


def _own_files(config: Config) -> list[Path]:
    """The user's own files that a job imports: all that is not installed.

    An error if two have the same name, or one is part of a package.
    """
    assert config.skim is not None
    job = skim_job(config)
    named = [spec.rpartition(":")[0] for spec in (job.selection, *job.modules)]
    paths = [config.base / place for place in named if place.endswith(".py")]
    paths += files_behind(*job.sources(), only_own=True).values()
    folders = {path.resolve().parent for path in paths if not _is_installed(path.resolve())}
    # what they import beside them, whatever they take of it; to find the real path of each module takes a second
    imported = [Path(file) for file in (getattr(each, "__file__", None) for each in [*sys.modules.values()]) if file]
    paths += [path for path in imported if folders and path.resolve().parent in folders]
    found: dict[str, Path] = {}
    for path in (path.resolve() for path in paths):
        if _is_installed(path):
            continue
        if (path.parent / "__init__.py").is_file():
            raise ConfigError(
                f"{path}: is part of a package, which CRAB does not send. Put the package into "
                "$CMSSW_BASE/src/SUBSYSTEM/PACKAGE/python, or take its files out of it."
            )
        if path.name in (*_SCRIPTS, _CONFIG, _MODELS):
            raise ConfigError(f"{path}: CRAB needs a file of this name of its own. Rename yours.")
        if found.setdefault(path.name, path) != path:
            raise ConfigError(f"{path}: has the name of {found[path.name]}: CRAB cannot send both. Rename one.")
    return list(found.values())


def _is_installed(path: Path) -> bool:
    roots = [*NanoML.__path__, *data_processing.__path__]
    roots += [str(Path(area, "src")) for name in _AREAS if (area := os.environ.get(name))]
    tools = sys.modules.get("PhysicsTools.NanoAODTools")  # a job has it too, wherever it is here
    roots += getattr(tools, "__path__", [])
    inside = any(Path(root).resolve() in path.parents for root in roots)
    return inside or "site-packages" in path.parts


def _write_job(
    config: Config, name: str, directory: Path, models: Sequence[tuple[Model, Optional[float]]]
) -> list[str]:
    """Write what a job on a dataset does, and what it reads; return the names of the files that travel with it."""
    assert config.skim is not None
    job, sent = skim_job(config, name), [JOB]
    modules = [*map(_flat, job.modules)]
    certified = _CERTIFIED if job.certified and job.dataset.is_data else ""
    if certified:
        LumiMask.read(config.path(job.certified)).write(directory / certified)
        sent.append(certified)
    rules = _RULES if job.branches else ""
    if rules:
        read_rules(config.path(job.branches))
        write_text(directory / rules, config.path(job.branches).read_text())
        sent.append(rules)
    info = job.dataset
    if info.corrections_file:
        sent += write_flat(Path(info.corrections_file), directory, _CORRECTIONS)
        info = replace(info, corrections_file=_CORRECTIONS)
    if models:  # the Python file by which nanoAOD-tools finds them
        lines = ['"""The models that score, as modules of nanoAOD-tools."""', "", "import os", ""]
        lines += ["from MLTools.NanoML.score import score", "", "HERE = os.path.dirname(os.path.abspath(__file__))"]
        sent.append(_MODELS)
        names = [f"model_{number}" for number in range(len(models))]
        for name, (model, value) in zip(names, models):
            for suffix in (".onnx", ".json"):
                source = Path(model.path).with_suffix(suffix)
                if suffix == ".onnx" or source.is_file():
                    sent.append(_copy(source, directory / f"{name}{suffix}"))
            lines.append(f"{name} = score(os.path.join(HERE, {name + '.onnx'!r}), {value!r})")
        write_text(directory / _MODELS, "\n".join(lines) + "\n")
        modules.append(f"{_MODELS}:{','.join(names)}")
    here: dict[str, Any] = {"base": "", "certified": certified, "branches": rules, "dataset": info, "modules": modules}
    write_job(directory, replace(job, selection=_flat(job.selection), **here))
    return sent


def _flat(spec: str) -> str:
    """The same selection or module, where all files are in one directory."""
    place, colon, name = spec.rpartition(":")
    return f"{Path(place).name}{colon}{name}" if place.endswith(".py") else spec
