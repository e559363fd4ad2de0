"""The pages of the manual, by their sections."""

from __future__ import annotations

import re
from collections.abc import Iterator


def headings(text: str) -> Iterator[tuple[int, int, str]]:
    """The headings of a page: where each begins, its level, its anchor."""
    plain = re.sub(r"^```.*?^```", lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.M | re.S)
    for found in re.finditer(r"^(#+) (.*)$", plain, re.M):
        words = re.sub(r"[^\w\s-]", "", found[2].replace("*", "")).strip().lower()
        yield found.start(), len(found[1]), re.sub(r"[-\s]+", "-", words)


def section_of(text: str, anchor: str) -> str:
    """The section of a page with this anchor, with those inside of it; the whole page without one."""
    if not anchor:
        return text
    begin, level = next((start, level) for start, level, name in headings(text) if name == anchor)
    ends = [start for start, other, _ in headings(text) if start > begin and other <= level]
    return text[begin : min(ends, default=len(text))]
