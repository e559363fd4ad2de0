"""The pipeline: which parts are here, which stages they have, and running a range of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

from MLTools.NanoML.batch.status import settle
from MLTools.NanoML.config import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.failures import FailedTasksError
from MLTools.NanoML.grid import missing, reading
from MLTools.NanoML.grid.missing import Missing
from MLTools.NanoML.installation import how_to_install
from MLTools.NanoML.layout import Layout
from MLTools.NanoML.losses import forgive, look_again, note_read
from MLTools.NanoML.progress import say
from MLTools.NanoML.runner import Planned, Stage, locked, plan, run
from MLTools.NanoML.stages import PARTS, STAGES

__all__ = ["between", "execute", "import_part", "pipeline_stages", "planned"]

_EXTRAS = {"data_processing": "data", "ML_processing": "train"}


def part_of(stage: str) -> str:
    """The part of NanoML that has a stage."""
    return next(part for part, names in PARTS.items() if stage in names)


def import_part(part: str, module: str) -> Any:
    """Import a module of a part.

    Raises
    ------
    NanoMLError
        The part is not here, or a package that it needs is missing.
    """
    try:
        return importlib.import_module(f"{part}.{module}")
    except ModuleNotFoundError as problem:
        stages = ", ".join(PARTS[part])
        if (problem.name or "").split(".")[0] == part:
            raise NanoMLError(
                f"{stages}: the directory {part}/ is not here. Take the whole of NanoML for these stages."
            ) from None
        raise NanoMLError(
            f"{stages}: the Python package {problem.name} is missing. Install it: {how_to_install(_EXTRAS[part])}."
        ) from problem


def between(first: Optional[str], last: Optional[str]) -> tuple[str, ...]:
    """The stages from one to another, both included; None is the first or the last of all."""
    begin = STAGES.index(first) if first else 0
    end = STAGES.index(last) if last else len(STAGES) - 1
    if begin > end:
        raise NanoMLError(f"{first} comes after {last}: there is no stage from the one to the other.")
    return STAGES[begin : end + 1]


def pipeline_stages(
    config: Config, names: Sequence[str], left_out: Mapping[str, Sequence[Missing]] = MappingProxyType({})
) -> list[Stage]:
    """The stages of these names that the configuration asks for, in order.

    Parameters
    ----------
    config
        The analysis.
    names
        Of stages.
    left_out
        Of each dataset the files that are missing.

    Raises
    ------
    NanoMLError
        A part is missing, a dataset has no files, and so on.
    """
    found: dict[str, Stage] = {}
    for part in {part_of(name): None for name in names}:
        if _asks_for(config, part):
            more = (left_out,) if part == "data_processing" else ()
            found.update(import_part(part, "stages").stages(config, *more))
    return [found[name] for name in STAGES if name in names and name in found]


def _asks_for(config: Config, part: str) -> bool:
    if part == "ML_processing":
        return config.train is not None
    return (
        any(section is not None for section in (config.skim, config.convert, config.score))
        or config.train is not None
    )


def _reader(config: Config) -> Optional[str]:
    """The stage that reads the files of the datasets first."""
    sections = {"skim": config.skim, "convert": config.convert, "score": config.score}
    return next((name for name, section in sections.items() if section is not None), None)


def planned(
    config: Config, names: Sequence[str], force: bool = False, again: Optional[bool] = None
) -> list[Planned]:
    """What is to be done of the stages of these names, and why.

    Parameters
    ----------
    config
        The analysis.
    names
        Of stages.
    force
        Do it all again.
    again
        Whether to try files again that are missing; by default where the stage that reads each of them by itself is
        among those named.

    Raises
    ------
    NanoMLError
        As `pipeline_stages`; and the configuration does not fit the real files, if anything is to be done to them.
    """
    layout = Layout.of(config)
    if again is None:
        again = _reader(config) in names and _reader(config) != "convert"
    stages = pipeline_stages(config, names, {} if again else missing.read(layout.workdir))
    if not stages:
        raise _nothing_to_do(config, names)
    todo = plan(stages, layout.workdir, force)
    if any(each.reasons for each in todo if each.stage.name in ("skim", "convert")):
        import_part("data_processing", "check").check(config)
    return todo


def _nothing_to_do(config: Config, names: Sequence[str]) -> NanoMLError:
    wanted = " and ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
    why = "there is nothing to do."
    parameter = config.train.parameter if config.train else None
    if "score" in names and parameter is not None:
        why = f"the model's parameter {parameter} needs a value. Add one, as in `score: {{parameter: {{{parameter}: 600}}}}`."
    return NanoMLError(f"{config.where()}: has no section for {wanted}: {why}")


def execute(config: Config, names: Sequence[str], force: bool = False) -> None:
    """Do what is to be done of the stages of these names.

    Files that cannot be read are left out where the configuration allows that; they are tried again each time.

    Raises
    ------
    NanoMLError
        As `planned` and `runner.run`.
    """
    workdir = Layout.of(config).workdir
    with locked(workdir):
        settle(workdir)
        if _reader(config) == "convert" and "convert" in names:
            reading.adopt(config.read)
            look_again(workdir)
        todo = _run(config, names, force)
    _say_where(config, todo)


def _run(
    config: Config, names: Sequence[str], force: bool, again: Optional[bool] = None
) -> Sequence[Planned]:
    workdir = Layout.of(config).workdir
    todo = planned(config, names, force, again)
    for number, each in enumerate(todo):
        try:
            run([each], workdir)
        except FailedTasksError as failed:
            if not failed.is_unreadable:
                raise
            forgive(failed, files_of(config), workdir, config.read.max_missing_files)
            _run(config, (each.stage.name,), False, False)
            later = [one.stage.name for one in todo[number + 1 :]]
            if later:
                _run(config, later, force, False)
            break
        if part_of(each.stage.name) == "data_processing" and missing.read(workdir):
            note_read(each.stage.tasks, files_of(config), workdir)
    return todo


def files_of(config: Config) -> Mapping[str, Sequence[str]]:
    """The files of each dataset; it raises as `datasets.resolve_datasets` does."""
    found: Mapping[str, Sequence[str]] = import_part("data_processing", "datasets").resolve_datasets(config)
    return found


def _say_where(config: Config, todo: Sequence[Planned]) -> None:
    layout = Layout.of(config)
    results = {
        "evaluate": [layout.training / "report.html"],
        "export": [layout.model],
        "score": [layout.workdir / "scores"],
    }
    for each in todo:
        for path in results.get(each.stage.name, ()):
            say(f"{each.stage.name}: {_shortest(path)}")
    if not any(each.reasons for each in todo):
        say("Everything is up to date.")


def _shortest(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
