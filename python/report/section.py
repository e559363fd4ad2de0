"""What pages and figures have in common: the style of an analysis, captions, and the blocks of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Optional

from MLTools.NanoML.report.page import Answer, Site, by_severity, figure, page, verdict_list
from MLTools.NanoML.schema.roles import HOW


@dataclass(frozen=True)
class Style:
    """The style of an analysis: it is made once from the settings, and handed to everything that draws."""

    # what figures say in place of being private work with simulation by CMS
    label: Optional[str] = None
    # the analysis and its pages: they change no figure
    site: Site = field(default=Site(), metadata=HOW)

    def shown(self, has_data: bool) -> str:
        """The label of a figure, with observed data or without."""
        return self.label or f"Private work (CMS {'data/' if has_data else ''}simulation)"


PRIVATE_WORK = Style()
"""The style of an analysis that gives no label."""


@dataclass(frozen=True)
class Caption:
    """The title of a figure, how to read it, and what to watch for; small figures do not need the full width."""

    title: str
    reading: str
    worrying: str = ""
    is_small: bool = False


@dataclass(frozen=True)
class Block:
    """A part of a page: its anchor and title, tables as HTML, and figures by the names of their files."""

    anchor: str
    title: str
    tables: str
    figures: Sequence[tuple[str, Caption]] = ()
    is_figure: bool = False

    def html(self, directory: Optional[Path], answers: Iterable[Answer] = ()) -> str:
        """The block, with its figures, and what `answers` find here."""
        images = "\n".join(_image(directory, *each) for each in self.figures)
        if sum(it.is_small for _, it in self.figures) > 1:
            images = f'<div class="figures">{images}</div>'
        kind = ' class="figure"' if self.is_figure else ""
        content = f"{self.tables}\n{images}" if self.figures else self.tables
        found = (it for it in by_severity(answers) if it.link == f"#{self.anchor}" and it.state in _TRIGGERED)
        alarms = "".join(
            f'<p class="{_TRIGGERED[it.state]}"><b>{escape(it.question)}</b> {escape(it.text)}</p>' for it in found
        )
        return f'<section id="{self.anchor}"{kind}><h2>{escape(self.title)}</h2>{alarms}{content}</section>'


_TRIGGERED = {"bad": "alarm", "look": "care"}


def _image(directory: Optional[Path], name: str, caption: Caption) -> str:
    text = f"<p>{escape(caption.reading)}</p>" if caption.reading else ""
    if caption.worrying:
        text += f'<p class="watch"><b>Watch for:</b> {escape(caption.worrying)}</p>'
    kind = "wide" if not caption.is_small else "narrow" if directory else "small"
    return figure(name, directory, f"{caption.title}. {caption.reading}".strip(), kind, text)


@dataclass(frozen=True)
class Document:
    """A page: its title, where it is in the work directory, HTML above and below the answers, and its blocks."""

    title: str
    here: str
    lead: str
    answers: Sequence[Answer]
    blocks: Sequence[Block]
    notes: Sequence[str] = ()

    def html(self, style: Style, directory: Optional[Path]) -> str:
        """The page, with its figures from a directory; without one they stay beside it, since they are many."""
        titles = {f"#{it.anchor}": it.title for it in self.blocks}
        others = {place: title for title, place in style.site.pages}
        links = "".join(f'<li><a href="{anchor}">{escape(title)}</a></li>' for anchor, title in titles.items())
        answers = [it if it.link in titles or "#" in it.link[1:] else replace(it, link="") for it in self.answers]
        parts = [
            self.lead,
            verdict_list(answers, {**others, **titles}) if answers else "",
            *(f'<p class="note">{escape(text)}</p>' for text in self.notes),
            f'<nav class="contents" aria-label="Contents"><b>Contents</b><ul>{links}</ul></nav>' if links else "",
            *(it.html(directory, self.answers) for it in self.blocks),
        ]
        return page(style.site.titled(self.title), parts, style.site, self.here)
