"""The common parts of pages and figures: the style of an analysis, captions, and the blocks of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import quote

from MLTools.NanoML.config.analysis import ProcessLook, QuantityLook, signal_of
from MLTools.NanoML.config.training import DISCRIMINANT
from MLTools.NanoML.report.page import Answer, Site, by_severity, figure, page, stem_of, verdict_list
from MLTools.NanoML.schema.roles import HOW

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config


COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
SIX = ("#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd")
"""M. Petroff, Accessible color sequences for data visualization (arXiv:2107.02270), as CMS recommends them: for many and for six."""
RED = 2
"""The place of the signal's colour in both."""
UNKNOWN, GREY = "#717581", "#d8d8de"  # what is no single process, and what is behind all else
LINES = ("-", "--", ":", "-.")
_LONGEST = 40  # title of a column that can be the title of an axis


@dataclass(frozen=True)
class Beams:
    """The integrated luminosity [/fb] and the energy [TeV] of an era, as far as they are known."""

    luminosity: Optional[float] = None
    energy: Optional[float] = None


@dataclass(frozen=True)
class Style:
    """The style of an analysis: it is made once from the settings, and handed to everything that draws.

    Attributes
    ----------
    label, is_cms
        What figures say in place of being private work with simulation by CMS, and whether "CMS" stands before it.
    processes
        Name and colour of each process.
    stacked
        The processes that are stacked in an order of the user's, the first on top.
    quantities
        Names and units that differ from those of the columns.
    regions
        Names of regions, and of channels, which are regions in an era, where they differ.
    eras
        The eras of what is shown; an analysis without eras has "".
    """

    label: str = ""
    is_cms: bool = False
    processes: Mapping[str, ProcessLook] = field(default_factory=dict)
    stacked: tuple[str, ...] = ()
    quantities: Mapping[str, QuantityLook] = field(default_factory=dict)
    regions: Mapping[str, str] = field(default_factory=dict)
    eras: Mapping[str, Beams] = field(default_factory=dict)
    # the analysis and its pages: they change no figure
    site: Site = field(default=Site(), metadata=HOW)

    def shown(self, has_data: bool) -> str:
        """The label of a figure, with observed data or without."""
        if not self.is_cms:
            return self.label or f"Private work (CMS {'data/' if has_data else ''}simulation)"
        simulation = "" if has_data or self.label.startswith("Simulation") else "Simulation "
        return f"$\\mathbf{{CMS}}$ {simulation}{self.label}".strip()

    def with_processes(self, names: Iterable[str], signal: Optional[str] = None) -> Style:
        """The same, with a colour of its own for each of these processes that has none; the signal's is red, and no other's."""
        every = list(dict.fromkeys([*self.processes, *names]))
        palette = SIX if len(every) <= len(SIX) else COLORS
        given = {it.color for it in self.processes.values()}
        free = [color for number, color in enumerate(palette) if number != RED and color not in given] or [UNKNOWN]
        looks, used = dict(self.processes), 0
        for name in every:
            look = looks.get(name, ProcessLook())
            color = look.color or (palette[RED] if name == signal else free[used % len(free)])
            used += not look.color and name != signal
            looks[name] = ProcessLook(look.label or name, color)
        return replace(self, processes=looks)

    def name(self, process: str) -> str:
        """The name of a process in figures."""
        return self.processes[process].label if process in self.processes else process

    def region(self, name: str) -> str:
        """The name of a region, or of a channel, in figures and tables."""
        return self.regions.get(name, name)

    def color(self, process: Optional[str]) -> str:
        """The colour of a process."""
        found = self.processes.get(process or "")
        return UNKNOWN if found is None else found.color

    def line(self, process: str, width: float = 2.2) -> dict[str, Any]:
        """The curve of a process."""
        return {"color": self.color(process), "ls": LINES[self._place(process) % len(LINES)], "lw": width}

    def marker(self, process: str, size: float = 6) -> dict[str, Any]:
        """Points with errors of a process."""
        return points(self.color(process), self._place(process), size)

    def _place(self, process: str) -> int:
        return [*self.processes].index(process) if process in self.processes else 0

    def from_bottom(self, sizes: Mapping[str, float]) -> list[str]:
        """Processes in the order in which they are stacked, given their sizes: a large one on a small one, if the user does not say."""
        order = {name: place for place, name in enumerate(reversed(self.stacked))}
        return sorted(sizes, key=lambda name: (order.get(name, -1), sizes[name]))

    def unit(self, name: str, title: str = "") -> str:
        """The unit of a quantity, as the user or the title of its column gives it."""
        given = self.quantities.get(name)
        if given is not None and given.unit is not None:
            return given.unit
        found = re.search(r"[\[(](GeV|TeV|MeV|cm|mm|ns|rad)[\])]", f"{title} {name}")
        # NanoAOD gives none for momenta and masses
        return found[1] if found else "GeV" if re.search(r"_(pt|mass|mT|energy)$", name) else ""

    def axis(self, name: str, title: str = "") -> str:
        """The title of an axis: what the user calls the quantity, else the title of its column if that is short, else its name."""
        unit = self.unit(name, title)
        return f"{self.called(name, title)}{f' [{unit}]' if unit else ''}"

    def called(self, name: str, title: str = "") -> str:
        """The same without the unit."""
        given = self.quantities.get(name)
        text, name = (re.sub(r" *\[[^\[]*\] *$", "", it) for it in (title, name))
        text = text[:1].upper() + text[1:] if " " in text and len(text) <= _LONGEST else name or text
        return given.label if given is not None and given.label else text

    def conditions(self, luminosity: Optional[Mapping[str, Sequence[float]]] = None) -> str:
        """Luminosity and energy: "67.8 fb$^{-1}$ (13, 13.6 TeV)", as far as they are known.

        `luminosity` is the lowest and the highest [/fb] of each era that is shown, by default that of all; nothing if one is unknown.
        """
        if luminosity is None:
            known = {era: it.luminosity for era, it in self.eras.items()}
            luminosity = {era: () if it is None else (it, it) for era, it in known.items()}
        text = ""
        if luminosity and all(luminosity.values()):
            low, high = (_luminosity(sum(ends)) for ends in zip(*luminosity.values()))
            text = f"{low if low == high else f'{low} to {high}'} fb$^{{-1}}$"
        return f"{text} {self._energy(luminosity)}".strip()

    def _energy(self, eras: Iterable[str]) -> str:
        known = (self.eras[era].energy for era in eras if era in self.eras)
        found = dict.fromkeys(f"{energy:g}" for energy in known if energy is not None)
        return f"({', '.join(found)} TeV)" if found else ""

    def with_energy(self, text: str) -> str:
        """The text beside a figure, with the energy of all eras if it does not say one."""
        energy = self._energy(self.eras)
        return text if "TeV)" in text else f"{text} {energy}".strip() if text else energy.strip("()")


def points(color: str, number: int, size: float) -> dict[str, Any]:
    """Points with errors of kind `number`."""
    return {"fmt": "os^Dvp"[number % 6], "color": color, "ms": size, "mec": "black", "mew": size / 10}


def _luminosity(value: float) -> str:
    """With one decimal below 100 /fb, and two digits below 1: as CMS writes it."""
    return f"{value:.2g}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


PRIVATE_WORK = Style()
"""The style of an analysis that gives none."""


def style_of(config: Config, era: Optional[str] = None) -> Style:
    """The style of figures of an era, or of the whole analysis: from its section `style`, its classes in their order, and its eras."""
    look, train = config.style, config.train
    classes = dict.fromkeys([*config.classes, *config.processes])
    if train is not None and train.per_object is not None:
        classes = dict.fromkeys(train.per_object.classes)
    style = Style(look.label, look.cms, look.processes, tuple(look.processes))
    style = style.with_processes(classes, signal_of(config) if config.classes or config.processes else None)
    beams = {name: Beams(it.luminosity, it.energy) for name, it in config.eras.items() if era in (None, name)}
    quantities = dict(look.quantities)
    if train is not None:
        kind, model = "BDT" if train.model == "bdt" else "DNN", Path(config.workdir).name
        model = config.export.name if config.export is not None and config.export.name else model
        scores = {DISCRIMINANT: f"{kind} score", **{name: f"{kind} score ({style.name(name)})" for name in classes}}
        scores.update({name: f"{kind} score ({name})" for name in train.against})
        for name, text in scores.items():
            known = quantities.get(name, QuantityLook())
            # as columns and as titles in the report
            named = (name, f"{model}_{name}", f"Probability of {name}", f"Discriminant {name}", name.capitalize())
            quantities.update(dict.fromkeys(named, replace(known, label=known.label or text)))
    regions = {name: it.label for name, it in look.regions.items() if it.label}
    regions.update({f"{name}_{era}": f"{it} ({era})" for name, it in regions.items() for era in config.eras})
    beams = beams or {"": Beams(config.luminosity, config.energy)}
    return replace(style, quantities=quantities, regions=regions, eras=beams)


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
        return f'<section id="{stem_of(self.anchor)}"{kind}><h2>{escape(self.title)}</h2>{alarms}{content}</section>'


_MOST = 2  # answers on the first screen
_TRIGGERED = {"bad": "alarm", "look": "care"}


def _image(directory: Optional[Path], name: str, caption: Caption) -> str:
    text = f"<p>{escape(caption.reading)}</p>" if caption.reading else ""
    if caption.worrying:
        text += f'<p class="watch"><b>Watch for:</b> {escape(caption.worrying)}</p>'
    kind = "wide" if not caption.is_small else "narrow" if directory else "small"
    return figure(name, directory, f"{caption.title}. {caption.reading}".strip(), kind, text)


@dataclass(frozen=True)
class Document:
    """A page: its title, where it is in the work directory, HTML above and below the answers, and its blocks.

    With `is_first` all above the contents is one screen, with a figure beside the rest, and at most two of the answers.
    """

    title: str
    here: str
    lead: str
    answers: Sequence[Answer]
    blocks: Sequence[Block]
    notes: Sequence[str] = ()
    is_first: bool = False

    def html(self, style: Style, directory: Optional[Path]) -> str:
        """The page, with its figures from a directory; without one they stay beside it, since they are many."""
        titles = {f"#{it.anchor}": it.title for it in self.blocks}
        others = {place: title for title, place in style.site.pages}
        links = "".join(f'<li><a href="#{quote(stem_of(it.anchor))}">{escape(it.title)}</a></li>' for it in self.blocks)
        answers = [it if it.link in titles or "#" in it.link[1:] else replace(it, link="") for it in self.answers]
        found = verdict_list(answers, {**others, **titles}, _MOST if self.is_first else None) if answers else ""
        parts = [
            f'<div class="first">{self.lead}<div>{found}</div></div>' if self.is_first else self.lead + found,
            *(f'<p class="note">{escape(text)}</p>' for text in self.notes),
            f'<nav class="contents" aria-label="Contents"><b>Contents</b><ul>{links}</ul></nav>' if links else "",
            *(it.html(directory, self.answers) for it in self.blocks),
        ]
        title = f"{self.title}: {style.site.name}" if style.site.name else self.title
        return page(title, parts, style.site, self.here)
