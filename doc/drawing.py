"""Draws with boxes, arrows, curves and words, as SVG: legible on a phone, in both colour schemes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH = 440
"""That of every picture, in pixels: a phone shows it at three quarters of its size."""

_LINE = 18
_LIGHT = {
    "ground": "#ffffff",
    "ink": "#1f2430",
    "soft": "#4a5264",
    "line": "#6b7487",
    "data": "#e3edfd",
    "work": "#fdf0d8",
    "ours": "#dff2e3",
    "group": "#f5f6f8",
    "alert": "#fbe0dd",
    "blue": "#2463c0",
    "red": "#c0392b",
}
_DARK = {
    "ground": "#1b1f2a",
    "ink": "#eceff4",
    "soft": "#b9c0cf",
    "line": "#98a1b3",
    "data": "#24406b",
    "work": "#5a4520",
    "ours": "#24502f",
    "group": "#252a37",
    "alert": "#622a26",
    "blue": "#7db0f5",
    "red": "#f28b7d",
}


def _variables(colours: dict[str, str]) -> str:
    return ":root{" + "".join(f"--{name}:{colour};" for name, colour in colours.items()) + "}"


_STYLE = (
    _variables(_LIGHT) + "@media(prefers-color-scheme:dark){" + _variables(_DARK) + "}"
    "text{font:15px sans-serif;fill:var(--ink);text-anchor:middle}.t{font-weight:bold}.s{font-size:13.5px;fill:var(--soft)}"
    ".a{stroke:var(--line);stroke-width:1.6;fill:none;marker-end:url(#h)}.d{stroke-dasharray:5 4}"
    ".c{stroke-width:2.2;fill:none}.w{fill:var(--line)}.left{text-anchor:start}"
    "rect{stroke:var(--line);stroke-width:1.1}"
)


@dataclass
class Picture:
    """A picture of `WIDTH` pixels; y points down.

    Attributes
    ----------
    height
        In pixels.
    """

    height: int
    parts: list[str] = field(default_factory=list)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: Sequence[str] = (),
        kind: str = "data",
        corner: int = 7,
    ) -> None:
        """A box; the first line of its text is its name. That of a group stands at its top."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{corner}" style="fill:var(--{kind})"/>'
        )
        top = y + 22 if kind == "group" else y + height / 2 - _LINE * (len(text) - 1) / 2 + 5
        for number, line in enumerate(text):
            self.words(x + width / 2, top + _LINE * number, line, "s" if number else "t")

    def words(self, x: float, y: float, text: str, style: str = "s") -> None:
        """A line of text around x, or to the right of it with the style "left"; "t" is bold, "s" small."""
        self.parts.append(f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(text)}</text>')

    def arrow(
        self, *points: tuple[float, float], text: str = "", at: tuple[float, float] = (0, 0), dashed: bool = False
    ) -> None:
        """An arrow along points, with a text at a place."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="a{" d" if dashed else ""}" d="M{path}"/>')
        if text:
            self.words(*at, text)

    def curve(self, points: Sequence[tuple[float, float]], colour: str, dashed: bool = False) -> None:
        """A smooth line through many points."""
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="c{" d" if dashed else ""}" style="stroke:var(--{colour})" d="M{path}"/>')

    def mark(self, x: float, top: float, bottom: float, colour: str) -> None:
        """A line from top to bottom."""
        self.curve(((x, top), (x, bottom)), colour)

    def axes(self, x: float, y: float, width: float, height: float, across: str, up: str) -> None:
        """The axes of a figure whose origin is at (x, y), with their names."""
        self.arrow((x, y), (x + width, y), text=across, at=(x + width / 2, y + 20))
        self.arrow((x, y), (x, y - height))
        self.words(x, y - height - 8, up, "s left")

    def svg(self) -> str:
        """The content of its file."""
        head = (
            '<marker id="h" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="w" d="M0 0L10 5L0 10z"/></marker>'
        )
        ground = f'<rect width="{WIDTH}" height="{self.height}" style="fill:var(--ground);stroke:none"/>'
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}">'
            f"<style>{_STYLE}</style><defs>{head}</defs>\n{ground}\n{body}\n</svg>\n"
        )
