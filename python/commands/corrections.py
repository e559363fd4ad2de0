"""`nanoml corrections`: files of corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from MLTools.NanoML import extending
from MLTools.NanoML.commands.options import echo_as_is, echo_json, epilog, in_help, json_option

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

    def get_short_help_str(self, _: int = 0) -> str:
        *others, last = ["Show", *(name for name in self.commands if name != "show")]
        return f"{' and '.join(filter(None, (', '.join(others), last)))} files of corrections."


@in_help("Correct the simulation")
@click.group(
    cls=_Files,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="FILE [NAME]... | ERA.yaml | COMMAND",
    epilog=epilog(
        "nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz",
        "nanoml corrections POG/MUO/2018_UL/muon_Z.json.gz NUM_TightID_DEN_TrackerMuons",
        "nanoml corrections corrections/2018.yaml",
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
    """Lines of YAML that ask for corrections: those of extensions for what they know in a file, or plain ones."""
    from MLTools.NanoML.corrections.lines import plain_lines

    given = file, found, [it.name for it in chosen] if is_named else []
    known = [line for place in extending.entries("era lines").values() for line in extending.loaded(place)(*given)]
    yield from known
    for correction in () if known else chosen:
        yield from plain_lines(correction.name, file, correction, {})


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
