"""Draws the pictures of the manual: python doc/pictures.py writes doc/images/*.svg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).parent / "images"
_STYLE = (
    "text{font:13px sans-serif;fill:#222;text-anchor:middle}.t{font-weight:bold}.s{font-size:12px;fill:#555}"
    ".a{stroke:#555;stroke-width:1.6;fill:none;marker-end:url(#h)}.d{stroke-dasharray:5 4}"
    "rect{stroke:#8a93a6;stroke-width:1.2;rx:8}"
)
_COLOURS = {"data": "#e8f0fe", "work": "#fff4e0", "ours": "#e5f5e8", "group": "#f7f7f9"}
_LINE = 17


@dataclass
class Picture:
    """Boxes and arrows, on a white ground that also suits a dark page.

    Attributes
    ----------
    width, height
        Its size, in pixels.
    """

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, x: int, y: int, width: int, height: int, text: Sequence[str], kind: str = "data") -> None:
        """A box; the first line of its text is its name. That of a group stands at its top."""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{_COLOURS[kind]}"/>')
        top = y + 20 if kind == "group" else y + height / 2 - _LINE * (len(text) - 1) / 2 + 5
        for number, line in enumerate(text):
            style = "s" if number else "t"
            self.parts.append(
                f'<text class="{style}" x="{x + width / 2:g}" y="{top + _LINE * number:g}">{escape(line)}</text>'
            )

    def arrow(
        self, *points: tuple[int, int], text: str = "", at: tuple[int, int] = (0, 0), dashed: bool = False
    ) -> None:
        """An arrow along points, with a text at a place."""
        path = " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path class="a{" d" if dashed else ""}" d="M{path}"/>')
        if text:
            self.parts.append(f'<text class="s" x="{at[0]}" y="{at[1]}">{escape(text)}</text>')

    def svg(self) -> str:
        """The content of its file."""
        head = (
            '<marker id="h" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L10 5L0 10z" fill="#555"/></marker>'
        )
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}">'
            f"<style>{_STYLE}</style><defs>{head}</defs>\n"
            f'<rect x="0" y="0" width="{self.width}" height="{self.height}" fill="#fff" style="stroke:none"/>\n{body}\n</svg>\n'
        )


def pipeline() -> Picture:
    """What becomes of the events."""
    it = Picture(870, 270)
    for x, text in (
        (10, ("NanoAOD", "ROOT files")),
        (190, ("skims", "and new columns")),
        (370, ("HDF5", "rows of numbers")),
        (550, ("networks", "one for each fold")),
        (730, ("model.onnx", "describes itself")),
    ):
        it.box(x, 40, 130, 70, text)
    for x, text in ((140, "skim"), (320, "convert"), (500, "train"), (680, "export")):
        it.arrow((x, 75), (x + 50, 75), text=text, at=(x + 24, 66))
    it.box(550, 160, 130, 60, ("report", "plots, numbers"), "ours")
    it.arrow((615, 110), (615, 160), text="evaluate", at=(648, 140))
    it.box(730, 160, 130, 60, ("scores", "ROOT branches"), "ours")
    it.arrow((795, 110), (795, 160), text="score", at=(818, 140))
    it.arrow((255, 110), (255, 245), (795, 245), (795, 220), text="events to score", at=(400, 238), dashed=True)
    return it


def house() -> Picture:
    """The parts of the code, and what they share."""
    it = Picture(880, 425)
    for x, width, title, rooms in (
        (10, 235, ("ML_processing/", "Python 3.10, PyTorch"), "train tune networks evaluate report export"),
        (
            315,
            250,
            ("data_processing/", "Python 3.9, what CMSSW ships"),
            "skim convert merge score histograms catalogue",
        ),
        (650, 220, ("statistical_analysis/", "Python 3.10, pyhf"), "model fit limits report"),
    ):
        it.box(x, 10, width, 200, title, "group")
        half = width // 2
        for number, name in enumerate(rooms.split()):
            it.box(x + 11 + half * (number % 2), 60 + 48 * (number // 2), half - 22, 40, (name,), "work")
        it.arrow((x + half, 210), (x + half, 230))
    it.arrow((315, 90), (245, 90), text="HDF5", at=(280, 82))
    it.arrow((245, 155), (315, 155), text="ONNX", at=(280, 147))
    it.arrow((565, 180), (650, 180), text="histograms", at=(607, 172))
    ground = ("python/ = MLTools.NanoML", "runs in CMSSW and on the grid; imports none of the three")
    it.box(10, 230, 860, 105, ground, "group")
    for number, name in enumerate(["selection", "settings", "tasks", "batch", "grid", "model", "reports", "commands"]):
        it.box(25 + 105 * number, 280, 97, 42, (name,), "ours")
    it.box(10, 365, 860, 50, ("C++: interface/, src/, plugins/", "a model's scores in cmsRun"), "group")
    it.arrow((440, 335), (440, 365), text="model.onnx, model.json", at=(520, 354))
    return it


def cern() -> Picture:
    """The systems at CERN that one meets, and where files lie."""
    it = Picture(880, 400)
    it.box(10, 30, 120, 60, ("you", "ssh"), "ours")
    it.box(200, 10, 190, 100, ("LXPLUS", "login nodes: edit,", "build, submit"), "work")
    it.arrow((130, 60), (200, 60))
    it.box(200, 160, 190, 70, ("AFS", "home: code, up to 10 GB"))
    it.arrow((295, 110), (295, 160))
    it.box(470, 10, 190, 100, ("HTCondor", "batch: thousands of", "worker nodes"), "work")
    it.arrow((390, 60), (470, 60), text="submit", at=(430, 52))
    it.box(470, 160, 190, 70, ("EOS", "data, results: terabytes"))
    it.arrow((565, 110), (565, 160), text="XRootD", at=(592, 140))
    it.arrow((390, 90), (420, 90), (420, 195), (470, 195))
    it.box(720, 10, 150, 100, ("grid (CRAB)", "jobs at CMS's", "computing sites"), "work")
    it.box(720, 160, 150, 70, ("sites", "NanoAOD of CMS"))
    it.arrow((795, 110), (795, 160))
    it.arrow((660, 60), (690, 60), (690, 195), (720, 195), text="XRootD", at=(664, 140))
    it.box(200, 300, 190, 80, ("CVMFS", "software: CMSSW, tools,", "read only"))
    it.arrow((390, 340), (430, 340), (430, 100), (470, 100), dashed=True)
    it.box(470, 300, 190, 80, ("DAS", "which files a", "dataset has"), "ours")
    it.arrow((660, 340), (795, 340), (795, 230), text="knows their files", at=(728, 332), dashed=True)
    it.box(10, 160, 150, 80, ("proxy", "of your certificate:", "who you are, to the grid"), "ours")
    it.arrow((85, 240), (85, 262), (750, 262), (750, 230), dashed=True)
    return it


PICTURES = {"pipeline": pipeline, "house": house, "cern": cern}

if __name__ == "__main__":
    for name, picture in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(picture().svg(), encoding="utf-8")
