"""`nanoml efficiencies`: a file of corrections that is made of the simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from MLTools.NanoML.commands.options import (
    command,
    config_argument,
    echo,
    flag,
    loaded,
    option,
    reading_options,
    workers_option,
)

MAKES = "`nanoml efficiencies ANALYSIS.yaml` measures them"
"""What makes files with such names, for messages."""


def _edges(text: str) -> tuple[float, ...]:
    """Edges of bins, which increase."""
    try:
        edges = tuple(map(float, text.split(",")))
    except ValueError:
        raise click.BadParameter(f"{text}: write numbers with commas between them, as in 20,50,100.") from None
    if len(edges) < 2 or any(low >= high for low, high in zip(edges, edges[1:])):
        raise click.BadParameter(f"{text}: write two numbers or more that increase, as in 20,50,100.")
    return edges


@command(
    "nanoml efficiencies analysis.yaml",
    "nanoml efficiencies analysis.yaml --per class --pt 20,50,100,200,500",
    under="Correct the simulation",
    short="Measure b-tagging efficiencies in the simulation.",
)
@config_argument
@option("--pt", "Edges of the bins in pt [GeV].", "EDGES", type=_edges, default="20,30,50,70,100,140,200,300,600,1000")
@option("--abseta", "Edges of the bins in |eta|.", "EDGES", type=_edges, default="0,0.8,1.6,2.5")
@option(
    "--least",
    "Bins are joined until each has at least this many effective jets.",
    type=click.FloatRange(1),
    default=100,
)
@option(
    "--per, group",
    "Measure for each dataset, or for the datasets of a class or of an era together.",
    type=click.Choice(("dataset", "class", "era")),
    default="dataset",
)
@workers_option("Files read at once")
@reading_options
@flag("--dry-run", "Only say what would be done, and why.")
@flag("--force", "Count again, even what is up to date.")
def efficiencies(
    config: Path,
    pt: tuple[float, ...],
    abseta: tuple[float, ...],
    reading: Any,
    dry_run: bool,
    force: bool,
    **options: Any,
) -> None:
    """Measure b-tagging efficiencies in the simulation of an analysis, where its selection asks for them.

    The selection names the jets by `cutflow.count_efficiency(NAME, jets, passed)`. All simulated files are read; jets count
    with generator weights, by dataset, flavour, |eta| and pt. For each era a file of correctionlib is written beside the YAML file
    of its corrections, which can name it: efficiencies_ERA.json.
    """
    from MLTools.NanoML.stages import import_part

    import_part("data_processing.skim.stage")  # or it says what is missing
    from MLTools.NanoML.extensions.efficiencies.counting import Bins
    from MLTools.NanoML.extensions.efficiencies.measure import Measurement, measure

    how = Measurement(Bins(abseta, pt), **options)
    for line in measure(loaded(config, reading), how, dry_run, force):
        echo(line)
