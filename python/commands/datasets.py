"""`nanoml datasets`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import epilog, json_option

__all__ = ["datasets"]


@click.command(
    short_help="Show the datasets of an analysis, or of CMS's catalogue.",
    epilog=epilog(
        "nanoml datasets examples/trilepton.yaml",
        "nanoml datasets '/DYJetsToLL_M-50*/*UL18NanoAODv9*/NANOAODSIM'",
    ),
)
@click.argument("source", metavar="CONFIG | /PRIMARY/PROCESSED/TIER")
@click.option(
    "--refresh",
    is_flag=True,
    help="Ask anew: of an analysis, read from now on what the catalogue and servers have now.",
)
@click.option("--yes", is_flag=True, help="Let wildcards of the configuration stand for all that they match.")
@click.option(
    "--instance",
    metavar="NAME",
    help="Of the catalogue, as in prod/phys03; in a configuration it is written there.",
)
@json_option
def datasets(source: str, refresh: bool, yes: bool, instance: Optional[str], as_json: bool) -> None:
    """Show which files the datasets of an analysis have, or what CMS's catalogue has of a name.

    Of an analysis: how many files, events and bytes a run reads, where they come from, and what has changed in the
    catalogue since. What is found once stays the same for the analysis, until --refresh.

    Of a name, with * for any text: the datasets that match, ready for the configuration.

    The catalogue is asked by dasgoclient if it is there, or else by its web service, with your grid proxy (nanoml proxy
    init). Its answers are remembered for a day.
    """
    from MLTools.NanoML.workflow.stages import import_part

    told = import_part("data_processing.datasets.overview")
    if source.startswith("/") and Path(source).suffix not in (".yaml", ".yml"):
        found = told.query(source, instance, refresh)
        _tell(found, as_json, _show_query)
        return
    from MLTools.NanoML.config.analysis import load

    if instance:
        raise click.UsageError("The instance of a configuration's dataset is written there.")

    def confirm(name: str, wildcard: str, names: Sequence[str]) -> bool:
        return _confirm(source, name, wildcard, names, yes, to_errors=as_json)

    _tell(told.overview(load(source), refresh, confirm), as_json, _show)


def _tell(content: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    if as_json:
        click.echo(json.dumps(content, indent=1))
    else:
        show(content)


def _confirm(source: str, name: str, wildcard: str, names: Sequence[str], yes: bool, to_errors: bool) -> bool:
    click.echo(
        f"{name}: {wildcard} matches {len(names)} datasets. To choose, write into {source}:", err=to_errors
    )
    click.echo(_yaml(names), err=to_errors)
    return yes or (sys.stdin.isatty() and click.confirm(f"Take all {len(names)} for {name}?", err=to_errors))


def _yaml(names: Sequence[str]) -> str:
    return "\n".join(["    das:", *(f"      - {name}" for name in names)])


def _page() -> Any:
    from rich.console import Console

    from MLTools.NanoML.terminal.page import Page

    return Page(Console())


def _show_query(content: dict[str, Any]) -> None:
    from MLTools.NanoML.terminal.page import count

    page = _page()
    found, details = content["datasets"], content["details"]
    if details is not None:
        page.title(details["name"])
        page.facts([("status", found[0]["status"]), *_facts(details)])
        return
    for status in sorted({each["status"] for each in found}, key=lambda status: (status != "VALID", status)):
        names = [each["name"] for each in found if each["status"] == status]
        note = ", for a configuration:" if status == "VALID" else ":"
        page.title(f"{count(len(names))} {status}{note}")
        click.echo(_yaml(names) if status == "VALID" else "\n".join(f"        {name}" for name in names))


def _facts(part: dict[str, Any]) -> list[tuple[str, Optional[str]]]:
    from MLTools.NanoML.terminal.page import file_size

    return [
        ("files", _files(part)),
        ("events", _count(part["events"])),
        ("size", file_size(part["size"])),
        ("said by", f"{part['from']}, {part['date'][:10]}"),
        ("sites", _sites(part["sites"])),
    ]


def _show(content: Sequence[dict[str, Any]]) -> None:
    from MLTools.NanoML.terminal.page import Column, file_size, number

    page = _page()
    numbers = [Column(name, "number") for name in ("pb", "files", "events", "size")]
    rows = [
        (
            each["name"],
            "data" if each["data"] else each["class"] or "-",
            number(each["cross_section"]),
            _of(each["read"]["files"], each["available"]["files"]),
            _of(each["read"]["events"], each["available"]["events"]),
            file_size(each["read"]["size"]) or "-",
            ", ".join(dict.fromkeys(part["from"] for part in each["parts"])),
        )
        for each in content
    ]
    page.table("What a run reads", [Column("dataset"), Column("class"), *numbers, Column("from")], rows)
    for each in content:
        for part in each["parts"]:
            if part["date"]:
                click.echo()
                page.title(f"{each['name']}: {part['name']}")
                page.facts(_facts(part))
    page.warnings(news for each in content for news in each["news"])


def _of(read: Optional[int], available: Optional[int]) -> str:
    return _count(read) if read == available else f"{_count(read)} of {_count(available)}"


def _count(value: Optional[int]) -> str:
    from MLTools.NanoML.terminal.page import count

    return "-" if value is None else count(value)


def _files(part: dict[str, Any]) -> str:
    invalid = f" ({_count(part['invalid'])} invalid left out)" if part["invalid"] else ""
    return _count(part["files"]) + invalid


def _sites(sites: Optional[Sequence[dict[str, Any]]]) -> Optional[str]:
    """Those that have all of it on disk alone, then the others with what they have."""
    if not sites:
        return None
    said = []
    for site in sites:
        notes = ["tape"] if site["kind"] != "DISK" else []
        notes += [] if site["share"] >= 100 else [f"{site['share']:.0f} %"]
        said.append(site["name"] + (f" ({', '.join(notes)})" if notes else ""))
    return ", ".join(said)
