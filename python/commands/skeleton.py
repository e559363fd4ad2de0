"""A new analysis directory: templates, filled in."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from MLTools.NanoML.atomic import make_directory, replacing, write_text
from MLTools.NanoML.errors import ConfigError

__all__ = ["TEMPLATES", "create"]

TEMPLATES = Path(__file__).parents[1] / "templates" / "init"
"""The files of a new analysis directory; a dot file has no dot here."""

_FILLED = ("README.md", "analysis.yaml")
_DOT_FILES = {"gitignore": ".gitignore"}


def create(directory: str | os.PathLike[str]) -> list[Path]:
    """Make a new analysis in a directory that is empty or does not exist.

    Parameters
    ----------
    directory
        Where; the analysis is called like it.

    Returns
    -------
    The files, relative to the directory.

    Raises
    ------
    NanoMLError
        There is something in the directory already, or it cannot be written to.
    """
    place = Path(directory)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{directory}: is there already, and not an empty directory. Choose another name.")
    was_there = place.is_dir()
    make_directory(place)
    written: list[Path] = []
    try:
        for source in _sources():
            written.append(_target(source))
            _write(source, place / written[-1], place.resolve().name)
    except BaseException:
        _undo(place, written, was_there)
        raise
    return written


def _sources() -> list[Path]:
    """The templates, those of the top directory first."""
    found = [path for path in TEMPLATES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(found, key=lambda path: (len(path.parts), path.name))


def _target(source: Path) -> Path:
    relative = source.relative_to(TEMPLATES)
    return relative.with_name(_DOT_FILES.get(relative.name, relative.name))


def _write(source: Path, target: Path, name: str) -> None:
    if str(source.relative_to(TEMPLATES)) not in _FILLED:
        with replacing(target) as aside:
            shutil.copyfile(source, aside)
        return
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        source.read_text(encoding="utf-8")
    )
    write_text(target, template.render(name=name, model=re.sub(r"\W", "_", name, flags=re.ASCII)))


def _undo(place: Path, written: list[Path], was_there: bool) -> None:
    for path in written:
        (place / path).unlink(missing_ok=True)
    for parent in sorted({path.parent for path in written} - {Path()}, reverse=True):
        shutil.rmtree(place / parent, ignore_errors=True)
    if not was_there:
        shutil.rmtree(place, ignore_errors=True)
