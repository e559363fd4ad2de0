"""`nanoml score`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import FILE, config_only, epilog, read_settings, reading_options, run_one

__all__ = ["score"]


@click.command(
    short_help="Write a model's scores as branches.",
    epilog=epilog(
        "nanoml score examples/trilepton.yaml",
        "nanoml score --model model.onnx -o scored/ skims/*.root",
        "nanoml score --model tagger.onnx --model wprime.onnx --parameter mass=600 --copy -o scored/ data/*.root",
    ),
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="CONFIG | FILE...")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="MODEL.onnx",
    help="Score FILEs by this model, without a configuration; may be repeated.",
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Value of a model's parameter; may be repeated.",
)
@click.option(
    "--copy", is_flag=True, help="Write full copies of FILEs with the scores, not the scores alone."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the scores go.")
@click.option("--compression", default="ZLIB:5", show_default=True, metavar="ALGORITHM:LEVEL")
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Files scored at once; default: one per core."
)
@reading_options
@click.option("--force", is_flag=True, help="Score again, also what is up to date.")
def score(
    files: tuple[str, ...],
    models: tuple[Path, ...],
    parameters: tuple[str, ...],
    copy: bool,
    output: Optional[Path],
    compression: str,
    workers: int,
    force: bool,
    **read: Any,
) -> None:
    """Write models' class probabilities or estimates as branches, entry for entry with the input.

    The output has run, luminosityBlock, event and a branch MODEL_CLASS for each class, of objects a list
    Electron_MODEL_CLASS: make it a friend of the input.
    If a model reads columns of a selection that FILEs lack, the selection is run; events that do not pass get NaN.
    """
    if not models:
        if parameters or copy or output:
            raise click.UsageError(
                "--parameter, --copy and --output are for FILEs, with --model; a configuration has its section `score`."
            )
        run_one(config_only(files, "--model"), "score", force, **read)
        return
    if output is None:
        raise click.UsageError("Say where the scores go: -o DIR.")
    from MLTools.NanoML.parallel import locked, usable_cores
    from MLTools.NanoML.rootio.remote import reading
    from MLTools.NanoML.workflow.pipeline import run_stage
    from MLTools.NanoML.workflow.runner import Stage
    from MLTools.NanoML.workflow.stages import import_part

    scoring, stage_of, datasets = (
        import_part(name)
        for name in (
            "data_processing.score.score",
            "data_processing.score.stage",
            "data_processing.datasets.datasets",
        )
    )
    values = dict(_parameter(text) for text in parameters)
    paths = tuple(model.resolve() for model in models)
    scoring.load_models(paths, values)  # a bad model is one message, not one for each file
    reading.use(read_settings(reading.current(), **read))
    sources = datasets.find_files(files, Path(os.getcwd()))
    job = scoring.ScoreJob("", Path(), paths, values, copy, compression, base=os.getcwd())
    with locked(output):
        tasks = stage_of.score_tasks(sources, output.resolve(), job)
        stage = Stage("score", tasks, workers or usable_cores())
        run_stage(stage, sources, output, force, reading.current().max_missing_files)


def _parameter(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, float(value)
    except ValueError:
        pass
    raise click.BadParameter(f"{text}: write NAME=NUMBER, as in mass=600.", param_hint="--parameter")
