"""The language of cuts: from the text of a cut to its expression, a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional, Union

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions

__all__ = [
    "Alternative",
    "Call",
    "Leaf",
    "Logical",
    "Node",
    "Number",
    "Reduction",
    "cut_error",
    "leaves",
    "nodes",
    "parse",
]

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
    """An operator or a function, of `OPERATORS` or `FUNCTIONS`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Logical:
    """`&&` or `||` with any number of arguments: a long chain would be too deep as a tree of pairs."""

    operator: str
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


Node = Union[Number, Leaf, Call, Logical, Reduction, Alternative]


def nodes(node: Node, everywhere: bool = True) -> Iterator[Node]:
    """A node and those below it; if not `everywhere`, only those that are evaluated as often as it is."""
    yield node
    below: tuple[Node, ...] = ()
    if isinstance(node, (Call, Logical)):
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


def parse(text: str, functions: Mapping[str, int]) -> Node:
    """The expression of a cut; `functions` has the number of arguments of each function.

    Raises
    ------
    NanoMLError
        It is not understood; the message has the column.
    RecursionError
        It is too deep.
    """
    return _Parser(text, functions).parse()


@dataclass(frozen=True)
class _Token:
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


class _Parser:
    """Recursive descent: each method parses what its name says, from where the last one stopped."""

    def __init__(self, text: str, functions: Mapping[str, int]) -> None:
        self._text = text
        self._arity = {**functions, **dict.fromkeys(REDUCTIONS, 1), "Alt$": 2}
        self._tokens = list(_tokens(text))
        self._at = 0

    def parse(self) -> Node:
        node, _ = self._binary(0)
        if self._next.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _is(self, *symbols: str) -> bool:
        return self._next.kind == "symbol" and self._next.text in symbols

    def _expect(self, symbol: str) -> None:
        if not self._is(symbol):
            raise self._unexpected(f'"{symbol}"')
        self._take()

    def _unexpected(self, wanted: str = "") -> NanoMLError:
        token = self._next
        found = "unexpected end" if token.kind == "end" else f'unexpected "{token.text}"'
        expected = f", expected {wanted}" if wanted else ""
        return cut_error(self._text, token.position, f"{found}{expected}.{_HINTS.get(token.text, '')}")

    def _binary(self, level: int) -> tuple[Node, str]:
        """Operators of a level and above, and the one of them without parentheses that binds least ("" if there is none)."""
        if level == len(_LEVELS):
            return self._unary()
        node, inner = self._binary(level + 1)
        while self._is(*_LEVELS[level]):
            token = self._take()
            # ROOT takes products from the right, and the last bit may depend on it
            other, other_inner = self._binary(level if token.text == "*" else level + 1)
            for bare in (inner, other_inner):
                if bare in _UNCLEAR.get(token.text, ()):
                    what = f'"{bare}" and "{token.text}" need parentheses to say what belongs together.'
                    raise cut_error(self._text, token.position, what)
            node, inner = _join(token.text, node, other), token.text
        return node, inner

    def _unary(self) -> tuple[Node, str]:
        if self._is("!"):
            self._take()
            return Call("!", (self._unary()[0],)), ""
        if self._is("-"):
            self._take()
            return Call("negative", (self._binary(len(_LEVELS) - 1)[0],)), ""
        return self._primary(), ""

    def _primary(self) -> Node:
        if self._is("("):
            self._take()
            node, _ = self._binary(0)
            self._expect(")")
            return node
        if self._next.kind == "number":
            text = self._take().text
            return Number(float(int(text, 16) if text[:2] in ("0x", "0X") else float(text)))
        if self._next.kind != "name" or self._next.text in _HINTS:
            raise self._unexpected("a number, a branch, a function or (")
        name = self._take()
        if self._is("("):
            return self._call(name)
        if name.text.endswith("$") or "::" in name.text:
            raise cut_error(self._text, name.position, f"{name.text} is not supported.")
        return Leaf(name.text, self._index(), name.position)

    def _call(self, name: _Token) -> Node:
        if name.text not in self._arity:
            hint = versions.did_you_mean(name.text, self._arity)
            raise cut_error(self._text, name.position, f"there is no function {name.text}.{hint}")
        self._expect("(")
        arguments = []
        if not self._is(")"):
            arguments.append(self._binary(0)[0])
            while self._is(","):
                self._take()
                arguments.append(self._binary(0)[0])
        self._expect(")")
        if len(arguments) != self._arity[name.text]:
            what = f"{name.text} takes {self._arity[name.text]} argument(s), not {len(arguments)}."
            raise cut_error(self._text, name.position, what)
        if name.text in REDUCTIONS:
            return Reduction(name.text, arguments[0])
        return Alternative(*arguments) if name.text == "Alt$" else Call(name.text, tuple(arguments))

    def _index(self) -> Optional[int]:
        if not self._is("["):
            return None
        self._take()
        index = None
        if not self._is("]"):
            if not (self._next.kind == "number" and self._next.text.isdigit()):
                raise self._unexpected("an index: an integer that is not negative")
            index = int(self._take().text)
        self._expect("]")
        return index


def _join(operator: str, left: Node, right: Node) -> Node:
    if operator not in ("&&", "||"):
        return Call(operator, (left, right))
    if isinstance(left, Logical) and left.operator == operator:
        return Logical(operator, (*left.arguments, right))
    return Logical(operator, (left, right))
