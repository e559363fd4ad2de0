"""`nanoml fit` and `unblind`: the fit of an analysis, or of a workspace of pyhf, and the data of signal regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from MLTools.NanoML.commands.options import (
    command,
    config_argument,
    echo,
    flag,
    in_form,
    loaded,
    option,
    output_option,
    run_one,
    source_argument,
    with_added,
)
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import entries
from MLTools.NanoML.schema.plain import content_of

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

PAGE = "howto/fit.md"
SHARE = {"pattern": r"100%|(?!0+(\.0*)?%)[0-9]{1,2}(\.[0-9]+)?%", "form": "a part of the data, as in 10%"}

_MODELS = ["workspace", *entries("models")]  # files that are fitted, but for those of an analysis


@command(
    "nanoml fit examples/wz.yaml",
    "nanoml fit workspace.json -o results",
    short="Fit the histograms: limit, significance, report.",
)
@source_argument("source", f"[{' | '.join(['config', *_MODELS]).upper()}]")
@output_option("DIRECTORY", f"Write the results of a {' or '.join(_MODELS)} there.")
@with_added("options of fit")
@flag("--blind", "Do not use the data of a workspace, only what is expected.")
@option(
    "--toys",
    "Toys for limit and significance of a workspace; default: auto.",
    "auto|never|N",
    type=in_form("MLTools.NanoML.config.fit:TOYS"),
)
@option(
    "--range, strengths",
    "Range of the signal strength in a workspace; default: its own.",
    "LOW HIGH",
    type=(float, float),
)
@flag("--force", "Fit again, even if the results are up to date.")
def fit(
    source: Path,
    output: Optional[Path],
    blind: bool,
    toys: Optional[str],
    strengths: Optional[tuple[float, float]],
    force: bool,
    instead: Optional[Callable[..., str]] = None,  # what an option of an extension does, and what it says
    **added: Any,
) -> None:
    """Fit the signal strength of an analysis, or of a workspace of pyhf (JSON).

    The section fit of the configuration says how; with "signals: {mu_WZ: [WZ], mu_ZZ: [ZZ]}" in it, it is
    a fit of two strengths, with their contours. A workspace is fitted with its data, unless
    --blind is given, and its bounds of parameters hold; the signal strength may have another range.
    """
    from MLTools.NanoML.stages import import_part

    if source.suffix in (".yaml", ".yml"):
        given = output is not None or blind or toys is not None or strengths is not None
        if given or instead or any(added.values()):
            raise click.UsageError(
                f"Options other than --force are for a {' or '.join(_MODELS)}: the configuration says all of an analysis."
            )
        run_one(source, "fit", force)
        return
    if output is None:
        raise click.UsageError("Say where the results go: -o DIRECTORY.")
    if strengths is not None and not strengths[0] < strengths[1]:
        raise click.UsageError("--range takes a lower and a higher signal strength, as in --range -5 20.")
    if instead is not None:
        echo(instead(source, output, **added))
    else:
        fit_workspace = import_part("statistical_analysis.draw").fit_workspace
        echo(fit_workspace(source, output, blind, toys or "auto", strengths, **added))


@command(
    "nanoml unblind analysis.yaml",
    "nanoml unblind analysis.yaml SR --fraction 10% --because 'asked for by the working group'",
    "nanoml unblind analysis.yaml SR --era 2018 --because 'approved by the working group'",
    "nanoml unblind analysis.yaml all",
    under="Run an analysis",
    short="Unblind the data of signal regions.",
)
@config_argument
@click.argument("regions", nargs=-1, metavar="[REGION...|all]")
@option("--era, eras", "An era; may be repeated. Default: all.", multiple=True)
@option(
    "--fraction, part",
    "Only a part of the data, by a hash of the events.",
    "SHARE%",
    type=in_form(f"{__name__}:SHARE"),
    default="100%",
)
@option("--because", "Why now; without it, you are asked.", "TEXT")
def unblind(config: Path, regions: tuple[str, ...], eras: tuple[str, ...], part: str, because: Optional[str]) -> None:
    """Make an analysis use the observed data of some regions; without REGION, say what is blind.

    Shows the expected result, and asks for the name of the work directory. Who unblinds what, when, why, and the expected result
    are written to WORKDIR/unblinded.json with the files of data and their numbers of events; the report of the fit shows them.
    Then `nanoml run` fills, draws and fits again, with data. A region whose cut, selection, networks or data change is blind again.
    """
    from MLTools.NanoML.config.fit import EVERYWHERE
    from MLTools.NanoML.contracts import missing
    from MLTools.NanoML.contracts.blinding import in_words
    from MLTools.NanoML.parallel import locked
    from MLTools.NanoML.schema.settings import suggestion
    from MLTools.NanoML.stages import import_part
    from MLTools.NanoML.workflow.analysis import Analysis
    from MLTools.NanoML.workflow.layout import Layout
    from MLTools.NanoML.workflow.unblinding import as_it_is, blinded, places_of
    from MLTools.NanoML.workflow.unblinding import unblind as append

    analysis, fraction = loaded(config), float(part[:-1]) / 100
    blind, places, workdir = blinded(analysis), places_of(analysis), Layout.of(analysis).workdir
    if analysis.fit is None or not any(it.is_data for it in analysis.datasets.values()):
        raise NanoMLError(
            f"{config}: has no {'data' if analysis.fit else 'fit'}, so there is no result to unblind. What may be seen without one, "
            'say in the YAML file: "blind: {regions: [...]}", or "blind: none".'
        )
    states = {place: state for place in places if (state := blind.state(place))}
    if not regions:
        for it in blind.log:
            echo("\n  ".join(filter(None, (f"{it.what}: {it} ({it.because})", it.events))))
    if not states:
        raise NanoMLError(f"{config}: nothing is blind.")
    if not regions:
        echo("\n".join(f"{in_words(place)}: {state}" for place, state in states.items()))
        echo(f"Name the regions to unblind, as in `nanoml unblind {config} {next(iter(states))[0]}`, or all.")
        return
    for given, known in ((regions, {EVERYWHERE: 0, **dict(places)}), (eras, {era: 0 for _, era in places})):
        for name in given:
            if name not in known:
                raise NanoMLError(f'{config}: there are no data in "{name}". {suggestion(name, map(str, known))}')
    chosen = [it for it in places if (EVERYWHERE in regions or it[0] in regions) and (not eras or it[1] in eras)]
    todo = [it for it in chosen if it in states and blind.shares.get(it, 0 if fraction == 1 else 1) < fraction]
    if not todo:
        by = {f"{blind.opened[it]} ({blind.opened[it].because})" for it in chosen if it in blind.opened}
        raise NanoMLError(
            f"{config}: {', '.join(map(in_words, chosen))}: nothing more to unblind; {', '.join(by) or 'not blind as a whole'}."
        )
    now, expected = as_it_is(analysis, todo), _expected(analysis)
    echo(f"{workdir.name}: {', '.join(map(in_words, todo))}, {part} of the data.\nExpected: {expected}")
    echo("This cannot be undone: selection, bins and uncertainties should be final.")
    because = because or click.prompt("Why do you unblind now?")
    if click.prompt("Type the name of the work directory, as above, to unblind it") != workdir.name:
        raise NanoMLError(f"That is not {workdir.name}: the analysis stays blind.")
    with locked(workdir):
        shares = {**blind.shares, **{it: fraction for it in todo if it in blind.shares}}
        seen = import_part("data_processing.histograms.stage").events_seen(
            Analysis(analysis, missing.read(workdir)), replace(blind, shares=shares)
        )
        opened = (replace(it, events=seen[place]) for place, it in now.items())
        entry = append(analysis, opened, because, expected, fraction=fraction)
    echo(f"{entry.what}: {entry}. `nanoml run {config}` shows the data.\n  {entry.events}")


def _expected(config: Config) -> str:
    """The expected result of the fit, which must be that of the analysis as it is now."""
    from MLTools.NanoML.stages import NAMES
    from MLTools.NanoML.workflow.layout import Layout
    from MLTools.NanoML.workflow.pipeline import planned

    late = [each.stage.name for each in planned(config, NAMES) if each.reasons]
    if late:
        raise NanoMLError(
            f"What is expected is not known, since {', '.join(late)} must be done first: use `nanoml run`."
        )
    path = Layout.of(config).fit / "results.json"
    try:
        content = content_of(path)
        return str(content.get("expected") or content["summary"])
    except (OSError, KeyError, AttributeError, ValueError):
        raise NanoMLError(f"{path}: is missing or damaged. `nanoml fit` makes it.") from None
