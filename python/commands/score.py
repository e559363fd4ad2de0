"""`nanoml score`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import config_only, epilog, run_one

__all__ = ["score"]


@click.command(
    short_help="Write a model's scores as branches.",
    epilog=epilog(
        "nanoml score examples/trilepton.yaml", "nanoml score --model model.onnx -o scored/ skims/*.root"
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="CONFIG | FILE...")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="MODEL.onnx",
    help="Score FILEs by this model, without a configuration.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the scores go.")
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Files scored at once; default: one per core."
)
@click.option("--force", is_flag=True, help="Score again, also what is up to date.")
def score(
    files: tuple[str, ...], model: Optional[Path], output: Optional[Path], workers: int, force: bool
) -> None:
    """Write a model's class probabilities as branches, entry for entry with the input.

    The output has run, luminosityBlock, event and a branch for each class: make it a friend of the input.
    """
    if model is None:
        run_one(config_only(files, "--model"), "score", force)
        return
    if output is None:
        raise click.UsageError("Say where the scores go: -o DIR.")
    from MLTools.NanoML.model import Model
    from MLTools.NanoML.pipeline import import_part
    from MLTools.NanoML.runner import Stage, locked, plan, run, usable_cores

    Model(model)  # a bad model is one message, not one for each file
    stages, datasets = import_part("data_processing", "stages"), import_part("data_processing", "datasets")
    sources = datasets.find_files(files, Path(os.getcwd()))
    with locked(output):
        tasks = stages.score_tasks(sources, output.resolve(), model.resolve())
        run(plan([Stage("score", tasks, workers or usable_cores())], output, force), output)
