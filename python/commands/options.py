"""The common parts of several commands: options and arguments, and how these lead to files and to a run."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar

import click
from click.shell_completion import CompletionItem

from MLTools.NanoML import extending
from MLTools.NanoML.errors import listed
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.terminal.progress import printable, say, show

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.rootio.remote.client import Read

    _Change = Callable[[Read], Read]

_ANALYSIS = re.compile(r"^(datasets|skim|convert|train):", re.M)
_LARGEST = 1_000_000  # bytes of a YAML file that is looked into

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Listed = TypeVar("_Listed", bound=click.Command)
_Decorator = Callable[[_Command], _Command]


def echo(text: str = "", err: bool = False, style: str = "") -> None:
    """Print a text for a person, which may have parts of files, as `show` does."""
    show(text, sys.stderr if err else sys.stdout, style)


def echo_as_is(text: str, err: bool = False) -> None:
    """Print a text that is copied, or read by a program: it is not wrapped."""
    click.echo(printable(text), err=err)


def echo_json(content: object) -> None:
    """Print content as JSON."""
    echo_as_is(json.dumps(content, indent=1))


class _File(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A path or a URL; the shell completes paths."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


FILE = _File()
"""The type of arguments that are paths or URLs."""

PATH: click.Path[Path] = click.Path(path_type=Path)
"""The type of arguments that are paths."""


def in_form(place: str) -> Callable[[str], str]:
    """A type for texts in the form that a setting has, too: "module:NAME" has its pattern, and what this is in words."""

    def given(text: str) -> str:
        module, _, name = place.partition(":")
        form = getattr(importlib.import_module(module), name)
        if not re.fullmatch(form["pattern"], text):
            raise click.BadParameter(f'"{text}": write {form["form"]}.')
        return text

    return given


STAGES = "Its stages, one by one"
COMMANDS: dict[str, dict[str, click.Command]] = {
    "Start": {},
    "Run an analysis": {},
    STAGES: {},
    "Look at results": {},
    "Work on files": {},
    "Correct the simulation": {},
    "Batch systems": {},
    "Grid": {},
}
"""The commands, by name, under the titles of the help of `nanoml`."""


def in_help(under: str) -> Callable[[_Listed], _Listed]:
    """List a command or a group of commands under a title in the help of `nanoml`."""

    def note(found: _Listed) -> _Listed:
        COMMANDS[under][str(found.name)] = found
        return found

    return note


def command(
    *examples: str, under: str = STAGES, short: Optional[str] = None, **attributes: Any
) -> Callable[[_Command], click.Command]:
    """A command of `nanoml`, listed `under` a title, whose help ends with examples; `short` is what the list says."""

    def made(function: _Command) -> click.Command:
        shown = epilog(*examples, *getattr(function, "examples", ()))  # and those of extensions
        return in_help(under)(click.command(short_help=short, epilog=shown, **attributes)(function))

    return made


def with_added(kind: str) -> Callable[[_Command], _Command]:
    """Let extensions add options to a command, by `entries`: each decorates its function, which gets what it does not know as `added`."""

    def decorated(function: _Command) -> _Command:
        for place in reversed(extending.entries(kind).values()):
            function = extending.loaded(place)(function)
        return function

    return decorated


def option(names: str, text: str, metavar: Optional[str] = None, **attributes: Any) -> Callable[[_Command], _Command]:
    """An option with a value, as "-n, --trials"; its default is shown, if it says something."""
    attributes = {"help": text, "metavar": metavar, "show_default": bool(attributes.get("default")), **attributes}
    return click.option(*names.split(", "), **attributes)


def flag(names: str, text: str) -> Callable[[_Command], _Command]:
    """An option without a value."""
    return click.option(*names.split(", "), is_flag=True, help=text)


@dataclass(frozen=True)
class ExportOption:
    """An option of `nanoml export` that an extension adds to the registry "export": what else is made of a model."""

    declared: Callable[[Callable[..., Any]], Callable[..., Any]]  # as `option` and `flag` make it
    # "module:function": makes it, of a file, the option's value, and the name under which it is served (None for its own)
    make: str
    # "module:function": raises a NanoMLError if it cannot be made of a model with a `Description`, which then is not written
    check: str = ""
    of_file: str = ""  # what the help says about it for a model that exists; empty if it is not for one
    example: str = ""  # a line for the end of the help

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give it to the command, as `with_added` does."""
        function.__dict__["examples"] = (*getattr(function, "examples", ()), *filter(None, [self.example]))
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')} {self.of_file}".rstrip()
        return self.declared(function)


show_data_flag = flag(
    "--show-data", "Also show how many events of data pass the cuts, and of which kind: they may be blind."
)


def epilog(*lines: str) -> str:
    """An example for the end of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"    {line}" for line in lines)


def analyses(directory: Path) -> list[Path]:
    """YAML files in a directory that look like analyses."""
    found = []
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.stat().st_size < _LARGEST and _ANALYSIS.search(path.read_text(encoding="utf-8")):
                found.append(path)
    return found


def _only_analysis() -> Path:
    found = [path.name for path in analyses(Path())]
    if len(found) != 1:
        one = f"one of the analyses here: {listed(found)}"
        raise click.UsageError(f"Name {one if found else 'the YAML file of an analysis: this directory has none'}.")
    say(f"Taking {found[0]}, the only analysis here.")
    return Path(found[0])


def source_argument(name: str, metavar: Optional[str] = None, kind: object = PATH) -> Callable[[_Command], _Command]:
    """The YAML file of an analysis, or what `metavar` says; if it is not given, the only analysis in this directory."""

    def given(context: click.Context, _: click.Parameter, value: object) -> Any:
        return value if value or context.resilient_parsing else _only_analysis()

    return click.argument(name, metavar=metavar, type=kind, required=False, callback=given)


config_argument = source_argument("config")
"""The YAML file of an analysis."""

json_option = flag("--json, as_json", "Print JSON, for scripts.")
memory_option = option("--memory", "Memory for events [MB].", default=100, type=click.IntRange(1))
root_compression_option = option("--compression", "", "ALGORITHM:LEVEL", default="ZLIB:5")
missing_option = option(
    "--max-missing-files, max_missing_files",
    "Leave out files that cannot be read, at most this many of each dataset; the results name them.",
    "N|SHARE%",
    type=in_form("MLTools.NanoML.rootio.remote.client:LOSS"),
)


def output_option(metavar: str, text: str, required: bool = False) -> Callable[[_Command], _Command]:
    """Where the result goes."""
    return option("-o, --output", text, metavar, type=PATH, required=required)


def workers_option(text: str) -> Callable[[_Command], _Command]:
    """How much is done at the same time."""
    return option(
        "--workers", f"{text}; default: one per core, or one for a few MB.", type=click.IntRange(0), default=0
    )


def reading_options(function: _Command) -> Callable[..., Any]:
    """How files are read over the network; the command gets `reading`, which changes the settings accordingly."""

    @functools.wraps(function)
    def gathered(
        redirectors: Sequence[str], copy_first: bool, max_missing_files: Optional[str], **others: object
    ) -> Any:
        reading = functools.partial(read_settings, max_missing_files, redirectors, copy_first)
        return function(reading=reading, **others)

    copying = click.option("--copy-first", is_flag=True, help="Copy each remote file here before it is read.")
    asking = option(
        "--redirector, redirectors",
        "Request files that cannot be read elsewhere from this server, not from CMS's; may be repeated.",
        "root://SERVER/",
        multiple=True,
    )
    return asking(copying(missing_option(gathered)))


def read_settings(limit: Optional[str], redirectors: Sequence[str], copy_first: bool, settings: Read) -> Read:
    """The settings for reading, as the options of `reading_options` change them."""
    return replace(
        settings,
        redirectors=list(redirectors) or settings.redirectors,
        copy=copy_first or settings.copy,
        max_missing_files=settings.max_missing_files if limit is None else limit,
    )


def find_files(files: Sequence[str], reading: Optional[_Change] = None) -> list[str]:
    """The files that arguments of the command line name, to be read as `reading_options` say."""
    from MLTools.NanoML.rootio.remote.client import current_settings, use_settings
    from MLTools.NanoML.stages import import_part

    if not files:
        raise click.UsageError("Name the FILEs.")
    if reading is not None:
        use_settings(reading(current_settings()))
    found: list[str] = import_part("data_processing.datasets.datasets").find_files(files, Path.cwd())
    return found


def config_only(files: Sequence[str], needs: str, kind: str = "ROOT") -> Path:
    """The configuration, if a command was given no option to work without one.

    Raises click.UsageError if the argument is not one YAML file.
    """
    if not files:
        return _only_analysis()
    if len(files) != 1 or Path(files[0]).suffix not in (".yaml", ".yml"):
        raise click.UsageError(f"Give one configuration (a .yaml file), or {kind} files with {needs}.")
    return Path(files[0])


def loaded(config: Path, reading: Optional[_Change] = None) -> Config:
    """A configuration, as `reading_options` change it."""
    from MLTools.NanoML.config.load import load

    found = load(config)
    return replace(found, read=reading(found.read)) if reading is not None else found


def execute(config: Config, names: Sequence[str], force: bool) -> None:
    """Do what is to be done in the stages with these names, unless jobs of a batch system are active there."""
    from MLTools.NanoML.workflow import pipeline

    pipeline.execute(config, names, force, settle)


def settle(workdir: Path) -> None:
    """Record what jobs of a batch system did in a work directory; an error if some are active there."""
    if (workdir / RECORDS / "submissions").exists():  # batch systems are imported only if there were jobs
        from MLTools.NanoML.batch.status import settle

        settle(workdir)


def run_one(config: Path, stage: str, force: bool = False, reading: Optional[_Change] = None) -> None:
    """Run one stage of a configuration, as `reading_options` change it."""
    from MLTools.NanoML.stages import with_figures

    execute(loaded(config, reading), with_figures([stage]), force)
