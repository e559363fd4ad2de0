"""`nanoml init`, `doctor` and `completion`, before the first analysis; and what to do next in a directory."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from MLTools.NanoML.atomic import make_directory, replacing, write_text
from MLTools.NanoML.commands.options import PATH, analyses, command, echo, echo_json, json_option, option
from MLTools.NanoML.config.batch import SYSTEMS
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.extending import titles
from MLTools.NanoML.workflow.layout import Layout

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.doctor.ways import Examination

TEMPLATES = Path(__file__).parents[1] / "templates" / "init"
"""The files of a new analysis directory; a dot file has no dot here."""

_FILLED = ("README.md", "analysis.yaml")
_DOT_FILES = {"gitignore": ".gitignore", "pytest.ini": ".pytest.ini"}
WAYS = ("laptop", "lxplus", *(name for name in SYSTEMS if name != "local"), "cmssw")
_DATA = ("*.root", "*.h5", "*.onnx")
_MOST = 3


@command("nanoml init myanalysis", under="Start", short="Make a directory for a new analysis.")
@click.argument("directory", metavar="NAME", type=PATH)
def init(directory: Path) -> None:
    """Make a directory for a new analysis, which runs as it is, on sample data.

    It has the YAML file of the analysis, with comments, a selection with its test, a README and a .gitignore. NAME must
    not exist, or be an empty directory.
    """
    for path in create(directory):
        echo(f"  {directory / path}")
    go_there = "" if directory.resolve() == Path(os.getcwd()) else f"cd {shlex.quote(str(directory))} && "
    echo(f"Now:  {go_there}nanoml run analysis.yaml")


def create(directory: str | os.PathLike[str]) -> list[Path]:
    """Make a new analysis in a directory, which it is named after; return its files, relative to the directory.

    Raises NanoMLError if there is something in the directory already, or it cannot be written to.
    """
    place = Path(directory)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{directory}: exists, and is not an empty directory. Choose another name.")
    was_there = place.is_dir()
    make_directory(place)
    files = [path for path in TEMPLATES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files.sort(key=lambda path: (len(path.parts), path.name))
    written = [path.relative_to(TEMPLATES).with_name(_DOT_FILES.get(path.name, path.name)) for path in files]
    try:
        for source, path in zip(files, written):
            if str(path) in _FILLED:
                write_text(place / path, _filled(source, place.resolve().name))
            else:
                with replacing(place / path) as aside:
                    shutil.copyfile(source, aside)
    except BaseException:
        for path in written:
            (place / path).unlink(missing_ok=True)
        for parent in {path.parent for path in written} - {Path()}:
            shutil.rmtree(place / parent, ignore_errors=True)
        if not was_there:
            shutil.rmtree(place, ignore_errors=True)
        raise
    return written


def _filled(template: Path, name: str) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    filled = environment.from_string(template.read_text(encoding="utf-8"))
    return filled.render(name=name, model=re.sub(r"\W", "_", name, flags=re.ASCII))


@command(
    "nanoml doctor",
    "nanoml doctor --for condor",
    "nanoml doctor --for crab --json",
    under="Start",
    short="Check whether this machine has what NanoML needs.",
)
@option("--for, way", "The way of working; default: a guess.", type=click.Choice(WAYS))
@option(
    "--redirector",
    "Also check whether this XRootD server answers; on lxplus that of CMS is always checked.",
    "HOST",
    default="",
)
@json_option
def doctor(way: Optional[str], redirector: str, as_json: bool) -> int:
    """Check on this machine what a way of working needs, and say how to fix what is missing.

    \b
    laptop   everything on this machine
    lxplus   interactive work on lxplus, with files of the grid
    condor   jobs of HTCondor
    slurm    jobs of Slurm
    crab     jobs on the grid, by CRAB
    cmssw    skims, conversion and scores in CMSSW

    The exit code is 1 if something essential is missing. Nothing is changed, and no server is contacted that is not in
    the list.
    """  # noqa: D301
    from MLTools.NanoML.doctor.ways import examine, guess

    found = examine(way or guess(), redirector)
    if as_json:
        echo_json(found.as_dict())
    else:
        _show(found, guessed=way is None)
    return 1 if found.missing else 0


assert doctor.help is not None
_more = "".join(f"{name:8} jobs of {title}\n" for name, title in titles("systems").items())
doctor.help = doctor.help.replace("crab  ", f"{_more}crab  ")


def _show(found: Examination, guessed: bool) -> None:
    from rich.text import Text

    from MLTools.NanoML.doctor.ways import WAYS as KNOWN
    from MLTools.NanoML.doctor.ways import CheckState
    from MLTools.NanoML.terminal.page import Page

    styles = {CheckState.FINE: "green", CheckState.ABSENT: "yellow", CheckState.MISSING: "bold red"}
    page, widths = Page(), [max(map(len, each)) for each in ([it.value for it in CheckState], found.findings)]
    page.title(f"{found.way}: {KNOWN[found.way].about}")
    if guessed:
        page.line(f"(a guess; nanoml doctor --for {', '.join(name for name in KNOWN if name != found.way)})", "dim")
    for name, finding in found.findings.items():
        state = found.state(name)
        head = Text.assemble((f"{state.value:{widths[0]}}", styles[state]), f"  {name:{widths[1]}}")
        page.facts((head, finding.found + (f"\n-> {finding.mend}" if finding.mend else "")))
    if found.missing:
        page.line(f"Missing for {found.way}: {', '.join(found.missing)}.", "bold red")
    else:
        page.line(f"Everything that {found.way} needs is here.", "bold green")


@command(
    "nanoml completion bash >> ~/.bashrc",
    "nanoml completion zsh >> ~/.zshrc",
    "nanoml completion fish > ~/.config/fish/completions/nanoml.fish",
    under="Start",
    short="Print the script for completion with Tab.",
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes commands, options and files of `nanoml` when Tab is pressed.

    It works in shells that are started afterwards.
    """
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    assert known is not None
    click.echo(known(context.find_root().command, {}, "nanoml", "_NANOML_COMPLETE").source())


@dataclass(frozen=True)
class Advice:
    """Advice about an analysis or a file: commands, or files to look at, each with what it is for."""

    about: str
    steps: tuple[tuple[str, str], ...]


def advice(directory: Path) -> list[Advice]:
    """Advice about the next steps in a directory; commands are written as they are typed there."""
    here = analyses(directory)
    found = [_of_analysis(path) for path in here[:_MOST]]
    if len(here) > _MOST:
        found.append(Advice(f"and {len(here) - _MOST} more analyses: {_names(here[_MOST:])}", ()))
    if not here:
        begin = [("nanoml init myanalysis", "a new analysis, which runs as it is, on sample data")]
        if (directory / "examples" / "trilepton.yaml").is_file():
            begin.append(("nanoml run examples/trilepton.yaml", "the complete example"))
        found.append(Advice("no analysis here", tuple(begin)))
    data = [path for pattern in _DATA for path in sorted(directory.glob(pattern))]
    if data:
        inspect = (f"nanoml inspect {_quoted(data[0])}", "what is in it")
        found.append(Advice(f"files: {_names(data)}", (inspect,)))
    steps = (
        ("nanoml doctor", "whether this machine has what NanoML needs"),
        ("nanoml --help", "all commands; nanoml COMMAND --help has an example"),
    )
    return [*found, Advice("anywhere", steps)]


def _of_analysis(path: Path) -> Advice:
    from MLTools.NanoML.batch.submission import JOBS
    from MLTools.NanoML.config.load import load

    name = _quoted(path)
    try:
        config = load(path)
    except ConfigError:
        return Advice(f"{path.name}: has mistakes", ((f"nanoml config check {name}", "which ones"),))
    done = list(_results(config, path.parent))
    about = f"{path.name}: results in {_shortest(Layout.of(config).workdir, path.parent)}" if done else path.name
    steps = [
        (f"nanoml run {name} --dry-run", "what is out of date, and why" if done else "what would be done"),
        (f"nanoml run {name}", "do it"),
    ]
    if any((path.parent / JOBS).glob(f"{path.stem}-*")):
        steps.append((f"nanoml status {name}", "the progress of its jobs"))
    if not done:
        steps.insert(0, (f"nanoml config check {name}", "whether everything that it names is there"))
    return Advice(about, (*steps, *done))


def _results(config: Config, base: Path) -> Iterable[tuple[str, str]]:
    layout = Layout.of(config)
    for era in config.trainings:
        of_era = f" of {era}" if era else ""
        if layout.report(era).is_file():
            yield _shortest(layout.report(era), base), f"the report{of_era}: open it in a browser"
        elif any(layout.training(era).glob("network_*.pt")):
            yield f"nanoml evaluate {_quoted(Path(config.document.name))}", f"the report of the training{of_era}"
    for era in config.trainings:
        if layout.model(era).is_file():
            model = _shortest(layout.model(era), base)
            yield f"nanoml inspect {model}", "what the model reads and gives"
            yield f"nanoml verify {model}", "whether it computes what it says"
    for directory, what in ((layout.scores(), "scores"), (layout.workdir / "skims", "a skim")):
        first = next(iter(sorted(directory.glob("*/*.root"))), None)
        if first is not None:
            yield f"nanoml inspect {_shortest(first, base)}", f"what is in {what}"


def _shortest(path: Path, base: Path) -> str:
    try:
        return shlex.quote(str(path.relative_to(base.resolve())))
    except ValueError:
        return shlex.quote(str(path))


def _quoted(path: Path) -> str:
    return shlex.quote(path.name)


def _names(paths: list[Path]) -> str:
    more = f" and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    return ", ".join(path.name for path in paths[:_MOST]) + more
