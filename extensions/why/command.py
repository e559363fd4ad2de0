"""`nanoml why`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import PATH, analyses, command, echo, echo_json, flag, json_option, option
from MLTools.NanoML.errors import ConfigError


@command(
    "nanoml why last_month/analysis.yaml analysis.yaml",
    "nanoml why analysis.yaml tighter.yaml --dry-run",
    "nanoml why analysis.yaml",
    under="Look at results",
    short="Show what moved a result: each change between two states.",
)
@click.argument("old", type=PATH)
@click.argument("new", type=PATH, required=False)
@option(
    "--events",
    "Events of each dataset that are read, by a hash of each.",
    "N",
    default=50_000,
    type=click.IntRange(1000),
)
@option("--workdir", "The directory for everything that is made; default: WORKDIR/why of OLD.", "DIR", type=PATH)
@flag(
    "--one-order", "Make the changes from the first to the last only: half the time, and no ambiguity by their order."
)
@flag("--dry-run", "Only say what differs, and what would run.")
@json_option
def why(
    old: Path, new: Optional[Path], events: int, workdir: Optional[Path], one_order: bool, dry_run: bool, as_json: bool
) -> None:
    """Show how far each change between two states of an analysis moved the expected events, the AUC and the limit.

    OLD and NEW are YAML files, or directories with their results. All settings, code, corrections, tables and files of events that
    differ are switched one after the other, first to last and last to first, each time with the whole analysis on the same events.
    A part is the mean of both orders, with its statistical error and half of the difference between the two. The parts add up.
    Networks stay as they are, unless they differ. Observed data are not looked at.

    With OLD alone: what has changed since its results were made.
    """
    from MLTools.NanoML.extensions.why.path import Between, answer, orders, show, write
    from MLTools.NanoML.extensions.why.state import State, changes, notes
    from MLTools.NanoML.schema.plain import plain
    from MLTools.NanoML.workflow.layout import Layout

    if new is None:
        _since(_analysis(old))
        return
    before, after = (State.read(_analysis(it)) for it in (old, new))
    found = changes(before, after)
    if dry_run or not found:
        runs = dict.fromkeys(it for order in orders(len(found), not one_order) for it in order if found)
        if as_json:
            echo_json({"changes": plain(found), "notes": [*notes(before, after)], "runs": [sorted(it) for it in runs]})
            return
        echo("These differ:" if found else "Nothing differs that moves what is expected.")
        for number, each in enumerate(found, 1):
            echo(f"  {number}  {each}")
        for text in notes(before, after):
            echo(f"NOTE: {text}.")
        names = (" + ".join(["OLD", *(str(number + 1) for number in sorted(made))]) for made in runs)
        if runs:
            echo(f"{len(runs)} runs: {', '.join(names)}")
        return
    directory = workdir or Layout.of(before.config).workdir / "why"
    made = answer(Between(before, after, found, {}, directory.absolute()), events, not one_order)
    write(made, (before, after), directory)
    if as_json:
        echo_json(plain(made))
        return
    show(made)
    echo(f"why: {directory / 'why.html'}")


def _analysis(place: Path) -> Path:
    """The YAML file of an analysis, by itself, by its directory, or by that of its results."""
    if not place.is_dir():
        return place
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.workflow.layout import Layout

    found = analyses(place) or [
        it for it in analyses(place.absolute().parent) if Layout.of(load(it)).workdir.resolve() == place.resolve()
    ]
    if len(found) != 1:
        raise ConfigError(f"{place}: {'several analyses are' if found else 'no analysis is'} here. Name its YAML file.")
    return found[0]


def _since(place: Path) -> None:
    """Say what has changed since the results of an analysis were made."""
    from MLTools.NanoML.config.load import load
    from MLTools.NanoML.extensions.why.state import GONE
    from MLTools.NanoML.stages import NAMES
    from MLTools.NanoML.workflow.pipeline import planned

    todo = [it for it in planned(load(place), NAMES) if it.reasons]
    for each in todo:
        echo("\n".join(each.lines()))
    gone = f"{GONE}: nanoml why DIRECTORY/{place.name} {place}"
    echo(gone if todo else "Nothing has changed since the results were made.")
