"""CRAB tasks of an analysis: a directory for each of its datasets, with all that `crab submit` needs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import data_processing
from data_processing.branchrules import read_rules
from data_processing.crab.settings import OUTPUT, Settings
from data_processing.modules import load_module
from data_processing.stages import skim_settings
from MLTools import NanoML
from MLTools.NanoML.atomic import make_directory, replacing, write_text
from MLTools.NanoML.config import Config, Dataset, Score
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.layout import Layout
from MLTools.NanoML.loading import load_selection
from MLTools.NanoML.lumimask import LumiMask
from MLTools.NanoML.model import Model
from MLTools.NanoML.score import score
from MLTools.NanoML.selection import source_files

__all__ = ["Grid", "Task", "tasks_of", "write_tasks"]

CONFIG = "crab_cfg.py"
_SCRIPTS = ("PSet.py", "crab_script.sh", "crab_script.py")
_CERTIFIED, _RULES, _MODELS = "certified.json", "branches.txt", "score_models.py"
_LONGEST = 100  # CRAB's limit for the name of a request

_DATASET = re.compile(r"(?:/[A-Za-z0-9._-]+){2}/(NANOAOD|NANOAODSIM|USER)")
_LFN = re.compile(r"^(?:root://[^/]+/)?(/store/[A-Za-z0-9._/=-]+\.root)$")
_SITE = re.compile(r"T[0-3]_[A-Z]{2}_[A-Za-z0-9_]+")
_SITES = re.compile(r"T[0-3](?:_[A-Z]{2}_[A-Za-z0-9_]+|_[A-Z]{2}_\*|_?\*)")
_DIRECTORY = re.compile(r"/store/(?:temp/)?(?:user|group|local|test)/[A-Za-z0-9._/-]+")


@dataclass(frozen=True)
class Grid:
    """Where jobs run and where their results go.

    Attributes
    ----------
    site
        Where the output goes, as in T2_CH_CERN.
    directory
        The directory there, as in /store/user/me/analysis; None for CRAB's default.
    files_per_job
        How many files a job reads.
    sites
        Where jobs may run that read files which are named one by one.

    Raises
    ------
    ConfigError
        CRAB would not take one of them.
    """

    site: str
    directory: Optional[str] = None
    files_per_job: int = 1
    sites: Sequence[str] = ("T2_*",)

    def __post_init__(self) -> None:
        if not _SITE.fullmatch(self.site):
            raise ConfigError(f'site "{self.site}": write one as T2_CH_CERN.')
        if self.directory is not None and not _DIRECTORY.fullmatch(self.directory):
            raise ConfigError(f'directory "{self.directory}": write one as /store/user/NAME/analysis.')
        for site in self.sites:
            if not _SITES.fullmatch(site):
                raise ConfigError(f'site "{site}": write one as T2_CH_CERN, T2_DE_* or T2_*.')


@dataclass(frozen=True)
class Task:
    """What one `crab submit` submits.

    Attributes
    ----------
    name
        Of its directory and, with the analysis's before it, of the request.
    dataset
        Its name in CMS's catalogue; None if the files are named.
    files
        Logical names of its files; none if the dataset is named.
    is_data
        Whether it is data.
    """

    name: str
    dataset: Optional[str]
    files: Sequence[str]
    is_data: bool


def tasks_of(config: Config) -> list[Task]:
    """The tasks of all datasets: one for each that the catalogue has, and one for the files that are named.

    Raises
    ------
    ConfigError
        A file is not one that the grid has; with its place in the configuration.
    """
    found = []
    for name, dataset in config.datasets.items():
        found += _tasks(config, name, dataset)
    if not found:
        raise config.error("datasets", message="there is none, so there is nothing to submit.")
    names = [_safe(task.name).lower() for task in found]
    for number, task in enumerate(found):
        if names[number] in names[:number]:
            other = found[names.index(names[number])].name
            raise config.error(
                "datasets", message=f"{other} and {task.name} have the same name for CRAB: rename one."
            )
    return found


def _tasks(config: Config, name: str, dataset: Dataset) -> list[Task]:
    catalogued, files = [], []
    for number, text in enumerate(dataset.files):
        lfn = _LFN.match(text)
        if _DATASET.fullmatch(text):
            catalogued.append(text)
        elif lfn:
            files.append(lfn[1])
        else:
            raise config.error(
                "datasets",
                name,
                "files",
                number,
                message=f"{text} is nothing that CRAB can read. Name a dataset, /PRIMARY/PROCESSED/NANOAODSIM, or files by "
                "their logical names, /store/.../FILE.root.",
            )
    found = [Task(name, each, (), dataset.is_data) for each in catalogued]
    found += [Task(name, None, tuple(files), dataset.is_data)] if files else []
    if len(found) == 1:
        return found
    return [
        Task(f"{name}_{number}", each.dataset, each.files, each.is_data)
        for number, each in enumerate(found, 1)
    ]


def write_tasks(config: Config, output: Path, grid: Grid) -> list[str]:
    """Write the directories of all tasks; nothing is submitted.

    What lies there already is replaced, file by file; what CRAB has put there stays.

    Parameters
    ----------
    config
        The analysis.
    output
        Directory for those of the tasks.
    grid
        Where jobs run.

    Returns
    -------
    What was written, in words.

    Raises
    ------
    ConfigError
        There is no skim to run, a file is not on the grid, or what a job needs cannot be sent with it.
    NanoMLError
        A model, a selection or a file of rules cannot be read, or a directory cannot be written to.
    """
    if config.skim is None:
        raise config.error(message="there is no section `skim`, so CRAB has nothing to do.")
    tasks = tasks_of(config)
    scripts = _scripts()
    models = _models(config)
    sources = _own_files(config)
    lines = []
    for task in tasks:
        directory = output / _safe(task.name)
        make_directory(directory)
        sent = [*_write_job(config, task, directory, models), *(_copy(path, directory) for path in sources)]
        for script in scripts:
            _copy(script, directory)
        text = _crab_config(_request(config, task), task, grid, sent, config)
        write_text(directory / CONFIG, text)
        what = task.dataset or f"{len(task.files)} files"
        lines.append(f"{task.name}: {what}: crab submit -c {directory / CONFIG}")
    scored = f" and scores of {', '.join(model.name for model, _ in models)}" if models else ""
    return [*lines, f"{len(tasks)} tasks: skims{scored}. Nothing has been submitted."]


def _scripts() -> list[Path]:
    """The files of crab/, which lies beside python/."""
    folder = Path(NanoML.__path__[0]).resolve().parent / "crab"
    found = [folder / name for name in _SCRIPTS]
    if not all(path.is_file() for path in found):
        raise ConfigError(
            f"{folder}: is not here. CRAB needs the whole of NanoML, not only what pip installs."
        )
    return found


def _models(config: Config) -> list[tuple[Model, Optional[float]]]:
    """The models that score, with the values of their parameters; none if there is no model yet and none is named."""
    own = Layout.of(config).model
    section = config.score or Score()
    paths = [config.path(model) for model in section.model or ()]
    if not paths and (config.score or own.is_file()):
        paths = [own]
    found = []
    for path in paths:
        model = Model(path)
        parameter = model.description.parameter
        value = section.parameter.get(parameter.column) if parameter else None
        score(path, value)()  # so that what is wrong with it is told now
        found.append((model, value))
    return found


def _own_files(config: Config) -> list[Path]:
    """The user's own files that a job imports: all that is not installed.

    Raises
    ------
    ConfigError
        Two have the same name, or one is part of a package.
    """
    assert config.skim is not None
    skim, base = config.skim, config.base
    things: list[object] = [load_selection(skim.selection, base)] if skim.selection else []
    things += [module for spec in skim.modules for module in load_module(spec, base)]
    named = [spec.rpartition(":")[0] for spec in (skim.selection or "", *skim.modules)]
    paths = [base / place for place in named if place.endswith(".py")]
    paths += [path for thing in things for path in source_files(thing)]
    folders = {path.resolve().parent for path in paths if not _is_installed(path.resolve())}
    # what they import beside them, whatever they take of it
    imported = [
        Path(file) for file in (getattr(each, "__file__", None) for each in [*sys.modules.values()]) if file
    ]
    paths += [path for path in imported if path.resolve().parent in folders]
    found: dict[str, Path] = {}
    for path in (path.resolve() for path in paths):
        if _is_installed(path):
            continue
        if (path.parent / "__init__.py").is_file():
            raise ConfigError(
                f"{path}: is part of a package, which CRAB does not send. Put the package into "
                "$CMSSW_BASE/src/SUBSYSTEM/PACKAGE/python, or take its files out of it."
            )
        if path.name in (*_SCRIPTS, CONFIG, _MODELS):
            raise ConfigError(f"{path}: CRAB needs a file of this name of its own. Rename yours.")
        if found.setdefault(path.name, path) != path:
            raise ConfigError(
                f"{path}: has the name of {found[path.name]}: CRAB cannot send both. Rename one."
            )
    return list(found.values())


def _is_installed(path: Path) -> bool:
    roots = [*NanoML.__path__, *data_processing.__path__]
    if os.environ.get("CMSSW_BASE"):
        roots.append(str(Path(os.environ["CMSSW_BASE"], "src")))
    inside = any(Path(root).resolve() in path.parents for root in roots)
    return inside or "site-packages" in path.parts


def _write_job(
    config: Config, task: Task, directory: Path, models: Sequence[tuple[Model, Optional[float]]]
) -> list[str]:
    """Write what a job does, and what it reads; return the names of the files that travel with it."""
    assert config.skim is not None
    settings, sent = skim_settings(config.skim), ["job.json"]
    settings.pop("engine")
    for kind in ("selection", "modules"):
        settings[kind] = _flat(settings[kind])
    if settings["certified"]:
        mask = LumiMask.read(config.path(settings["certified"])) if task.is_data else None
        settings["certified"] = _CERTIFIED if mask is not None else ""
        if mask is not None:
            mask.write(directory / _CERTIFIED)
            sent.append(_CERTIFIED)
    if settings["branches"]:
        rules = config.path(settings["branches"])
        read_rules(rules)
        write_text(directory / _RULES, rules.read_text())
        settings["branches"] = _RULES
        sent.append(_RULES)
    if models:
        sent += _write_models(directory, models)
        names = ",".join(f"model_{number}" for number in range(len(models)))
        settings["modules"] = [*settings["modules"], f"{_MODELS}:{names}"]
    Settings(**{**settings, "modules": tuple(settings["modules"]), "keep": tuple(settings["keep"])}).write(
        directory
    )
    return sent


def _flat(spec: Any) -> Any:
    """The same selection or modules, where all files are in one directory."""
    if isinstance(spec, list):
        return [_flat(each) for each in spec]
    place, colon, name = spec.rpartition(":")
    return f"{Path(place).name}{colon}{name}" if place.endswith(".py") else spec


def _write_models(directory: Path, models: Sequence[tuple[Model, Optional[float]]]) -> list[str]:
    """Copy models, and write the Python file by which nanoAOD-tools finds them."""
    lines = ['"""The models that score, as modules of nanoAOD-tools."""', "", "import os", ""]
    lines += [
        "from MLTools.NanoML.score import score",
        "",
        "HERE = os.path.dirname(os.path.abspath(__file__))",
    ]
    sent = [_MODELS]
    for number, (model, value) in enumerate(models):
        name = f"model_{number}"
        for suffix in (".onnx", ".json"):
            source = Path(model.path).with_suffix(suffix)
            if suffix == ".onnx" or source.is_file():
                sent.append(_copy(source, directory, name + suffix))
        lines.append(f"{name} = score(os.path.join(HERE, {name + '.onnx'!r}), {value!r})")
    write_text(directory / _MODELS, "\n".join(lines) + "\n")
    return sent


def _copy(source: Path, directory: Path, name: str = "") -> str:
    name = name or source.name
    with replacing(directory / name) as aside:
        shutil.copy(source, aside)
    return name


def _crab_config(request: str, task: Task, grid: Grid, sent: Sequence[str], config: Config) -> str:
    """The text of crab_cfg.py."""
    settings: dict[str, Any] = {
        "General.requestName": request,
        "General.transferOutputs": True,
        "General.transferLogs": True,
        "JobType.pluginName": "Analysis",
        "JobType.outputFiles": [OUTPUT],
        "JobType.maxMemoryMB": 2500,
    }
    if task.dataset:
        settings["Data.inputDataset"] = task.dataset
        settings["Data.inputDBS"] = "phys03" if task.dataset.endswith("/USER") else "global"
    else:
        settings["Data.userInputFiles"] = list(task.files)
        settings["Data.outputPrimaryDataset"] = _safe(task.name)
        settings["Site.whitelist"] = list(grid.sites)
    settings["Data.splitting"] = "FileBased"
    settings["Data.unitsPerJob"] = grid.files_per_job
    settings["Data.publication"] = False
    settings["Data.outputDatasetTag"] = request
    if grid.directory:
        settings["Data.outLFNDirBase"] = grid.directory
    settings["Site.storageSite"] = grid.site
    lines = [f"config.{name} = {value!r}" for name, value in settings.items()]
    if _CERTIFIED in sent:
        lines.append(f"config.Data.lumiMask = os.path.join(HERE, {_CERTIFIED!r})")
    return _TEMPLATE.format(
        settings="\n".join(lines),
        sent=sorted(name for name in (*sent, "crab_script.py")),
        package=str(Path(data_processing.__path__[0]).resolve()),
    )


_TEMPLATE = '''\
"""Written by `nanoml crab`. Simulation must be split by files: a job counts the weights of each whole file."""

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


def _request(config: Config, task: Task) -> str:
    name = _safe(f"{Layout.of(config).workdir.name}_{task.name}")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _safe(name: str) -> str:
    """A name as CRAB takes it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
