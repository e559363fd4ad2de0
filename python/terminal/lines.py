"""Lines as a terminal may show them: wrapped at words, coloured, and without what it would execute."""

from __future__ import annotations

import os
import re
import sys
from typing import Optional, TextIO

# what a terminal would execute: a file can hold any name
_CONTROLS = {code: "?" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}
# a word, or what stays on one line to be copied: a command with its arguments, and what stands in quotes or backticks
_PIECE = re.compile(
    r"""(\s*)((?:
        `[^`\n]*` | "[^"\n]*"
        | (?<![\w./-])(?:cd\ (?:'[^'\n]*'|\S+)\ &&\ )?(?:nanoml(?:\ config|\ proxy|\ submit|\ accept)?|pip|source|export)\ [\w./~=-]+
          (?:\ (?:--?\w[\w-]*(?:\ [^\s-]\S*)?|'[^'\n]*'|[^\s,;]*[^\s,;\w][^\s,;]*(?=\s|$|[,;])))*
        | (?<=\d)\ (?:%|±\ (?=\d)) | \S
    )+)""",
    re.VERBOSE,
)


def printable(text: str) -> str:
    """A text as a terminal may show it: with a question mark for each control character, and as long as it was."""
    return text.translate(_CONTROLS)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is shown by a terminal that can change what it has shown."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def width_of(stream: TextIO) -> Optional[int]:
    """Characters in a line of a terminal; None for a file or a pipe, whose lines are not wrapped."""
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    try:
        return (int(given) if given.isdigit() else os.get_terminal_size(stream.fileno()).columns) or 80
    except OSError:
        return 80


def wrapped(text: str, width: Optional[int], indent: Optional[int] = None) -> str:
    """A text with lines of this width, if there is one, broken between words; no path or command is broken.

    What continues a line is indented: by so many characters, or by two more than the line.
    """
    return text if width is None else "\n".join(_folded(line, width, indent) for line in text.split("\n"))


def _folded(line: str, width: int, indent: Optional[int]) -> str:
    if len(line) <= width:
        return line
    begin = len(line) - len(line.lstrip()) + 2 if indent is None else indent
    lines, current = [], ""
    for space, piece in _PIECE.findall(line):
        if current.strip() and len(current) + len(space) + len(piece) > width:
            lines.append(current)
            current = " " * begin + piece
        else:
            current += space + piece
    return "\n".join([*lines, current])


def show(text: str, stream: Optional[TextIO] = None, style: str = "", indent: Optional[int] = None) -> None:
    """Print a text to standard output or another stream, wrapped, and "bold" or in a colour, as far as a terminal shows it."""
    stream = stream or sys.stdout
    text = wrapped(printable(text), width_of(stream), indent)
    if style and is_terminal(stream) and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{_CODES[style]}m{text}\x1b[0m"
    stream.write(text + "\n")
    stream.flush()
