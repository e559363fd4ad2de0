"""CRAB tasks of an analysis: a directory for each of its datasets, with all that `crab submit` needs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import data_processing
from data_processing.crab.job import OUTPUT
from data_processing.crab.payload import CERTIFIED, CONFIG, copy, models_of, own_files, scripts, write_job
from data_processing.datasets.files import GLOBAL, file_patterns, instance_of, is_wildcard, place_of
from MLTools.NanoML.atomic import make_directory, write_text
from MLTools.NanoML.batch.crab.task import CrabTask
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.batch import Grid, Needs
from MLTools.NanoML.config.datasets import Dataset, Read
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.resources import duration

_LFN = re.compile(r"^(?:root://[^/]+/)?(/store/[A-Za-z0-9._/=-]+\.root)$")
_MEMORY = 2500  # MB of a job
_MOST_MEMORY = 3000  # MB that CRAB gives to a job of one core
_LONGEST = 100  # CRAB's limit for the name of a request


@dataclass(frozen=True)
class CrabInput:
    """What one task reads."""

    name: str  # name of its directory and, after that of the submission, of the request
    of: str  # the dataset of the configuration, of which it is all or a part
    dataset: Optional[str]  # its name in CMS's catalogue; None if the files are named
    files: Sequence[str]  # logical names of its files; none if the dataset is named
    is_data: bool  # whether it is data
    instance: str = GLOBAL  # the catalogue that has the dataset
    most: Optional[int] = None  # how many files are read; None for all
    any_status: bool = False  # whether the dataset may be one that is not VALID

    @property
    def what(self) -> str:
        """What is read, for people."""
        number = len(self.files)
        return self.dataset or f"{number:,} file{'' if number == 1 else 's'}"


def inputs_of(config: Config) -> list[CrabInput]:
    """What the tasks of all datasets read: one for each dataset of the catalogue, and one for the files that are named.

    An error if a file is not one that the grid has; with its place in the configuration.
    """
    found = []
    for name, dataset in config.datasets.items():
        found += _inputs(config, name, dataset)
    if not found:
        raise config.error("datasets", message="there are none, so there is nothing to submit.")
    names = [_safe(task.name).lower() for task in found]
    for number, task in enumerate(found):
        if names[number] in names[:number]:
            other = found[names.index(names[number])].name
            raise config.error("datasets", message=f"{other} and {task.name} have the same name for CRAB: rename one.")
    return found


def _inputs(config: Config, name: str, dataset: Dataset) -> list[CrabInput]:
    if dataset.max_events is not None:
        message = "CRAB takes files, whatever their events. Use max_files"
        raise config.error("datasets", name, "max_events", message=message)
    files = _logical_names(config, name, dataset)
    found = [
        CrabInput(
            name,
            name,
            text,
            (),
            dataset.is_data,
            dataset.instance or instance_of(text),
            dataset.max_files,
            dataset.status != ["VALID"],
        )
        for text in _catalogued(config, name, dataset)
    ]
    found += [CrabInput(name, name, None, tuple(files[: dataset.max_files]), dataset.is_data)] if files else []
    if len(found) == 1:
        return found
    if dataset.max_files is not None:
        message = f"makes {len(found)} tasks, and max_files counts for all of them together. Make a dataset of each, or remove it"
        raise config.error("datasets", name, "max_files", message=message)
    return [replace(each, name=f"{name}_{number}") for number, each in enumerate(found, 1)]


def _catalogued(config: Config, name: str, dataset: Dataset) -> Iterator[str]:
    """The datasets that CRAB itself looks up in the catalogue."""
    for number, text in enumerate(dataset.das):
        if is_wildcard(text):
            message = f"{text}: CRAB takes no wildcards. `nanoml datasets '{text}'` shows the names"
            raise config.error(*place_of(config, name, "das", number), message=message)
        yield text


def _logical_names(config: Config, name: str, dataset: Dataset) -> list[str]:
    found, number = [], 0
    try:
        for entry in file_patterns(dataset.files, config.base, Read().redirectors):
            number, lfn = entry.number, _LFN.match(entry.text)
            if lfn is None:
                what = '"das: /PRIMARY/PROCESSED/NANOAODSIM"'
                raise entry.error(f"is not something that CRAB can read. Name files as /store/.../FILE.root, or {what}")
            found.append(lfn[1])
    except NanoMLError as problem:
        raise config.error(*place_of(config, name, "files", number), message=str(problem)) from None
    return found


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
    common = scripts()
    models = models_of(config)
    names = [model.name for model, _ in models]
    sources = own_files(config)
    found = []
    for task in tasks:
        directory = make_directory(output / _safe(task.name))
        sent = [*write_job(config, task.is_data, directory, models)]
        sent += [copy(path, directory) for path in sources]
        for script in common:
            copy(script, directory)
        data = _data(task, config.batch.files_per_job or 1)
        digest = _digest(directory, sorted(sent), data, grid)
        request = _request_name(submission, task.name)
        write_text(directory / CONFIG, _crab_config(request, data, grid, sent, memory, time))
        found.append(CrabTask(directory.name, task.of, task.what, request, memory, time, names, digest))
    return found


def _needs(config: Config) -> tuple[int, Optional[int]]:
    """Memory [MB] and wall time [s] of a job."""
    batch = config.batch
    needs = batch.stages.get("skim", Needs())
    memory = needs.memory or batch.memory or _MEMORY
    if memory > _MOST_MEMORY:
        place = ("stages", "skim", "memory") if needs.memory else ("memory",)
        raise config.error(
            "batch",
            *place,
            message=f"{memory} MB is more than CRAB gives to a job of one core: at most {_MOST_MEMORY}.",
        )
    time = needs.time or batch.time
    return memory, duration(time) if time else None


def _data(task: CrabInput, files_per_job: int) -> dict[str, Any]:
    """What a task reads, as settings in CRAB's section Data."""
    read: dict[str, Any]
    if task.dataset:
        read = {"inputDataset": task.dataset, "inputDBS": task.instance.rpartition("/")[2]}
        if task.any_status:
            read["allowNonValidInputDataset"] = True
        if task.most is not None:
            read["totalUnits"] = task.most
    else:
        read = {"userInputFiles": list(task.files), "outputPrimaryDataset": _safe(task.name)}
    return {**read, "unitsPerJob": files_per_job}


def _digest(directory: Path, sent: Sequence[str], data: dict[str, Any], grid: Grid) -> str:
    """What distinguishes a task from those that read or do something else, or write elsewhere."""
    digest = hashlib.sha256(json.dumps([data, grid.site, grid.directory]).encode())
    for name in sent:
        digest.update(name.encode() + b"\0" + hashlib.sha256((directory / name).read_bytes()).digest())
    return digest.hexdigest()[:32]


def _crab_config(
    request: str, data: Mapping[str, Any], grid: Grid, sent: Sequence[str], memory: int, time: Optional[int] = None
) -> str:
    """The text of crab_cfg.py: `data` are settings in CRAB's section Data, `sent` the files that travel with a job."""
    settings: dict[str, Any] = {
        "General.requestName": request,
        "General.transferOutputs": True,
        "General.transferLogs": True,
        "JobType.pluginName": "Analysis",
        "JobType.outputFiles": [OUTPUT],
        "JobType.maxMemoryMB": memory,
    }
    if time is not None:
        settings["JobType.maxJobRuntimeMin"] = math.ceil(time / 60)
    settings.update((f"Data.{name}", value) for name, value in data.items())
    settings["Data.splitting"] = "FileBased"
    settings["Data.publication"] = False
    settings["Data.outputDatasetTag"] = request
    if grid.directory:
        settings["Data.outLFNDirBase"] = grid.directory
    settings["Site.storageSite"] = grid.site
    if "userInputFiles" in data:
        settings["Site.whitelist"] = list(grid.run_at)
    lines = [f"config.{name} = {value!r}" for name, value in settings.items()]
    if CERTIFIED in sent:
        lines.append(f"config.Data.lumiMask = os.path.join(HERE, {CERTIFIED!r})")
    return _TEMPLATE.format(
        settings="\n".join(lines),
        sent=sorted(name for name in (*sent, "crab_script.py")),
        package=str(Path(data_processing.__path__[0]).resolve()),
    )


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


def _request_name(submission: str, task: str) -> str:
    """The name of a task in CRAB."""
    name = _safe(f"{submission}_{task}")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _safe(name: str) -> str:
    """A name as CRAB accepts it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
