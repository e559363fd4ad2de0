"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.config.datasets import Read

__all__ = [
    "FILE",
    "config_argument",
    "config_only",
    "epilog",
    "json_option",
    "loaded",
    "missing_option",
    "read_settings",
    "reading_options",
    "run_one",
]

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


class _Loss(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    name = "N|SHARE%"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> str:
        from MLTools.NanoML.config.datasets import LOSS

        if not re.fullmatch(LOSS["pattern"], str(value)):
            return self.fail(f'"{value}": write {LOSS["form"]}.')
        return str(value)


def epilog(*lines: str) -> str:
    """An example for the end of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"    {line}" for line in lines)


def config_argument(function: _Command) -> _Command:
    """The YAML file of an analysis."""
    return click.argument("config", type=click.Path(path_type=Path))(function)


def json_option(function: _Command) -> _Command:
    """Print JSON for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(function)


def missing_option(function: _Command) -> _Command:
    """How many files may be missing."""
    return click.option(
        "--max-missing-files",
        "max_missing_files",
        type=_Loss(),
        help="Leave out files that cannot be read, of each dataset at most so many; the results say which.",
    )(function)


def reading_options(function: _Command) -> _Command:
    """How files are read over the network; the command gets them as `redirectors`, `copy_first`, `max_missing_files`."""
    copying = click.option("--copy-first", is_flag=True, help="Copy each remote file here before it is read.")
    asking = click.option(
        "--redirector",
        "redirectors",
        multiple=True,
        metavar="root://SERVER/",
        help="Ask this server for files that cannot be read elsewhere, not those of CMS; may be repeated.",
    )
    return asking(copying(missing_option(function)))


def read_settings(
    settings: Read,
    redirectors: Sequence[str] = (),
    copy_first: bool = False,
    max_missing_files: Optional[str] = None,
) -> Read:
    """The settings for reading with what the options of `reading_options` change of them."""
    limit = settings.max_missing_files if max_missing_files is None else max_missing_files
    return replace(
        settings,
        redirectors=list(redirectors) or settings.redirectors,
        copy=copy_first or settings.copy,
        max_missing_files=limit,
    )


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


def loaded(config: Path, **options: Any) -> Config:
    """A configuration, with what the options of `reading_options` change of it."""
    from MLTools.NanoML.config.analysis import load

    found = load(config)
    return replace(found, read=read_settings(found.read, **options))


def run_one(config: Path, stage: str, force: bool = False, **options: Any) -> None:
    """Run one stage of a configuration; the options are those of `reading_options`."""
    from MLTools.NanoML.workflow.pipeline import execute

    execute(loaded(config, **options), (stage,), force)
