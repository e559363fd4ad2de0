"""`nanoml unblind`: from now on an analysis shows the data of its signal regions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from MLTools.NanoML.commands.options import command, config_argument, loaded
from MLTools.NanoML.errors import NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config


@command(
    "nanoml unblind analysis.yaml --because 'approved by the working group'",
    short="Look at the data of signal regions.",
)
@config_argument
@click.option("--because", metavar="TEXT", help="Why now; without it, you are asked.")
def unblind(config: Path, because: Optional[str]) -> None:
    """Make an analysis use the observed data of its signal regions.

    Shows the expected result, and asks for the name of the analysis. Who unblinds, when, why, and the expected result are
    written to WORKDIR/unblinded.json; the report of the fit shows them. Then `nanoml run` makes histograms, figures
    and the fit again, with data.
    """
    from MLTools.NanoML.config.histogram import EVERYWHERE
    from MLTools.NanoML.parallel import locked
    from MLTools.NanoML.workflow.stages import Layout
    from MLTools.NanoML.workflow.unblinding import signal_data, unblinding
    from MLTools.NanoML.workflow.unblinding import unblind as append

    analysis = loaded(config)
    blind, workdir = signal_data(analysis), Layout.of(analysis).workdir
    if not blind.regions and not blind.bins:
        raise NanoMLError(
            f"{config}: nothing is blind, since no network is trained, nothing is fitted, and there is no signal."
        )
    before = unblinding(analysis)
    if before is not None:
        raise NanoMLError(f"{config}: is {before} already ({before.because}).")
    expected = _expected(analysis)
    places = [", ".join(blind.regions), f"{blind.bins} elsewhere" if blind.bins else ""]
    where = "everywhere" if EVERYWHERE in blind.regions else f"in {', and in '.join(filter(None, places))}"
    click.echo(f"{workdir.name} is blind {where}.")
    click.echo(f"Expected: {expected}")
    click.echo("This cannot be undone: selection, bins and uncertainties should be final.")
    because = because or click.prompt("Why do you unblind now?")
    if click.prompt("Type the name of the analysis to unblind it") != workdir.name:
        raise NanoMLError(f"That is not {workdir.name}: the analysis stays blind.")
    with locked(workdir):
        entry = append(analysis, because, expected)
    click.echo(f"{workdir.name} is {entry}. `nanoml run {config}` shows its data.")


def _expected(config: Config) -> str:
    """The expected result of the fit, which must be that of the analysis as it is now."""
    if config.fit is None:
        return "nothing, since the analysis has no fit"
    from MLTools.NanoML.workflow.pipeline import planned
    from MLTools.NanoML.workflow.unblinding import expected_result

    late = [each.stage.name for each in planned(config, ("fill", "histogram", "fit", "limits")) if each.reasons]
    if late:
        raise NanoMLError(
            f"What is expected is not known, since {', '.join(late)} must be done first: use `nanoml run`."
        )
    return expected_result(config)
