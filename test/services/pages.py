"""The pages of the manual, by their sections."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from MLTools.NanoML.extending import WITHOUT

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```", re.M | re.S)

whole = pytest.mark.skipif(bool(os.environ.get(WITHOUT)), reason="extensions of the manual are hidden")
"""For tests of what the manual says of extensions, too."""


class Fence(NamedTuple):
    """A block of code of a page: the line of its page, its language, what stands behind the language, its code."""

    line: int
    language: str
    about: str
    code: str


def fences(text: str) -> Iterator[Fence]:
    """The blocks of code of a page, also those that are folded, which are indented."""
    for found in _FENCE.finditer(text):
        language, _, about = found["info"].strip().partition(" ")
        yield Fence(text[: found.start()].count("\n") + 1, language, about, textwrap.dedent(found["code"]))


def prose(text: str) -> str:
    """A page with its blocks of code blank, each character where it was."""
    return _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def headings(text: str) -> Iterator[tuple[int, int, str]]:
    """The headings of a page: where each begins, its level, its anchor."""
    for found in re.finditer(r"^(#+) (.*)$", prose(text), re.M):
        words = re.sub(r"[^\w\s-]", "", found[2].replace("*", "")).strip().lower()
        yield found.start(), len(found[1]), re.sub(r"[-\s]+", "-", words)


def section_of(text: str, anchor: str) -> str:
    """The section of a page with this anchor, with those inside of it; the whole page without one."""
    if not anchor:
        return text
    begin, level = next((start, level) for start, level, name in headings(text) if name == anchor)
    ends = [start for start, other, _ in headings(text) if start > begin and other <= level]
    return text[begin : min(ends, default=len(text))]
