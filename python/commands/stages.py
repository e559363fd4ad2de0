"""`nanoml train`, `evaluate` and `export`: single stages that need a configuration."""

from __future__ import annotations

from pathlib import Path

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
    short_help="Write the networks as one ONNX file.", epilog=epilog("nanoml export examples/trilepton.yaml")
)
@config_argument
@_force
def export(config: Path, force: bool) -> None:
    """Write the trained networks as one ONNX file that describes itself."""
    run_one(config, "export", force)
