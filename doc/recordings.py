"""Records what commands say in a terminal: python doc/recordings.py writes doc/images/terminal-*.svg.

It makes a new analysis in a temporary directory. What is recorded is that of the machine it runs on.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
WIDTH = 80

# rich's own template fetches a font from elsewhere
_TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">
<style>.{unique_id}-matrix{{font:{char_height}px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;line-height:{line_height}px}}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x},{terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g></svg>
"""

RECORDINGS = {
    "run": ["init myanalysis", "run analysis.yaml"],
    "doctor": ["doctor --for laptop"],
    "status": ["init myanalysis", "submit pipeline analysis.yaml --on local", "status"],
}
"""What follows `nanoml`, each in a directory of its own."""

LOGIN = """\
[bold green]$[/] ssh username@lxplus.cern.ch
(username@lxplus.cern.ch) Password:
(username@lxplus.cern.ch) Your 2nd factor (username): [dim]<- the code on your phone[/]
* ********************************************************************
* Welcome to lxplus901.cern.ch, Red Hat Enterprise Linux 9
* Reminder: you have agreed to the CERN computing rules
* https://cern.ch/ComputingRules
* ********************************************************************
[bold green]\\[username@lxplus901 ~]$[/] pwd
/afs/cern.ch/user/u/username
[bold green]\\[username@lxplus901 ~]$[/] ls /eos/user/u/username
myanalysis
[bold green]\\[username@lxplus901 ~]$[/]"""
"""What a login to LXPLUS looks like; this one is written, for it cannot be recorded elsewhere."""


def said(command: list[str], directory: Path) -> str:
    """What a command prints in a terminal of `WIDTH` columns, as it stands in the end."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(directory)
        os.execvpe(command[0], command, {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color"})
    parts = []
    while select.select([terminal], [], [], 300)[0]:
        try:
            parts.append(os.read(terminal, 1 << 16))
        except OSError:  # the command has ended
            break
    os.waitpid(process, 0)
    return left(b"".join(parts).decode())


def left(text: str) -> str:
    """What is left on the screen: lines that were written again stand once, in their last form."""
    text = re.sub(r"\x1b\[\?25[lh]", "", text.replace("\r\n", "\n"))
    return "\n".join(re.split(r"\r(?:\x1b\[2K)?", line)[-1].rstrip() for line in text.split("\n"))


def screen() -> Console:
    """An empty one."""
    return Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)


def write(name: str, console: Console) -> None:
    """Make the picture of a screen."""
    svg = console.export_svg(title="", code_format=_TEMPLATE, unique_id=name)
    (IMAGES / f"terminal-{name}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    """Record all."""
    console = screen()
    console.print(Text.from_markup(LOGIN))
    write("login", console)
    for name, commands in RECORDINGS.items():
        console = screen()
        with tempfile.TemporaryDirectory() as home:
            directory = Path(home)
            for command in commands:
                console.print(Text.assemble(("$ ", "bold green"), f"nanoml {command}"))
                text = said([sys.executable, "-m", "MLTools.NanoML.cli", *command.split()], directory)
                for path, short in (
                    (f"{directory}/", ""),
                    (str(directory), "."),
                    (sys.prefix, ".venv"),
                    (str(Path.home()), "~"),
                ):
                    text = text.replace(path, short)
                console.print(Text.from_ansi(text.strip("\n")))
                if command.startswith("init"):
                    directory /= "myanalysis"
                if command.startswith("submit"):
                    time.sleep(20)  # some jobs are done, others not
            write(name, console)
            if any(command.startswith("submit") for command in commands):
                said([sys.executable, "-m", "MLTools.NanoML.cli", "status", "--wait"], directory)


if __name__ == "__main__":
    main()
