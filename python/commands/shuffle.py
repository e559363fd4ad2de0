"""`nanoml shuffle`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import FILE, config_only, epilog, run_one

__all__ = ["shuffle"]


@click.command(
    short_help="Join HDF5 files in random order.",
    epilog=epilog(
        "nanoml shuffle examples/trilepton.yaml", "nanoml shuffle -o all.h5 --seed 1 signal.h5 background.h5"
    ),
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="CONFIG | FILE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="ALL.h5",
    help="Shuffle FILEs into this file, without a configuration.",
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of the random order."
)
@click.option(
    "--memory", default=100, show_default=True, type=click.IntRange(1), help="MB for the events at work."
)
@click.option("--compression", default="gzip:1", show_default=True, metavar="gzip:LEVEL|none")
@click.option("--force", is_flag=True, help="Shuffle again, also what is up to date (with CONFIG).")
def shuffle(
    files: tuple[str, ...], output: Optional[Path], seed: int, memory: int, compression: str, force: bool
) -> None:
    """Join HDF5 files of `nanoml convert` to one, with their events in random order.

    They need not fit into the memory; beside the output there must be room for all rows, uncompressed. The same
    files, in the same order, and the same seed give the same result. With CONFIG it is done if convert.shuffle
    gives a seed.
    """
    if output is None:
        run_one(config_only(files, "-o ALL.h5", "HDF5"), "shuffle", force)
        return
    from MLTools.NanoML.workflow.stages import import_part

    shuffling, datasets = (
        import_part(name) for name in ("data_processing.convert.shuffle", "data_processing.datasets.datasets")
    )
    sources = [Path(path) for path in datasets.find_files(files, Path(os.getcwd()))]
    shuffling.shuffle_files(shuffling.ShuffleJob(sources, output, seed, memory, compression))
