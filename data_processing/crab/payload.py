"""What travels with a CRAB job: its scripts, what it does, models, and files of the user's own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import data_processing
from data_processing.crab.job import JOB, CrabJob
from data_processing.skim.plan import read_rules
from data_processing.skim.stage import skim_job
from MLTools import NanoML
from MLTools.NanoML.atomic import replacing, write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.data import Score
from MLTools.NanoML.dependencies import files_behind
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.score import score
from MLTools.NanoML.workflow.stages import Layout

CONFIG = "crab_cfg.py"
"""Name of the file that `crab submit` reads."""

CERTIFIED = "certified.json"
"""Name of the file of certified luminosity sections."""

_SCRIPTS = ("PSet.py", "crab_script.sh", "crab_script.py")
_RULES, _MODELS = "branches.txt", "score_models.py"
_AREAS = ("CMSSW_BASE", "CMSSW_RELEASE_BASE")  # in these every job finds src


def scripts() -> list[Path]:
    """The files of crab/, which lies beside python/."""
    folder = Path(NanoML.__path__[0]).resolve().parent / "crab"
    found = [folder / name for name in _SCRIPTS]
    if not all(path.is_file() for path in found):
        raise ConfigError(f"{folder}: is not here. CRAB needs the whole of NanoML, not only what pip installs.")
    return found


def models_of(config: Config) -> list[tuple[Model, Optional[float]]]:
    """The models that score, with the values of their parameters; none if none is named and there is no model yet."""
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
        score(path, value)()  # so that a mistake in it is reported now
        found.append((model, value))
    return found


def own_files(config: Config) -> list[Path]:
    """The user's own files that a job imports: all that is not installed.

    An error if two have the same name, or one is part of a package.
    """
    assert config.skim is not None
    job = skim_job(config.skim, config.base)
    named = [spec.rpartition(":")[0] for spec in (job.selection, *job.modules)]
    paths = [config.base / place for place in named if place.endswith(".py")]
    paths += files_behind(*job.sources(), only_own=True).values()
    folders = {path.resolve().parent for path in paths if not _is_installed(path.resolve())}
    # what they import beside them, whatever they take of it
    imported = [Path(file) for file in (getattr(each, "__file__", None) for each in [*sys.modules.values()]) if file]
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
            raise ConfigError(f"{path}: has the name of {found[path.name]}: CRAB cannot send both. Rename one.")
    return list(found.values())


def _is_installed(path: Path) -> bool:
    roots = [*NanoML.__path__, *data_processing.__path__]
    roots += [str(Path(area, "src")) for name in _AREAS if (area := os.environ.get(name))]
    tools = sys.modules.get("PhysicsTools.NanoAODTools")  # a job has it too, wherever it is here
    roots += getattr(tools, "__path__", [])
    inside = any(Path(root).resolve() in path.parents for root in roots)
    return inside or "site-packages" in path.parts


def write_job(
    config: Config, is_data: bool, directory: Path, models: Sequence[tuple[Model, Optional[float]]]
) -> list[str]:
    """Write what a job on data or simulation does, and what it reads; return the names of the files that travel with it.

    The models are those of `models_of`.

    An error if a file that the configuration names cannot be read.
    """
    assert config.skim is not None
    job, sent = skim_job(config.skim, config.base), [JOB]
    certified = CERTIFIED if job.certified and is_data else ""
    if certified:
        LumiMask.read(config.path(job.certified)).write(directory / CERTIFIED)
        sent.append(CERTIFIED)
    rules = _RULES if job.branches else ""
    if rules:
        read_rules(config.path(job.branches))
        write_text(directory / _RULES, config.path(job.branches).read_text())
        sent.append(_RULES)
    modules = [_flat(module) for module in job.modules]
    if models:
        sent += _write_models(directory, models)
        names = ",".join(f"model_{number}" for number in range(len(models)))
        modules.append(f"{_MODELS}:{names}")
    selection, keep = _flat(job.selection), tuple(job.keep)
    CrabJob(selection, tuple(modules), job.cut, certified, rules, keep, job.compression).write(directory)
    return sent


def _flat(spec: str) -> str:
    """The same selection or module, where all files are in one directory."""
    place, colon, name = spec.rpartition(":")
    return f"{Path(place).name}{colon}{name}" if place.endswith(".py") else spec


def _write_models(directory: Path, models: Sequence[tuple[Model, Optional[float]]]) -> list[str]:
    """Copy models, and write the Python file by which nanoAOD-tools finds them."""
    lines = ['"""The models that score, as modules of nanoAOD-tools."""', "", "import os", ""]
    lines += ["from MLTools.NanoML.score import score", "", "HERE = os.path.dirname(os.path.abspath(__file__))"]
    sent = [_MODELS]
    for number, (model, value) in enumerate(models):
        name = f"model_{number}"
        for suffix in (".onnx", ".json"):
            source = Path(model.path).with_suffix(suffix)
            if suffix == ".onnx" or source.is_file():
                sent.append(copy(source, directory, name + suffix))
        lines.append(f"{name} = score(os.path.join(HERE, {name + '.onnx'!r}), {value!r})")
    write_text(directory / _MODELS, "\n".join(lines) + "\n")
    return sent


def copy(source: Path, directory: Path, name: str = "") -> str:
    """Copy a file into the directory of a task, under its own or another name, which is returned."""
    name = name or source.name
    with replacing(directory / name) as aside:
        shutil.copy(source, aside)
    return name
