"""`nanoml proxy`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import epilog, json_option

__all__ = ["proxy"]


@click.group(epilog=epilog("nanoml proxy init", "nanoml proxy info"))
def proxy() -> None:
    """Make a grid proxy, or tell what is wrong with the one that there is.

    Files at other sites and CMS's catalogue of datasets ask for a proxy: a short-lived certificate that `nanoml proxy
    init` makes of yours, by voms-proxy-init.
    """


_vo = click.option("--vo", default="cms", show_default=True, metavar="NAME", help="The virtual organisation.")


@proxy.command(epilog=epilog("nanoml proxy init", "nanoml proxy init --hours 24 -o ~/private/proxy"))
@_vo
@click.option(
    "--hours", type=click.IntRange(1), default=192, show_default=True, help="How long it is to be valid."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where it goes; default: what X509_USER_PROXY names, or ~/.globus/x509up_u and your user id.",
)
def init(vo: str, hours: int, output: Optional[Path]) -> None:
    """Make a proxy by voms-proxy-init, which asks for the password of your certificate.

    It is written to your home directory, which batch systems see, not to /tmp, and nobody else can read it. Grid tools
    find it there when X509_USER_PROXY says so: the line to do that is printed.
    """
    from MLTools.NanoML.grid.init import init_proxy

    for line in init_proxy(vo, timedelta(hours=hours), output):
        click.echo(line)


@proxy.command(epilog=epilog("nanoml proxy info", "nanoml proxy info --hours 48   # must it last two days?"))
@_vo
@click.option("--hours", type=click.IntRange(0), default=0, metavar="HOURS", help="It must last so long.")
@json_option
@click.pass_context
def info(context: click.Context, vo: str, hours: int, as_json: bool) -> None:
    """Tell whose proxy it is, of which VO, how long it is valid, and what is wrong with it.

    The exit code is 0 if it can be used, and 1 if not.
    """
    content = _content(vo, timedelta(hours=hours))
    if as_json:
        click.echo(json.dumps(content, indent=1))
    else:
        _show(content)
    context.exit(0 if content["valid"] else 1)


def _content(vo: str, needed: timedelta) -> dict[str, Any]:
    """What is to be told; a file that cannot be read has a path and a problem only."""
    from MLTools.NanoML.errors import NanoMLError
    from MLTools.NanoML.grid.proxy import find_proxy, missing
    from MLTools.NanoML.grid.proxyfile import duration, read_proxy, user_name

    path = find_proxy()
    if path is None:
        lacking = missing(vo)
        return {
            "path": None,
            "valid": False,
            "problems": [{"what": lacking.what, "remedy": lacking.remedy}],
        }
    try:
        found = read_proxy(path)
    except NanoMLError as problem:
        return {"path": str(path), "valid": False, "problems": [{"what": str(problem), "remedy": None}]}
    problems = found.problems(needed, vo)
    left = found.left()
    return {
        "path": str(path),
        "valid": not problems,
        "subject": found.subject,
        "vo": found.vo,
        "fqans": list(found.fqans),
        "expires": found.expires.isoformat(),
        "vo_expires": found.vo_expires.isoformat() if found.vo_expires else None,
        "seconds_left": max(0, int(left.total_seconds())),
        "left": duration(max(left, timedelta(0))),
        "owner": user_name(found.owner),
        "permissions": f"{found.mode:04o}",
        "problems": [{"what": each.what, "remedy": each.remedy} for each in problems],
    }


def _show(content: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    from MLTools.NanoML.terminal.page import Page

    console = Console()
    page = Page(console)
    if "subject" in content:
        page.title(content["path"])
        page.facts(
            [
                ("subject", content["subject"]),
                ("VO", content["vo"] or "none"),
                ("groups", "\n".join(content["fqans"]) or None),
                ("valid until", _moment(content["expires"])),
                ("VO until", _moment(content["vo_expires"]) if content["vo_expires"] else None),
                ("time left", content["left"]),
                ("owner", f"{content['owner']}, permissions {content['permissions']}"),
            ]
        )
    for problem in content["problems"]:
        mend = f". Mend it: {problem['remedy']}" if problem["remedy"] else ""
        what = problem["what"]
        console.print(Text(what[:1].upper() + what[1:] + mend, style="red"), soft_wrap=True)
    if content["valid"]:
        console.print("In order.")


def _moment(text: str) -> str:
    from datetime import datetime

    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M %Z")
