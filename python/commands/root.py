"""`nanoml skim`, `merge` and `score`: ROOT files are made from ROOT files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import (
    FILE,
    PATH,
    command,
    config_only,
    echo,
    execute,
    find_files,
    flag,
    loaded,
    memory_option,
    option,
    output_option,
    reading_options,
    root_compression_option,
    run_one,
    show_data_flag,
    workers_option,
)
from MLTools.NanoML.config.data import ENGINES, FORMATS, ONLY_NANOAODTOOLS

# numpy would start a thread on each core for linear algebra, of which there is next to none here, and they wait busily at first
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_OF_FILES = "--show-data is for FILEs: the configuration of an analysis says what is `blind`."


@command(
    "nanoml skim examples/trilepton.yaml",
    "nanoml skim --selection my_selection.py:DiMuon -o skims/ --keep 'MET_*' data/*.root",
    "nanoml skim --module my_module.py:MyModule --cut 'nMuon >= 2' --branches keep_and_drop.txt -o skims/ data/*.root",
)
@click.argument("files", nargs=-1, type=FILE, metavar="[CONFIG | FILE...]")
@option("--selection", "Skim FILEs by this selection, without a configuration.", "MODULE:CLASS")
@option(
    "--module, modules",
    "Run this module in nanoAOD-tools (needs ROOT), event by event; may be repeated.",
    "MODULE:NAME",
    multiple=True,
)
@option("--cut", "Cut before the selection, as nano_postproc.py -c.", "FORMULA", default="")
@option("--json, certified", "Keep only the certified luminosity sections of data.", "FILE", default="")
@output_option("DIR", "The directory for the skims.")
@option("--keep", "Branches to keep: GLOB, or `drop GLOB`; may be repeated.", "RULE", multiple=True)
@option("--branches", "Branch selection file of nanoAOD-tools, before --keep.", "FILE", default="")
@root_compression_option
@option("--format", "Format of the output; RNTuple is newer.", type=click.Choice(FORMATS), default=FORMATS[0])
@option(
    "--engine",
    "The program that skims: NanoML's own, or the PostProcessor of nanoAOD-tools, which runs modules (needs ROOT).",
    type=click.Choice(ENGINES),
)
@option("--corrections", "YAML file with the corrections that the selection asks for.", "FILE", default="")
@workers_option("Files skimmed at once")
@reading_options
@show_data_flag
@flag("--force", "Skim again, even what is up to date.")
def skim(
    files: tuple[str, ...],
    selection: Optional[str],
    modules: tuple[str, ...],
    output: Optional[Path],
    keep: tuple[str, ...],
    workers: int,
    reading: Any,
    show_data: bool,
    force: bool,
    corrections: str,
    **settings: str,
) -> None:
    """Select events of NanoAOD, and add columns.

    FILEs may be paths or root:// URLs. The output is NanoAOD again.
    """
    if not (selection or modules or settings["cut"] or settings["certified"]):
        config = config_only(files, "--selection, --module, --cut or --json")
        for name, default in (("engine", None), ("format", FORMATS[0])):
            if settings[name] != default:
                raise click.UsageError(f"The {name} of a configuration is written there: skim.{name}.")
        if show_data:
            raise click.UsageError(_OF_FILES)
        run_one(config, "skim", force, reading)
        return
    if output is None:
        raise click.UsageError("Say where the skims go: -o DIR.")
    if modules and settings["engine"] == ENGINES[0]:
        raise click.UsageError(f"--engine {ENGINES[0]}: {ONLY_NANOAODTOOLS}.")
    from MLTools.NanoML.parallel import expect_workers, workers_for

    if min(workers or workers_for(files), len(files)) > 1:
        expect_workers("data_processing.skim.skim")
    from MLTools.NanoML.stages import import_part
    from MLTools.NanoML.workflow.pipeline import run_stage

    stages, sources = import_part("data_processing.skim.stage"), find_files(files, reading)
    info = stages.DatasetInfo(corrections_file=corrections and str(Path(corrections).resolve()))
    job = stages.SkimJob(
        "", Path(), selection or "", str(Path.cwd()), list(keep), modules=list(modules), dataset=info, **settings
    )
    tasks = stages.skim_tasks(sources, output.resolve(), job)
    stage = stages.skim_tasks_stage(tasks, {"": output.resolve()}, workers, told=[""] * show_data)
    run_stage(stage, sources, output, force)


@command(
    "nanoml merge -o WZ.root skims/WZTo3LNu/*.root",
    "nanoml merge --fill -o 2018.root 'skims/Run2018*/*.root'",
    under="Work on files",
    short="Merge NanoAOD files.",
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@output_option("OUT.root", "The merged file.", required=True)
@flag("--fill", "Fill branches that a file does not have with zeros, false or empty lists.")
@flag("--common", "Leave out branches that are not the same in all files.")
@root_compression_option
@memory_option
@flag("--dry-run", "Only say what would be merged.")
@flag("--force", "Merge again, even what is up to date.")
def merge(files: tuple[str, ...], output: Path, dry_run: bool, force: bool, **options: object) -> None:
    """Merge NanoAOD files, skims or not, without losing an event, a branch or a weight.

    An event of collision data that is in several files, such as skims of two primary datasets, is taken from the first.

    Events, Runs and LuminosityBlocks are concatenated in the order of FILEs, histograms are summed. The files must have
    the same branches, in any order; if types differ, the larger one is taken. The result is read again and compared
    with what was read from FILEs. A file that keeps no event still counts with its weights.
    """
    if options["fill"] and options["common"]:
        raise click.UsageError("--fill takes the branches of any file, --common those of all: give one of them.")
    from MLTools.NanoML.dependencies import code_of
    from MLTools.NanoML.parallel import RECORDS, locked
    from MLTools.NanoML.stages import import_part
    from MLTools.NanoML.workflow.analysis import Stage, plan, run
    from MLTools.NanoML.workflow.task import Task

    merging = import_part("data_processing.merge.merge")
    job = merging.MergeJob(find_files(files), output.resolve(), **options)
    workdir = job.output.parent / RECORDS / job.output.name  # of its own, so that other runs may write beside it
    task = Task.of("merge", job.output.name, merging.merge_files, job, code_of(merging.__name__))
    stage = Stage("merge", [task], summary=merging.summary)
    if dry_run:
        lines = [line for each in plan([stage], workdir, force) for line in each.lines()]
        echo("\n".join([*lines, *merging.foresee(job).lines(job.output.name)]))
        return
    with locked(workdir):
        run(plan([stage], workdir, force), workdir)


@command(
    "nanoml score examples/trilepton.yaml",
    "nanoml score --model model.onnx -o scored/ skims/*.root",
    "nanoml score --model tagger.onnx --model wprime.onnx --parameter mass=600 --copy -o scored/ data/*.root",
    short="Write a model's scores as branches.",
)
@click.argument("files", nargs=-1, type=FILE, metavar="[CONFIG | FILE...]")
@option(
    "--model, models",
    "Score FILEs by this model, without a configuration; may be repeated.",
    "MODEL.onnx",
    multiple=True,
    type=PATH,
)
@option(
    "--parameter, parameters",
    "Value of a model's parameter; may be repeated, and then scores have it in their names: NAME_CLASS_mass600.",
    "NAME=NUMBER",
    multiple=True,
)
@flag("--copy", "Write full copies of FILEs with the scores, not the scores alone.")
@output_option("DIR", "The directory for the scores.")
@root_compression_option
@workers_option("Files scored at once")
@reading_options
@show_data_flag
@flag("--force", "Score again, even what is up to date.")
def score(
    files: tuple[str, ...],
    models: tuple[Path, ...],
    parameters: tuple[str, ...],
    copy: bool,
    output: Optional[Path],
    compression: str,
    workers: int,
    reading: Any,
    show_data: bool,
    force: bool,
) -> None:
    """Write models' class probabilities and discriminants, or estimates, as branches, entry for entry with the input.

    The output has run, luminosityBlock, event and a branch for each class and discriminant, MODEL_CLASS and
    MODEL_DISCRIMINANT, or for objects a list Electron_MODEL_CLASS: make it a friend of the input.
    If a model reads columns of a selection that FILEs do not have, the selection is run; events that fail it get NaN.
    """
    if not models:
        if parameters or copy or output:
            raise click.UsageError(
                "--parameter, --copy and --output are for FILEs, with --model; a configuration has its section `score`."
            )
        if show_data:
            raise click.UsageError(_OF_FILES)
        execute(loaded(config_only(files, "--model"), reading), ("normalise", "score"), force)
        return
    if output is None:
        raise click.UsageError("Say where the scores go: -o DIR.")
    from MLTools.NanoML.stages import import_part
    from MLTools.NanoML.workflow.analysis import Stage
    from MLTools.NanoML.workflow.pipeline import run_stage

    scoring, stage_of = (import_part(f"data_processing.score.{name}") for name in ("score", "stage"))
    values: dict[str, list[float]] = {}
    for name, value in map(_parameter, parameters):
        values.setdefault(name, []).append(value)
    paths = tuple(model.resolve() for model in models)
    scoring.load_models(paths, values)  # a bad model is one message, not one for each file
    sources = find_files(files, reading)
    job = scoring.ScoreJob("", Path(), paths, values, copy, compression, base=os.getcwd())
    summary = partial(stage_of.domain_summary, {"": paths}, hidden=[] if show_data else [""])
    stage = Stage("score", stage_of.score_tasks(sources, output.resolve(), job), workers, summary)
    run_stage(stage, sources, output, force)


def _parameter(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, float(value)
    except ValueError:
        pass
    raise click.BadParameter(f"{text}: write NAME=NUMBER, as in mass=600.", param_hint="--parameter")
