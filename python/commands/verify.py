"""`nanoml verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import epilog

__all__ = ["verify"]


@click.command(
    short_help="Try whether a model computes what it should.",
    epilog=epilog(
        "nanoml verify model.onnx",
        "nanoml verify model.onnx --onnxruntime 1.17.1",
        "nanoml verify model.onnx --run examples/trilepton/training",
    ),
)
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option(
    "--onnxruntime",
    "version",
    metavar="VERSION",
    help="Run it by this version of ONNX Runtime, which is installed for it and removed again.",
)
@click.option(
    "--run",
    "training",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of the training: compare with its networks in PyTorch.",
)
def verify(model: Path, version: Optional[str], training: Optional[Path]) -> None:
    """Try a model on the events that it carries, and on inputs that are known to break models.

    These are other numbers of events and of objects than usual, also none, NaN, infinities and extreme numbers.
    """
    from MLTools.NanoML.model.verification import verify_model
    from MLTools.NanoML.workflow.stages import import_part

    networks = None
    if training is not None:
        networks = import_part("ML_processing.export.reference").Networks.of(training)
    for line in verify_model(model, version, networks):
        click.echo(line)
