"""The command `nanoml`."""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import os
import pkgutil
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn, Optional

import click

from MLTools.NanoML import commands
from MLTools.NanoML.errors import TOO_LITTLE_MEMORY, NanoMLError, lacks_memory
from MLTools.NanoML.extending import WITHOUT
from MLTools.NanoML.terminal.progress import end_at_sigterm, heed_signal, show

_LONG = 50  # characters of a command beside which there is no room for what it is for


@functools.cache
def _commands() -> dict[str, dict[str, click.Command]]:
    """The commands of all modules of `commands`, by title and name; a stage without one there has one all the same."""
    for each in sorted((it.name for it in pkgutil.iter_modules(commands.__path__)), reverse=True):  # `start` is first
        importlib.import_module(f"{commands.__name__}.{each}")
    from MLTools.NanoML.commands.options import COMMANDS, STAGES
    from MLTools.NanoML.commands.pipeline import stage_command
    from MLTools.NanoML.extending import entries, loaded
    from MLTools.NanoML.stages import NAMES, declared

    for place in entries("commands").values():
        loaded(place)
    made = COMMANDS[STAGES]
    named = [name for name in NAMES if name in made or declared(name).about]
    return {**COMMANDS, STAGES: {name: made.get(name) or stage_command(name) for name in named}}


class _Lazy(click.Group):
    """Finds commands when it is asked for one: to import this module costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _commands().values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        return next((names[cmd_name] for names in _commands().values() if cmd_name in names), None)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, names in _commands().items():
            rows = [(f"{name:{width}}", it.get_short_help_str(80)) for name, it in names.items() if not it.hidden]
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from MLTools.NanoML.extending import listed_extensions
            from MLTools.NanoML.rootio.versions import did_you_mean

            meant = did_you_mean(args[0], known, 0.6) or f" Extensions here: {listed_extensions()}."  # "rnu" is run
            ctx.fail(f'"{args[0]}" is not a command.{meant}')
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from MLTools.NanoML.doctor.software import report

        click.echo("\n".join(report()))
        ctx.exit()


def _hide(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> None:
    if names:  # what is imported from now on does without them, also in other processes
        os.environ[WITHOUT] = ",".join(names)


@click.group(
    cls=_Lazy,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version and the environment, for bug reports.",
)
@click.option(
    "--without",
    metavar="EXTENSION",
    multiple=True,
    expose_value=False,
    is_eager=True,
    callback=_hide,
    help="Do without an extension, as if its folder were not there; may be repeated. all: without any.",
)
@click.pass_context
def nanoml(ctx: click.Context) -> None:
    """From CMS NanoAOD to a trained network that runs inside CMSSW.

    Without a command, it says what can be done next in this directory.

    \b
    A new analysis, which runs as it is:
        nanoml init myanalysis
    The whole pipeline, by one file that describes the analysis:
        nanoml run examples/trilepton.yaml
    What is in a file:
        nanoml inspect skim.root
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        _say_what_is_next()


def _say_what_is_next() -> None:
    from MLTools.NanoML.commands.start import advice

    for each in advice(Path.cwd()):
        show(each.about, style="bold")
        width = max((len(step) for step, _ in each.steps if len(step) <= _LONG), default=0)
        for step, what in each.steps:
            show(f"  {step:{width}}   {what}", indent=width + 5)


def _explain(problem: click.ClickException) -> None:
    """Print an error of click, as click does, but wrapped."""
    context = getattr(problem, "ctx", None)
    if context is not None:
        show(context.get_usage(), sys.stderr)
    show(f"Error: {problem.format_message()}", sys.stderr, "red")
    if context is not None:
        show(f"`{context.command_path} --help` says more.", sys.stderr)


def _from_here(text: str) -> str:
    """A message in which files below the working directory have relative paths, as they were given in most cases."""
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        return text
    return re.sub(rf"(?<![\w/.:-]){re.escape(here)}/(?=[\w.])", "", text)


def page_of(problem: BaseException) -> Optional[str]:
    """The page about what raised an error, relative to doc/; None if there is none."""
    modules, traceback = [], problem.__traceback__
    while traceback is not None:
        modules.append(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    if modules and modules[-1] == "MLTools.NanoML.workflow.analysis":
        from MLTools.NanoML.stages import NAMES, declared

        stage = re.match(rf"({'|'.join(NAMES)}) \S+: ", str(problem))
        return declared(stage[1]).page if stage else None
    for module in reversed(modules):
        parts = module.split(".")
        for length in range(len(parts), 0, -1):
            page: Optional[str] = getattr(sys.modules.get(".".join(parts[:length])), "PAGE", None)
            if page is not None:
                return page
    return None


def where(page: str) -> str:
    """Where a page is: a path in the checkout, or its name in the manual."""
    from MLTools.NanoML.installation import checkout

    place = checkout()
    path = place / "doc" / page if place is not None else None
    return str(path) if path is not None and path.is_file() else f"doc/{page} of NanoML"


def _end() -> None:
    # all memory is freed when the process ends: Python need not look through what was imported for garbage; but the compiler
    # that PyTorch brings along calls what is left of it a leak, on the terminal
    if "triton" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()


def main() -> NoReturn:
    """Run the command line; exit with 0 (done), 1 (failed), 2 (wrong usage or configuration) or 130 (Ctrl-C)."""
    atexit.register(_end)
    end_at_sigterm()
    heed_signal(signal.SIGINT, KeyboardInterrupt)
    try:
        code = nanoml.main(prog_name="nanoml", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the second into the first
        show("Interrupted. Finished work is kept: run the same command again to continue.", sys.stderr, "yellow")
        sys.exit(130)
    except click.ClickException as problem:
        _explain(problem)
        sys.exit(problem.exit_code)
    except NanoMLError as problem:
        show(_from_here(str(problem)), sys.stderr, "red")
        page = page_of(problem)
        if page is not None:
            show(f"See doc: {where(page)}", sys.stderr)
        sys.exit(problem.exit_code)
    except ModuleNotFoundError as problem:
        missing = (problem.name or "").partition(".")[0]
        if missing in ("MLTools", "data_processing", "ML_processing", "statistical_analysis", ""):
            raise  # an error in this program, not in its installation
        from MLTools.NanoML.installation import how_to_install

        show(f"The Python package {missing} is missing. Install it: {how_to_install('all')}", sys.stderr, "red")
        sys.exit(1)
    except BrokenPipeError:  # as in `nanoml inspect ... | head`
        sys.stderr.close()
        sys.exit(0)
    except Exception as problem:
        if not lacks_memory(problem):
            raise
        show(f"The memory is used up: {TOO_LITTLE_MEMORY}.", sys.stderr, "red")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
