"""Sections of a page: each is one class, from what it computes to its figure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from MLTools.NanoML.report.page import Answer, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from MLTools.NanoML.report.style import Style

Page = TypeVar("Page")


@dataclass(frozen=True)
class Caption:
    """The title of a figure, how to read it, and what is worrying; small figures do not need the full width."""

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

    def html(self, directory: Path) -> str:
        """The block, with its figures, which are in a directory."""
        images = "\n".join(_image(directory, *each) for each in self.figures)
        kind = ' class="figure"' if self.is_figure else ""
        content = f"{self.tables}\n{images}" if self.figures else self.tables
        return f'<section id="{self.anchor}"{kind}><h2>{escape(self.title)}</h2>{content}</section>'


def _image(directory: Path, name: str, caption: Caption) -> str:
    text = f"<p>{caption.reading}</p>"
    if caption.worrying:
        text += f'<p class="worry"><b>Worrying:</b> {caption.worrying}</p>'
    return figure(directory / f"{name}.png", caption.title, "narrow" if caption.is_small else "wide", text)


class Section(Generic[Page]):
    """A section of a page of type `Page`, which holds all that is known there; an object of it is what the section shows.

    It has a figure, tables, and answers to a question, or some of them.
    """

    name: ClassVar[str]
    """Its anchor, and the name of the file with its figure."""
    caption: ClassVar[Caption] = Caption("", "")
    """That of its figure, if it has one."""

    def draw(self, style: Style) -> Figure | None:
        """The figure; None if there is nothing to draw."""
        return None

    def figures(self, style: Style) -> Iterator[tuple[str, Figure]]:
        """Figures by the names of their files, if it is not one."""
        figure = self.draw(style)
        if figure is not None:
            yield self.name, figure

    def tables(self, page: Page) -> str:
        """Its tables, as HTML."""
        return ""

    @classmethod
    def answers(cls, page: Page) -> Iterable[Answer]:
        """Answers to what one wants to know, also where there is no section, as it could not be computed."""
        return ()

    def blocks(self, page: Page, drawn: Collection[str]) -> Iterator[Block]:
        """Its parts of the page, if it is not one with a figure; `drawn` are the names of all figures."""
        if self.caption.title and self.name in drawn:
            yield Block(self.name, self.caption.title, self.tables(page), [(self.name, self.caption)], True)
