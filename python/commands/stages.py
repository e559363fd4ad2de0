"""`nanoml train`, `evaluate` and `export`: single stages that need a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import config_argument, epilog, run_one

__all__ = ["evaluate", "export", "train"]

_force = click.option("--force", is_flag=True, help="Do it again, also if it is up to date.")


@click.command(short_help="Train the networks.", epilog=epilog("nanoml train examples/trilepton.yaml"))
@config_argument
@_force
def train(config: Path, force: bool) -> None:
    """Train the networks, one for each fold, on the HDF5 files of `nanoml convert`."""
    run_one(config, "train", force)


@click.command(
    short_help="Make the report of a training.", epilog=epilog("nanoml evaluate examples/trilepton.yaml")
)
@config_argument
@_force
def evaluate(config: Path, force: bool) -> None:
    """Make the report of a training: ROC, confusion matrix, score distributions, numbers."""
    run_one(config, "evaluate", force)


@click.command(
    short_help="Write the networks as one ONNX file.",
    epilog=epilog(
        "nanoml export examples/trilepton.yaml",
        "nanoml export examples/trilepton/training --cmssw CMSSW_14_1_X -o model.onnx",
    ),
)
@click.argument("source", metavar="CONFIG | TRAINING", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="MODEL.onnx", help="Write it there.")
@click.option("--cmssw", metavar="RELEASE", help="The release that must be able to run it, as CMSSW_14_0_X.")
@click.option("--onnxruntime", metavar="VERSION", help="Or the version of ONNX Runtime, as 1.17.1.")
@click.option("--name", metavar="NAME", help="Name of the model; default: that of the file.")
@click.option(
    "--preprocess",
    is_flag=True,
    help="Write what CMSSW's jet taggers (RecoBTag) read, too: MODEL_preprocess.json.",
)
@_force
def export(
    source: Path,
    output: Optional[Path],
    cmssw: Optional[str],
    onnxruntime: Optional[str],
    name: Optional[str],
    preprocess: bool,
    force: bool,
) -> None:
    """Write the trained networks as one ONNX file that describes itself.

    With a configuration alone, as it says. With --output, of a training's directory or that of a configuration, as
    the options say.
    """
    is_config = source.suffix in (".yaml", ".yml")
    if output is None:
        if not is_config or cmssw or onnxruntime or name or preprocess:
            raise click.UsageError(
                "Say where the model goes: -o MODEL.onnx. Only what a configuration describes goes without."
            )
        run_one(source, "export", force)
        return
    from MLTools.NanoML.config.analysis import load
    from MLTools.NanoML.config.training import Export
    from MLTools.NanoML.workflow.stages import Layout, import_part

    training = Layout.of(load(source)).training if is_config else source
    exporting = import_part("ML_processing.export.export")
    exporting.export(training, output, Export(cmssw, name), onnxruntime, preprocess)
