"""The words of a cut, and where a mistake stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from MLTools.NanoML.errors import NanoMLError

__all__ = ["Token", "mistake", "tokens"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*\$?)"
    r"|(?P<symbol>&&|\|\||[<>=!]=|<<|>>|\*\*|\S)|(?P<end>$))",
    re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """A word: its kind is "number", "name", "symbol" or "end"."""

    kind: str
    text: str
    position: int


def tokens(text: str) -> Iterator[Token]:
    """The words of a cut, and last its end."""
    position = 0
    while True:
        found = _TOKEN.match(text, position)
        assert found is not None  # `\S` and the end match all there is
        kind = found.lastgroup or ""
        yield Token(kind, found[kind], found.start(kind))
        if kind == "end":
            return
        position = found.end()


def mistake(text: str, position: int, what: str) -> NanoMLError:
    """An error that says where in the cut it is."""
    return NanoMLError(f'cut "{text}": column {position + 1}: {what}')
