"""From the text of a cut to its expression."""

from __future__ import annotations

from typing import Optional

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.formula.functions import ARITY, REDUCTIONS
from MLTools.NanoML.nanoaod.formula.nodes import Alternative, Call, Leaf, Logical, Node, Number, Reduction
from MLTools.NanoML.nanoaod.formula.tokens import Token, mistake, tokens

__all__ = ["parse"]

# as ROOT has them: from what binds least to what binds most
_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")
_SHIFTS = ("<<", ">>")
_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("&",),
    _COMPARISONS,
    ("+",),
    ("-",),
    ("%",),
    _SHIFTS,
    ("*",),
    ("/",),
    ("^", "**"),
)
_UNCLEAR = {
    **dict.fromkeys(_COMPARISONS, (*_COMPARISONS, *_SHIFTS)),
    **dict.fromkeys(("+", "-"), _SHIFTS),
    **dict.fromkeys(_SHIFTS, _SHIFTS),
    "%": ("%", "*", "/", *_SHIFTS),
    **dict.fromkeys(("^", "**"), ("^", "**")),
}
_HINTS = {"=": " Compare with ==.", "and": " Write &&.", "or": " Write ||.", "not": " Write !."}


def parse(text: str) -> Node:
    """The expression of a cut.

    Raises
    ------
    NanoMLError
        It is not understood; with the column.
    RecursionError
        It is too deep.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent; each method takes what it names, from where the last one stopped."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokens(text))
        self._at = 0

    def parse(self) -> Node:
        node, _ = self._binary(0)
        if self._next.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
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
        return mistake(self._text, token.position, f"{found}{expected}.{_HINTS.get(token.text, '')}")

    def _binary(self, level: int) -> tuple[Node, str]:
        """Operators of a level and above; returns the one of them that binds least, too, "" if none is bare."""
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
                    raise mistake(self._text, token.position, what)
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
            raise mistake(self._text, name.position, f"{name.text} is not supported.")
        return Leaf(name.text, self._index(), name.position)

    def _call(self, name: Token) -> Node:
        if name.text not in ARITY:
            hint = versions.did_you_mean(name.text, ARITY)
            raise mistake(self._text, name.position, f"there is no function {name.text}.{hint}")
        self._expect("(")
        arguments = []
        if not self._is(")"):
            arguments.append(self._binary(0)[0])
            while self._is(","):
                self._take()
                arguments.append(self._binary(0)[0])
        self._expect(")")
        if len(arguments) != ARITY[name.text]:
            what = f"{name.text} takes {ARITY[name.text]} argument(s), not {len(arguments)}."
            raise mistake(self._text, name.position, what)
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
