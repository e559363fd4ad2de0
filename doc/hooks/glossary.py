"""A hook of MkDocs: the first mention of a word of the glossary on a page leads to its entry.

An entry is a line "- **word, another form**: meaning", whose first word names its place. A plural with s is found by itself.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = "glossary.md"
_ENTRY = re.compile(r"^- \*\*([^*]+)\*\*: (.+(?:\n  .+)*)", re.M)
_PARTS = re.compile(r"(<[^>]+>)")
_UNTOUCHED = {"a", "code", "pre", "h1", "h2", "h3", "h4", "button", "svg", "script", "style", "th"}


@dataclass(frozen=True)
class Entry:
    """A word, in all its forms, and what it means."""

    forms: tuple[str, ...]
    meaning: str

    @property
    def place(self) -> str:
        """The name of its place on the page."""
        return re.sub(r"\W+", "-", self.forms[0].lower())


def entries(text: str) -> list[Entry]:
    """All entries of the page."""
    return [
        Entry(_with_plurals(forms.split(", ")), re.sub(r"\s+", " ", meaning).replace("`", ""))
        for forms, meaning in _ENTRY.findall(text)
    ]


def _with_plurals(forms: list[str]) -> tuple[str, ...]:
    return (*forms, *(f"{form}s" for form in forms if form.islower() and not form.endswith("s")))


ENTRIES = entries((Path(__file__).parents[1] / PAGE).read_text(encoding="utf-8"))


def _pattern() -> re.Pattern[str]:
    """All forms, the longest first; a word in small letters may begin a sentence."""
    forms = sorted((form for entry in ENTRIES for form in entry.forms), key=len, reverse=True)
    first = (
        f"[{form[0].upper()}{form[0]}]{re.escape(form[1:])}" if form.islower() else re.escape(form) for form in forms
    )
    return re.compile(rf"(?<![\w/.-])(?<!Python )({'|'.join(first)})(?![\w-])")


_WORD = _pattern()
_BY_FORM = {form: entry for entry in ENTRIES for form in entry.forms}


def _entry_of(word: str) -> Entry:
    return _BY_FORM.get(word) or _BY_FORM[word[0].lower() + word[1:]]


def linked(content: str, up: str) -> str:
    """HTML with the first mention of each word as a link; `up` leads to the directory of the glossary."""
    seen: set[str] = set()
    inside: list[str] = []

    def link(found: re.Match[str]) -> str:
        entry = _entry_of(found[0])
        if entry.place in seen:
            return found[0]
        seen.add(entry.place)
        title = html.escape(entry.meaning)
        return f'<a class="term" href="{up}glossary.html#{entry.place}" title="{title}">{found[0]}</a>'

    parts = _PARTS.split(content)
    for number, part in enumerate(parts):
        if part.startswith("<"):
            name = re.match(r"</?(\w*)", part)[1]  # type: ignore[index]
            if name in _UNTOUCHED:
                inside = inside[:-1] if part.startswith("</") else [*inside, name]
        elif not inside:
            parts[number] = _WORD.sub(link, part)
    return "".join(parts)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give each entry its place."""
    if page.file.src_uri != PAGE:
        return markdown
    places = iter(ENTRIES)
    return _ENTRY.sub(lambda found: f'- <span id="{next(places).place}">**{found[1]}**</span>: {found[2]}', markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Link the words of a page that was written by hand."""
    name = page.file.src_uri
    if name == PAGE or name.startswith(("reference/", "source/")):
        return html
    return linked(html, "../" * name.count("/"))
