"""`nanoml toys`: a fit is checked with pseudo-experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import command, echo, loaded, option, output_option, source_argument
from MLTools.NanoML.errors import ConfigError, listed


@command(
    "nanoml toys examples/wz.yaml",
    "nanoml toys workspace.json -n 1000 --strength 0.5 -o checks",
    "nanoml toys analysis.yaml --at 600",
    under="Look at results",
    short="Check a fit with pseudo-experiments: bias, pulls, coverage.",
)
@source_argument("source", "[CONFIG | WORKSPACE]")
@option("-n, --count", "Pseudo-experiments.", default=200, type=click.IntRange(2))
@option("--strength", "True strength of the signal in them.", default=1.0)
@option("--at", "Mass, or other parameter of the signal, if there is a fit for each value.", type=float)
@option("--seed", "Seed of the random numbers.", default=1, type=click.IntRange(0))
@output_option("DIRECTORY", "Write there; default: the directory toys beside the results of the fit.")
def toys(source: Path, count: int, strength: float, at: Optional[float], seed: int, output: Optional[Path]) -> None:
    """Check the fit of an analysis, or of a workspace of pyhf, with pseudo-experiments.

    Each draws events and the measurements that constrain nuisance parameters around the prefit expectation with a known
    signal; observed data are not used. The best fit should be unbiased, pulls have a width of one, and 95 % limits be
    above the true strength at least that often. toys.json has the numbers, toys.png and toys.pdf the figure.
    """
    from MLTools.NanoML.extensions.toys.check import check

    of: tuple[Any, ...] = ()
    if source.suffix in (".yaml", ".yml"):
        chosen = _chosen(source, at)
        source, output = chosen.of.directory / "workspace.json", output or chosen.of.directory / "toys"
        of = (chosen.of, chosen.style)
    elif at is not None:
        raise click.UsageError("--at is for an analysis: a workspace has one signal.")
    elif output is None:
        raise click.UsageError("Say where the results go: -o DIRECTORY.")
    echo("\n".join(check(source, output, strength, count, seed, *of)))


def _chosen(source: Path, at: Optional[float]) -> Any:
    """The drawing of the fit of an analysis; the one at a value of the signal's parameter, if it has several."""
    from MLTools.NanoML.config.analysis import hypotheses
    from MLTools.NanoML.workflow.pipeline import pipeline_stages

    config = loaded(source)
    if config.fit is None:
        raise ConfigError(f"{config.where()}: has no section fit: there is no fit to check.")
    found = hypotheses(config)
    if not found and at is not None:
        raise ConfigError(f"{source}: has one fit. Remove --at.")
    chosen = [number for number, it in enumerate(found) if at in (it.value, None)]
    if found and len(chosen) != 1:
        raise ConfigError(
            f"{source}: has a fit for each of {listed(map(str, found))}. Choose one, as in --at {found[0].value:.9g}."
        )
    (stage,) = pipeline_stages(config, ["plot"])
    work: Any = stage.tasks[chosen[0] if found else 0].work
    return work.args[0]
