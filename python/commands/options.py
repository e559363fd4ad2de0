"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = ["FILE", "config_argument", "config_only", "epilog", "json_option", "run_one"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _File(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A path or a URL, of which paths are completed by the shell."""

    name = "file"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


FILE = _File()
"""The type of arguments that are paths or URLs."""


def epilog(*lines: str) -> str:
    """An example for the end of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"    {line}" for line in lines)


def config_argument(function: _Command) -> _Command:
    """The YAML file of an analysis."""
    return click.argument("config", type=click.Path(path_type=Path))(function)


def json_option(function: _Command) -> _Command:
    """Print JSON for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(function)


def config_only(files: tuple[str, ...], needs: str, kind: str = "ROOT") -> Path:
    """The configuration, where a command was given no option to work without one.

    Raises
    ------
    click.UsageError
        The argument is not one YAML file.
    """
    if len(files) != 1 or Path(files[0]).suffix not in (".yaml", ".yml"):
        raise click.UsageError(f"Give one configuration (a .yaml file), or {kind} files with {needs}.")
    return Path(files[0])


def run_one(config: Path, stage: str, force: bool = False) -> None:
    """Run one stage of a configuration."""
    from MLTools.NanoML.config import load
    from MLTools.NanoML.pipeline import execute

    execute(load(config), (stage,), force)
