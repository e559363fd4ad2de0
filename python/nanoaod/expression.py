"""The language of cuts: from the text of a cut to its expression, a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions

REDUCTIONS = ("Sum$", "Max$", "Min$", "Length$")

# as in ROOT, from the operators that bind least to those that bind most
_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")
_SHIFTS = ("<<", ">>")
_LEVELS = (("||",), ("&&",), ("|",), ("&",), _COMPARISONS, ("+",), ("-",), ("%",), _SHIFTS, ("*",), ("/",), ("^", "**"))
_UNCLEAR = {
    **dict.fromkeys(_COMPARISONS, (*_COMPARISONS, *_SHIFTS)),
    **dict.fromkeys(("+", "-"), _SHIFTS),
    **dict.fromkeys(_SHIFTS, _SHIFTS),
    "%": ("%", "*", "/", *_SHIFTS),
    **dict.fromkeys(("^", "**"), ("^", "**")),
}
_HINTS = {"=": " Compare with ==.", "and": " Write &&.", "or": " Write ||.", "not": " Write !."}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*\$?)"
    r"|(?P<symbol>&&|\|\||[<>=!]=|<<|>>|\*\*|\S)|(?P<end>$))",
    re.ASCII,
)


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Leaf:
    """A branch, or with an index one element of its lists; `position` is its place in the cut."""

    name: str
    index: Optional[int]
    position: int


@dataclass(frozen=True)
class Call:
    """An operator or a function; `&&` and `||` take any number of arguments, as a long chain of pairs would be too deep."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Reduction:
    """`Sum$`, `Max$`, `Min$` or `Length$`: one number per event."""

    name: str
    argument: Node


@dataclass(frozen=True)
class Alternative:
    """`Alt$(primary, otherwise)`."""

    primary: Node
    otherwise: Node


Node = Union[Number, Leaf, Call, Reduction, Alternative]


def nodes(node: Node, everywhere: bool = True) -> Iterator[Node]:
    """A node and those below it; if not `everywhere`, only those that are evaluated as often as it is."""
    yield node
    below: tuple[Node, ...] = ()
    if isinstance(node, Call):
        below = node.arguments
    elif isinstance(node, Reduction) and everywhere:
        below = (node.argument,)
    elif isinstance(node, Alternative):
        below = (node.primary, node.otherwise) if everywhere else (node.otherwise,)
    for child in below:
        yield from nodes(child, everywhere)


def leaves(node: Node, everywhere: bool = True) -> list[Leaf]:
    """The branches in an expression; `everywhere` as in `nodes`."""
    return [found for found in nodes(node, everywhere) if isinstance(found, Leaf)]


class _Token(NamedTuple):
    kind: str  # "number", "name", "symbol" or "end"
    text: str
    position: int


def _tokens(text: str) -> Iterator[_Token]:
    """The words of a cut, and last its end."""
    position = 0
    while True:
        found = _TOKEN.match(text, position)
        assert found is not None  # `\S` and the end match all there is
        kind = found.lastgroup or ""
        yield _Token(kind, found[kind], found.start(kind))
        if kind == "end":
            return
        position = found.end()


def cut_error(text: str, position: int, what: str) -> NanoMLError:
    """An error that says at which column of the cut it is."""
    return NanoMLError(f'cut "{text}": column {position + 1}: {what}')


def parse(text: str, functions: Mapping[str, int]) -> Node:
    """The expression of a cut; `functions` has the number of arguments of each function.

    Raises NanoMLError with the column if it is not understood, and RecursionError if it is too deep.
    """
    parser = _Parser(text, functions)
    node, _ = parser.binary(0)
    if parser.next.kind != "end":
        raise parser.unexpected()
    return node


class _Parser:
    """Recursive descent: each method parses what its name says, from the token `next`."""

    def __init__(self, text: str, functions: Mapping[str, int]) -> None:
        self._text = text
        self._arity = {**functions, **dict.fromkeys(REDUCTIONS, 1), "Alt$": 2}
        self._tokens = _tokens(text)
        self.next = next(self._tokens)

    def _take(self) -> _Token:
        token, self.next = self.next, next(self._tokens, self.next)
        return token

    def _accept(self, *symbols: str) -> Optional[str]:
        """The next token, if it is one of these symbols."""
        return self._take().text if self.next.kind == "symbol" and self.next.text in symbols else None

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise self.unexpected(f'"{symbol}"')

    def unexpected(self, wanted: str = "") -> NanoMLError:
        token = self.next
        found = "unexpected end" if token.kind == "end" else f'unexpected "{token.text}"'
        expected = f", expected {wanted}" if wanted else ""
        return cut_error(self._text, token.position, f"{found}{expected}.{_HINTS.get(token.text, '')}")

    def binary(self, level: int) -> tuple[Node, str]:
        """Operators of a level and above, and the one of them without parentheses that binds least ("" if there is none)."""
        if level == len(_LEVELS):
            return self._unary(), ""
        node, inner = self.binary(level + 1)
        while True:
            position = self.next.position
            operator = self._accept(*_LEVELS[level])
            if operator is None:
                return node, inner
            # ROOT takes products from the right, and the last bit may depend on it
            other, other_inner = self.binary(level if operator == "*" else level + 1)
            for bare in (inner, other_inner):
                if bare in _UNCLEAR.get(operator, ()):
                    what = f'"{bare}" and "{operator}" need parentheses to say what belongs together.'
                    raise cut_error(self._text, position, what)
            if operator in ("&&", "||") and isinstance(node, Call) and node.function == operator:
                node = Call(operator, (*node.arguments, other))
            else:
                node = Call(operator, (node, other))
            inner = operator

    def _unary(self) -> Node:
        if self._accept("!"):
            return Call("!", (self._unary(),))
        if self._accept("-"):
            return Call("negative", (self.binary(len(_LEVELS) - 1)[0],))
        if self._accept("("):
            node, _ = self.binary(0)
            self._expect(")")
            return node
        if self.next.kind == "number":
            text = self._take().text
            return Number(float(int(text, 16) if text[:2] in ("0x", "0X") else float(text)))
        if self.next.kind != "name" or self.next.text in _HINTS:
            raise self.unexpected("a number, a branch, a function or (")
        name = self._take()
        if self._accept("("):
            return self._call(name)
        if name.text.endswith("$") or "::" in name.text:
            raise cut_error(self._text, name.position, f"{name.text} is not supported.")
        return Leaf(name.text, self._index(), name.position)

    def _call(self, name: _Token) -> Node:
        if name.text not in self._arity:
            hint = versions.did_you_mean(name.text, self._arity)
            raise cut_error(self._text, name.position, f"there is no function {name.text}.{hint}")
        arguments: list[Node] = []
        if not self._accept(")"):
            arguments.append(self.binary(0)[0])
            while self._accept(","):
                arguments.append(self.binary(0)[0])
            self._expect(")")
        if len(arguments) != self._arity[name.text]:
            what = f"{name.text} takes {self._arity[name.text]} argument(s), not {len(arguments)}."
            raise cut_error(self._text, name.position, what)
        if name.text in REDUCTIONS:
            return Reduction(name.text, arguments[0])
        return Alternative(*arguments) if name.text == "Alt$" else Call(name.text, tuple(arguments))

    def _index(self) -> Optional[int]:
        if not self._accept("[") or self._accept("]"):
            return None
        if not (self.next.kind == "number" and self.next.text.isdigit()):
            raise self.unexpected("an index: an integer that is not negative")
        index = int(self._take().text)
        self._expect("]")
        return index
