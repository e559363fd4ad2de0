"""What pages and figures have in common: the style of an analysis, captions, and the blocks of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Optional

from MLTools.NanoML.report.page import figure


@dataclass(frozen=True)
class Style:
    """The style of an analysis: it is made once from the settings, and handed to everything that draws."""

    # what figures say in place of being private work with simulation by CMS
    label: Optional[str] = None

    def shown(self, has_data: bool) -> str:
        """The label of a figure, with observed data or without."""
        return self.label or f"Private work (CMS {'data/' if has_data else ''}simulation)"


PRIVATE_WORK = Style()
"""The style of an analysis that gives no label."""


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
