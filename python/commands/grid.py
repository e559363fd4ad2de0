"""`nanoml datasets` and `proxy`: what CMS's catalogue says, and the grid proxy that it asks for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import click

from MLTools.NanoML.commands.options import (
    command,
    echo,
    echo_as_is,
    echo_json,
    epilog,
    flag,
    in_help,
    json_option,
    option,
    source_argument,
)

if TYPE_CHECKING:
    from MLTools.NanoML.grid.proxy import GridProblem, Proxy


@command(
    "nanoml datasets examples/trilepton.yaml",
    "nanoml datasets '/DYJetsToLL_M-50*/*UL18NanoAODv9*/NANOAODSIM'",
    under="Grid",
    short="Show the datasets of an analysis, or of CMS's catalogue.",
)
@source_argument("source", "[CONFIG | /PRIMARY/PROCESSED/TIER]", str)
@flag("--refresh", "Ask again: from now on the analysis reads the files that the catalogue and the servers name now.")
@flag("--yes", "Let wildcards of the configuration stand for everything that they match.")
@option("--instance", "Instance of the catalogue, such as prod/phys03; an analysis names it in its YAML file.", "NAME")
@json_option
def datasets(source: Union[str, Path], refresh: bool, yes: bool, instance: Optional[str], as_json: bool) -> None:
    """Show which files the datasets of an analysis have, or which datasets of CMS's catalogue match a name.

    For an analysis: how many files, events and bytes a run reads, where they come from, and what has changed in the
    catalogue since. An analysis keeps the files that were found first until --refresh.

    For a name, with * for any text: the datasets that match, ready for the configuration.

    The catalogue is asked with dasgoclient if that is installed, or through its web service with your grid proxy (nanoml
    proxy init). Its answers are kept for a day.
    """
    from MLTools.NanoML.schema.plain import plain
    from MLTools.NanoML.stages import import_part

    overview, source = import_part("data_processing.datasets.datasets"), str(source)
    if source.startswith("/") and Path(source).suffix not in (".yaml", ".yml"):
        of_name = overview.query(source, instance, refresh)
        if as_json:
            echo_json(plain(of_name))
        else:
            _show_query(of_name)
        return
    from MLTools.NanoML.config.load import load

    if instance:
        raise click.UsageError("The instance of a configuration's dataset is written there.")

    def confirm(name: str, wildcard: str, names: Sequence[str]) -> bool:
        echo(f"{name}: {wildcard} matches {len(names)} datasets. To choose, write into {source}:", err=as_json)
        echo_as_is(_yaml(names), err=as_json)
        return yes or (sys.stdin.isatty() and click.confirm(f"Take all {len(names)} for {name}?", err=as_json))

    found = overview.overview(load(source), refresh, confirm)
    if as_json:
        echo_json(plain(found))
    else:
        _show_analysis(found)


def _yaml(names: Sequence[str]) -> str:
    return "\n".join(["    das:", *(f"      - {name}" for name in names)])


def _show_query(found: Any) -> None:
    from MLTools.NanoML.terminal.page import Page, count

    page = Page()
    details = found.details
    if details is not None:
        page.title(details.name)
        page.facts(("status", found.datasets[0].status), *_facts(details))
        return
    for status in sorted({each.status for each in found.datasets}, key=lambda status: (status != "VALID", status)):
        names = [each.name for each in found.datasets if each.status == status]
        note = ", for a configuration:" if status == "VALID" else ":"
        page.title(f"{count(len(names))} {status}{note}")
        echo_as_is(_yaml(names) if status == "VALID" else "\n".join(f"        {name}" for name in names))


def _facts(part: Any) -> list[tuple[str, Optional[str]]]:
    from MLTools.NanoML.terminal.page import count, file_size

    return [
        ("files", count(part.files) + (f" ({count(part.invalid)} invalid left out)" if part.invalid else "")),
        ("events", count(part.events)),
        ("size", file_size(part.size)),
        ("said by", f"{part.from_}, {part.date[:10]}"),
        ("sites", _sites(part.sites)),
    ]


def _show_analysis(datasets: Sequence[Any]) -> None:
    from MLTools.NanoML.terminal.page import Page, TableColumn, count, file_size, number

    def of(read: Optional[int], available: Optional[int]) -> str:
        return count(read) if read == available else f"{count(read)} of {count(available)}"

    page = Page()
    numbers = [TableColumn(name, "number") for name in ("pb", "files", "events", "size")]
    rows = [
        (
            each.name,
            "data" if each.data else each.class_ or "-",
            number(each.cross_section),
            of(each.read.files, each.available.files),
            of(each.read.events, each.available.events),
            file_size(each.read.size) or "-",
            ", ".join(dict.fromkeys(part.from_ for part in each.parts)),
        )
        for each in datasets
    ]
    page.table("What a run reads", ["dataset", "class", *numbers, "from"], rows)
    for each in datasets:
        for part in each.parts:
            if part.date:
                echo()
                page.title(f"{each.name}: {part.name}")
                page.facts(*_facts(part))
    page.warnings(news for each in datasets for news in each.news)


def _sites(sites: Optional[Sequence[Any]]) -> Optional[str]:
    """Sites with all files on disk by their names alone, the others with what they have."""
    if not sites:
        return None
    said = []
    for site in sites:
        notes = ["tape"] if site.kind != "DISK" else []
        notes += [] if site.share >= 100 else [f"{site.share:.0f} %"]
        said.append(site.name + (f" ({', '.join(notes)})" if notes else ""))
    return ", ".join(said)


@in_help("Grid")
@click.group(
    short_help="Make a grid proxy, or check the one that you have.",
    epilog=epilog("nanoml proxy init", "nanoml proxy info"),
)
def proxy() -> None:
    """Make a grid proxy, or show what is wrong with the one that you have.

    Files at other sites and CMS's catalogue of datasets require a proxy: a short-lived certificate that `nanoml proxy
    init` makes from yours, with voms-proxy-init.
    """


_vo = option("--vo", "The virtual organisation.", "NAME", default="cms")


@proxy.command(
    short_help="Make a proxy with voms-proxy-init.",
    epilog=epilog("nanoml proxy init", "nanoml proxy init --hours 24 -o ~/private/proxy"),
)
@_vo
@option("--hours", "How long it is valid.", type=click.IntRange(1), default=192)
@option(
    "-o, --output",
    "The file for it; default: what X509_USER_PROXY names, or ~/.globus/x509up_u and your user id.",
    "FILE",
    type=click.Path(path_type=Path, dir_okay=False),
)
def init(vo: str, hours: int, output: Optional[Path]) -> None:
    """Make a proxy with voms-proxy-init, which asks for the password of your certificate.

    It is written to your home directory, which batch systems see, not to /tmp, and nobody else can read it. Grid tools
    find it there if X509_USER_PROXY says so: the line that sets it is printed.
    """
    from MLTools.NanoML.grid.proxy import init_proxy

    for line in init_proxy(vo, timedelta(hours=hours), output):
        echo(line)


@proxy.command(
    short_help="Show whose proxy it is, and what is wrong with it.",
    epilog=epilog("nanoml proxy info", "nanoml proxy info --hours 48   # must it last two days?"),
)
@_vo
@option("--hours", "How long it must last.", "HOURS", type=click.IntRange(0), default=0)
@json_option
@click.pass_context
def info(context: click.Context, vo: str, hours: int, as_json: bool) -> None:
    """Show whose proxy it is, its VO, how long it is valid, and what is wrong with it.

    The exit code is 0 if it can be used, and 1 if not.
    """
    from MLTools.NanoML.errors import NanoMLError
    from MLTools.NanoML.grid.proxy import GridProblem, find_proxy, no_proxy, read_proxy

    path, found = find_proxy(), None
    if path is None:
        problems = [no_proxy(vo)]
    else:
        try:
            found = read_proxy(path)
            problems = found.problems(timedelta(hours=hours), vo)
        except NanoMLError as problem:
            problems = [GridProblem(str(problem), "")]
    if as_json:
        content = {"path": path and str(path), "valid": not problems, **(_proxy_content(found) if found else {})}
        said = [{"what": each.what, "remedy": each.remedy or None} for each in problems]
        echo_json({**content, "problems": said})
    else:
        _show_proxy(found, problems)
    context.exit(1 if problems else 0)


def _proxy_content(found: Proxy) -> dict[str, object]:
    from MLTools.NanoML.grid.proxy import duration, user_name

    left = max(found.left(), timedelta(0))
    return {
        "subject": found.subject,
        "vo": found.vo,
        "fqans": list(found.fqans),
        "expires": found.expires.isoformat(),
        "vo_expires": found.vo_expires.isoformat() if found.vo_expires else None,
        "seconds_left": int(left.total_seconds()),
        "left": duration(left),
        "owner": user_name(found.owner),
        "permissions": f"{found.mode:04o}",
    }


def _show_proxy(found: Optional[Proxy], problems: Sequence[GridProblem]) -> None:
    from MLTools.NanoML.grid.proxy import duration, user_name
    from MLTools.NanoML.terminal.page import Page

    page = Page()
    if found is not None:
        page.title(str(found.path))
        page.facts(
            ("subject", found.subject),
            ("VO", found.vo or "none"),
            ("groups", "\n".join(found.fqans) or None),
            ("valid until", _moment(found.expires)),
            ("VO until", _moment(found.vo_expires) if found.vo_expires else None),
            ("time left", duration(max(found.left(), timedelta(0)))),
            ("owner", f"{user_name(found.owner)}, permissions {found.mode:04o}"),
        )
    for problem in problems:
        text = str(problem) if problem.remedy else problem.what
        page.line(text[:1].upper() + text[1:], "red")
    if not problems:
        page.line("In order.")


def _moment(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M %Z")
