"""`nanoml run`, `accept`, `config`, `tune`, `export` and single stages: what takes the YAML file of an analysis."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML import extending
from MLTools.NanoML.commands.options import (
    ExportOption,
    command,
    config_argument,
    echo,
    echo_json,
    epilog,
    execute,
    flag,
    in_help,
    json_option,
    loaded,
    missing_option,
    option,
    output_option,
    read_settings,
    run_one,
    settle,
    source_argument,
    with_added,
    workers_option,
)
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.stages import NAMES, declared, seconds_in

_TRIED = 1000  # events on which a skim is tried


@command(
    "nanoml run examples/trilepton.yaml",
    "nanoml run analysis.yaml --from train --dry-run",
    under="Run an analysis",
    short="Run all stages of an analysis that are out of date.",
)
@config_argument
@option("--from, first", "First stage; default: the first of all.", "STAGE", type=click.Choice(NAMES))
@option("--to, last", "Last stage; default: the last of all.", "STAGE", type=click.Choice(NAMES))
@flag("--dry-run", "Only say what would be done, and why.")
@flag("--force", "Do everything again, even what is up to date.")
@missing_option
@json_option
def run(
    config: Path,
    first: Optional[str],
    last: Optional[str],
    dry_run: bool,
    force: bool,
    max_missing_files: Optional[str],
    as_json: bool,
) -> None:
    """Run the stages of an analysis, one after the other.

    Only what is missing or out of date is done: after a change of the inputs, of a section of the
    configuration, or of the code. It may be interrupted at any moment; the same command continues.
    """
    from MLTools.NanoML.workflow.pipeline import between, planned

    if as_json and not dry_run:
        raise click.UsageError("--json prints the plan: use it with --dry-run.")
    analysis, names = (loaded(config, partial(read_settings, max_missing_files, (), False)), between(first, last))
    if not dry_run:
        execute(analysis, names, force)
        return
    todo = planned(analysis, names, force)
    if as_json:
        found = [
            {"stage": each.stage.name, "tasks": len(each.stage.tasks), "to_do": dict(each.reasons)} for each in todo
        ]
        echo_json(found)
        return
    for each in todo:
        echo("\n".join(each.lines()))


def stage_command(name: str) -> click.Command:
    """The command of a stage that has no more options: it runs the stage of a configuration."""

    @command(f"nanoml {name} {declared(name).example}", name=name, help=declared(name).about)
    @config_argument
    @flag("--force", "Do it again, even if it is up to date.")
    def stage(config: Path, force: bool) -> None:
        run_one(config, name, force)

    return stage


@command(
    "nanoml draw examples/wz.yaml",
    "nanoml draw examples/wz.yaml --only roc --only 'postfit_*'",
    short="Draw figures and pages again, without computing anything.",
)
@config_argument
@option("--only", "Draw this figure alone: the name of its file; may be repeated.", "NAME|GLOB", multiple=True)
@flag("--dry-run", "Only say what would be drawn.")
def draw(config: Path, only: tuple[str, ...], dry_run: bool) -> None:
    """Draw the figures of reports, histograms and fits again, in the present style of the configuration.

    It takes seconds: figures show the results as they are, also where `nanoml run` would compute them again. With --only,
    the other figures stay as they are, and the page is written again; `nanoml run` still draws all of them if the style was changed.
    """
    from MLTools.NanoML.workflow.pipeline import redraw

    redraw(loaded(config), only, dry_run, settle)


@command(
    "nanoml run analysis.yaml --dry-run",
    "nanoml accept skim analysis.yaml",
    under="Run an analysis",
    short="Keep results although their code was changed.",
)
@click.argument("stage", type=click.Choice(NAMES), metavar="STAGE")
@config_argument
@flag("--dry-run", "Only say what would be accepted.")
def accept(stage: str, config: Path, dry_run: bool) -> None:
    """Keep the results of a stage although their code was changed, because you know that they are the same.

    NanoML or your selection was changed, and `nanoml run` would do the stage again, because of a faster loop or a renamed
    variable, for example. The records of the results say that they were accepted, and after which changes. What has
    another reason to be done again, such as new inputs or settings, is not touched.
    """
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.workflow.pipeline import accept_stage

    for line in accept_stage(load(config), stage, dry_run):
        echo(line)


@in_help("Start")
@click.group(epilog=epilog("nanoml config check examples/trilepton.yaml"))
def config() -> None:
    """Check a configuration, or print its JSON Schema."""


@config.command(
    short_help="Check keys, types and branches, and try the skim.",
    epilog=epilog("nanoml config check examples/trilepton.yaml"),
)
@config_argument
@json_option
def check(config: Path, as_json: bool) -> None:
    """Check a configuration: its keys and types, its branches against the real files, and its skim on the first events."""
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.stages import import_part

    analysis = load(config)
    found = import_part("data_processing.check").check(analysis, _TRIED) if analysis.datasets else []
    if as_json:
        content = {"config": str(config), "valid": True, "datasets": found, "settings": analysis.as_dict()}
        echo_json(content)
        return
    for line in found:
        echo(line)
    echo(f"{config}: in order")


@config.command(
    short_help="Print the JSON Schema, for editors.", epilog=epilog("nanoml config schema > nanoml.schema.json")
)
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors that complete and check.

    \b
    In VS Code with its YAML extension, write as the first line of the YAML file:
        # yaml-language-server: $schema=nanoml.schema.json
    """  # noqa: D301
    from MLTools.NanoML.config.load import schema as json_schema

    echo_json(json_schema())


def _duration(text: str) -> float:
    """Seconds in text such as 90s, 30min, 2h or 1.5d; a number alone is in seconds."""
    try:
        return float(seconds_in(f"{text}s" if text[-1:].isdigit() else text))
    except ConfigError:
        raise click.BadParameter(f"{text} is not a time. Write it as 30min, 2h or 90s.") from None


@command(
    "nanoml tune examples/trilepton.yaml -n 50 --workers 4",
    "nanoml tune examples/trilepton.yaml --join --timeout 2h",
    under="Run an analysis",
    short="Tune the hyperparameters of the training.",
)
@config_argument
@option("-n, --trials", "Total number of trials; default: that of the configuration, or 50.", type=click.IntRange(1))
@workers_option("Trials that run at the same time")
@option("--timeout", "Stop after this time, such as 30min or 2h.", "TIME", type=_duration)
@flag("--join", "Work only on the trials of a tuning that is running, as jobs on other machines do.")
@flag("--dry-run", "Only say what would be done.")
@flag("--force", "Remove the existing trials, and begin again.")
def tune(
    config: Path, trials: Optional[int], workers: int, timeout: Optional[float], join: bool, dry_run: bool, force: bool
) -> None:
    """Tune the hyperparameters of the training, as the section tune of the configuration says.

    Each trial trains one network; no trial reads the events of the test fold. In the end the best hyperparameters
    are tested on these events, and written to WORKDIR/tuning/best.yaml. The tuning may be interrupted at any moment; the
    same command continues it.
    """
    if join and force:
        raise click.UsageError("--join works on an existing search: use it without --force.")
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.stages import import_part

    loaded, search = load(config), import_part("ML_processing.tuning.search")
    options = search.SearchOptions(trials, workers, timeout, join, force)
    if not dry_run:
        search.tune(loaded, options)
        return
    for line in search.plan(loaded, options):
        echo(line)


_ADDED: dict[str, ExportOption] = {name: extending.loaded(it) for name, it in extending.entries("export").items()}
_OF_FILE = [name for name, it in _ADDED.items() if it.of_file]


@command(
    "nanoml export examples/trilepton.yaml",
    "nanoml export examples/trilepton/training --cmssw CMSSW_14_1_X -o model.onnx",
    short="Write the networks as one ONNX file.",
)
@source_argument("source", "[CONFIG | TRAINING | MODEL.onnx]")
@output_option("MODEL.onnx", "Write it there.")
@option("--cmssw", "The release that must be able to run it, such as CMSSW_14_0_X.", "RELEASE")
@option("--onnxruntime", "Or the version of ONNX Runtime, such as 1.17.1.", "VERSION")
@option("--name", "Name of the model; default: that of the file.", "NAME")
@with_added("export")
@flag("--force", "Do it again, even if it is up to date.")
def export(
    source: Path,
    output: Optional[Path],
    cmssw: Optional[str],
    onnxruntime: Optional[str],
    name: Optional[str],
    force: bool,
    **values: Any,
) -> None:
    """Write the trained networks as one ONNX file that describes itself.

    A configuration alone says how. With --output, the training in a directory, or that of a configuration, is exported
    as the options say.
    """
    from MLTools.NanoML.config.evaluation import Export
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.stages import import_part
    from MLTools.NanoML.workflow.layout import Layout

    added = {f"--{name}": it for name, it in values.items() if it}
    is_config = source.suffix in (".yaml", ".yml")
    names: dict[Path, Optional[str]] = {}  # under which the models are served
    if source.suffix == ".onnx":
        if not added or output or cmssw or onnxruntime or not {*added} <= {*_OF_FILE}:
            ways = f": the only options for it are {', '.join(_OF_FILE)} and --name" if _OF_FILE else " already"
            raise click.UsageError(f"{source} is exported{ways}.")
        names[source] = name
    elif output is None:
        if not is_config or cmssw or onnxruntime or name or not {*added} <= {*_OF_FILE}:
            raise click.UsageError(
                "Say where the model goes: -o MODEL.onnx. Only a configuration without other options needs no -o."
            )
        run_one(source, "export", force)
        analysis = load(source)
        layout = Layout.of(analysis)
        names = {layout.model(era): era and f"{layout.name}_{era}" for era in analysis.trainings}
    else:
        training = source
        if is_config:
            analysis = load(source)
            found = [Layout.of(analysis).training(era) for era in analysis.trainings]
            if len(found) > 1:
                known = " or ".join(str(each) for each in found)
                raise click.UsageError(
                    f"{source} has a training for each era, and -o is for one. Name it instead: {known}."
                )
            (training,) = found
        exporting = import_part("ML_processing.export.export")
        checks = [extending.loaded(_ADDED[it].check) for it in added if _ADDED[it].check]
        exporting.export(training, output, Export(cmssw, name), onnxruntime, checks)
        names[output] = None
    for option_name, value in added.items():
        for model, served in names.items():
            extending.loaded(_ADDED[option_name].make)(model, value, served)
