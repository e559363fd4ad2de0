"""`nanoml fit` and `nanoml toys`: the fit of an analysis, or of a workspace of pyhf."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import PATH, command, flag, output_option, run_one


class _Toys(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    name = "auto|never|N"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> str:
        if not re.fullmatch("auto|never|[1-9][0-9]{3,}", str(value)):
            return self.fail(f'"{value}": write auto, never, or a number of at least 1000.')
        return str(value)


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
@click.option("--toys", type=_Toys(), help="Toys for limit and significance of a workspace; default: auto.")
@flag("--force", "Fit again, even if the results are up to date.")
def fit(source: Path, output: Optional[Path], blind: bool, toys: Optional[str], force: bool) -> None:
    """Fit the signal strength of an analysis, or of a workspace of pyhf, a JSON file.

    The section fit of the configuration says how. A workspace is fitted with its data, unless
    --blind is given.
    """
    from MLTools.NanoML.workflow.stages import import_part

    if _is_config(source):
        if output is not None or blind or toys is not None:
            raise click.UsageError(
                "--output, --blind and --toys are for a workspace: the configuration says all of an analysis."
            )
        run_one(source, "fit", force)
        return
    if output is None:
        raise click.UsageError("Say where the results go: -o DIRECTORY.")
    fitting = import_part("statistical_analysis.fit")
    click.echo(fitting.fit_workspace(source, output, blind, toys or "auto"))


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
    from MLTools.NanoML.config.analysis import load
    from MLTools.NanoML.config.histogram import hypotheses
    from MLTools.NanoML.errors import ConfigError, listed
    from MLTools.NanoML.workflow.stages import Layout

    config = load(source)
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
