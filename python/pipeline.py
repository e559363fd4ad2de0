"""The pipeline: which parts are here, which stages they have, and running a range of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.status import settle
from MLTools.NanoML.config import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.installation import how_to_install
from MLTools.NanoML.layout import Layout
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


def pipeline_stages(config: Config, names: Sequence[str]) -> list[Stage]:
    """The stages of these names that the configuration asks for, in order.

    Raises
    ------
    NanoMLError
        A part is missing, a dataset has no files, and so on.
    """
    found: dict[str, Stage] = {}
    for part in {part_of(name): None for name in names}:
        if _asks_for(config, part):
            found.update(import_part(part, "stages").stages(config))
    return [found[name] for name in STAGES if name in names and name in found]


def _asks_for(config: Config, part: str) -> bool:
    if part == "ML_processing":
        return config.train is not None
    return (
        any(section is not None for section in (config.skim, config.convert, config.score))
        or config.train is not None
    )


def planned(config: Config, names: Sequence[str], force: bool = False) -> list[Planned]:
    """What is to be done of the stages of these names, and why.

    Raises
    ------
    NanoMLError
        As `pipeline_stages`; and the configuration does not fit the real files, if anything is to be done to them.
    """
    layout = Layout.of(config)
    stages = pipeline_stages(config, names)
    if not stages:
        wanted = " and ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
        raise NanoMLError(f"{config.where()}: has no section for {wanted}: there is nothing to do.")
    todo = plan(stages, layout.workdir, force)
    if any(each.reasons for each in todo if each.stage.name in ("skim", "convert")):
        import_part("data_processing", "check").check(config)
    return todo


def execute(config: Config, names: Sequence[str], force: bool = False) -> None:
    """Do what is to be done of the stages of these names.

    Raises
    ------
    NanoMLError
        As `planned` and `runner.run`.
    """
    workdir = Layout.of(config).workdir
    with locked(workdir):
        settle(workdir)
        todo = planned(config, names, force)
        run(todo, workdir)
    _say_where(config, todo)


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
