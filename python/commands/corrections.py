"""`nanoml corrections`: files of corrections."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.commands.options import (
    PATH,
    echo,
    echo_as_is,
    echo_json,
    epilog,
    flag,
    in_help,
    json_option,
    option,
    output_option,
)
from MLTools.NanoML.terminal.progress import say

if TYPE_CHECKING:
    from MLTools.NanoML.corrections.era import Corrections
    from MLTools.NanoML.corrections.evaluation import Correction, CorrectionFile


_MANY = 60  # characters of choices in the table


class _Files(click.Group):
    """A group whose subcommand `show` need not be named."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self.commands if name != "show"]


@in_help("Correct the simulation")
@click.group(
    cls=_Files,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="FILE [NAME]... | ERA.yaml | COMMAND",
    short_help="Show, propose, check and compare files of corrections.",
    epilog=epilog(
        "nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz",
        "nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz NUM_TightID_DEN_TrackerMuons",
        "nanoml corrections corrections/2018.yaml",
        "nanoml corrections propose --era 2018_UL --directory POG -o corrections/2018.yaml",
    ),
)
def corrections() -> None:
    """Show what a FILE of correctionlib offers and needs, with lines for the YAML file of an era; or use a COMMAND.

    FILE is a path, a URL, or a path below CMS's directories on CVMFS. With NAMEs only these corrections are shown, and in
    full. The YAML file of an era is checked: that all of its files are there, and have what it asks for. --json prints JSON.
    """


@corrections.command(hidden=True, epilog=epilog("nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz"))
@click.argument("file", metavar="FILE | ERA.yaml")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def show(file: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show what a FILE of correctionlib offers and needs, or check the YAML file of an era."""
    from MLTools.NanoML.corrections.era import Corrections, find_file
    from MLTools.NanoML.corrections.evaluation import CorrectionFile

    if file.endswith((".yaml", ".yml")):
        _show_era(Corrections.read(file), as_json)
        return
    found = CorrectionFile(find_file(file, Path.cwd(), "nanoml corrections"))
    chosen = [found[name] for name in names or found.names]
    if as_json:
        echo_json([_plain(each) for each in chosen])
        return
    from MLTools.NanoML.terminal.page import Page

    page = Page()
    page.title(str(found.path))
    about = found.content.get("description") if not names else None
    page.facts(("SHA-256", found.digest), ("corrections", len(found.names)), ("about", about))
    if names:
        for correction in chosen:
            _show_inputs(page, correction)
    else:
        _show_all(page, chosen)
    page.heading("For the YAML file of an era")
    for line in _entries(file, found, chosen if names else chosen[:1], bool(names)):
        echo_as_is(f"  {line}")


def _show_all(page: Any, chosen: Iterable[Correction]) -> None:
    from MLTools.NanoML.terminal.page import TableColumn

    rows = []
    for correction in chosen:
        inputs = [f"{axis.name} ({_shortened(axis.domain)})" for axis in correction.axes.values()]
        rows.append((correction.name, "; ".join(inputs)))
    page.table("Corrections", ["name", TableColumn("inputs", "rest")], rows)


def _show_inputs(page: Any, correction: Correction) -> None:
    from MLTools.NanoML.terminal.page import TableColumn

    rows = [(axis.name, axis.type, axis.domain, axis.description) for axis in correction.axes.values()]
    columns = ["input", "type", TableColumn("may be", "rest"), TableColumn("what", "rest")]
    page.table(correction.name, columns, rows)
    if correction.description not in ("", correction.name):
        page.facts(("about", correction.description))


def _shortened(text: str) -> str:
    return text if len(text) <= _MANY else f"{text[:_MANY].rpartition(',')[0]}, ..."


def _entries(file: str, found: CorrectionFile, chosen: Sequence[Correction], is_named: bool) -> Iterator[str]:
    """Lines of YAML that ask for corrections; for a file of objects, unless others are named, those that ask for all of it."""
    from MLTools.NanoML.corrections.survey.kinds import SPECIAL, plain
    from MLTools.NanoML.corrections.survey.propose import uses

    objects = [it for it in uses(found) if it.entry in SPECIAL and (not is_named or chosen[0].name in it.names)]
    for use in objects[:1]:
        yield from use.kind.lines(use.entry, file, found, use.names)
    for correction in () if objects else chosen:
        yield from plain(correction.name, file, correction, {})


def _plain(correction: Correction) -> dict[str, object]:
    inputs = [dataclasses.asdict(axis) for axis in correction.axes.values()]
    return {"name": correction.name, "description": correction.description, "inputs": inputs}


def _show_era(era: Corrections, as_json: bool) -> None:
    """The entries of an era, all of which are in order."""
    rows = [(name, *getattr(era, name).described) for name in era.names]
    if as_json:
        keys = ("entry", "correction", "inputs", "variations")
        echo_json({"files": era.digests, "entries": [dict(zip(keys, row)) for row in rows]})
        return
    from MLTools.NanoML.terminal.page import Page, TableColumn

    page = Page()
    page.title(str(era.path))
    page.facts(*((file, f"SHA-256 {digest}") for file, digest in era.digests.items()))
    columns = ["entry", TableColumn("correction", "rest"), TableColumn("inputs", "rest")]
    page.table("Entries", [*columns, TableColumn("nominal, up, down", "rest")], rows)


@corrections.command(
    short_help="Propose the YAML file of an era.",
    epilog=epilog(
        "nanoml corrections propose --era 2018_UL --directory POG -o corrections/2018.yaml",
        "nanoml corrections propose --era 2024 --directory /cvmfs/cms-griddata.cern.ch/cat/metadata",
    ),
)
@option("--era", "The era, as its directories name it, or the year.", "ERA", required=True)
@option("--directory", "A tree of files of CMS's object groups, or a part of it.", "DIR", type=PATH, required=True)
@output_option("FILE", "The YAML file to write; by default it is printed.")
@flag("--force", "Replace the YAML file if it exists.")
def propose(era: str, directory: Path, output: Optional[Path], force: bool) -> None:
    """Propose the YAML file of an era: all corrections in a tree of files that NanoML knows a use for.

    Files are known by what is in them. Each is named with its SHA-256, and with the date of its directory; under `latest`, which
    changes, with a warning. Comments say what else there is to choose, and what was not found, and why.

    What is wrong in the tree, such as a damaged file, is left out, and the exit code is 1.
    """
    from MLTools.NanoML.corrections.survey.propose import propose as made

    if output is not None and output.exists() and not force:
        raise click.UsageError(f"{output} exists: give another name, or --force to replace it.")
    proposal = made(directory, era, output.parent if output is not None else None)
    if output is None:
        echo_as_is(proposal.text.rstrip())
    else:
        write_text(output, proposal.text)
    _end(proposal.problems, proposal.warnings)


@corrections.command(
    "check", short_help="List what NanoML can use of a tree of files.", epilog=epilog("nanoml corrections check POG")
)
@click.argument("directory", metavar="DIR", type=PATH)
@json_option
def check_tree(directory: Path, as_json: bool) -> None:
    """Open each file of a tree, and say what of it NanoML can use, and what it cannot use and why.

    The exit code is 1 if a file is damaged.
    """
    from MLTools.NanoML.corrections.survey.compare import check
    from MLTools.NanoML.terminal.page import Page, TableColumn

    files = list(check(directory))
    if as_json:
        echo_json([dataclasses.asdict(each) for each in files])
    else:
        rows = [(each.path, ", ".join(each.entries), each.others) for each in files if not each.problem]
        columns = ["file", TableColumn("has corrections for", "rest"), TableColumn("others", "number")]
        page = Page()
        page.table(f"{len(files)} files", columns, rows)
        unusable = [(each.path, why) for each in files for why in each.unusable]
        page.table("Not usable", ["file", TableColumn("why", "rest")], unusable)
    _end([each.problem for each in files if each.problem])


@corrections.command(
    short_help="List what changed between two states.",
    epilog=epilog("nanoml corrections compare JME/2022_Summer22/2025-09-23 JME/2022_Summer22/2026-06-01"),
)
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@output_option("DIR", "A directory for figures of the changes.")
@json_option
def compare(old: Path, new: Path, output: Optional[Path], as_json: bool) -> None:
    """Compare two files of correctionlib, or two directories: what appeared, vanished, or changed its inputs or values.

    Values are compared at the middles of bins: the typical and the largest relative change, and where that is. A correction of
    which only the version is another one, V2 or V3, is compared, too.
    """
    from MLTools.NanoML.corrections.survey.compare import compare as compared
    from MLTools.NanoML.schema.plain import plain
    from MLTools.NanoML.terminal.page import Page, TableColumn, share

    changes = list(compared(old, new))
    if as_json:
        echo_json([plain(dataclasses.replace(each, curve=None)) for each in changes])
    else:
        rows = []
        for it in changes:
            sizes = ["" if value is None else share(value) for value in (it.typical, it.largest)]
            about = f"{it.about}; the largest at {it.where}" if it.where else it.about
            rows.append((it.file, it.correction, it.what, *sizes, about))
        columns = ["file", "correction", "change", TableColumn("typical", "number"), TableColumn("largest", "number")]
        page = Page()
        page.table(f"{len(changes)} changes", [*columns, TableColumn("about", "rest")], rows)
        if not changes:
            page.line("Nothing has changed.")
    if output is not None and importlib.util.find_spec("mplhep") is None:
        echo("warning: no figures, since the Python package mplhep is missing: pip install mplhep.", err=True)
    elif output is not None:
        from MLTools.NanoML.inspection.changes import draw  # imports matplotlib

        for stem in draw(changes, output):
            say(f"{stem}.png and .pdf are written.")
    _end([each.about for each in changes if each.what == "damaged"])


def _end(problems: Collection[str], warnings: Iterable[str] = ()) -> None:
    """Print warnings and errors, and end with exit code 1 if there are any errors."""
    for kind, texts in (("warning", warnings), ("error", problems)):
        for text in texts:
            echo(f"{kind}: {text}", err=True)
    if problems:
        click.get_current_context().exit(1)
