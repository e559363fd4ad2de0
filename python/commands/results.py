"""`nanoml why` and `nanoml publish`: what moved a result, and a capsule of it for others."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from MLTools.NanoML.commands.options import (
    PATH,
    analyses,
    command,
    config_argument,
    echo,
    echo_json,
    flag,
    json_option,
    loaded,
    option,
    output_option,
    settle,
)
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
    from MLTools.NanoML.schema.plain import plain
    from MLTools.NanoML.why.path import Between, answer, orders, show, write
    from MLTools.NanoML.why.state import State, changes, notes
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
    from MLTools.NanoML.stages import NAMES
    from MLTools.NanoML.why.state import GONE
    from MLTools.NanoML.workflow.pipeline import planned

    todo = [it for it in planned(load(place), NAMES) if it.reasons]
    for each in todo:
        echo("\n".join(each.lines()))
    gone = f"{GONE}: nanoml why DIRECTORY/{place.name} {place}"
    echo(gone if todo else "Nothing has changed since the results were made.")


@command(
    "nanoml publish examples/wz.yaml -o capsule",
    "nanoml publish analysis.yaml -o capsule --title 'Search for W prime' --author 'The collaboration' --dry-run",
    under="Look at results",
    short="Write what others need to check or recast a result.",
)
@config_argument
@output_option("DIRECTORY", "Write it there; a capsule that is there is replaced.", required=True)
@option("--title", "Title of the analysis; default: the name of its work directory.", "TEXT")
@option("--author, authors", "An author, or a collaboration, to be cited; may be repeated.", "NAME", multiple=True)
@option("--events", "Reference events of each dataset.", "N", default=300, type=click.IntRange(1))
@flag("--dry-run", "Only say what would be written.")
def publish(
    config: Path, output: Path, title: Optional[str], authors: tuple[str, ...], events: int, dry_run: bool
) -> None:
    """Write a capsule: model with its selection, likelihood, card, tables for HEPData, reference events, and reproduce.py.

    An outsider runs `python reproduce.py` in it, which needs no NanoML, and `python reproduce.py --signal FILE --cross-section X`
    for the limit on another signal. The results must be up to date. A blind analysis is published without any observed data.
    """
    from MLTools.NanoML.publish.capsule import Request, ready
    from MLTools.NanoML.publish.capsule import publish as write
    from MLTools.NanoML.workflow.layout import Layout

    analysis = loaded(config)
    workdir = Layout.of(analysis).workdir
    settle(workdir)
    request = Request(output, title or workdir.name, authors, events)
    if dry_run:
        for task in ready(analysis, request).tasks:
            echo(f"{output}: {task.outputs[0].name}, with {events} reference events of each dataset")
        echo(f"{output}: likelihood, limits and tables of {workdir}")
        return
    write(analysis, request)
    if not authors:
        echo(f"{output}/CITATION.cff names no author: add --author.")
    echo(f"publish: {output}. See its README.md, and try it: python {output}/reproduce.py")
