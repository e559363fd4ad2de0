"""`nanoml fit`, `toys` and `unblind`: the fit of an analysis, or of a workspace of pyhf, and the data of signal regions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from MLTools.NanoML.commands.options import (
    PATH,
    SettingForm,
    command,
    config_argument,
    flag,
    loaded,
    output_option,
    run_one,
)
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config


def _toys() -> Mapping[str, str]:
    from MLTools.NanoML.config.fit import TOYS

    return TOYS


def _is_config(source: Path) -> bool:
    return source.suffix in (".yaml", ".yml")


@command(
    "nanoml fit examples/wz.yaml",
    "nanoml fit workspace.json -o results",
    short="Fit the histograms of an analysis: limit, significance, report.",
)
@click.argument("source", metavar="CONFIG | WORKSPACE", type=PATH)
@output_option("DIRECTORY", "Write the results of a workspace there.")
@flag("--blind", "Do not use the data of a workspace, only what is expected.")
@click.option(
    "--toys",
    type=SettingForm("auto|never|N", _toys),
    help="Toys for limit and significance of a workspace; default: auto.",
)
@click.option(
    "--range",
    "strengths",
    type=(float, float),
    metavar="LOW HIGH",
    help="Range of the signal strength in a workspace; default: its own.",
)
@flag("--force", "Fit again, even if the results are up to date.")
def fit(
    source: Path,
    output: Optional[Path],
    blind: bool,
    toys: Optional[str],
    strengths: Optional[tuple[float, float]],
    force: bool,
) -> None:
    """Fit the signal strength of an analysis, or of a workspace of pyhf, a JSON file.

    The section fit of the configuration says how. A workspace is fitted with its data, unless
    --blind is given, and its bounds of parameters hold; the signal strength may have another range.
    """
    from MLTools.NanoML.workflow.stages import import_part

    if _is_config(source):
        if output is not None or blind or toys is not None or strengths is not None:
            raise click.UsageError(
                "--output, --blind, --toys and --range are for a workspace: the configuration says all of an analysis."
            )
        run_one(source, "fit", force)
        return
    if output is None:
        raise click.UsageError("Say where the results go: -o DIRECTORY.")
    if strengths is not None and not strengths[0] < strengths[1]:
        raise click.UsageError("--range takes a lower and a higher signal strength, as in --range -5 20.")
    fitting = import_part("statistical_analysis.fit")
    click.echo(fitting.fit_workspace(source, output, blind, toys or "auto", strengths))


@command(
    "nanoml toys examples/wz.yaml",
    "nanoml toys workspace.json -n 1000 --strength 0.5 -o checks",
    "nanoml toys analysis.yaml --at 600",
    short="Check a fit with pseudo-experiments: bias, pulls, coverage.",
)
@click.argument("source", metavar="CONFIG | WORKSPACE", type=PATH)
@click.option("-n", "--count", default=200, show_default=True, type=click.IntRange(2), help="Pseudo-experiments.")
@click.option("--strength", default=1.0, show_default=True, help="True strength of the signal in them.")
@click.option("--at", type=float, help="Mass, or other parameter of the signal, if there is a fit for each value.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of the random numbers.")
@output_option("DIRECTORY", "Write there; default: the directory toys beside the results of the fit.")
def toys(source: Path, count: int, strength: float, at: Optional[float], seed: int, output: Optional[Path]) -> None:
    """Check the fit of an analysis, or of a workspace of pyhf, with pseudo-experiments.

    In each, events and all that constrains parameters are drawn anew, around what is expected before the fit with a known
    signal; observed data are not used. The best fit should be unbiased, pulls have a width of one, and 95 % limits be
    above the true strength at least that often. toys.json has the numbers, toys.png and toys.pdf the figure.
    """
    from MLTools.NanoML.workflow.stages import import_part

    fitting = import_part("statistical_analysis.fit")
    if _is_config(source):
        directory = _results(source, at)
        source, output = directory / "workspace.json", output or directory / "toys"
    elif at is not None:
        raise click.UsageError("--at is for an analysis: a workspace has one signal.")
    elif output is None:
        raise click.UsageError("Say where the results go: -o DIRECTORY.")
    click.echo("\n".join(fitting.check(source, output, strength, count, seed)))


def _results(source: Path, at: Optional[float]) -> Path:
    """The directory of the fit of an analysis; of the one at a value of the signal's parameter, if it has several."""
    from MLTools.NanoML.config.histogram import hypotheses
    from MLTools.NanoML.workflow.stages import Layout

    config = loaded(source)
    found, directory = hypotheses(config), Layout.of(config).fit
    if not found and at is not None:
        raise ConfigError(f"{source}: has one fit. Remove --at.")
    if not found:
        return directory
    chosen = [it for it in found if at in (it.value, None)]
    if len(chosen) != 1:
        raise ConfigError(
            f"{source}: has a fit for each of {listed(map(str, found))}. Choose one, as in --at {found[0].value:.9g}."
        )
    return directory / chosen[0].ending


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
